//! Defects on the surface: they change a painted scene and leave the product under them as it is.

use super::canvas::{Canvas, Colour, Point, blend, distance, scaled};
use super::noise::{Noise, mix, step};
use super::shapes::{Curve, facing};
use super::stream::Draws;

/// A fine groove with a bright floor and a dark flank, fading out at both ends.
pub(super) fn scratch(canvas: &mut Canvas, start: Point, draws: &mut Draws) {
    let unit = canvas.unit();
    let heading = draws.angle();
    let length = draws.uniform(30.0, 95.0);
    let curve = Curve::loose(start, heading, length, 0.03, draws);
    let half_width = draws.uniform(0.8, 1.5).max(0.6 * unit);
    let depth = draws.uniform(0.24, 0.46);
    canvas.edit(&curve.points, 4.0 * half_width, |p, pixel| {
        let near = curve.nearest(p);
        let ends = step(0.0, 0.12, near.along) * step(1.0, 0.88, near.along);
        let floor = step(1.3 * half_width, 0.4 * half_width, near.distance);
        let flank = step(1.3 * half_width, 0.0, (near.side - 1.9 * half_width).abs());
        let light = depth * ends * (floor - 0.5 * flank);
        // A share of the light that is there: in holes and on the belt there is nothing to scratch.
        *pixel = scaled(*pixel, 1.0 + light);
    });
}

/// A shallow dip: dark on the lamp's side, bright on the other, and all of it mirrors other, cooler surroundings.
pub(super) fn dent(canvas: &mut Canvas, centre: Point, draws: &mut Draws) {
    let radius = draws.uniform(7.0, 14.0).max(3.0 * canvas.unit());
    const MIRRORED: Colour = [-0.09, -0.03, 0.03];
    let depth = draws.uniform(0.18, 0.34);
    let outline = Noise(draws.seed());
    canvas.edit(&[centre], 1.4 * radius, |p, pixel| {
        let offset = [p[0] - centre[0], p[1] - centre[1]];
        let uneven = 1.0 + 0.25 * outline.at(p[0] / radius, p[1] / radius);
        let r = distance(p, centre) / (radius * uneven);
        if r < 1.0 {
            let bowl = 1.0 - r * r;
            let light = -depth * (2.6 * r * bowl * facing(offset) + 0.5 * bowl);
            *pixel = std::array::from_fn(|c| pixel[c] * (1.0 + light + MIRRORED[c] * bowl));
        }
    });
}

/// A dried liquid: a tinted blot with an irregular outline and a slightly darker rim.
pub(super) fn stain(canvas: &mut Canvas, centre: Point, draws: &mut Draws) {
    const TINTS: [Colour; 3] = [[0.88, 0.76, 0.56], [0.70, 0.76, 0.84], [0.72, 0.70, 0.68]];
    let tint = TINTS[draws.below(TINTS.len())];
    let radius = draws.uniform(10.0, 22.0).max(3.0 * canvas.unit());
    let strength = draws.uniform(0.6, 1.0);
    let outline = Noise(draws.seed());
    canvas.edit(&[centre], 1.6 * radius, |p, pixel| {
        let uneven = 1.0 + 0.5 * outline.fractal(p[0] / radius, p[1] / radius);
        let r = distance(p, centre) / (radius * uneven);
        let rim = step(0.62, 0.9, r) * step(1.0, 0.9, r);
        let share = strength * step(1.0, 0.88, r) * (0.85 + 0.35 * rim);
        *pixel = std::array::from_fn(|c| pixel[c] * mix(1.0, tint[c], share));
    });
}

/// A dark, jagged, branching line that gets thinner.
pub(super) fn crack(canvas: &mut Canvas, start: Point, heading: f32, draws: &mut Draws) {
    let unit = canvas.unit();
    let length = draws.uniform(24.0, 60.0);
    let main = Curve::walk(start, heading, length, 3.0, || draws.around_zero(0.75));
    let fork = main.points[main.points.len() / 2];
    let side = heading + draws.sign() * draws.uniform(0.5, 1.0);
    let branch = Curve::walk(fork, side, 0.4 * length, 3.0, || draws.around_zero(0.7));
    let half_width = draws.uniform(0.9, 1.6);
    let depth = draws.uniform(0.45, 0.75);
    for (curve, from) in [(main, half_width), (branch, 0.6 * half_width)] {
        canvas.edit(&curve.points, 3.0 * half_width.max(unit), |p, pixel| {
            let near = curve.nearest(p);
            let half = (from * (1.0 - 0.6 * near.along)).max(0.5 * unit);
            let dark = depth * step(1.5 * half, 0.4 * half, near.distance);
            *pixel = scaled(*pixel, 1.0 - dark);
        });
    }
}

/// A thread of foreign matter that lies on the product and casts a faint shadow.
pub(super) fn fibre(canvas: &mut Canvas, start: Point, draws: &mut Draws) {
    const COLOURS: [Colour; 4] = [
        [0.16, 0.18, 0.30],
        [0.42, 0.14, 0.14],
        [0.82, 0.80, 0.74],
        [0.10, 0.10, 0.10],
    ];
    let colour = COLOURS[draws.below(COLOURS.len())];
    let heading = draws.angle();
    let length = draws.uniform(35.0, 90.0);
    let curve = Curve::loose(start, heading, length, 0.16, draws);
    let half_width = draws.uniform(0.9, 1.5).max(0.6 * canvas.unit());
    let opacity = draws.uniform(0.65, 0.95);
    canvas.edit(&curve.points, 6.0 + half_width, |p, pixel| {
        let shadow = curve.nearest([p[0] - 1.5, p[1] - 2.0]);
        let dark = 0.16 * step(2.5 * half_width, 0.5 * half_width, shadow.distance);
        let near = curve.nearest(p);
        let body = opacity * step(1.4 * half_width, 0.6 * half_width, near.distance);
        *pixel = blend(scaled(*pixel, 1.0 - dark), colour, body);
    });
}

/// A loop of yarn drawn out of the cloth, lighter than the cloth, with the shadow it casts.
pub(super) fn pulled_thread(canvas: &mut Canvas, start: Point, draws: &mut Draws) {
    const YARN: Colour = [0.60, 0.60, 0.60];
    let heading = draws.angle();
    let length = draws.uniform(28.0, 60.0);
    let curve = Curve::loose(start, heading, length, 0.22, draws);
    let half_width = draws.uniform(1.8, 2.6).max(0.6 * canvas.unit());
    canvas.edit(&curve.points, 4.0 * half_width, |p, pixel| {
        let shadow = curve.nearest([p[0] - 2.5, p[1] - 3.0]);
        let dark = 0.45 * step(1.8 * half_width, 0.4 * half_width, shadow.distance);
        let near = curve.nearest(p);
        let round = 1.0 - 0.45 * (near.distance / half_width).min(1.0).powi(2);
        let body = 0.85 * step(1.15 * half_width, 0.85 * half_width, near.distance);
        *pixel = blend(scaled(*pixel, 1.0 - dark), scaled(YARN, round), body);
    });
}

/// A hole torn into the cloth: what lies below is dark, and the rim is frayed.
pub(super) fn tear(canvas: &mut Canvas, centre: Point, draws: &mut Draws) {
    const BELOW: Colour = [0.07, 0.07, 0.07];
    let radius = draws.uniform(5.0, 11.0).max(2.0 * canvas.unit());
    let long = draws.uniform(1.0, 1.7);
    let outline = Noise(draws.seed());
    canvas.edit(&[centre], 2.5 * radius, |p, pixel| {
        let uneven = 1.0 + 0.45 * outline.fractal(p[0] / 5.0, p[1] / 5.0);
        let x = (p[0] - centre[0]) / long;
        let r = x.hypot(p[1] - centre[1]) / (radius * uneven);
        *pixel = blend(*pixel, BELOW, 0.93 * step(1.15, 0.8, r));
    });
}
