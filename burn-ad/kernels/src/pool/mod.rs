//! Pooling, forward and backward, channels-last.

mod average;
mod max;

pub use average::{average, average_backward};
pub use max::{max, max_backward, max_with_indices};

use crate::window::{Map, Window};

/// Cells that make one cell of a result: where each cell's channels begin, and something about it.
type Cells<T> = Vec<(usize, T)>;

/// The cells of `map` below the window of output cell `(image, row, column)`, each with its place in
/// the window.
#[inline(always)]
fn below(
    window: &Window,
    map: Map,
    (image, row, column): (usize, usize, usize),
    cells: &mut Cells<u32>,
) {
    cells.clear();
    let rows = window.rows(row, map.height);
    let columns = window.columns(column, map.width);
    for (y, ky) in (rows.first..).zip(rows.taps) {
        for (x, kx) in (columns.first..).zip(columns.taps.clone()) {
            let at = (image * map.height + y) * map.width + x;
            cells.push((at * map.channels, (ky * window.kernel[1] + kx) as u32));
        }
    }
}

/// The cells of `out` whose window lies over cell `(image, row, column)` of the map, each with the
/// row, the column and the cell's place in its window.
#[inline(always)]
fn above(
    window: &Window,
    out: Map,
    (image, row, column): (usize, usize, usize),
    cells: &mut Cells<(usize, usize, u32)>,
) {
    cells.clear();
    let [stride_y, stride_x] = window.stride;
    for y in window.rows_over(row, out.height) {
        for x in window.columns_over(column, out.width) {
            let ky = row + window.padding[0] - y * stride_y;
            let kx = column + window.padding[2] - x * stride_x;
            let at = (image * out.height + y) * out.width + x;
            let tap = (ky * window.kernel[1] + kx) as u32;
            cells.push((at * out.channels, (y, x, tap)));
        }
    }
}

/// Image, row and column of each cell in `count` rows of a map from row `first` on.
#[inline(always)]
fn cells_of_rows(
    map: Map,
    first: usize,
    count: usize,
) -> impl Iterator<Item = (usize, usize, usize)> {
    (first..first + count).flat_map(move |row| {
        (0..map.width).map(move |column| (row / map.height, row % map.height, column))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;
    use crate::testing;
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    /// Random maps and windows with every instruction set; the last map is large enough for threads.
    pub(super) fn cases(mut check: impl FnMut(Isa, Map, Window, &mut ChaCha8Rng)) {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        for isa in Isa::available() {
            for case in testing::cases(60) {
                let kernel = [rng.random_range(1..6), rng.random_range(1..6)];
                let padding = std::array::from_fn(|_| rng.random_range(0..=2));
                let large = case == 59;
                let map = Map {
                    batch: rng.random_range(1..3),
                    height: if large { 40 } else { rng.random_range(1..9) },
                    width: if large { 41 } else { rng.random_range(1..9) },
                    channels: if large {
                        75
                    } else {
                        rng.random_range(1..testing::most(80))
                    },
                };
                let window = Window {
                    kernel: [
                        kernel[0].min(map.height + padding[0] + padding[1]),
                        kernel[1].min(map.width + padding[2] + padding[3]),
                    ],
                    stride: [rng.random_range(1..4), rng.random_range(1..4)],
                    padding,
                };
                check(isa, map, window, &mut rng);
            }
        }
    }
}
