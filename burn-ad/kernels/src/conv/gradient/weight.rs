//! Gradient with respect to the weights.
// Tasks write their parts of shared buffers.
#![allow(unsafe_code)]

use rayon::prelude::*;

use super::Layer;
use super::outer::{DEPTH, Outer};
use crate::Isa;
use crate::conv::algorithm::Algorithm;
use crate::conv::direct::SERIAL;
use crate::conv::memory::scratch;
use crate::conv::product::Row;
use crate::conv::tile::{Runs, chunk, chunk_count, panel, panel_count};
use crate::conv::windows::Windows;
use crate::conv::winograd;
use crate::parallel::Scattered;

/// Rows of the result that a task sums: its share of them, with the gradients of some positions,
/// stays in the second cache.
const ROWS: usize = 192;
/// Tasks that keep many threads busy; with fewer, positions are divided too.
const TASKS: usize = 16;
/// Fewest positions worth a sum of their own.
const POSITIONS: usize = 1024;
/// Input channels whose results are brought to their places together.
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
    let isa = layer.isa.or_lower();
    match Algorithm::choose_gradient(layer.precise, layer.shape, &layer.geometry) {
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
struct In<'a> {
    windows: &'a Windows,
    values: &'a [f32],
    runs: Runs,
    band: Option<usize>,
}

fn sums(isa: Isa, input: In<'_>, dy: &[f32], dw: &mut [f32]) {
    let lanes = isa.lanes();
    let outputs = input.windows.target.channels;
    let positions = input.windows.positions();
    let total = input.runs.total();
    let (panels, chunks) = (panel_count(isa, outputs), chunk_count(input.runs, ROWS));
    let parts = (TASKS / (panels * chunks)).clamp(1, positions.div_ceil(POSITIONS));
    let whole = outputs.next_multiple_of(lanes) * total;
    let work = positions * total * outputs;
    scratch(parts * whole, |values| {
        let places = Scattered::new(values);
        let task = |index: usize| {
            let (index, chunk_index) = (index / chunks, index % chunks);
            let (part, panel_index) = (index / panels, index % panels);
            let panel = panel(isa, outputs, panel_index);
            let chunk = chunk(input.runs, ROWS, chunk_index);
            let (first, width) = (panel.first * lanes, panel.width * lanes);
            let start = part * whole + first * total + chunk.before * width;
            let range = start..start + chunk.runs.total() * width;
            // SAFETY: each task has its own part, panel and rows.
            let sums = unsafe { places.part(range) };
            let (from, to) = (positions * part / parts, positions * (part + 1) / parts);
            let used = width.min(outputs - first);
            let mut rows = [Row::default(); DEPTH];
            let mut offsets = [0; DEPTH];
            scratch(DEPTH * width, |gradients| {
                for at in (from..to).step_by(DEPTH) {
                    let count = DEPTH.min(to - at);
                    input.windows.rows(at, input.band, &mut rows[..count]);
                    for (offset, row) in offsets.iter_mut().zip(&rows[..count]) {
                        *offset = row.from + chunk.offset;
                    }
                    let dy = dy[at * outputs..].chunks_exact(outputs);
                    for (to, from) in gradients.chunks_exact_mut(width).zip(dy.take(count)) {
                        to[..used].copy_from_slice(&from[first..first + used]);
                        to[used..].fill(0.0);
                    }
                    isa.run(Outer {
                        input: input.values,
                        offsets: &offsets[..count],
                        runs: chunk.runs,
                        gradients: &gradients[..count * width],
                        width: panel.width,
                        sums,
                        fresh: at == from,
                    });
                }
            });
        };
        each(parts * panels * chunks, work, task);
        bring(isa, input, parts, values, dw, work);
    });
}

/// Sums the parts, and brings `[tap, input, output]` in panels to `[output, input, tap]`.
fn bring(isa: Isa, input: In<'_>, parts: usize, sums: &mut [f32], dw: &mut [f32], work: usize) {
    let lanes = isa.lanes();
    let (outputs, inputs) = (input.windows.target.channels, input.windows.channels);
    let total = input.runs.total();
    let taps = total / inputs;
    let whole = outputs.next_multiple_of(lanes) * total;
    if parts > 1 {
        let (sums, others) = sums.split_at_mut(whole);
        for other in others.chunks_exact(whole) {
            for (sum, other) in sums.iter_mut().zip(other) {
                *sum += other;
            }
        }
    }
    let (sums, out) = (&sums[..whole], Scattered::new(dw));
    let blocks = inputs.div_ceil(INPUTS);
    let task = |index: usize| {
        let panel = panel(isa, outputs, index / blocks);
        let (first, width) = (panel.first * lanes, panel.width * lanes);
        let start = index % blocks * INPUTS;
        let count = INPUTS.min(inputs - start);
        let from = &sums[first * total..][..width * total];
        for output in 0..width.min(outputs - first) {
            let at = ((first + output) * inputs + start) * taps;
            // SAFETY: each task has its own outputs or inputs.
            let to = unsafe { out.part(at..at + count * taps) };
            for (input, to) in (start..).zip(to.chunks_exact_mut(taps)) {
                for (tap, to) in to.iter_mut().enumerate() {
                    *to = from[(tap * inputs + input) * width + output];
                }
            }
        }
    };
    each(panel_count(isa, outputs) * blocks, work, task);
}
