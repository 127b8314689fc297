//! Vectors of length 1, the way back, and cosines between vectors.

use pulp::{Simd, WithSimd};

use crate::isa::Isa;
use crate::rows::{for_rows, for_rows_of_two};
use crate::simd_math::{mul_add, negate_mul_add};
use crate::vector::{by_registers, read, write};

/// Shorter vectors are divided by this (PyTorch's `normalize`).
const SHORTEST: f32 = 1e-12;

/// Divides each row of `[rows, channels]` by its Euclidean length; `lengths` are `[rows]`.
///
/// # Panics
/// If a slice does not fit.
pub fn forward(isa: Isa, x: &[f32], channels: usize, out: &mut [f32], lengths: &mut [f32]) {
    assert_eq!(x.len(), lengths.len() * channels, "vectors");
    assert_eq!(out.len(), x.len(), "vectors of length 1");
    for_rows_of_two(
        (out, lengths),
        (channels, 1),
        3 * channels,
        |first, out, lengths| {
            isa.run(Forward {
                x: &x[first * channels..][..out.len()],
                channels,
                out,
                lengths,
            });
        },
    );
}

/// The gradient with respect to `x`: `(g - y (y . g)) / length`, where `y` is what [`forward`] gave.
/// A vector that was too short has the gradient of a division by a constant.
///
/// # Panics
/// If a slice does not fit.
pub fn backward(
    isa: Isa,
    (y, lengths, grad): (&[f32], &[f32], &[f32]),
    channels: usize,
    out: &mut [f32],
) {
    assert_eq!(y.len(), lengths.len() * channels, "vectors of length 1");
    assert_eq!(grad.len(), y.len(), "gradients of vectors of length 1");
    assert_eq!(out.len(), y.len(), "gradients of vectors");
    for_rows(out, channels, 5 * channels, |first, out| {
        let range = first * channels..first * channels + out.len();
        isa.run(Backward {
            y: &y[range.clone()],
            lengths: &lengths[first..][..out.len() / channels],
            grad: &grad[range],
            channels,
            out,
        });
    });
}

/// The product of two lengths counts as at least this (PyTorch's `cosine_similarity`).
const SMALLEST: f32 = 1e-8;

/// The cosine between each row of `a` and that of `b`, both `[rows, channels]`; 0 where one is nothing.
///
/// # Panics
/// If a slice does not fit.
pub fn cosines(isa: Isa, a: &[f32], b: &[f32], channels: usize, out: &mut [f32]) {
    assert_eq!(a.len(), out.len() * channels, "left vectors");
    assert_eq!(b.len(), a.len(), "right vectors");
    for_rows(out, 1, 2 * channels, |first, out| {
        let range = first * channels..(first + out.len()) * channels;
        isa.run(Cosines {
            a: &a[range.clone()],
            b: &b[range],
            channels,
            out,
        });
    });
}

struct Cosines<'a> {
    a: &'a [f32],
    b: &'a [f32],
    channels: usize,
    out: &'a mut [f32],
}

impl WithSimd for Cosines<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let a = self.a.chunks_exact(self.channels);
        let rows = a.zip(self.b.chunks_exact(self.channels));
        for ((a, b), out) in rows.zip(self.out) {
            let lengths = dot(simd, a, a).sqrt() * dot(simd, b, b).sqrt();
            *out = dot(simd, a, b) / lengths.max(SMALLEST);
        }
    }
}

/// `a . b`.
#[inline(always)]
fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let mut total = 0.0;
    by_registers!(S, a.len(), 4, |range, N| {
        let a = read::<S, N>(simd, &a[range.clone()]);
        let b = read::<S, N>(simd, &b[range]);
        let mut sum = simd.mul_f32s(a[0], b[0]);
        for (a, b) in a[1..].iter().zip(&b[1..]) {
            sum = mul_add(simd, *a, *b, sum);
        }
        total += simd.reduce_sum_f32s(sum);
    });
    total
}

struct Forward<'a> {
    x: &'a [f32],
    channels: usize,
    out: &'a mut [f32],
    lengths: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let rows = self.x.chunks_exact(self.channels);
        let places = self.out.chunks_exact_mut(self.channels);
        for ((x, out), length) in rows.zip(places).zip(self.lengths) {
            *length = dot(simd, x, x).sqrt();
            let factor = simd.splat_f32s(1.0 / length.max(SHORTEST));
            by_registers!(S, self.channels, 4, |range, N| {
                let mut values = read::<S, N>(simd, &x[range.clone()]);
                for value in &mut values {
                    *value = simd.mul_f32s(*value, factor);
                }
                write::<S, N>(simd, &mut out[range], values);
            });
        }
    }
}

struct Backward<'a> {
    y: &'a [f32],
    lengths: &'a [f32],
    grad: &'a [f32],
    channels: usize,
    out: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let channels = self.channels;
        for (row, (out, &length)) in self
            .out
            .chunks_exact_mut(channels)
            .zip(self.lengths)
            .enumerate()
        {
            let y = &self.y[row * channels..][..channels];
            let grad = &self.grad[row * channels..][..channels];
            let along = if length > SHORTEST {
                dot(simd, y, grad)
            } else {
                0.0
            };
            let along = simd.splat_f32s(along);
            let factor = simd.splat_f32s(1.0 / length.max(SHORTEST));
            by_registers!(S, channels, 4, |range, N| {
                let y = read::<S, N>(simd, &y[range.clone()]);
                let mut values = read::<S, N>(simd, &grad[range.clone()]);
                for n in 0..N {
                    values[n] = negate_mul_add(simd, y[n], along, values[n]);
                    values[n] = simd.mul_f32s(values[n], factor);
                }
                write::<S, N>(simd, &mut out[range], values);
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
    fn lengths_are_1_and_gradients_are_those_of_the_definition() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for isa in Isa::available() {
            for (rows, channels) in [(1, 1), (3, 7), (5, 16), (4, 130), (300, 512)] {
                if !affordable(rows * channels) {
                    continue;
                }
                let mut draw = |count: usize| -> Vec<f32> {
                    (0..count).map(|_| rng.random_range(-1.0..2.0)).collect()
                };
                let (x, grad) = (draw(rows * channels), draw(rows * channels));
                let (mut y, mut lengths) = (vec![f32::NAN; x.len()], vec![f32::NAN; rows]);
                forward(isa, &x, channels, &mut y, &mut lengths);
                let mut dx = vec![f32::NAN; x.len()];
                backward(isa, (&y, &lengths, &grad), channels, &mut dx);
                let mut angles = vec![f32::NAN; rows];
                cosines(isa, &x, &grad, channels, &mut angles);
                for row in 0..rows {
                    let of = |values: &[f32]| -> Vec<f64> {
                        let row = &values[row * channels..][..channels];
                        row.iter().map(|&value| f64::from(value)).collect()
                    };
                    let (x, y, grad, dx) = (of(&x), of(&y), of(&grad), of(&dx));
                    let length = x.iter().map(|x| x * x).sum::<f64>().sqrt();
                    let along: f64 = x.iter().zip(&grad).map(|(x, g)| x * g).sum();
                    let other = grad.iter().map(|g| g * g).sum::<f64>().sqrt();
                    let error = f64::from(angles[row]) - along / length / other;
                    assert!(error.abs() < 1e-6, "{isa}");
                    for c in 0..channels {
                        assert!((y[c] - x[c] / length).abs() < 1e-6, "{isa}");
                        let expected = (grad[c] - x[c] * along / length / length) / length;
                        // Two terms of this size cancel.
                        let size = grad[c].abs() + (along / length).abs() + 1.0;
                        let error = (dx[c] - expected).abs() * length;
                        assert!(error < 2e-6 * size, "{isa}: {} {expected}", dx[c]);
                    }
                }
            }
        }
    }

    #[test]
    fn a_vector_of_nothing_stays_nothing() {
        let (mut y, mut lengths, mut dx) = ([9.0; 4], [9.0], [9.0; 4]);
        for isa in Isa::available() {
            forward(isa, &[0.0; 4], 4, &mut y, &mut lengths);
            assert_eq!((y, lengths), ([0.0; 4], [0.0]));
            backward(isa, (&y, &lengths, &[1.0; 4]), 4, &mut dx);
            assert_eq!(dx, [1e12; 4]);
        }
    }
}
