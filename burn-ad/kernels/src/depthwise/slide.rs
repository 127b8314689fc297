//! Weighted sums of cells along rows.
// Cells are read through pointers: a bounds check for each multiply-add would cost more than it.
#![allow(unsafe_code)]

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::Depthwise;
use crate::activation::Activation;
use crate::parallel::Scattered;
use crate::simd_math::{activate, mul_add};
use crate::vector::{Access, Part, Whole};
use crate::window::Map;

/// Cells of an output row that have the same taps.
pub(crate) struct Run {
    /// Column of the first cell, and columns from one to the next.
    pub(super) to: usize,
    pub(super) to_step: usize,
    /// Number of cells.
    pub(super) count: usize,
    /// Column of the input where the first cell's taps begin, and columns from one cell to the next.
    pub(super) from: usize,
    pub(super) from_step: usize,
    /// For each tap: columns behind `from`, column of the kernel.
    pub(super) taps: Vec<(usize, usize)>,
}

/// How the cells of an output row are computed: every column once.
pub(crate) enum Cells {
    /// As [`blocks`](super::blocks) of neighbours.
    Blocks,
    /// One after the other.
    Runs(Vec<Run>),
}

/// Some channels of some output rows.
pub(crate) struct Slide<'a> {
    pub(crate) x: &'a [f32],
    /// What `x` has: some rows of each image, some channels.
    pub(crate) from: Map,
    /// Rows of an image above those that `x` has.
    pub(crate) above: usize,
    /// Size of the whole output.
    pub(crate) to: Map,
    pub(crate) depthwise: &'a Depthwise<'a>,
    /// For each row of an output image, for each row of taps: row of the input image, row of the
    /// kernel.
    pub(crate) rows: &'a [Vec<(usize, usize)>],
    pub(crate) cells: &'a Cells,
    /// Output rows, counted over the images of `x`.
    pub(crate) lines: Range<usize>,
    /// Channels; the first one is the first of `x`.
    pub(crate) channels: Range<usize>,
    /// No other thread may touch these channels of these rows.
    pub(crate) out: &'a Scattered<'a>,
    /// Row of `out` for the first of `lines`.
    pub(crate) out_row: usize,
}

impl WithSimd for Slide<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.cells {
            Cells::Blocks => self.blocks(simd),
            Cells::Runs(runs) => self.runs(simd, runs),
        }
    }
}

impl Slide<'_> {
    #[inline(always)]
    fn runs<S: Simd>(&self, simd: S, runs: &[Run]) {
        let (from, to, depthwise) = (self.from, self.to, self.depthwise);
        let (all, channels) = (to.channels, self.channels.len());
        let [_, kernel_width] = depthwise.window.kernel;
        assert!(channels <= from.channels && self.channels.end <= all);
        let weight = &depthwise.weight[self.channels.start..];
        let bias = depthwise.bias.map(|bias| &bias[self.channels.clone()]);
        let (mut taps, mut ends) = (Vec::new(), Vec::new());
        for (index, line) in self.lines.clone().enumerate() {
            let (image, row) = (line / to.height, line % to.height);
            let cells = from.height * from.width * from.channels;
            let x = &self.x[image * cells..][..cells];
            let begin = (self.out_row + index) * to.width * all;
            let out = self.out.pointer(begin..begin + to.width * all);
            taps.clear();
            ends.clear();
            for run in runs {
                let begin = taps.len();
                for &(y, ky) in &self.rows[row] {
                    for &(dx, kx) in &run.taps {
                        let seen = y - self.above;
                        let place = (seen * from.width + run.from + dx) * from.channels;
                        taps.push((place, (ky * kernel_width + kx) * all));
                    }
                }
                ends.push(taps.len());
                // Once a run instead of once a multiply-add.
                let last = run.count - 1;
                let reach = last * run.from_step * from.channels + channels;
                let fits = |&(place, at): &(usize, usize)| {
                    place + reach <= x.len() && at + channels <= weight.len()
                };
                assert!(taps[begin..].iter().all(fits) && run.to + last * run.to_step < to.width);
            }
            // Strips of channels: the weights and the cells of a strip stay in the first cache.
            let strip = 4 * S::F32_LANES;
            for channel in (0..channels).step_by(strip) {
                let mut begin = 0;
                for (run, &end) in runs.iter().zip(&ends) {
                    let line = Line {
                        x: x.as_ptr().wrapping_add(channel),
                        step: run.from_step * from.channels,
                        taps: &taps[begin..end],
                        weight: weight[channel..].as_ptr(),
                        bias: bias.map(|bias| &bias[channel..]),
                        activation: depthwise.activation,
                        out: out.wrapping_add(run.to * all + self.channels.start + channel),
                        out_step: run.to_step * all,
                        channels: strip.min(channels - channel),
                    };
                    // SAFETY: every tap of every cell of the run begins at most `reach - channels`
                    // behind its place, so its `channels` values lie in `x`; those of its weights lie
                    // in `weight`, those of each cell in the row at `out`; all checked above. The bias
                    // has `channels` values. The line takes those of them that are in the strip. No
                    // other thread has these channels of the row.
                    unsafe { line.run(simd, run.count) };
                    begin = end;
                }
            }
        }
    }
}

struct Line<'a> {
    x: *const f32,
    step: usize,
    taps: &'a [(usize, usize)],
    weight: *const f32,
    bias: Option<&'a [f32]>,
    activation: Activation,
    out: *mut f32,
    out_step: usize,
    channels: usize,
}

impl Line<'_> {
    /// # Safety
    /// For each of `count` cells, `channels` values must be readable at each tap, at each tap's
    /// weights and in the bias, and writable at the cell.
    #[inline(always)]
    unsafe fn run<S: Simd>(&self, simd: S, count: usize) {
        let mut cell = 0;
        // SAFETY: cells `cell..cell + N` are among the `count` ones.
        unsafe {
            while cell + 8 <= count {
                self.cells::<S, 8>(simd, cell);
                cell += 8;
            }
            if cell + 4 <= count {
                self.cells::<S, 4>(simd, cell);
                cell += 4;
            }
            while cell < count {
                self.cell(simd, cell);
                cell += 1;
            }
        }
    }

    /// One cell: several registers of channels at a time, since sums that wait for each other would
    /// cost several times as much.
    ///
    /// # Safety
    /// As [`Line::run`], for cell `cell`.
    #[inline(always)]
    unsafe fn cell<S: Simd>(&self, simd: S, cell: usize) {
        let mut channel = 0;
        // SAFETY: channels `channel..` as many as the registers have are among the `channels` ones.
        unsafe {
            if channel + 4 * S::F32_LANES <= self.channels {
                self.wide::<S, 4>(simd, cell, channel);
                channel += 4 * S::F32_LANES;
            }
            if channel + 2 * S::F32_LANES <= self.channels {
                self.wide::<S, 2>(simd, cell, channel);
                channel += 2 * S::F32_LANES;
            }
            if channel + S::F32_LANES <= self.channels {
                self.wide::<S, 1>(simd, cell, channel);
                channel += S::F32_LANES;
            }
            if channel < self.channels {
                let part = Part::new(simd, self.channels - channel);
                self.registers::<S, 1, _>(simd, part, cell, channel);
            }
        }
    }

    /// # Safety
    /// As [`Line::cell`], for the channels of `N` registers from `channel` on.
    #[inline(always)]
    unsafe fn wide<S: Simd, const N: usize>(&self, simd: S, cell: usize, channel: usize) {
        let mut sums = [simd.splat_f32s(0.0); N];
        // SAFETY: by the contract; offsets stay inside of what it names.
        unsafe {
            if let Some(bias) = self.bias {
                for (n, sum) in sums.iter_mut().enumerate() {
                    *sum = Whole.load(simd, bias.as_ptr().add(channel + n * S::F32_LANES));
                }
            }
            // Without taps there may be no cells to point into.
            let x = self.x.wrapping_add(cell * self.step + channel);
            let weights = self.weight.add(channel);
            for &(place, weight) in self.taps {
                let (x, weight) = (x.add(place), weights.add(weight));
                for (n, sum) in sums.iter_mut().enumerate() {
                    let x = Whole.load(simd, x.add(n * S::F32_LANES));
                    let weight = Whole.load(simd, weight.add(n * S::F32_LANES));
                    *sum = mul_add(simd, x, weight, *sum);
                }
            }
            let out = self.out.add(cell * self.out_step + channel);
            for (n, sum) in sums.into_iter().enumerate() {
                let value = activate(simd, self.activation, sum);
                Whole.store(simd, out.add(n * S::F32_LANES), value);
            }
        }
    }

    /// # Safety
    /// As [`Line::run`], for cells `cell..cell + N`.
    #[inline(always)]
    unsafe fn cells<S: Simd, const N: usize>(&self, simd: S, cell: usize) {
        let mut channel = 0;
        // SAFETY: channels `channel..` as many as the access has are among the `channels` ones.
        unsafe {
            while channel + S::F32_LANES <= self.channels {
                self.registers::<S, N, _>(simd, Whole, cell, channel);
                channel += S::F32_LANES;
            }
            if channel < self.channels {
                let part = Part::new(simd, self.channels - channel);
                self.registers::<S, N, _>(simd, part, cell, channel);
            }
        }
    }

    /// # Safety
    /// As [`Line::run`], for cells `cell..cell + N`, for the channels from `channel` on that `access` has.
    #[inline(always)]
    unsafe fn registers<S: Simd, const N: usize, A: Access<S>>(
        &self,
        simd: S,
        access: A,
        cell: usize,
        channel: usize,
    ) {
        // SAFETY: by the contract; offsets stay inside of what it names.
        unsafe {
            let start = match self.bias {
                Some(bias) => access.load(simd, bias.as_ptr().add(channel)),
                None => simd.splat_f32s(0.0),
            };
            let mut sums = [start; N];
            // Without taps there may be no cells to point into.
            let x = self.x.wrapping_add(cell * self.step + channel);
            let weights = self.weight.add(channel);
            for &(place, weight) in self.taps {
                let weight = access.load(simd, weights.add(weight));
                let x = x.add(place);
                for (n, sum) in sums.iter_mut().enumerate() {
                    let x = access.load(simd, x.add(n * self.step));
                    *sum = mul_add(simd, x, weight, *sum);
                }
            }
            let out = self.out.add(cell * self.out_step + channel);
            for (n, sum) in sums.into_iter().enumerate() {
                let value = activate(simd, self.activation, sum);
                access.store(simd, out.add(n * self.out_step), value);
            }
        }
    }
}
