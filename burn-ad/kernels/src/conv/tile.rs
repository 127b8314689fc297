//! The innermost product: a few rows by a few registers, held in registers all along.
// The loop over the summed values reads through pointers; callers hand rows they have checked.
#![allow(unsafe_code)]

use pulp::Simd;

use super::vector::load;
use crate::Isa;
use crate::simd_math::mul_add;

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
/// can be: a narrow one is bound by loads, so 5 registers are 3 and 2 rather than 4 and 1.
pub(super) fn panel_count(isa: Isa, columns: usize) -> usize {
    let widest = match isa.or_lower() {
        Isa::Avx512 | Isa::Neon => 4,
        Isa::Avx2 | Isa::Portable => 2,
    };
    columns.div_ceil(isa.lanes()).div_ceil(widest)
}

/// Panel `index` of those of `columns`.
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

/// Adds to `sums[r][j]` the products of row `a[r]` with register column `j` of `b`, whose rows of
/// `NV` registers follow each other.
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
    sums: &mut [[S::f32s; NV]; MR],
) {
    // A copy of its own stays in registers.
    let mut c = *sums;
    let mut b = b;
    for run in 0..runs.count {
        let start = run * runs.step;
        for p in 0..runs.length {
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
    *sums = c;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_cover_all_columns_and_are_never_lopsided() {
        for isa in Isa::ALL {
            for columns in 1..700 {
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
