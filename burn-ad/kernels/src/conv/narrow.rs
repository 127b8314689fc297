//! Convolutions with a few outputs, such as the colours of a reconstructed image: as columns of registers
//! they would leave most lanes empty, so lanes are summed values instead.
// Rows are checked one by one as slices; only loads of registers are unchecked.
#![allow(unsafe_code)]
// One index runs over rows of several arrays, the other over their columns.
#![allow(clippy::needless_range_loop)]

use pulp::{Simd, WithSimd};

use super::epilogue::Epilogue;
use super::product::Row;
use super::tile::Runs;
use super::weights::Source;
use crate::activation::Activation;
use crate::isa::Isa;
use crate::parallel::Scattered;
use crate::simd_math::{activate, mul_add};
use crate::vector::{Access, Part, load, read, write};

/// Most columns of a narrow product.
pub(super) const COLUMNS: usize = 4;

/// Whether columns fill at most half a register, and the channels of a position at least one.
pub(super) fn is_narrow(isa: Isa, columns: usize, inputs: usize) -> bool {
    let lanes = isa.lanes();
    (1..=COLUMNS).contains(&columns) && 2 * columns <= lanes && inputs >= lanes
}

/// Packs weights for [`Narrow`]: for each column all taps, for each of those all inputs.
pub(super) fn pack(source: Source<'_>, packed: &mut [f32]) {
    let [_, stride, height, width] = source.shape;
    let (columns, inputs) = source.sizes();
    let lines = packed.chunks_exact_mut(inputs);
    let places = (0..columns).flat_map(|column| source.taps.iter().map(move |tap| (column, tap)));
    for (line, (column, tap)) in lines.zip(places) {
        for (input, value) in line.iter_mut().enumerate() {
            let (output, input) = if source.swapped {
                (input, column)
            } else {
                (column, input)
            };
            *value = source.values[(output * stride + input) * height * width + tap];
        }
    }
}

/// For each of `rows`, `out[to..] = epilogue(input[from..] * weights)`, as
/// [`Product`](super::product::Product) with other weights.
pub(super) struct Narrow<'a> {
    pub(super) input: &'a [f32],
    pub(super) rows: &'a [Row],
    /// The summed values of a row.
    pub(super) runs: Runs,
    /// For each column `runs.total()` values.
    pub(super) weights: &'a [f32],
    pub(super) columns: usize,
    pub(super) epilogue: Epilogue<'a>,
    /// No other thread may touch these rows.
    pub(super) out: &'a Scattered<'a>,
}

impl WithSimd for Narrow<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let many = S::REGISTER_COUNT >= 32;
        match self.columns {
            1 => self.all_rows::<S, 6, 1>(simd),
            2 => self.all_rows::<S, 5, 2>(simd),
            3 if many => self.all_rows::<S, 6, 3>(simd),
            3 => self.all_rows::<S, 3, 3>(simd),
            4 if many => self.all_rows::<S, 6, 4>(simd),
            4 => self.all_rows::<S, 2, 4>(simd),
            _ => unreachable!("more columns than a narrow product has"),
        }
    }
}

impl Narrow<'_> {
    #[inline(always)]
    fn all_rows<S: Simd, const MR: usize, const C: usize>(&self, simd: S) {
        let mut tiles = self.rows.chunks_exact(MR);
        for rows in &mut tiles {
            self.tile::<S, MR, C>(simd, rows);
        }
        for row in tiles.remainder().chunks_exact(1) {
            self.tile::<S, 1, C>(simd, row);
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const MR: usize, const C: usize>(&self, simd: S, rows: &[Row]) {
        let (runs, total) = (self.runs, self.runs.total());
        let mut from = [self.input.as_ptr(); MR];
        for (from, row) in from.iter_mut().zip(rows) {
            *from = self.input[row.from..][..runs.extent()].as_ptr();
        }
        let weights = self.weights[..C * total].as_ptr();
        let mut sums = [[simd.splat_f32s(0.0); C]; MR];
        let whole = runs.length / S::F32_LANES * S::F32_LANES;
        let rest = Part::new(simd, runs.length - whole);
        for run in 0..runs.count {
            // SAFETY: a row's value `p < length` of `run < count` lies in its extent, and in the `total`
            // values of each column's weights; the rest are the last `length - whole` of a run.
            unsafe {
                let start = run * runs.step;
                let weights = weights.add(run * runs.length);
                let mut p = 0;
                while p < whole {
                    let mut w = [simd.splat_f32s(0.0); C];
                    for c in 0..C {
                        w[c] = load::<S>(weights.add(c * total + p));
                    }
                    for r in 0..MR {
                        let x = load::<S>(from[r].add(start + p));
                        for c in 0..C {
                            sums[r][c] = mul_add(simd, x, w[c], sums[r][c]);
                        }
                    }
                    p += S::F32_LANES;
                }
                if whole < runs.length {
                    for c in 0..C {
                        let w = rest.load(simd, weights.add(c * total + whole));
                        for r in 0..MR {
                            let x = rest.load(simd, from[r].add(start + whole));
                            sums[r][c] = mul_add(simd, x, w, sums[r][c]);
                        }
                    }
                }
            }
        }
        for (row, sums) in rows.iter().zip(&sums) {
            let mut values = [0.0; C];
            for c in 0..C {
                values[c] = simd.reduce_sum_f32s(sums[c]);
            }
            self.finish::<S, C>(simd, row.to, values);
        }
    }

    #[inline(always)]
    fn finish<S: Simd, const C: usize>(&self, simd: S, to: usize, mut values: [f32; C]) {
        let Epilogue {
            bias,
            residual,
            activation,
        } = self.epilogue;
        let added = [bias, residual.map(|residual| &residual[to..])];
        for added in added.into_iter().flatten() {
            for c in 0..C {
                values[c] += added[c];
            }
        }
        if activation != Activation::Identity {
            let [value] = read::<S, 1>(simd, &values);
            write::<S, 1>(simd, &mut values, [activate(simd, activation, value)]);
        }
        // SAFETY: rows do not overlap, and no other thread has these.
        unsafe { self.out.part(to..to + C) }.copy_from_slice(&values);
    }
}
