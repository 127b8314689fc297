//! Product 1: a brushed metal plate with holes, two screws, an embossed ring and a printed mark, on a conveyor belt.

use super::canvas::{Colour, DESIGN, Point, blend, distance, scaled};
use super::noise::{Noise, mix, step};
use super::print;
use super::shapes::{facing, rounded_box, turned};
use super::stream::Draws;

/// Half width and half height of the plate, and the radius of its corners.
pub(super) const HALF: Point = [104.0, 94.0];
const CORNER: f32 = 12.0;
/// The four corner holes; the bore in the middle is no part of this list.
pub(super) const HOLES: [Point; 4] = [[-86.0, -76.0], [86.0, -76.0], [-86.0, 76.0], [86.0, 76.0]];
pub(super) const HOLE_RADIUS: f32 = 8.0;
const SCREWS: [Point; 2] = [[-74.0, -8.0], [74.0, -8.0]];
const SCREW_RADIUS: f32 = 11.5;
const RING: Point = [0.0, -8.0];
const RING_RADIUS: f32 = 40.0;
const BORE_RADIUS: f32 = 15.0;
const MARK: Point = [0.0, 66.0];

/// One plate as it lies on the belt; all natural variation of the product is in here.
pub(super) struct Plate {
    centre: Point,
    angle: f32,
    grain: Noise,
    grain_angle: f32,
    grain_depth: f32,
    tint: Colour,
    streak: Point,
    streak_depth: f32,
    screw_angles: [f32; 2],
    mark_offset: Point,
    ink: f32,
    belt: Noise,
    belt_phase: f32,
    /// Holes really drilled.
    pub(super) holes: Vec<Point>,
    /// A bite out of the outline.
    pub(super) chip: Option<Chip>,
}

/// A broken-off piece of the outline.
pub(super) struct Chip {
    pub(super) centre: Point,
    pub(super) radius: f32,
    pub(super) ragged: Noise,
}

impl Plate {
    pub(super) fn draw(draws: &mut Draws) -> Self {
        let tone = draws.uniform(0.97, 1.03);
        let middle = DESIGN / 2.0;
        Self {
            centre: [
                middle + draws.around_zero(0.8),
                middle + draws.around_zero(0.8),
            ],
            angle: draws.around_zero(0.004),
            grain: Noise(draws.seed()),
            grain_angle: draws.around_zero(0.03),
            grain_depth: draws.uniform(0.8, 1.2),
            tint: [0.560 * tone, 0.575 * tone, 0.590 * tone],
            streak: [draws.around_zero(60.0), draws.uniform(20.0, 40.0)],
            streak_depth: draws.uniform(0.03, 0.10),
            screw_angles: [draws.angle(), draws.angle()],
            mark_offset: [draws.around_zero(0.6), draws.around_zero(0.6)],
            ink: draws.uniform(0.62, 0.78),
            belt: Noise(draws.seed()),
            belt_phase: draws.uniform(0.0, 1.0),
            holes: HOLES.to_vec(),
            chip: None,
        }
    }

    /// A point of the picture in coordinates of the plate, whose origin is its centre.
    fn on_plate(&self, p: Point) -> Point {
        turned([p[0] - self.centre[0], p[1] - self.centre[1]], -self.angle)
    }

    /// A point of the plate in the picture.
    pub(super) fn in_picture(&self, p: Point) -> Point {
        let p = turned(p, self.angle);
        [p[0] + self.centre[0], p[1] + self.centre[1]]
    }

    /// Colour at a point of the picture; edges are as soft as a pixel of side `unit`.
    pub(super) fn colour(&self, picture: Point, unit: f32) -> Colour {
        let p = self.on_plate(picture);
        let outline = self.outline(p);
        let belt = self.belt_colour(picture, p);
        if outline > unit {
            return belt;
        }
        let metal = self.metal_colour(p, outline, belt, unit);
        blend(belt, metal, step(0.5 * unit, -0.5 * unit, outline))
    }

    fn outline(&self, p: Point) -> f32 {
        let whole = rounded_box(p, HALF, CORNER);
        match &self.chip {
            Some(chip) => whole.max(-chip.outline(p)),
            None => whole,
        }
    }

    fn belt_colour(&self, picture: Point, p: Point) -> Colour {
        let rib = (std::f32::consts::TAU * (picture[1] / 11.0 + self.belt_phase)).sin();
        let rubber = self.belt.at(picture[0] / 1.7, picture[1] / 1.7);
        let worn = self.belt.fractal(picture[0] / 50.0, picture[1] / 50.0);
        let light = 0.105 + 0.012 * rib + 0.010 * rubber + 0.010 * worn;
        let shadow = rounded_box([p[0] - 4.0, p[1] - 5.0], HALF, CORNER);
        let lit = mix(0.45, 1.0, step(-3.0, 9.0, shadow));
        [0.96 * light * lit, 1.0 * light * lit, 1.03 * light * lit]
    }

    fn metal_colour(&self, p: Point, outline: f32, belt: Colour, unit: f32) -> Colour {
        let brushed = turned(p, self.grain_angle);
        let fine = unit.max(1.3);
        let long = self.grain.at(brushed[0] / 70.0, brushed[1] / fine);
        let short = self.grain.at(brushed[0] / 18.0 + 500.0, brushed[1] / fine);
        let cloud = self.grain.fractal(p[0] / 70.0, p[1] / 45.0 + 900.0);
        let grain = self.grain_depth * (0.050 * long + 0.030 * short) + 0.020 * cloud;
        let across = (p[0] - self.streak[0] - 0.25 * p[1]) / self.streak[1];
        let streak = self.streak_depth * (-across * across).exp() * (1.0 + 4.0 * grain);
        let mut relief = 0.0;

        // Chamfer along the outline, and a dull broken face where a piece is missing.
        if outline > -4.5 {
            let depth = step(-4.5, -1.0, outline);
            let h = 0.5;
            let slope = [
                self.outline([p[0] + h, p[1]]) - self.outline([p[0] - h, p[1]]),
                self.outline([p[0], p[1] + h]) - self.outline([p[0], p[1] - h]),
            ];
            relief += 0.17 * depth * facing(slope);
        }
        let from_ring = [p[0] - RING[0], p[1] - RING[1]];
        let radius = from_ring[0].hypot(from_ring[1]);
        let ridge = ((radius - RING_RADIUS) / 5.5).clamp(-1.0, 1.0);
        relief += 0.13 * (std::f32::consts::PI * ridge).sin() * facing(from_ring);

        let mut colour = self.tint.map(|c| c * (1.0 + grain) + streak + relief);
        let ink = print::coverage(
            [
                p[0] - MARK[0] - self.mark_offset[0],
                p[1] - MARK[1] - self.mark_offset[1],
            ],
            unit,
        );
        if ink > 0.0 {
            let density = self.ink * ink * (0.93 + 0.07 * self.grain.at(p[0] / 3.0, p[1] / 3.0));
            colour = blend(colour, [0.07, 0.08, 0.13], density);
        }
        for (screw, angle) in SCREWS.iter().zip(self.screw_angles) {
            colour = screw_over(colour, [p[0] - screw[0], p[1] - screw[1]], angle, unit);
        }
        for &hole in &self.holes {
            colour = hole_over(colour, p, hole, HOLE_RADIUS, belt, unit);
        }
        hole_over(colour, p, RING, BORE_RADIUS, belt, unit)
    }
}

impl Chip {
    fn outline(&self, p: Point) -> f32 {
        let rough = self.ragged.fractal(p[0] / 6.0, p[1] / 6.0);
        distance(p, self.centre) - self.radius * (1.0 + 0.35 * rough)
    }
}

/// A drilled hole with a countersink: the slope falls inwards, so it is bright on the side away from the lamp.
fn hole_over(
    colour: Colour,
    p: Point,
    centre: Point,
    radius: f32,
    below: Colour,
    unit: f32,
) -> Colour {
    let offset = [p[0] - centre[0], p[1] - centre[1]];
    let outline = offset[0].hypot(offset[1]) - radius;
    if outline > 4.0 + unit {
        return colour;
    }
    let sink = step(3.8, 2.6, outline);
    let sunk = colour.map(|c| c * (1.0 - 0.10 * sink) - 0.16 * sink * facing(offset));
    // The wall opposite of the lamp catches some light.
    let wall = step(-4.5, 0.0, outline) * (-facing(offset)).max(0.0);
    let inside = below.map(|c| 0.45 * c + 0.02 + 0.14 * wall);
    blend(sunk, inside, step(0.5 * unit, -0.5 * unit, outline))
}

/// A domed screw head with a cross recess.
fn screw_over(colour: Colour, p: Point, angle: f32, unit: f32) -> Colour {
    let radius = p[0].hypot(p[1]);
    let outline = radius - SCREW_RADIUS;
    if outline > 2.5 + unit {
        return colour;
    }
    let groove = step(2.2, 0.4, outline);
    let around = scaled(colour, 1.0 - 0.38 * groove);
    let dome = (radius / SCREW_RADIUS).min(1.0);
    let light = 0.50 + 0.17 * dome * dome * facing(p);
    let cross = turned(p, -angle);
    let arm = |a: f32, b: f32| (a.abs() - 1.5).max(b.abs() - 6.5);
    let recess = arm(cross[0], cross[1]).min(arm(cross[1], cross[0]));
    let head = light * mix(1.0, 0.35, step(0.5 * unit, -0.5 * unit - 0.4, recess));
    blend(
        around,
        [1.02 * head, head, 0.95 * head],
        step(0.5 * unit, -0.5 * unit, outline),
    )
}
