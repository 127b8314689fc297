//! Convolution as a product over its windows.

use rayon::prelude::*;

use super::epilogue::Epilogue;
use super::narrow::{Narrow, is_narrow};
use super::product::{Product, Row};
use super::tile::{ROWS, panel, panel_count};
use super::windows::Windows;
use crate::Isa;
use crate::memory::scratch;
use crate::parallel::{Scattered, worth};

/// Windows that pass through the weights together: their values stay in the second cache.
pub(super) const BLOCK: usize = 32 * ROWS;
/// Multiplications of a task, enough to forget what handing it out costs.
const TASK: usize = worth(8_000_000);
/// Fewer multiplications than this are not worth waking another thread.
pub(super) const SERIAL: usize = worth(1_000_000);

/// How windows and panels are dealt to tasks.
#[derive(Clone, Copy, Debug)]
struct Division {
    /// Windows of a task.
    positions: usize,
    /// Tasks that share these windows, each with some of the panels.
    groups: usize,
}

impl Division {
    fn new(isa: Isa, positions: usize, columns: usize, each: usize) -> Self {
        let threads = rayon::current_num_threads();
        if positions * each < SERIAL || threads == 1 {
            return Self {
                positions,
                groups: 1,
            };
        }
        let wanted = TASK.div_ceil(each).next_multiple_of(BLOCK);
        let blocks = positions.div_ceil(wanted);
        if blocks >= 2 * threads {
            let blocks = blocks.next_multiple_of(threads);
            return Self {
                positions: positions.div_ceil(blocks).next_multiple_of(ROWS),
                groups: 1,
            };
        }
        // Few tasks: those that keep all threads busy to the end.
        let panels = panel_count(isa, columns);
        let start =
            |group: usize, groups: usize| panel(isa, columns, panels * group / groups).first;
        let tiles = positions.div_ceil(ROWS);
        let divisions = shares(tiles, 2 * threads).flat_map(|(_, block)| {
            shares(panels, 2 * threads).map(move |(groups, _)| (block, groups))
        });
        let time = |&(block, groups): &(usize, usize)| {
            let tasks = tiles.div_ceil(block) * groups;
            // Panels may differ in width.
            let widths = (0..groups).map(|group| start(group + 1, groups) - start(group, groups));
            // Bringing a panel's weights takes about as long as computing a tile with them.
            tasks.div_ceil(threads) * widths.max().unwrap_or(0) * (block + 1)
        };
        let (block, groups) = divisions.min_by_key(time).unwrap_or((tiles, 1));
        Self {
            positions: block * ROWS,
            groups,
        }
    }
}

/// Numbers of parts up to `most` that `count` can be dealt to, each with the size of the largest part; of
/// those with equal sizes the first.
fn shares(count: usize, most: usize) -> impl Iterator<Item = (usize, usize)> + Clone {
    let parts = 1..=count.min(most);
    let sizes = parts.map(move |parts| (parts, count.div_ceil(parts)));
    sizes
        .scan(0, |before, (parts, size)| {
            let new = size != *before;
            *before = size;
            Some(new.then_some((parts, size)))
        })
        .flatten()
}

/// `out[to] = epilogue(window * weights)` for all windows; `weights` are packed for `columns`.
pub(super) fn convolve(
    isa: Isa,
    input: &[f32],
    windows: &Windows,
    weights: &[f32],
    epilogue: Epilogue<'_>,
    out: &mut [f32],
) {
    let positions = windows.positions();
    let columns = windows.target.channels;
    if positions == 0 || columns == 0 {
        return;
    }
    let panels = panel_count(isa, columns);
    let inside = windows.inside();
    let runs = if inside {
        windows.image_runs()
    } else {
        windows.band_runs()
    };
    let division = Division::new(isa, positions, columns, runs.total() * columns);
    let blocks = positions.div_ceil(division.positions);
    let out = Scattered::new(out);
    let narrow = is_narrow(isa, columns, windows.channels);
    let multiply = |input: &[f32], rows: &[Row], group: usize| {
        if narrow {
            return isa.run(Narrow {
                input,
                rows,
                runs,
                weights,
                columns,
                epilogue,
                out: &out,
            });
        }
        isa.run(Product {
            isa,
            input,
            rows,
            runs,
            weights,
            columns,
            panels: panels * group / division.groups..panels * (group + 1) / division.groups,
            epilogue,
            out: &out,
        });
    };
    let task = |index: usize| {
        // Tasks that share windows follow each other, and share what they read.
        let (block, group) = (index / division.groups, index % division.groups);
        let from = block * division.positions;
        let to = positions.min(from + division.positions);
        let mut table = [Row::default(); BLOCK];
        let each = |input: &[f32], band: Option<usize>| {
            for start in (from..to).step_by(BLOCK) {
                let rows = &mut table[..BLOCK.min(to - start)];
                windows.rows(start, band, rows);
                multiply(input, rows, group);
            }
        };
        let mut each = each;
        if inside {
            each(input, None);
        } else {
            scratch(windows.band_length(from, to), |band| {
                windows.fill_band(input, from, to, band);
                each(band, Some(from));
            });
        }
    };
    let tasks = blocks * division.groups;
    if tasks == 1 {
        task(0);
    } else {
        (0..tasks).into_par_iter().with_max_len(1).for_each(task);
    }
}
