//! Half and double the sides of a map: sums of 2 x 2 windows, and values spread over them. Each is the
//! gradient of the other.

use pulp::{Simd, WithSimd};

use crate::isa::Isa;
use crate::rows::for_rows;
use crate::vector::{by_registers, read, write};
use crate::window::Map;

/// `factor` times the sum of each 2 x 2 window of `x`, whose size `map` says; `out` has half the sides.
/// With a factor of 1/4 it is mean pooling, with 1 the gradient of nearest neighbour doubling.
///
/// # Panics
/// If the slices do not fit, or a side of `map` is odd.
pub fn halve(isa: Isa, x: &[f32], map: Map, factor: f32, out: &mut [f32]) {
    check(map, x.len(), out.len());
    let row = map.width / 2 * map.channels;
    for_rows(out, row, 5 * row, |first, out| {
        isa.run(Halve {
            x: &x[4 * first * row..][..4 * out.len()],
            row,
            channels: map.channels,
            factor,
            out,
        });
    });
}

/// `factor` times each value of `x`, at all four places of its 2 x 2 window in `out`, whose size `map`
/// says. With a factor of 1 it is nearest neighbour doubling, with 1/4 the gradient of mean pooling.
///
/// # Panics
/// If the slices do not fit, or a side of `map` is odd.
pub fn double(isa: Isa, x: &[f32], map: Map, factor: f32, out: &mut [f32]) {
    check(map, out.len(), x.len());
    let row = map.width / 2 * map.channels;
    for_rows(out, 4 * row, 5 * row, |first, out| {
        isa.run(Double {
            x: &x[first * row..][..out.len() / 4],
            row,
            channels: map.channels,
            factor,
            out,
        });
    });
}

fn check(map: Map, large: usize, small: usize) {
    assert!(
        map.height.is_multiple_of(2) && map.width.is_multiple_of(2),
        "sides of {} x {} are not even",
        map.height,
        map.width
    );
    assert_eq!(large, map.len(), "values of the larger map");
    assert_eq!(4 * small, map.len(), "values of the smaller map");
}

/// `row` values are a row of the smaller map, `2 * row` of the larger one.
struct Halve<'a> {
    x: &'a [f32],
    row: usize,
    channels: usize,
    factor: f32,
    out: &'a mut [f32],
}

impl WithSimd for Halve<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (channels, factor) = (self.channels, simd.splat_f32s(self.factor));
        let pairs = self.x.chunks_exact(4 * self.row);
        for (out, pair) in self.out.chunks_exact_mut(self.row).zip(pairs) {
            let (upper, lower) = pair.split_at(2 * self.row);
            let windows = upper
                .chunks_exact(2 * channels)
                .zip(lower.chunks_exact(2 * channels));
            for (out, (upper, lower)) in out.chunks_exact_mut(channels).zip(windows) {
                let (upper, lower) = (upper.split_at(channels), lower.split_at(channels));
                by_registers!(S, channels, 4, |range, N| {
                    let mut sum = read::<S, N>(simd, &upper.0[range.clone()]);
                    let right = read::<S, N>(simd, &upper.1[range.clone()]);
                    let below = read::<S, N>(simd, &lower.0[range.clone()]);
                    let across = read::<S, N>(simd, &lower.1[range.clone()]);
                    for n in 0..N {
                        sum[n] = simd.add_f32s(sum[n], right[n]);
                        let lower = simd.add_f32s(below[n], across[n]);
                        sum[n] = simd.mul_f32s(simd.add_f32s(sum[n], lower), factor);
                    }
                    write::<S, N>(simd, &mut out[range], sum);
                });
            }
        }
    }
}

/// `row` as for [`Halve`].
struct Double<'a> {
    x: &'a [f32],
    row: usize,
    channels: usize,
    factor: f32,
    out: &'a mut [f32],
}

impl WithSimd for Double<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (channels, factor) = (self.channels, simd.splat_f32s(self.factor));
        let rows = self.x.chunks_exact(self.row);
        for (out, row) in self.out.chunks_exact_mut(4 * self.row).zip(rows) {
            let (upper, lower) = out.split_at_mut(2 * self.row);
            let windows = upper
                .chunks_exact_mut(2 * channels)
                .zip(lower.chunks_exact_mut(2 * channels));
            for (x, (upper, lower)) in row.chunks_exact(channels).zip(windows) {
                let upper = upper.split_at_mut(channels);
                let lower = lower.split_at_mut(channels);
                by_registers!(S, channels, 4, |range, N| {
                    let mut values = read::<S, N>(simd, &x[range.clone()]);
                    for value in &mut values {
                        *value = simd.mul_f32s(*value, factor);
                    }
                    write::<S, N>(simd, &mut upper.0[range.clone()], values);
                    write::<S, N>(simd, &mut upper.1[range.clone()], values);
                    write::<S, N>(simd, &mut lower.0[range.clone()], values);
                    write::<S, N>(simd, &mut lower.1[range], values);
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    /// Where value `place` of the larger map goes to in the smaller one.
    fn target(map: Map, place: usize) -> usize {
        let (channel, cell) = (place % map.channels, place / map.channels);
        let (column, line) = (cell % map.width, cell / map.width);
        (line / 2 * (map.width / 2) + column / 2) * map.channels + channel
    }

    #[test]
    fn windows_are_summed_and_values_spread() {
        let mut rng = ChaCha8Rng::seed_from_u64(13);
        for isa in Isa::available() {
            for case in testing::cases(40) {
                // The last is large enough for threads.
                let large = case == 39;
                let mut side = |most| 2 * if large { 35 } else { rng.random_range(1..most) };
                let (height, width) = (side(6), side(5));
                let map = Map {
                    batch: rng.random_range(1..4),
                    height,
                    width,
                    channels: rng.random_range(1..testing::most(80)),
                };
                let mut draw = |count: usize| -> Vec<f32> {
                    (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
                };
                let (x, grad) = (draw(map.len()), draw(map.len() / 4));
                for factor in [1.0, 0.25] {
                    let mut sums = vec![0.0f64; grad.len()];
                    let (mut small, mut wide) = (vec![9.0; grad.len()], vec![9.0; x.len()]);
                    halve(isa, &x, map, factor, &mut small);
                    double(isa, &grad, map, factor, &mut wide);
                    for (place, (&x, &wide)) in x.iter().zip(&wide).enumerate() {
                        let target = target(map, place);
                        sums[target] += f64::from(x) * f64::from(factor);
                        assert_eq!(wide, grad[target] * factor, "{isa} {map:?}");
                    }
                    for (small, sum) in small.iter().zip(&sums) {
                        // Three additions of values up to 4.
                        let error = (f64::from(*small) - sum).abs();
                        assert!(error < 1e-6, "{isa} {map:?} {error}");
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "not even")]
    fn odd_sides_are_refused() {
        let map = Map {
            batch: 1,
            height: 2,
            width: 3,
            channels: 2,
        };
        halve(Isa::best(), &[0.0; 12], map, 1.0, &mut [0.0; 3]);
    }
}
