//! Exchange of rows and columns, where neither need lie at equal distances.
// Tiles are read and written through pointers into checked memory.
#![allow(unsafe_code)]

use pulp::{Simd, WithSimd};

use crate::Isa;
use crate::layout::{Tile, WithTile, with_tile};

/// `to(column)[row] = from[at(row) + column]` for `rows` rows and `columns` columns.
///
/// # Panics
/// If a row is not all in `from`.
///
/// # Safety
/// `rows` values must be writable at each `to(column)`, and nobody else may use them meanwhile.
pub(super) unsafe fn turn(
    isa: Isa,
    from: &[f32],
    [rows, columns]: [usize; 2],
    at: impl Fn(usize) -> usize,
    to: impl Fn(usize) -> *mut f32,
) {
    isa.run(Turn {
        from,
        rows,
        columns,
        at,
        to,
    });
}

struct Turn<'a, At, To> {
    from: &'a [f32],
    rows: usize,
    columns: usize,
    at: At,
    to: To,
}

impl<At: Fn(usize) -> usize, To: Fn(usize) -> *mut f32> WithSimd for Turn<'_, At, To> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        with_tile::<S>(self);
    }
}

/// As many rows as the largest tile has.
const MOST: usize = 16;

impl<At: Fn(usize) -> usize, To: Fn(usize) -> *mut f32> WithTile for Turn<'_, At, To> {
    #[inline(always)]
    fn with_tile<T: Tile>(self, tile: T) {
        let Self {
            from,
            rows,
            columns,
            at,
            to,
        } = self;
        const { assert!(T::SIZE <= MOST) };
        for row in (0..rows).step_by(T::SIZE) {
            let height = T::SIZE.min(rows - row);
            let mut starts = [0; MOST];
            for (index, start) in starts[..height].iter_mut().enumerate() {
                *start = at(row + index);
                let rest = from.len().checked_sub(*start);
                let inside = rest.is_some_and(|rest| columns <= rest);
                assert!(inside, "a row inside of the values");
            }
            let starts = &starts[..height];
            let last = starts.iter().copied().max().unwrap_or(0);
            for column in (0..columns).step_by(T::SIZE) {
                let width = T::SIZE.min(columns - column);
                // A tile reads whole rows of itself, also beyond the last column.
                if height == T::SIZE && T::SIZE <= from.len() - last - column {
                    // SAFETY: every start is at most `last`, from where `columns > column` values are
                    // in `from`, so that a tile's row ends inside of it; the caller vouches for what
                    // is written, `row + SIZE <= rows`.
                    unsafe {
                        tile.transpose(
                            |index| from.as_ptr().add(starts[index] + column),
                            |index| to(column + index).add(row),
                            width,
                        );
                    }
                    continue;
                }
                for column in column..column + width {
                    let out = to(column);
                    for (index, start) in starts.iter().enumerate() {
                        // SAFETY: the caller vouches for `rows` values there.
                        unsafe { *out.add(row + index) = from[start + column] };
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turned_elements_are_all_elements() {
        let from: Vec<f32> = (0..1400).map(|value| value as f32).collect();
        let sizes = [
            (1, 1),
            (3, 9),
            (4, 4),
            (9, 16),
            (16, 9),
            (7, 6),
            (33, 35),
            (64, 9),
        ];
        for isa in Isa::available() {
            for (rows, columns) in sizes {
                let pitch = if rows > 34 { columns } else { 40 };
                // The last row ends where the values end.
                let start = from.len() - (rows - 1) * pitch - columns;
                // In order, backwards, and mixed: a tile reads as far as its largest start.
                let up = |row: usize| row;
                let down = |row: usize| rows - 1 - row;
                let mixed = |row: usize| {
                    if row.is_multiple_of(2) {
                        row / 2
                    } else {
                        rows - 1 - row / 2
                    }
                };
                let orders: [&dyn Fn(usize) -> usize; 3] = [&up, &down, &mixed];
                for order in orders {
                    let at = |row: usize| start + order(row) * pitch;
                    let mut to = vec![-1.0; columns * (rows + 2)];
                    let base = to.as_mut_ptr();
                    // SAFETY: columns go to places of their own, `rows + 2` values apart.
                    unsafe {
                        turn(isa, &from, [rows, columns], at, |column| {
                            base.add(column * (rows + 2))
                        });
                    }
                    for (column, to) in to.chunks_exact(rows + 2).enumerate() {
                        for (row, value) in to[..rows].iter().enumerate() {
                            assert_eq!(*value, (at(row) + column) as f32, "{isa}");
                        }
                        assert_eq!(to[rows..], [-1.0; 2], "{isa}");
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "inside of the values")]
    fn rows_beyond_the_values_are_refused() {
        let mut to = [0.0; 16];
        let base = to.as_mut_ptr();
        // SAFETY: all four columns are the same four values; nothing is written before the panic.
        unsafe { turn(Isa::Portable, &[0.0; 15], [4, 4], |row| row * 4, |_| base) };
    }
}
