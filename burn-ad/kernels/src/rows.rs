//! Work on the rows of a slice, divided among threads where that pays.

use rayon::prelude::*;

use crate::parallel::worth;

/// Work of one task, in values read or written: some 10 microseconds, so that handing it to another
/// thread costs little beside it.
pub(crate) const TASK: usize = worth(1 << 15);

/// Rows of one task when each row is `work` values of work. Depends on nothing else, so results of
/// sums by task are the same for any number of threads.
pub(crate) fn rows_a_task(work: usize) -> usize {
    TASK.div_ceil(work.max(1))
}

/// Runs `each` on runs of whole rows of `out`, each `row` values long, with the index of the first;
/// `work` says how many values one row reads and writes.
pub(crate) fn for_rows(
    out: &mut [f32],
    row: usize,
    work: usize,
    each: impl Fn(usize, &mut [f32]) + Sync,
) {
    if out.is_empty() {
        return;
    }
    let rows = rows_a_task(work);
    if out.len() <= 2 * rows * row {
        return each(0, out);
    }
    out.par_chunks_mut(rows * row)
        .enumerate()
        .for_each(|(index, part)| each(index * rows, part));
}

/// [`for_rows`] for two results of equally many rows, `row.0` and `row.1` values each.
pub(crate) fn for_rows_of_two<T: Send>(
    out: (&mut [f32], &mut [T]),
    row: (usize, usize),
    work: usize,
    each: impl Fn(usize, &mut [f32], &mut [T]) + Sync,
) {
    if out.0.is_empty() {
        return;
    }
    let rows = rows_a_task(work);
    if out.0.len() <= 2 * rows * row.0 {
        return each(0, out.0, out.1);
    }
    out.0
        .par_chunks_mut(rows * row.0)
        .zip(out.1.par_chunks_mut(rows * row.1))
        .enumerate()
        .for_each(|(index, (a, b))| each(index * rows, a, b));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_visited_once() {
        for (rows, row, work) in [(0, 3, 3), (1, 5, 5), (100, 7, TASK / 3), (9, 2, 2 * TASK)] {
            let mut out = vec![0.0; rows * row];
            for_rows(&mut out, row, work, |first, part| {
                for (index, values) in part.chunks_exact_mut(row).enumerate() {
                    values
                        .iter_mut()
                        .for_each(|value| *value += (first + index) as f32 + 1.0);
                }
            });
            let expected = (0..rows * row).map(|i| (i / row) as f32 + 1.0);
            assert!(out.iter().copied().eq(expected));
            let mut second = vec![0u8; rows];
            for_rows_of_two((&mut out, &mut second), (row, 1), work, |first, a, b| {
                for (index, (a, b)) in a.chunks_exact_mut(row).zip(b).enumerate() {
                    assert_eq!(a[0], (first + index) as f32 + 1.0);
                    *b += 1;
                }
            });
            assert!(second.iter().all(|&count| count == 1));
        }
    }
}
