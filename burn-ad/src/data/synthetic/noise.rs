//! Smooth random fields, computed point by point.

/// Value noise: random numbers on an integer lattice, smoothly interpolated.
#[derive(Clone, Copy)]
pub(super) struct Noise(pub(super) u32);

impl Noise {
    /// Value in `[-1, 1]` at a point; it varies over a distance of 1.
    pub(super) fn at(self, x: f32, y: f32) -> f32 {
        let (left, top) = (x.floor(), y.floor());
        let (fx, fy) = (fade(x - left), fade(y - top));
        let (column, row) = (left as i32, top as i32);
        let upper = mix(self.lattice(column, row), self.lattice(column + 1, row), fx);
        let lower = mix(
            self.lattice(column, row + 1),
            self.lattice(column + 1, row + 1),
            fx,
        );
        mix(upper, lower, fy)
    }

    /// Three octaves of the field, in `[-1, 1]`.
    pub(super) fn fractal(self, x: f32, y: f32) -> f32 {
        let field = |octave: u32| Self(self.0.wrapping_add(octave.wrapping_mul(0x9e37_79b9)));
        (field(0).at(x, y)
            + 0.5 * field(1).at(2.0 * x, 2.0 * y)
            + 0.25 * field(2).at(4.0 * x, 4.0 * y))
            / 1.75
    }

    /// Uniform value in `[-1, 1]` of a lattice point.
    pub(super) fn lattice(self, column: i32, row: i32) -> f32 {
        // The mixing steps are those of a 32-bit avalanche hash (xor-shift and multiply).
        let mut hash = self
            .0
            .wrapping_add((column as u32).wrapping_mul(0x85eb_ca6b))
            .wrapping_add((row as u32).wrapping_mul(0xc2b2_ae35));
        hash = (hash ^ (hash >> 16)).wrapping_mul(0x7feb_352d);
        hash = (hash ^ (hash >> 15)).wrapping_mul(0x846c_a68b);
        hash ^= hash >> 16;
        (hash >> 8) as f32 / (1u32 << 23) as f32 - 1.0
    }
}

/// Linear interpolation from `a` to `b`.
pub(super) fn mix(a: f32, b: f32, share: f32) -> f32 {
    a + (b - a) * share
}

/// Smooth step from 0 at `from` to 1 at `to`; `from > to` makes a falling step.
pub(super) fn step(from: f32, to: f32, value: f32) -> f32 {
    fade(((value - from) / (to - from)).clamp(0.0, 1.0))
}

fn fade(t: f32) -> f32 {
    t * t * (3.0 - 2.0 * t)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_bounded_continuous_and_depends_on_its_seed() {
        let (field, other) = (Noise(1), Noise(2));
        let mut differences = 0;
        for i in 0..2000 {
            let (x, y) = (i as f32 * 0.37 - 200.0, i as f32 * 0.11);
            let value = field.fractal(x, y);
            assert!(value.abs() <= 1.0);
            assert!((value - field.fractal(x + 1e-3, y)).abs() < 0.02);
            differences += usize::from((value - other.fractal(x, y)).abs() > 0.01);
        }
        assert!(differences > 1800, "{differences}");
    }

    #[test]
    fn step_rises_and_falls() {
        assert_eq!(step(0.0, 2.0, -1.0), 0.0);
        assert_eq!(step(0.0, 2.0, 3.0), 1.0);
        assert_eq!(step(2.0, 0.0, 3.0), 0.0);
        assert_eq!(step(2.0, 0.0, 1.0), 0.5);
    }
}
