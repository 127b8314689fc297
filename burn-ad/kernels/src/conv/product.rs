//! Rows that lie anywhere times packed weights: what all convolutions come down to.
// Rows are checked one by one as slices; only loads and stores of registers are unchecked.
#![allow(unsafe_code)]
// One index runs over rows of several arrays, the other over their columns.
#![allow(clippy::needless_range_loop)]

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::ahead::{Ahead, Goal};
use super::epilogue::{Epilogue, Limits};
use super::tile::{Chunk, ROWS, Runs, chunks, multiply, panel};
use crate::Isa;
use crate::parallel::Scattered;
use crate::simd_math::activate;
use crate::vector::{Access, Lanes, load, store};

/// Summed values that are taken together: few enough for so many rows of four registers to stay in
/// the second cache with the input rows of a block, many enough to load and store sums rarely. A run of
/// up to half as many again is not cut.
const CHUNK: usize = 700;

/// Input and output offsets of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) from: usize,
    pub(super) to: usize,
}

/// For each of `rows`, `out[to..] = epilogue(input[from..] * weights)`.
pub(super) struct Product<'a> {
    pub(super) isa: Isa,
    pub(super) input: &'a [f32],
    pub(super) rows: &'a [Row],
    /// The summed values of a row.
    pub(super) runs: Runs,
    /// For each panel `runs.total()` rows of its registers.
    pub(super) weights: &'a [f32],
    pub(super) columns: usize,
    /// Panels to compute.
    pub(super) panels: Range<usize>,
    pub(super) epilogue: Epilogue<'a>,
    /// No other thread may touch these rows' columns.
    pub(super) out: &'a Scattered<'a>,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let total = self.runs.total();
        for chunk in chunks(self.runs, CHUNK) {
            for index in self.panels.clone() {
                let panel = panel(self.isa, self.columns, index);
                let start = panel.first * S::F32_LANES * total;
                let width = panel.width * S::F32_LANES;
                let weights = &self.weights[start + chunk.before * width..];
                // The same part of the next panel; where sums are not cut, this is simply what follows.
                let ahead = weights.as_ptr().wrapping_add(width * total);
                let weights = &weights[..chunk.runs.total() * width];
                let step = Step {
                    product: &self,
                    chunk: &chunk,
                    weights,
                    ahead,
                    column: panel.first * S::F32_LANES,
                    last: chunk.before + chunk.runs.total() == total,
                };
                match panel.width {
                    1 => step.all_rows::<S, 1>(simd),
                    2 => step.all_rows::<S, 2>(simd),
                    3 if S::REGISTER_COUNT >= 32 => step.all_rows::<S, 3>(simd),
                    4 if S::REGISTER_COUNT >= 32 => step.all_rows::<S, 4>(simd),
                    _ => unreachable!("no panel of this width fits the registers"),
                }
            }
        }
    }
}

/// One chunk of one panel.
struct Step<'a> {
    product: &'a Product<'a>,
    chunk: &'a Chunk,
    weights: &'a [f32],
    /// Where the next panel's part begins.
    ahead: *const f32,
    column: usize,
    last: bool,
}

impl Step<'_> {
    #[inline(always)]
    fn all_rows<S: Simd, const NV: usize>(&self, simd: S) {
        let count = self.product.rows.len().div_ceil(ROWS);
        if count == 0 {
            return;
        }
        let (width, summed) = (NV * S::F32_LANES, self.chunk.runs.total());
        let ahead = |index| Ahead::share(self.ahead, width, summed, index, count);
        let mut tiles = self.product.rows.chunks_exact(ROWS);
        for (index, rows) in (&mut tiles).enumerate() {
            self.tile::<S, ROWS, NV>(simd, rows, ahead(index));
        }
        let rows = tiles.remainder();
        let ahead = ahead(count - 1);
        match rows.len() {
            5 => self.tile::<S, 5, NV>(simd, rows, ahead),
            4 => self.tile::<S, 4, NV>(simd, rows, ahead),
            3 => self.tile::<S, 3, NV>(simd, rows, ahead),
            2 => self.tile::<S, 2, NV>(simd, rows, ahead),
            1 => self.tile::<S, 1, NV>(simd, rows, ahead),
            _ => {}
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const MR: usize, const NV: usize>(&self, simd: S, rows: &[Row], ahead: Ahead) {
        let product = self.product;
        let columns = (NV * S::F32_LANES).min(product.columns - self.column);
        let cells = Cells::<S>::new::<NV>(simd, columns);
        let extent = self.chunk.runs.extent();
        let out = product.out.pointer(0..0).cast_const();
        let (mut from, mut to) = ([product.input.as_ptr(); MR], [out; MR]);
        for r in 0..MR {
            from[r] = product.input[rows[r].from + self.chunk.offset..][..extent].as_ptr();
            to[r] = out.wrapping_add(rows[r].to + self.column);
        }
        let residual = product.epilogue.residual.filter(|_| self.last);
        let added = residual.map(|from| from.as_ptr().addr().wrapping_sub(out.addr()) as isize);
        let goal = Goal::new(to, added, self.chunk.runs.total());
        debug_assert_eq!(
            self.weights.len(),
            self.chunk.runs.total() * NV * S::F32_LANES
        );
        // SAFETY: each of `from` has `extent` values, `weights` has `NV` registers for each of the
        // chunk's values.
        let sums: [[S::f32s; NV]; MR] = unsafe {
            multiply(
                simd,
                from,
                self.chunk.runs,
                self.weights.as_ptr(),
                ahead,
                goal,
            )
        };
        let first = self.chunk.before == 0;
        let bias = product.epilogue.bias.filter(|_| first);
        let bias = bias.map(|bias| &bias[self.column..][..columns]);
        let limits = Limits::<S>::of(simd, product.epilogue.activation);
        // Most tiles are whole, and the loops over one of them are short enough to be unrolled: its sums
        // go to memory once.
        if first && self.last && columns == NV * S::F32_LANES {
            let mut added = [simd.splat_f32s(0.0); NV];
            if let Some(bias) = bias {
                for (j, added) in added.iter_mut().enumerate() {
                    *added = cells.get::<NV>(simd, bias, j);
                }
            }
            // Several loops: with the residual as a question in one, few channels take 4 % more time, and with the
            // activation behind them, 2 to 3 %.
            let Some(residual) = residual else {
                if let Some(curve) = product.epilogue.curve() {
                    for r in 0..MR {
                        let out = S::as_mut_simd_f32s(self.out(&rows[r], columns)).0;
                        for ((out, sum), added) in out.iter_mut().zip(sums[r]).zip(added) {
                            *out = activate(simd, curve, simd.add_f32s(sum, added));
                        }
                    }
                    return;
                }
                for r in 0..MR {
                    let out = S::as_mut_simd_f32s(self.out(&rows[r], columns)).0;
                    for ((out, sum), added) in out.iter_mut().zip(sums[r]).zip(added) {
                        *out = limits.apply(simd, simd.add_f32s(sum, added));
                    }
                }
                return;
            };
            for r in 0..MR {
                let residual = &residual[rows[r].to + self.column..][..columns];
                let out = S::as_mut_simd_f32s(self.out(&rows[r], columns)).0;
                let places = out.iter_mut().zip(S::as_simd_f32s(residual).0);
                for (((out, &residual), sum), added) in places.zip(sums[r]).zip(added) {
                    let value = simd.add_f32s(simd.add_f32s(sum, added), residual);
                    *out = limits.apply(simd, value);
                }
            }
            return self.curve::<S, NV>(simd, cells, rows);
        }
        for r in 0..MR {
            let out = self.out(&rows[r], columns);
            let residual = residual.map(|from| &from[rows[r].to + self.column..][..columns]);
            for j in 0..NV {
                let mut value = sums[r][j];
                if !first {
                    value = simd.add_f32s(value, cells.get::<NV>(simd, out, j));
                } else if let Some(bias) = bias {
                    value = simd.add_f32s(value, cells.get::<NV>(simd, bias, j));
                }
                if let Some(residual) = residual {
                    value = simd.add_f32s(value, cells.get::<NV>(simd, residual, j));
                }
                if self.last {
                    value = limits.apply(simd, value);
                }
                cells.put::<NV>(simd, out, j, value);
            }
        }
        self.curve::<S, NV>(simd, cells, rows);
    }

    /// The activation, where two limits are not enough.
    #[inline(always)]
    fn curve<S: Simd, const NV: usize>(&self, simd: S, cells: Cells<S>, rows: &[Row]) {
        let curve = self.product.epilogue.curve().filter(|_| self.last);
        let Some(curve) = curve else {
            return;
        };
        for row in rows {
            let out = self.out(row, cells.columns);
            for j in 0..NV {
                let value = activate(simd, curve, cells.get::<NV>(simd, out, j));
                cells.put::<NV>(simd, out, j, value);
            }
        }
    }

    /// Where the row's results for this panel go.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)] // as `Scattered::part`
    fn out(&self, row: &Row, columns: usize) -> &mut [f32] {
        let start = row.to + self.column;
        // SAFETY: the rows of a product do not overlap, no other thread has these rows' columns,
        // and here each such slice is dropped before the next one is made.
        unsafe { self.product.out.part(start..start + columns) }
    }
}

/// A row of a tile in a slice: `NV` registers, the last one perhaps not full.
#[derive(Clone, Copy)]
struct Cells<S: Simd> {
    columns: usize,
    lanes: Lanes<S>,
}

impl<S: Simd> Cells<S> {
    #[inline(always)]
    fn new<const NV: usize>(simd: S, columns: usize) -> Self {
        Self {
            columns,
            lanes: Lanes::first(simd, columns - (NV - 1) * S::F32_LANES),
        }
    }

    #[inline(always)]
    fn get<const NV: usize>(self, simd: S, row: &[f32], j: usize) -> S::f32s {
        assert!(row.len() == self.columns && j < NV);
        // SAFETY: the row has `columns` values: `NV - 1` full registers, then `lanes`.
        unsafe {
            let from = row.as_ptr().add(j * S::F32_LANES);
            if j + 1 < NV {
                load::<S>(from)
            } else {
                self.lanes.load(simd, from)
            }
        }
    }

    #[inline(always)]
    fn put<const NV: usize>(self, simd: S, row: &mut [f32], j: usize, value: S::f32s) {
        assert!(row.len() == self.columns && j < NV);
        // SAFETY: as in `get`.
        unsafe {
            let to = row.as_mut_ptr().add(j * S::F32_LANES);
            if j + 1 < NV {
                store::<S>(to, value);
            } else {
                self.lanes.store(simd, to, value);
            }
        }
    }
}
