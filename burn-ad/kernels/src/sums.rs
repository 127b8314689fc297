//! Sums over the rows of a matrix, in an order that no number of threads changes.

use pulp::{Simd, bytemuck};
use rayon::prelude::*;

use crate::rows::{TASK, rows_a_task};

/// Rows summed in `f32` before they go to an `f64` total.
pub(crate) const BLOCK: usize = 32;

/// Sums over the rows of each group: `width` numbers a group.
///
/// `each` adds the sums of rows `first..first + count` (of all `groups * rows`) to a slice; `work` is
/// what one row costs, in values read.
pub(crate) fn sum_rows(
    groups: usize,
    rows: usize,
    work: usize,
    width: usize,
    each: impl Fn(usize, usize, &mut [f64]) + Sync,
) -> Vec<f64> {
    let chunk = rows_a_task(work).next_multiple_of(BLOCK);
    let chunks = rows.div_ceil(chunk);
    let mut parts = vec![0.0; groups * chunks * width];
    let one = |(index, part): (usize, &mut [f64])| {
        let (group, first) = (index / chunks, index % chunks * chunk);
        each(group * rows + first, chunk.min(rows - first), part);
    };
    if width == 0 || chunks == 0 {
        return vec![0.0; groups * width];
    }
    if groups * rows * work <= 2 * TASK {
        parts.chunks_exact_mut(width).enumerate().for_each(one);
    } else {
        // Small groups share a task.
        let together = TASK.div_ceil((rows.min(chunk) * work).max(1));
        parts
            .par_chunks_exact_mut(width)
            .enumerate()
            .with_min_len(together)
            .for_each(one);
    }
    // The first part of each group takes up the others, in order.
    let mut totals = Vec::with_capacity(groups * width);
    for parts in parts.chunks_exact(chunks * width) {
        let start = totals.len();
        totals.extend_from_slice(&parts[..width]);
        for part in parts.chunks_exact(width).skip(1) {
            for (total, value) in totals[start..].iter_mut().zip(part) {
                *total += value;
            }
        }
    }
    totals
}

/// The lanes of registers.
#[inline(always)]
pub(crate) fn lanes<S: Simd, const N: usize>(registers: &[S::f32s; N]) -> &[f32] {
    bytemuck::cast_slice(registers)
}
