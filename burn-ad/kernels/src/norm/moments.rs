//! Mean and variance of each channel.

use pulp::{Simd, WithSimd};

use super::Size;
use crate::isa::Isa;
use crate::simd_math::mul_add;
use crate::sums::{BLOCK, lanes, sum_rows};
use crate::vector::{by_registers, read};

/// Mean, biased variance (divisor: the number of rows) and `1 / sqrt(variance + epsilon)`, each
/// `[groups, channels]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// Means.
    pub mean: Vec<f32>,
    /// What the means lack by being rounded: `mean + rest` is the mean in more digits.
    pub rest: Vec<f32>,
    /// Biased variances.
    pub variance: Vec<f32>,
    /// `1 / sqrt(variance + epsilon)`.
    pub inv_std: Vec<f32>,
}

impl Moments {
    /// From means and biased variances known before, such as running ones.
    pub fn new(mean: &[f32], variance: &[f32], epsilon: f64) -> Self {
        let inv_std = |&variance: &f32| inv_std(f64::from(variance), epsilon);
        Self {
            mean: mean.to_vec(),
            rest: vec![0.0; mean.len()],
            variance: variance.to_vec(),
            inv_std: variance.iter().map(inv_std).collect(),
        }
    }

    pub(super) fn check(&self, size: Size) {
        let count = size.groups * size.channels;
        let all = [&self.mean, &self.rest, &self.variance, &self.inv_std];
        assert!(
            all.iter().all(|values| values.len() == count),
            "moments of a normalisation"
        );
    }
}

fn inv_std(variance: f64, epsilon: f64) -> f32 {
    (1.0 / (variance + epsilon).sqrt()) as f32
}

/// Moments of each channel of each group of `x`.
///
/// Differences from a near row are summed, in `f32` over a few rows and in `f64` beyond, so a mean far
/// larger than the spread costs no digits.
///
/// # Panics
/// If `x` does not have the size, or a group has no rows.
pub fn moments(isa: Isa, x: &[f32], size: Size, epsilon: f64) -> Moments {
    assert_eq!(x.len(), size.len(), "values to normalise");
    let Size {
        groups,
        rows,
        channels,
    } = size;
    assert!(rows > 0, "a group without rows has no mean");
    let sums = sum_rows(groups, rows, channels, 2 * channels, |first, count, out| {
        isa.run(Sums {
            x: &x[first * channels..][..count * channels],
            channels,
            out,
        });
    });
    let count = groups * channels;
    let new = || Vec::with_capacity(count);
    let mut out = Moments {
        mean: new(),
        rest: new(),
        variance: new(),
        inv_std: new(),
    };
    for sums in sums.chunks_exact((2 * channels).max(1)) {
        let (sum, squares) = sums.split_at(channels);
        for (sum, squares) in sum.iter().zip(squares) {
            let mean = sum / rows as f64;
            let variance = (squares / rows as f64 - mean * mean).max(0.0);
            out.mean.push(mean as f32);
            out.rest.push((mean - f64::from(mean as f32)) as f32);
            out.variance.push(variance as f32);
            out.inv_std.push(inv_std(variance, epsilon));
        }
    }
    out
}

/// Adds sums (first half of `out`) and sums of squares (second half) of rows.
struct Sums<'a> {
    x: &'a [f32],
    channels: usize,
    out: &'a mut [f64],
}

impl WithSimd for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (sums, squares) = self.out.split_at_mut(self.channels);
        for block in self.x.chunks(BLOCK * self.channels) {
            by_registers!(S, self.channels, 4, |range, N| {
                // Shifted by the block's first row, the sum of squares cannot lose more than a factor
                // of some 2 * BLOCK to cancellation: the row's own deviation is one of the terms.
                let shift = read::<S, N>(simd, &block[range.clone()]);
                let mut sum = [simd.splat_f32s(0.0); N];
                let mut square = [simd.splat_f32s(0.0); N];
                for row in block.chunks_exact(self.channels).skip(1) {
                    let x = read::<S, N>(simd, &row[range.clone()]);
                    for n in 0..N {
                        let x = simd.sub_f32s(x[n], shift[n]);
                        sum[n] = simd.add_f32s(sum[n], x);
                        square[n] = mul_add(simd, x, x, square[n]);
                    }
                }
                let count = (block.len() / self.channels) as f64;
                let parts = lanes::<S, N>(&shift)
                    .iter()
                    .zip(lanes::<S, N>(&sum))
                    .zip(lanes::<S, N>(&square));
                let totals = sums[range.clone()].iter_mut().zip(&mut squares[range]);
                for ((total, totals), ((&shift, &sum), &square)) in totals.zip(parts) {
                    let (shift, sum) = (f64::from(shift), f64::from(sum));
                    *total += sum + count * shift;
                    *totals += f64::from(square) + shift * (2.0 * sum + count * shift);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::affordable;
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    #[test]
    fn moments_are_accurate_even_far_from_zero() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for (groups, rows, channels) in [
            (1, 1, 1),
            (2, 7, 3),
            (3, 33, 65),
            (1, 3001, 70),
            (2, 900, 131),
        ] {
            if !affordable(groups * rows * channels) {
                continue;
            }
            for centre in [0.0f32, 1000.0, -30000.0] {
                let size = Size {
                    groups,
                    rows,
                    channels,
                };
                let mut x: Vec<f32> = (0..size.len())
                    .map(|_| centre + rng.random_range(-1.7..1.7))
                    .collect();
                // A row far from all others must not spoil the rest.
                x[..channels].iter_mut().for_each(|x| *x += 50.0);
                for isa in Isa::available() {
                    let found = moments(isa, &x, size, 1e-5);
                    for group in 0..groups {
                        for channel in 0..channels {
                            let value = |row: usize| {
                                f64::from(x[(group * rows + row) * channels + channel])
                            };
                            let mean = (0..rows).map(value).sum::<f64>() / rows as f64;
                            let variance = (0..rows)
                                .map(|row| (value(row) - mean).powi(2))
                                .sum::<f64>()
                                / rows as f64;
                            let at = group * channels + channel;
                            let both = f64::from(found.mean[at]) + f64::from(found.rest[at]);
                            // f32 sums of differences, each with a relative error of 6e-8.
                            let bound = 2e-6 * variance.sqrt() + 1e-12 * mean.abs();
                            assert!((both - mean).abs() <= bound, "{isa} {size:?} {centre}");
                            let error = (f64::from(found.variance[at]) - variance).abs();
                            // Here the far row is the shift: some 32 times the rounding.
                            assert!(error <= 2e-5 * variance + 1e-9, "{isa} {size:?} {centre}");
                            let inv_std = 1.0 / (variance + 1e-5).sqrt();
                            let ratio = f64::from(found.inv_std[at]) / inv_std;
                            assert!((ratio - 1.0).abs() < 1e-4, "{isa} {size:?} {ratio}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "too many values")]
    fn moments_do_not_depend_on_the_number_of_threads() {
        let size = Size {
            groups: 2,
            rows: 2500,
            channels: 67,
        };
        let x: Vec<f32> = (0..size.len()).map(|i| (i % 9973) as f32 * 1e-3).collect();
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.expect("threads start")
                .install(|| moments(Isa::best(), &x, size, 1e-5))
        };
        let one = run(1);
        assert!([2, 3, 5].into_iter().all(|threads| run(threads) == one));
    }
}
