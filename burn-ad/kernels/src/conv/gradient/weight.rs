//! Gradient with respect to the weights.
// Tasks write their parts of shared buffers.
#![allow(unsafe_code)]

use std::ops::Range;

use rayon::prelude::*;

use super::Layer;
use super::narrow;
use super::outer::{DEPTH, Outer};
use crate::Isa;
use crate::conv::algorithm::Algorithm;
use crate::conv::direct::SERIAL;
use crate::conv::narrow::is_narrow;
use crate::conv::product::Row;
use crate::conv::tile::{Runs, panel, panel_count};
use crate::conv::turn::turn;
use crate::conv::windows::Windows;
use crate::conv::winograd;
use crate::memory::scratch;
use crate::parallel::Scattered;

/// Rows of the result that a task sums: its share of them, with the gradients of some positions,
/// stays in the second cache.
const ROWS: usize = 192;
/// Tasks that keep many threads busy; with fewer, positions are divided too.
pub(super) const TASKS: usize = 16;
/// Fewest positions worth a sum of their own.
pub(super) const POSITIONS: usize = 1024;
/// Input channels of a task are a multiple of these.
const INPUTS: usize = 16;

/// Gradient with respect to the weights, `[outputs, inputs, kernel height, kernel width]`, to `dw`.
///
/// `x` is the convolution's input, `dy` `[batch, output height, output width, outputs]` the gradient
/// with respect to its output.
///
/// # Panics
/// If lengths do not fit `layer`.
pub fn weight(layer: &Layer, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    layer.check(Some(x), dy, Some(dw));
    if dw.is_empty() {
        return;
    }
    if dy.is_empty() {
        return dw.fill(0.0);
    }
    let algorithm = Algorithm::choose_gradient(layer.precise, layer.shape, &layer.geometry);
    weight_by(algorithm, layer, x, dy, dw);
}

/// [`weight`], checked, by an algorithm that fits.
pub(super) fn weight_by(
    algorithm: Algorithm,
    layer: &Layer,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
) {
    let isa = layer.isa.or_lower();
    match algorithm {
        Algorithm::Direct => direct(isa, layer, x, dy, dw),
        algorithm => winograd::gradient(isa, algorithm, &layer.geometry, layer.shape, x, dy, dw),
    }
}

/// Runs `task` for each of `count`; on this thread if they are few multiplications.
fn each(count: usize, multiplications: usize, task: impl Fn(usize) + Sync + Send) {
    if multiplications < SERIAL {
        (0..count).for_each(task);
    } else {
        (0..count).into_par_iter().with_max_len(1).for_each(task);
    }
}

/// As a product of all windows, transposed, with all gradients.
fn direct(isa: Isa, layer: &Layer, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let [outputs, inputs, ..] = layer.shape;
    let windows = Windows::of(&layer.geometry, inputs, outputs);
    if windows.inside() {
        let windows = In {
            windows: &windows,
            values: x,
            runs: windows.image_runs(),
            band: None,
        };
        return sums(isa, windows, dy, dw);
    }
    let image = windows.count[0] * windows.count[1];
    let length = windows.band_length(0, image);
    scratch(windows.batch * length, |band| {
        let fill = |(index, band): (usize, &mut [f32])| {
            windows.fill_band(x, index * image, (index + 1) * image, band);
        };
        if band.len() < 1 << 15 {
            band.chunks_exact_mut(length).enumerate().for_each(fill);
        } else {
            band.par_chunks_exact_mut(length).enumerate().for_each(fill);
        }
        let windows = In {
            windows: &windows,
            values: band,
            runs: windows.band_runs(),
            band: Some(0),
        };
        sums(isa, windows, dy, dw);
    });
}

/// Windows in the values that they were made for.
#[derive(Clone, Copy)]
pub(super) struct In<'a> {
    pub(super) windows: &'a Windows,
    pub(super) values: &'a [f32],
    pub(super) runs: Runs,
    pub(super) band: Option<usize>,
}

/// A part of the result: some inputs, all taps, the outputs of a panel.
struct Cell {
    inputs: Range<usize>,
    /// First output, outputs, and the same in whole registers.
    first: usize,
    used: usize,
    width: usize,
    /// Values of its sums, `[tap, input, output]`, and where they begin if all cells' follow each
    /// other.
    length: usize,
    start: usize,
}

/// The whole computation, once windows are at hand.
struct Pass<'a> {
    isa: Isa,
    input: In<'a>,
    dy: &'a [f32],
    inputs: usize,
    outputs: usize,
    taps: usize,
    /// Inputs of a cell.
    block: usize,
}

fn sums(isa: Isa, input: In<'_>, dy: &[f32], dw: &mut [f32]) {
    let windows = input.windows;
    if is_narrow(isa, windows.target.channels, windows.channels) {
        return narrow::sums(isa, input, dy, dw);
    }
    let taps = windows.kernel[0] * windows.kernel[1];
    let pass = Pass {
        isa,
        input,
        dy,
        inputs: windows.channels,
        outputs: windows.target.channels,
        taps,
        block: (ROWS / taps).next_multiple_of(INPUTS).max(INPUTS),
    };
    pass.run(dw);
}

impl Pass<'_> {
    fn cell(&self, index: usize) -> Cell {
        let lanes = self.isa.lanes();
        let blocks = self.inputs.div_ceil(self.block);
        let panel = panel(self.isa, self.outputs, index / blocks);
        let (first, width) = (panel.first * lanes, panel.width * lanes);
        let start = index % blocks * self.block;
        let inputs = start..self.inputs.min(start + self.block);
        Cell {
            first,
            used: width.min(self.outputs - first),
            width,
            length: self.taps * inputs.len() * width,
            start: self.taps * (first * self.inputs + start * width),
            inputs,
        }
    }

    fn run(&self, dw: &mut [f32]) {
        let positions = self.input.windows.positions();
        let cells = panel_count(self.isa, self.outputs) * self.inputs.div_ceil(self.block);
        let parts = (TASKS / cells).clamp(1, positions.div_ceil(POSITIONS));
        let work = positions * self.taps * self.inputs * self.outputs;
        let dw = Scattered::new(dw);
        if parts == 1 {
            each(cells, work, |index| {
                let cell = self.cell(index);
                scratch(cell.length, |sums| {
                    self.multiply(&cell, 0..positions, sums);
                    self.bring(&cell, sums, &dw);
                });
            });
            return;
        }
        let whole = self.taps * self.inputs * self.outputs.next_multiple_of(self.isa.lanes());
        scratch(parts * whole, |values| {
            let places = Scattered::new(values);
            each(parts * cells, work, |index| {
                let (part, cell) = (index / cells, self.cell(index % cells));
                let start = part * whole + cell.start;
                // SAFETY: each task has its own part and cell.
                let sums = unsafe { places.part(start..start + cell.length) };
                let range = positions * part / parts..positions * (part + 1) / parts;
                self.multiply(&cell, range, sums);
            });
            let (sums, others) = values.split_at_mut(whole);
            for other in others.chunks_exact(whole) {
                for (sum, other) in sums.iter_mut().zip(other) {
                    *sum += other;
                }
            }
            for index in 0..cells {
                let cell = self.cell(index);
                self.bring(&cell, &sums[cell.start..][..cell.length], &dw);
            }
        });
    }

    /// The sums of a cell over some positions.
    fn multiply(&self, cell: &Cell, positions: Range<usize>, sums: &mut [f32]) {
        let windows = self.input.windows;
        let [rows, columns] = windows.kernel;
        let runs = if cell.inputs.len() == self.inputs {
            Runs {
                count: 1,
                length: columns * self.inputs,
                step: 0,
            }
        } else {
            Runs {
                count: columns,
                length: cell.inputs.len(),
                step: self.inputs,
            }
        };
        let mut table = [Row::default(); DEPTH];
        let mut offsets = [0; DEPTH];
        scratch(DEPTH * cell.width, |gradients| {
            for at in positions.clone().step_by(DEPTH) {
                let count = DEPTH.min(positions.end - at);
                windows.rows(at, self.input.band, &mut table[..count]);
                for (offset, row) in offsets.iter_mut().zip(&table[..count]) {
                    *offset = row.from;
                }
                let dy = self.dy[at * self.outputs..].chunks_exact(self.outputs);
                let gradients = &mut gradients[..count * cell.width];
                for (to, from) in gradients.chunks_exact_mut(cell.width).zip(dy) {
                    to[..cell.used].copy_from_slice(&from[cell.first..cell.first + cell.used]);
                    to[cell.used..].fill(0.0);
                }
                let sums = sums.chunks_exact_mut(runs.total() * cell.width);
                for (row, sums) in (0..rows).zip(sums) {
                    let start = row * self.input.runs.step + cell.inputs.start;
                    self.isa.run(Outer {
                        input: &self.input.values[start..],
                        offsets: &offsets[..count],
                        runs,
                        gradients,
                        width: cell.width / self.isa.lanes(),
                        sums,
                        fresh: at == positions.start,
                    });
                }
            }
        });
    }

    /// Brings the sums of a cell, `[tap, input, output]`, to `[output, input, tap]`.
    fn bring(&self, cell: &Cell, sums: &[f32], dw: &Scattered<'_>) {
        let (taps, count) = (self.taps, cell.inputs.len());
        // From rows (input, tap) of outputs to rows (output) of inputs and taps.
        let line = |row: usize| ((row % taps) * count + row / taps) * cell.width;
        let rows = count * taps;
        // SAFETY: each task has its own outputs or inputs.
        unsafe {
            turn(self.isa, sums, [rows, cell.used], line, |output| {
                let at = ((cell.first + output) * self.inputs + cell.inputs.start) * taps;
                dw.part(at..at + rows).as_mut_ptr()
            });
        }
    }
}
