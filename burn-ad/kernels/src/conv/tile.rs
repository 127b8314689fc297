//! The innermost product: a few rows by a few registers, held in registers all along.
// The loop over the summed values reads through pointers; callers hand rows they have checked.
#![allow(unsafe_code)]

use pulp::Simd;

use super::ahead::{Ahead, Goal};
use crate::Isa;
use crate::simd_math::mul_add;
use crate::vector::load;

/// Rows of a tile.
pub(super) const ROWS: usize = 6;

/// Columns that are computed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Panel {
    /// First register, counted from column 0.
    pub(super) first: usize,
    /// Registers, 1 to 4.
    pub(super) width: usize,
}

/// Number of panels that `columns` are dealt to.
///
/// Six rows by four registers use 24 of 32 as sums, six by two 12 of 16. The panels are as equal as
/// can be: a narrow one is bound by loads, so 5 registers are 3 and 2 rather than 4 and 1. Where panels of
/// three registers and more make it possible, their number is even: cores, of which there mostly is an
/// even number, share them without a rest.
pub(super) fn panel_count(isa: Isa, columns: usize) -> usize {
    let widest = match isa.or_lower() {
        Isa::Avx512 | Isa::Neon => 4,
        Isa::Avx2 | Isa::Portable => 2,
    };
    let registers = columns.div_ceil(isa.lanes());
    let count = registers.div_ceil(widest);
    if registers >= 3 * (count + 1) {
        count.next_multiple_of(2)
    } else {
        count
    }
}

/// Panel `index` of those of `columns`; the one after the last begins where they end.
pub(super) fn panel(isa: Isa, columns: usize, index: usize) -> Panel {
    let (registers, count) = (columns.div_ceil(isa.lanes()), panel_count(isa, columns));
    let first = registers * index / count;
    Panel {
        first,
        width: registers * (index + 1) / count - first,
    }
}

/// Where the summed values of a row lie: `count` runs of `length` values, `step` apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Runs {
    pub(super) count: usize,
    pub(super) length: usize,
    pub(super) step: usize,
}

impl Runs {
    /// Values from the first to the last.
    #[inline(always)]
    pub(super) fn extent(self) -> usize {
        (self.count - 1) * self.step + self.length
    }

    /// Values in all.
    #[inline(always)]
    pub(super) fn total(self) -> usize {
        self.count * self.length
    }
}

/// Some of the values of [`Runs`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk {
    /// Where it begins in a row.
    pub(super) offset: usize,
    pub(super) runs: Runs,
    /// Values before it.
    pub(super) before: usize,
}

/// Number of parts that [`chunks`] cuts runs into: groups of runs, pieces of each.
fn cuts(runs: Runs, size: usize) -> (usize, usize) {
    if 2 * runs.length > 3 * size {
        (runs.count, runs.length.div_ceil(size))
    } else {
        (runs.total().div_ceil(size).clamp(1, runs.count), 1)
    }
}

/// Length of [`chunks`].
fn chunk_count(runs: Runs, size: usize) -> usize {
    let (groups, pieces) = cuts(runs, size);
    groups * pieces
}

/// Part `index` of those of [`chunks`].
#[inline(always)]
fn chunk(runs: Runs, size: usize, index: usize) -> Chunk {
    let (groups, pieces) = cuts(runs, size);
    let (group, piece) = (index / pieces, index % pieces);
    let run = runs.count * group / groups;
    let start = runs.length * piece / pieces;
    Chunk {
        offset: run * runs.step + start,
        runs: Runs {
            count: runs.count * (group + 1) / groups - run,
            length: runs.length * (piece + 1) / pieces - start,
            step: runs.step,
        },
        before: run * runs.length + start,
    }
}

/// Cuts runs into parts of about `size` values: several runs, or a piece of one.
#[inline(always)]
pub(super) fn chunks(runs: Runs, size: usize) -> impl Iterator<Item = Chunk> {
    (0..chunk_count(runs, size)).map(move |index| chunk(runs, size, index))
}

/// The products of row `a[r]` with register column `j` of `b`, whose rows of `NV` registers follow each
/// other, as `[r][j]`.
///
/// Sums begin at 0: what else there is to add is added to the result, because the tile would have to
/// go through memory to begin with it.
///
/// # Safety
/// `runs.extent()` values from each pointer in `a` on must be readable, and `runs.total() * NV`
/// registers from `b` on.
#[inline(always)]
pub(super) unsafe fn multiply<S: Simd, const MR: usize, const NV: usize>(
    simd: S,
    a: [*const f32; MR],
    runs: Runs,
    b: *const f32,
    mut ahead: Ahead,
    mut goal: Goal<MR>,
) -> [[S::f32s; NV]; MR] {
    let mut c = [[simd.splat_f32s(0.0); NV]; MR];
    let mut b = b;
    for run in 0..runs.count {
        let start = run * runs.step;
        for p in 0..runs.length {
            ahead.step();
            goal.step(NV * S::F32_LANES);
            // SAFETY: `p < length` and `run < count`, so that the row's value lies in its extent
            // and `b` has advanced by fewer than `total` rows.
            unsafe {
                let mut columns = [simd.splat_f32s(0.0); NV];
                for (j, column) in columns.iter_mut().enumerate() {
                    *column = load::<S>(b.add(j * S::F32_LANES));
                }
                for (row, sums) in a.iter().zip(&mut c) {
                    let value = simd.splat_f32s(*row.add(start + p));
                    for (sum, column) in sums.iter_mut().zip(columns) {
                        *sum = mul_add(simd, value, column, *sum);
                    }
                }
                b = b.add(NV * S::F32_LANES);
            }
        }
    }
    c
}

/// Adds to `sums[r][j]` the products of `a[offsets[p] + r]` with register column `j` of row `p` of
/// `b`, summed over `p`.
///
/// # Safety
/// `MR` values from each of `offsets` behind `a` must be readable, and `offsets.len() * NV` registers
/// from `b` on.
#[inline(always)]
pub(super) unsafe fn accumulate<S: Simd, const MR: usize, const NV: usize>(
    simd: S,
    a: *const f32,
    offsets: &[usize],
    b: *const f32,
    sums: &mut [[S::f32s; NV]; MR],
) {
    let mut c = *sums;
    let mut b = b;
    for offset in offsets {
        // SAFETY: by contract; `b` has advanced by fewer rows than there are offsets.
        unsafe {
            let a = a.add(*offset);
            let mut columns = [simd.splat_f32s(0.0); NV];
            for (j, column) in columns.iter_mut().enumerate() {
                *column = load::<S>(b.add(j * S::F32_LANES));
            }
            for (r, sums) in c.iter_mut().enumerate() {
                let value = simd.splat_f32s(*a.add(r));
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = mul_add(simd, value, column, *sum);
                }
            }
            b = b.add(NV * S::F32_LANES);
        }
    }
    *sums = c;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_all_values_in_order() {
        let size = 160;
        for (count, length) in [
            (1, 1),
            (7, 21),
            (1, 16),
            (3, 192),
            (3, 2304),
            (1, 1152),
            (3, 48),
        ] {
            let runs = Runs {
                count,
                length,
                step: length + 5,
            };
            let mut next = 0;
            for chunk in chunks(runs, size) {
                assert_eq!(chunk.before, next);
                assert_eq!(chunk.offset, next / length * runs.step + next % length);
                let total = chunk.runs.total();
                assert!(total <= 2 * size, "{total} of {runs:?}");
                assert!(chunk.runs.count == 1 || chunk.runs.length == length);
                next += total;
            }
            assert_eq!(next, runs.total());
        }
    }

    #[test]
    fn panels_cover_all_columns_and_are_never_lopsided() {
        for isa in Isa::ALL {
            for columns in (1..700).step_by(if cfg!(miri) { 37 } else { 1 }) {
                let count = panel_count(isa, columns);
                let mut next = 0;
                let mut widths = Vec::new();
                for index in 0..count {
                    let panel = panel(isa, columns, index);
                    assert_eq!(panel.first, next);
                    assert!((1..=4).contains(&panel.width));
                    next += panel.width;
                    widths.push(panel.width);
                }
                assert_eq!(next, columns.div_ceil(isa.lanes()));
                let (min, max) = (widths.iter().min(), widths.iter().max());
                assert!(max.zip(min).is_some_and(|(max, min)| max - min <= 1));
            }
        }
    }
}
