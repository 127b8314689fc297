//! Products of matrices that lie in larger slices.
// The product itself takes pointers; `product` checks before it makes them.
#![allow(unsafe_code)]

/// A matrix in a slice: element `(row, column)` lies at `row * row_stride + column * column_stride`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
    /// Elements between neighbouring rows.
    pub row_stride: usize,
    /// Elements between neighbouring columns.
    pub column_stride: usize,
}

impl Layout {
    /// Rows one after another, each `stride` elements long, of which the first `columns` count.
    pub fn rows(rows: usize, columns: usize, stride: usize) -> Self {
        Self {
            rows,
            columns,
            row_stride: stride,
            column_stride: 1,
        }
    }

    /// The same elements with rows and columns exchanged.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }

    /// Length a slice must have to hold all elements.
    fn extent(&self) -> usize {
        match (self.rows, self.columns) {
            (0, _) | (_, 0) => 0,
            (rows, columns) => {
                (rows - 1) * self.row_stride + (columns - 1) * self.column_stride + 1
            }
        }
    }
}

/// `out = left * right`, or `out += left * right` when `add`; on the calling thread.
///
/// # Panics
/// If shapes do not fit, a slice is too short, or elements of `out` overlap.
pub fn product(
    out: (&mut [f32], Layout),
    left: (&[f32], Layout),
    right: (&[f32], Layout),
    add: bool,
) {
    let ((out, o), (left, l), (right, r)) = (out, left, right);
    assert_eq!(
        (o.rows, o.columns, l.columns),
        (l.rows, r.columns, r.rows),
        "shapes of a product"
    );
    assert!(out.len() >= o.extent(), "the result's slice is too short");
    assert!(left.len() >= l.extent(), "the left slice is too short");
    assert!(right.len() >= r.extent(), "the right slice is too short");
    assert!(
        o.row_stride >= o.columns && o.column_stride == 1
            || o.column_stride >= o.rows && o.row_stride == 1,
        "elements of the result overlap"
    );
    if o.rows == 0 || o.columns == 0 {
        return;
    }
    // SAFETY: every element that the product reads or writes lies at most `extent() - 1` elements
    // behind the start of its slice, which was checked above; elements of `out` do not overlap each
    // other, and `out` is borrowed exclusively, so it overlaps neither input.
    unsafe {
        gemm::gemm(
            o.rows,
            o.columns,
            l.columns,
            out.as_mut_ptr(),
            o.column_stride as isize,
            o.row_stride as isize,
            add,
            left.as_ptr(),
            l.column_stride as isize,
            l.row_stride as isize,
            right.as_ptr(),
            r.column_stride as isize,
            r.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    #[test]
    fn products_of_any_layout_equal_the_definition() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for (rows, inner, columns) in [(1, 1, 1), (3, 5, 2), (17, 33, 65), (4, 0, 3), (0, 2, 2)] {
            for turned in 0..8 {
                let mut layout = |rows: usize, columns: usize, turn: bool| {
                    let stride = if turn { rows } else { columns } + 3;
                    let layout = if turn {
                        Layout::rows(columns, rows, stride).transposed()
                    } else {
                        Layout::rows(rows, columns, stride)
                    };
                    let values: Vec<f32> = (0..layout.extent())
                        .map(|_| rng.random_range(-1.0..1.0))
                        .collect();
                    (values, layout)
                };
                let (left, l) = layout(rows, inner, turned & 1 != 0);
                let (right, r) = layout(inner, columns, turned & 2 != 0);
                let (before, o) = layout(rows, columns, turned & 4 != 0);
                for add in [false, true] {
                    let mut out = before.clone();
                    product((&mut out, o), (&left, l), (&right, r), add);
                    let at = |layout: &Layout, row: usize, column: usize| {
                        row * layout.row_stride + column * layout.column_stride
                    };
                    let mut expected = before.clone();
                    for row in 0..rows {
                        for column in 0..columns {
                            let sum: f64 = (0..inner)
                                .map(|i| {
                                    f64::from(left[at(&l, row, i)])
                                        * f64::from(right[at(&r, i, column)])
                                })
                                .sum();
                            let place = at(&o, row, column);
                            let kept = if add { f64::from(before[place]) } else { 0.0 };
                            expected[place] = (kept + sum) as f32;
                        }
                    }
                    // Gaps between rows stay as they were.
                    for (a, b) in out.iter().zip(&expected) {
                        assert!((a - b).abs() < 1e-5, "{a} and {b}");
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "too short")]
    fn a_short_slice_is_refused() {
        let (mut out, ones) = ([0.0; 4], [1.0; 3]);
        let square = Layout::rows(2, 2, 2);
        product(
            (&mut out, square),
            (&ones, square),
            (&[1.0; 4], square),
            false,
        );
    }
}
