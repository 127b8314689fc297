//! Depthwise convolution, channels-last: every channel has a kernel of its own.
//!
//! Weights are `[height * width, channels]` ([`pack`]). Nothing is copied to add padding: what lies
//! beyond the border is skipped.

mod blocks;
mod slide;
mod weights;

pub use weights::weight_gradient;

use crate::activation::Activation;
use crate::isa::Isa;
use crate::layout::transpose;
use crate::parallel::Scattered;
use crate::rows::for_rows;
use crate::window::{Map, Window};
use slide::Run;
pub(crate) use slide::{Cells, Slide};

/// Weights `[channels, 1, height, width]` to the order that the kernels read,
/// `[height * width, channels]`.
///
/// # Panics
/// If the number of weights is no multiple of `channels`.
pub fn pack(isa: Isa, weight: &[f32], channels: usize) -> Vec<f32> {
    let mut out = vec![0.0; weight.len()];
    let taps = weight.len().checked_div(channels).unwrap_or(0);
    transpose(isa, weight, 1, channels, taps, &mut out);
    out
}

/// The inverse of [`pack`], for gradients.
///
/// # Panics
/// If the number of weights is no multiple of `channels`.
pub fn unpack(isa: Isa, packed: &[f32], channels: usize) -> Vec<f32> {
    let mut out = vec![0.0; packed.len()];
    let taps = packed.len().checked_div(channels).unwrap_or(0);
    transpose(isa, packed, 1, taps, channels, &mut out);
    out
}

/// Weights of a depthwise convolution and what follows it.
#[derive(Clone, Copy, Debug)]
pub struct Depthwise<'a> {
    /// The window; its kernel is the weights'.
    pub window: Window,
    /// Packed weights.
    pub weight: &'a [f32],
    /// One for each channel.
    pub bias: Option<&'a [f32]>,
    /// The activation.
    pub activation: Activation,
}

impl Depthwise<'_> {
    pub(crate) fn check(&self, map: Map) {
        let taps = self.window.kernel[0] * self.window.kernel[1];
        assert_eq!(
            self.weight.len(),
            taps * map.channels,
            "weights of a depthwise convolution"
        );
        if let Some(bias) = self.bias {
            assert_eq!(
                bias.len(),
                map.channels,
                "biases of a depthwise convolution"
            );
        }
    }
}

/// Convolves `x`, of the size of `map`, into `out`, of the size `window.output(map)`.
///
/// # Panics
/// If a slice does not fit its size, or the window does not fit ([`Window::output`]).
pub fn forward(isa: Isa, x: &[f32], map: Map, depthwise: &Depthwise<'_>, out: &mut [f32]) {
    let window = &depthwise.window;
    let size = window.output(map);
    assert_eq!(x.len(), map.len(), "values to convolve");
    assert_eq!(out.len(), size.len(), "convolved values");
    depthwise.check(map);
    let (rows, cells) = windows(isa, window, map, size);
    slide(isa, (x, map), (out, size), depthwise, &rows, &cells);
}

/// For [`Slide`]: rows and cells of a convolution of `map` to `size`.
pub(crate) fn windows(
    isa: Isa,
    window: &Window,
    map: Map,
    size: Map,
) -> (Vec<Vec<(usize, usize)>>, Cells) {
    let rows = (0..size.height)
        .map(|row| {
            let span = window.rows(row, map.height);
            (span.first..).zip(span.taps).collect()
        })
        .collect();
    if blocks::fit(isa, window, size) {
        return (rows, Cells::Blocks);
    }
    let (kernel, stride, left) = (window.kernel[1], window.stride[1], window.padding[2]);
    let inside = |column: &usize| {
        let first = column * stride;
        first >= left && first - left + kernel <= map.width
    };
    let run = |column: usize, count: usize| {
        let span = window.columns(column, map.width);
        Run {
            to: column,
            to_step: 1,
            count,
            from: span.first,
            from_step: stride,
            taps: (0..).zip(span.taps).collect(),
        }
    };
    let first = (0..size.width).find(inside).unwrap_or(size.width);
    let count = (first..size.width).take_while(inside).count();
    let mut runs: Vec<Run> = (0..first).map(|column| run(column, 1)).collect();
    if count > 0 {
        runs.push(run(first, count));
    }
    runs.extend((first + count..size.width).map(|column| run(column, 1)));
    (rows, Cells::Runs(runs))
}

/// Gradient with respect to the input, of the size of `map`, from the gradient `grad` before bias and
/// activation, of the size `window.output(map)`.
///
/// # Panics
/// If a slice does not fit its size, or the window does not fit ([`Window::output`]).
pub fn input_gradient(
    isa: Isa,
    grad: &[f32],
    map: Map,
    window: Window,
    weight: &[f32],
    out: &mut [f32],
) {
    let size = window.output(map);
    let depthwise = Depthwise {
        window,
        weight,
        bias: None,
        activation: Activation::Identity,
    };
    assert_eq!(grad.len(), size.len(), "gradients of convolved values");
    assert_eq!(out.len(), map.len(), "gradients of values to convolve");
    depthwise.check(map);
    let rows: Vec<Vec<(usize, usize)>> = (0..map.height)
        .map(|row| {
            let tap = |y: usize| (y, row + window.padding[0] - y * window.stride[0]);
            window.rows_over(row, size.height).map(tap).collect()
        })
        .collect();
    let (kernel, stride, left) = (window.kernel[1], window.stride[1], window.padding[2]);
    let inside = |column: &usize| {
        let place = column + left;
        place + 1 >= kernel && place / stride < size.width
    };
    let run = |column: usize, count: usize| {
        let over = window.columns_over(column, size.width);
        let taps = over
            .clone()
            .map(|x| (x - over.start, column + left - x * stride));
        Run {
            to: column,
            to_step: stride,
            count,
            from: over.start,
            from_step: 1,
            taps: taps.collect(),
        }
    };
    // Columns a stride apart have the same taps.
    let mut runs = Vec::new();
    for phase in 0..stride.min(map.width) {
        let mut columns = (phase..map.width).step_by(stride).peekable();
        while let Some(column) = columns.next() {
            let mut count = 1;
            while inside(&column) && columns.next_if(inside).is_some() {
                count += 1;
            }
            runs.push(run(column, count));
        }
    }
    let cells = Cells::Runs(runs);
    slide(isa, (grad, size), (out, map), &depthwise, &rows, &cells);
}

fn slide(
    isa: Isa,
    (x, from): (&[f32], Map),
    (out, to): (&mut [f32], Map),
    depthwise: &Depthwise<'_>,
    rows: &[Vec<(usize, usize)>],
    cells: &Cells,
) {
    let row = to.width * to.channels;
    let taps = depthwise.window.kernel[0] * depthwise.window.kernel[1];
    // A multiply-add costs some fourth of what a value from memory does.
    for_rows(out, row, row * taps.div_ceil(4), |first, out| {
        let count = out.len() / row;
        isa.run(Slide {
            x,
            from,
            above: 0,
            to,
            depthwise,
            rows,
            cells,
            lines: first..first + count,
            channels: 0..to.channels,
            out: &Scattered::new(out),
            out_row: 0,
        });
    });
}

#[cfg(test)]
mod tests;
