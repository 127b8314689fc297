//! Signed distances (negative inside, design units) and curves.

use super::canvas::{Point, distance};
use super::stream::Draws;

/// Light comes from the top left: unit vector towards the lamp in the image plane.
pub(super) const LAMP: Point = [-0.6, -0.8];

/// Rectangle with rounded corners around the origin.
pub(super) fn rounded_box(p: Point, half: Point, radius: f32) -> f32 {
    let x = p[0].abs() - half[0] + radius;
    let y = p[1].abs() - half[1] + radius;
    x.max(0.0).hypot(y.max(0.0)) + x.max(y).min(0.0) - radius
}

/// How much a surface that rises along `outwards` (any length) turns away from the lamp: -1 to 1, positive is bright.
pub(super) fn facing(outwards: Point) -> f32 {
    let length = outwards[0].hypot(outwards[1]).max(1e-6);
    (outwards[0] * LAMP[0] + outwards[1] * LAMP[1]) / length
}

/// Turns a vector by an angle in radians.
pub(super) fn turned(p: Point, angle: f32) -> Point {
    let (sin, cos) = angle.sin_cos();
    [p[0] * cos - p[1] * sin, p[0] * sin + p[1] * cos]
}

/// A curve of straight pieces.
pub(super) struct Curve {
    pub(super) points: Vec<Point>,
}

/// Where a point lies relative to a curve.
pub(super) struct Nearest {
    /// Distance to the curve.
    pub(super) distance: f32,
    /// Position of the nearest point of the curve: 0 at its start, 1 at its end.
    pub(super) along: f32,
    /// Distance with a sign that tells the side.
    pub(super) side: f32,
}

impl Curve {
    /// A walk of `length` in pieces of `piece`; `turn` draws the change of heading before each.
    pub(super) fn walk(
        start: Point,
        mut heading: f32,
        length: f32,
        piece: f32,
        mut turn: impl FnMut() -> f32,
    ) -> Self {
        let mut points = vec![start];
        let mut last = start;
        for _ in 0..(length / piece).ceil().max(1.0) as usize {
            heading += turn();
            last = [
                last[0] + piece * heading.cos(),
                last[1] + piece * heading.sin(),
            ];
            points.push(last);
        }
        Self { points }
    }

    /// A walk whose curvature changes slowly, as a thread lies.
    pub(super) fn loose(
        start: Point,
        heading: f32,
        length: f32,
        bend: f32,
        draws: &mut Draws,
    ) -> Self {
        let mut curvature = draws.around_zero(bend);
        Self::walk(start, heading, length, 2.5, || {
            curvature = 0.93 * curvature + draws.around_zero(0.35 * bend);
            curvature
        })
    }

    pub(super) fn nearest(&self, p: Point) -> Nearest {
        let pieces = (self.points.len() - 1) as f32;
        let mut best = Nearest {
            distance: f32::MAX,
            along: 0.0,
            side: 0.0,
        };
        for (index, ends) in self.points.windows(2).enumerate() {
            let (a, b) = (ends[0], ends[1]);
            let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
            let (px, py) = (p[0] - a[0], p[1] - a[1]);
            let share = ((px * dx + py * dy) / (dx * dx + dy * dy)).clamp(0.0, 1.0);
            let distance = distance(p, [a[0] + share * dx, a[1] + share * dy]);
            if distance < best.distance {
                best = Nearest {
                    distance,
                    along: (index as f32 + share) / pieces,
                    side: distance.copysign(dx * py - dy * px),
                };
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_shapes() {
        let at = |x, y| rounded_box([x, y], [10.0, 6.0], 2.0);
        assert!((at(13.0, 0.0) - 3.0).abs() < 1e-5);
        assert!((at(0.0, 0.0) + 6.0).abs() < 1e-5);
        assert!(at(10.0, 6.0) > 0.0, "the corner of the box is rounded away");
        let curve = Curve {
            points: vec![[0.0, 0.0], [10.0, 0.0], [10.0, 10.0]],
        };
        let near = curve.nearest([5.0, 3.0]);
        assert!((near.distance - 3.0).abs() < 1e-5 && (near.along - 0.25).abs() < 1e-5);
        assert!(near.side * curve.nearest([5.0, -3.0]).side < 0.0);
        assert!((curve.nearest([10.0, 14.0]).distance - 4.0).abs() < 1e-5);
    }

    #[test]
    fn a_walk_has_the_length_asked_for() {
        let curve = Curve::walk([0.0, 0.0], 0.3, 20.0, 2.0, || 0.1);
        let length: f32 = curve
            .points
            .windows(2)
            .map(|ends| distance(ends[0], ends[1]))
            .sum();
        assert!((length - 20.0).abs() < 1e-3);
    }
}
