//! Products of triangular matrices with the features around their position.
// Triangles are read through pointers: a bounds check for each multiply-add would cost more than it.
#![allow(unsafe_code)]

use pulp::{Simd, WithSimd, bytemuck};

use super::{Gaussians, Neighbourhood};
use crate::isa::Isa;
use crate::simd_math::mul_add;
use crate::vector::{Access, Part, Whole};

/// With fewer features than this, lanes go along a row of the triangle; with more, each feature has a
/// lane of its own.
const MANY: usize = 5;
/// Registers of features that are whitened together.
const REGISTERS: usize = 4;

/// Squared distances of the Gaussians from `first` on.
pub(super) struct Whiten<'a> {
    pub(super) gaussians: &'a Gaussians<'a>,
    pub(super) features: &'a [f32],
    pub(super) window: &'a Neighbourhood,
    pub(super) first: usize,
    pub(super) squares: &'a mut [f32],
    /// Room for features of which the mean is subtracted; lanes without a feature are computed too, so
    /// it should hold nothing that is slow to compute with.
    pub(super) centred: &'a mut [f32],
}

impl Whiten<'_> {
    /// Values that `centred` must hold.
    pub(super) fn room(isa: Isa, dimension: usize) -> usize {
        dimension * REGISTERS * isa.lanes()
    }
}

impl WithSimd for Whiten<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            gaussians,
            features,
            window,
            first,
            squares,
            centred,
        } = self;
        let Gaussians {
            grid: [rows, columns],
            dimension,
            means,
            factors,
        } = *gaussians;
        let triangle = dimension * (dimension + 1) / 2;
        let batch = window.batch;
        assert!(centred.len() >= dimension * REGISTERS * S::F32_LANES);
        let mut seen = Vec::new();
        let all = squares.chunks_exact_mut(window.offsets() * batch);
        for (index, squares) in all.enumerate() {
            let position = first + index;
            let mean = &means[position * dimension..][..dimension];
            let factor = &factors[position * triangle..][..triangle];
            seen.clear();
            window.around(position, |offset, pixel| {
                seen.extend((0..batch).map(|image| {
                    let feature = (image * rows * columns + pixel) * dimension;
                    (offset * batch + image, feature)
                }));
            });
            for seen in seen.chunks(REGISTERS * S::F32_LANES) {
                if seen.len() < MANY {
                    for &(place, feature) in seen {
                        let feature = &features[feature..][..dimension];
                        let z = &mut centred[..dimension];
                        for ((z, x), mean) in z.iter_mut().zip(feature).zip(mean) {
                            *z = x - mean;
                        }
                        squares[place] = one(simd, factor, z);
                    }
                    continue;
                }
                let registers = seen.len().div_ceil(S::F32_LANES);
                let stride = registers * S::F32_LANES;
                for (lane, &(_, feature)) in seen.iter().enumerate() {
                    let feature = &features[feature..][..dimension];
                    let z = centred[lane..].iter_mut().step_by(stride);
                    for ((z, x), mean) in z.zip(feature).zip(mean) {
                        *z = x - mean;
                    }
                }
                let mut totals = [simd.splat_f32s(0.0); REGISTERS];
                let mut register = 0;
                while register < registers {
                    let z = &centred[register * S::F32_LANES..dimension * stride];
                    if register + 2 <= registers {
                        let two = many::<S, 6, 2>(simd, factor, z, dimension, stride);
                        totals[register..register + 2].copy_from_slice(&two);
                        register += 2;
                    } else {
                        let [one] = many::<S, 8, 1>(simd, factor, z, dimension, stride);
                        totals[register] = one;
                        register += 1;
                    }
                }
                let totals: &[f32] = bytemuck::cast_slice(&totals);
                for (&(place, _), &total) in seen.iter().zip(totals) {
                    squares[place] = total;
                }
            }
        }
    }
}

/// `|W z|^2` for one feature.
#[inline(always)]
fn one<S: Simd>(simd: S, factor: &[f32], z: &[f32]) -> f32 {
    let dimension = z.len();
    assert_eq!(factor.len(), dimension * (dimension + 1) / 2);
    let (mut row, z) = (factor.as_ptr(), z.as_ptr());
    let mut total = 0.0;
    for length in 1..=dimension {
        let mut sums = [simd.splat_f32s(0.0); 2];
        let mut at = 0;
        // SAFETY: a row of `length` values lies at `row`, since rows of 1, 2, .. `dimension` values
        // make up `factor`; `z` has `dimension` values; `at` stays below `length`.
        unsafe {
            while at + 2 * S::F32_LANES <= length {
                for sum in &mut sums {
                    let (w, z) = (Whole.load(simd, row.add(at)), Whole.load(simd, z.add(at)));
                    *sum = mul_add(simd, w, z, *sum);
                    at += S::F32_LANES;
                }
            }
            if at + S::F32_LANES <= length {
                let (w, z) = (Whole.load(simd, row.add(at)), Whole.load(simd, z.add(at)));
                sums[0] = mul_add(simd, w, z, sums[0]);
                at += S::F32_LANES;
            }
            if at < length {
                let part = Part::new(simd, length - at);
                let (w, z) = (part.load(simd, row.add(at)), part.load(simd, z.add(at)));
                sums[1] = mul_add(simd, w, z, sums[1]);
            }
            row = row.add(length);
        }
        let sum = simd.reduce_sum_f32s(simd.add_f32s(sums[0], sums[1]));
        total += sum * sum;
    }
    total
}

/// `|W z|^2` for `N` registers of features, `M` rows of the triangle at a time; value `i` of the
/// features lies at `z[i * stride..]`.
#[inline(always)]
fn many<S: Simd, const M: usize, const N: usize>(
    simd: S,
    factor: &[f32],
    z: &[f32],
    dimension: usize,
    stride: usize,
) -> [S::f32s; N] {
    assert_eq!(factor.len(), dimension * (dimension + 1) / 2);
    assert!(z.len() >= (dimension - 1) * stride + N * S::F32_LANES);
    let mut totals = [simd.splat_f32s(0.0); N];
    let mut first = 0;
    // SAFETY: row `r` of the triangle has `r + 1` values and begins at `r (r + 1) / 2`; rows and columns
    // below stay below `dimension`, columns not behind their row; `z` was checked above.
    unsafe {
        let (factor, z) = (factor.as_ptr(), z.as_ptr());
        while first + M <= dimension {
            let mut rows = [factor; M];
            for (m, row) in rows.iter_mut().enumerate() {
                *row = factor.add((first + m) * (first + m + 1) / 2);
            }
            let mut sums = [[simd.splat_f32s(0.0); N]; M];
            for column in 0..=first {
                let mut values = [simd.splat_f32s(0.0); N];
                for (n, value) in values.iter_mut().enumerate() {
                    *value = Whole.load(simd, z.add(column * stride + n * S::F32_LANES));
                }
                for (sums, row) in sums.iter_mut().zip(rows) {
                    let w = simd.splat_f32s(*row.add(column));
                    for (sum, value) in sums.iter_mut().zip(values) {
                        *sum = mul_add(simd, w, value, *sum);
                    }
                }
            }
            // The corner of the triangle.
            for m in 1..M {
                for column in first + 1..=first + m {
                    let w = simd.splat_f32s(*rows[m].add(column));
                    for (n, sum) in sums[m].iter_mut().enumerate() {
                        let value = Whole.load(simd, z.add(column * stride + n * S::F32_LANES));
                        *sum = mul_add(simd, w, value, *sum);
                    }
                }
            }
            for sums in sums {
                for (total, sum) in totals.iter_mut().zip(sums) {
                    *total = mul_add(simd, sum, sum, *total);
                }
            }
            first += M;
        }
        for row in first..dimension {
            let start = factor.add(row * (row + 1) / 2);
            let mut sums = [simd.splat_f32s(0.0); N];
            for column in 0..=row {
                let w = simd.splat_f32s(*start.add(column));
                for (n, sum) in sums.iter_mut().enumerate() {
                    let value = Whole.load(simd, z.add(column * stride + n * S::F32_LANES));
                    *sum = mul_add(simd, w, value, *sum);
                }
            }
            for (total, sum) in totals.iter_mut().zip(sums) {
                *total = mul_add(simd, sum, sum, *total);
            }
        }
    }
    totals
}
