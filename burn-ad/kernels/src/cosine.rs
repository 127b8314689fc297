//! Cosines between whole feature maps, one an image.

use pulp::{Simd, WithSimd};

use crate::isa::Isa;
use crate::rows::for_rows;
use crate::simd_math::mul_add;
use crate::sums::{BLOCK, lanes, sum_rows};
use crate::vector::{by_registers, read, write};

/// The product of lengths counts as at least this (PyTorch's `cosine_similarity`).
const SMALLEST: f64 = 1e-8;

/// What a cosine consists of: for each image `a . b`, `a . a` and `b . b`.
#[derive(Clone, Debug, PartialEq)]
pub struct Products(Vec<[f64; 3]>);

/// The products of `a` and `b`, `images` parts of equal length each.
///
/// # Panics
/// If lengths differ, or are no multiple of the number of images.
pub fn products(isa: Isa, a: &[f32], b: &[f32], images: usize) -> Products {
    assert_eq!(a.len(), b.len(), "lengths of maps");
    let each = a.len().checked_div(images).unwrap_or(0);
    assert_eq!(each * images, a.len(), "whole images");
    // Pieces of an image that one call sums: no more than a block in each of 16 lanes.
    let piece = 16 * BLOCK;
    let pieces = each.div_ceil(piece).max(1);
    let sums = sum_rows(images, pieces, 2 * piece, 3, |first, count, out| {
        for index in first..first + count {
            let (image, place) = (index / pieces, index % pieces * piece);
            let range = image * each + place..image * each + (place + piece).min(each);
            isa.run(Sums {
                a: &a[range.clone()],
                b: &b[range],
                out,
            });
        }
    });
    let (sums, _) = sums.as_chunks::<3>();
    Products(sums.to_vec())
}

impl Products {
    /// The cosines, one an image; 0 where a map is all zeros.
    pub fn cosines(&self) -> impl Iterator<Item = f64> {
        let of = |&[ab, aa, bb]: &[f64; 3]| ab / (aa * bb).sqrt().max(SMALLEST);
        self.0.iter().map(of)
    }

    /// The gradient of `sum(seed * cosine)` with respect to `b`.
    ///
    /// # Panics
    /// If a slice does not fit.
    pub fn gradient(&self, isa: Isa, a: &[f32], b: &[f32], seed: &[f32], out: &mut [f32]) {
        let images = self.0.len();
        assert_eq!(seed.len(), images, "one seed an image");
        assert!(
            a.len() == out.len() && b.len() == out.len(),
            "lengths of maps"
        );
        let each = out.len().checked_div(images).unwrap_or(0);
        let factors: Vec<[f32; 2]> = self
            .0
            .iter()
            .zip(seed)
            .map(|(&[ab, aa, bb], &seed)| {
                let (lengths, seed) = ((aa * bb).sqrt(), f64::from(seed));
                let of_b = if lengths > SMALLEST {
                    -seed * ab / lengths / bb
                } else {
                    0.0
                };
                [(seed / lengths.max(SMALLEST)) as f32, of_b as f32]
            })
            .collect();
        // Rows of a hundred-odd values: none crosses the border between images.
        let row = (1..=256).rev().find(|row| each.is_multiple_of(*row));
        let row = row.unwrap_or(1);
        for_rows(out, row, 3 * row, |first, out| {
            for (index, out) in out.chunks_exact_mut(row).enumerate() {
                let at = (first + index) * row;
                isa.run(Combine {
                    a: &a[at..][..row],
                    b: &b[at..][..row],
                    factors: factors[at / each],
                    out,
                });
            }
        });
    }
}

struct Sums<'a> {
    a: &'a [f32],
    b: &'a [f32],
    out: &'a mut [f64],
}

impl WithSimd for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let mut sums = [simd.splat_f32s(0.0); 3];
        by_registers!(S, self.a.len(), 1, |range, N| {
            let a = read::<S, N>(simd, &self.a[range.clone()])[0];
            let b = read::<S, N>(simd, &self.b[range])[0];
            sums[0] = mul_add(simd, a, b, sums[0]);
            sums[1] = mul_add(simd, a, a, sums[1]);
            sums[2] = mul_add(simd, b, b, sums[2]);
        });
        for (out, sum) in self.out.iter_mut().zip(&sums) {
            let lanes = lanes::<S, 1>(std::array::from_ref(sum));
            *out += lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
        }
    }
}

/// `out = factors[0] * a + factors[1] * b`.
struct Combine<'a> {
    a: &'a [f32],
    b: &'a [f32],
    factors: [f32; 2],
    out: &'a mut [f32],
}

impl WithSimd for Combine<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let [of_a, of_b] = self.factors.map(|factor| simd.splat_f32s(factor));
        by_registers!(S, self.out.len(), 4, |range, N| {
            let a = read::<S, N>(simd, &self.a[range.clone()]);
            let mut values = read::<S, N>(simd, &self.b[range.clone()]);
            for n in 0..N {
                values[n] = mul_add(simd, a[n], of_a, simd.mul_f32s(values[n], of_b));
            }
            write::<S, N>(simd, &mut self.out[range], values);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::affordable;
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    fn cosine(a: &[f64], b: &[f64]) -> f64 {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    }

    #[test]
    fn cosines_and_gradients_are_those_of_the_definition() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        for isa in Isa::available() {
            for (images, each) in [(1, 1), (2, 3), (3, 257), (2, 4096), (4, 40_000)] {
                if !affordable(images * each) {
                    continue;
                }
                let mut draw = |count: usize| -> Vec<f32> {
                    (0..count).map(|_| rng.random_range(-1.0..2.0)).collect()
                };
                let (a, b, seed) = (draw(images * each), draw(images * each), draw(images));
                let products = products(isa, &a, &b, images);
                let mut gradient = vec![f32::NAN; a.len()];
                products.gradient(isa, &a, &b, &seed, &mut gradient);
                for (image, found) in products.cosines().enumerate() {
                    let of = |values: &[f32]| -> Vec<f64> {
                        let image = &values[image * each..][..each];
                        image.iter().map(|&value| f64::from(value)).collect()
                    };
                    let (a, b, gradient) = (of(&a), of(&b), of(&gradient));
                    let expected = cosine(&a, &b);
                    assert!((found - expected).abs() < 1e-6, "{isa} {found} {expected}");
                    for place in [0, each / 2, each - 1] {
                        let step = 1e-4;
                        let at = |change: f64| {
                            let mut b = b.clone();
                            b[place] += change;
                            cosine(&a, &b)
                        };
                        let slope = (at(step) - at(-step)) / (2.0 * step);
                        let expected = slope * f64::from(seed[image]);
                        let error = (gradient[place] - expected).abs();
                        assert!(error < 1e-6 * (1.0 + expected.abs()), "{isa} {each}");
                    }
                }
            }
        }
    }

    #[test]
    fn maps_of_zeros_have_the_cosine_0_and_a_finite_gradient() {
        for isa in Isa::available() {
            let found = products(isa, &[1.0, 2.0], &[0.0; 2], 1);
            assert_eq!(found.cosines().collect::<Vec<_>>(), [0.0]);
            let mut gradient = [f32::NAN; 2];
            found.gradient(isa, &[1.0, 2.0], &[0.0; 2], &[1.0], &mut gradient);
            assert!(gradient.iter().all(|value| value.is_finite()));
        }
    }
}
