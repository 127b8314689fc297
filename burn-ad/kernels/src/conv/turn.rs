//! Exchange of rows and columns, four by four: the compiler makes vector instructions of it.

/// Most columns that are turned together.
const BLOCK: usize = 4;

/// Calls `put(row, column, values)` so that all elements `at(row) + column` of `from`, for `rows` rows
/// and `columns` columns, are handed over by columns: `values` are those of the rows from `row` on,
/// at most four.
#[inline(always)]
pub(super) fn turn(
    from: &[f32],
    rows: usize,
    columns: usize,
    at: impl Fn(usize) -> usize,
    mut put: impl FnMut(usize, usize, &[f32]),
) {
    for row in (0..rows).step_by(BLOCK) {
        if row + BLOCK > rows {
            for column in 0..columns {
                let mut values = [0.0; BLOCK];
                let values = &mut values[..rows - row];
                for (index, value) in values.iter_mut().enumerate() {
                    *value = from[at(row + index) + column];
                }
                put(row, column, values);
            }
            return;
        }
        let lines: [&[f32]; BLOCK] =
            std::array::from_fn(|index| &from[at(row + index)..][..columns]);
        let mut column = 0;
        while column + BLOCK <= columns {
            let block: [[f32; BLOCK]; BLOCK] = std::array::from_fn(|index| {
                let line = &lines[index][column..column + BLOCK];
                [line[0], line[1], line[2], line[3]]
            });
            #[allow(clippy::needless_range_loop)] // the index of a column
            for c in 0..BLOCK {
                put(
                    row,
                    column + c,
                    &[block[0][c], block[1][c], block[2][c], block[3][c]],
                );
            }
            column += BLOCK;
        }
        for column in column..columns {
            put(row, column, &lines.map(|line| line[column]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turned_elements_are_all_elements() {
        let from: Vec<f32> = (0..400).map(|value| value as f32).collect();
        for (rows, columns) in [(1, 1), (3, 9), (4, 4), (9, 16), (16, 9), (7, 6)] {
            let mut to = vec![-1.0; rows * columns];
            turn(
                &from,
                rows,
                columns,
                |row| row * 20 + 3,
                |row, column, values| {
                    to[column * rows + row..][..values.len()].copy_from_slice(values);
                },
            );
            for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |c| (row, c))) {
                assert_eq!(to[column * rows + row], (row * 20 + 3 + column) as f32);
            }
        }
    }
}
