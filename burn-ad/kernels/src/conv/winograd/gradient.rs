//! Gradient with respect to the weights by Winograd's transforms, transposed: for each place the
//! products of all tiles' inputs and output gradients are summed, then transformed to the kernel.
// Tasks write their parts of shared buffers.
#![allow(unsafe_code)]

use std::ops::Range;

use rayon::prelude::*;

use super::back::{Kernel, Spread};
use super::place;
use super::tiles::{Gather, Tiles};
use crate::Isa;
use crate::conv::algorithm::Algorithm;
use crate::conv::direct::SERIAL;
use crate::conv::geometry::Geometry;
use crate::conv::gradient::outer::{DEPTH, Outer};
use crate::conv::tile::{Runs, panel, panel_count};
use crate::conv::turn::turn;
use crate::memory::scratch;
use crate::parallel::Scattered;

/// Transformed values of the tiles that are summed together, few enough for a cache that
/// is not far.
const GROUP: usize = 1 << 20;
/// Input channels whose sums a task transforms.
const INPUTS: usize = 32;
/// Tasks that keep many threads busy.
const TASKS: usize = 16;
/// Tiles of a task that transforms them.
const TILES: usize = 16;

/// Gradient with respect to 3x3 weights of `shape`, to `dw`; `algorithm` is one of Winograd's.
pub(in crate::conv) fn gradient(
    isa: Isa,
    algorithm: Algorithm,
    geometry: &Geometry,
    shape: [usize; 4],
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
) {
    match algorithm.tile().0 {
        4 => Pass::<4>::new(isa, geometry, shape, x, dy).run(dw),
        _ => Pass::<6>::new(isa, geometry, shape, x, dy).run(dw),
    }
}

struct Pass<'a, const A: usize> {
    isa: Isa,
    tiles: Tiles,
    x: &'a [f32],
    dy: &'a [f32],
    inputs: usize,
    outputs: usize,
    outputs_whole: usize,
    /// Values between rows of transformed inputs.
    pitch: usize,
    panels: usize,
}

impl<'a, const A: usize> Pass<'a, A> {
    const PLACES: usize = A * A;

    fn new(
        isa: Isa,
        geometry: &Geometry,
        [outputs, inputs, ..]: [usize; 4],
        x: &'a [f32],
        dy: &'a [f32],
    ) -> Self {
        let mut pitch = inputs.next_multiple_of(isa.lanes());
        if pitch.is_multiple_of(128) {
            // Rows a power of two apart would share few places of the first cache.
            pitch += 16;
        }
        Self {
            isa,
            tiles: Tiles::new(geometry, A),
            x,
            dy,
            inputs,
            outputs,
            outputs_whole: outputs.next_multiple_of(isa.lanes()),
            pitch,
            panels: panel_count(isa, outputs),
        }
    }

    fn each(&self, count: usize, task: impl Fn(usize) + Sync + Send) {
        let work = self.tiles.count() * Self::PLACES * self.inputs * self.outputs;
        if work < SERIAL {
            (0..count).for_each(task);
        } else {
            (0..count).into_par_iter().with_max_len(1).for_each(task);
        }
    }

    fn run(&self, dw: &mut [f32]) {
        let count = self.tiles.count();
        let each = Self::PLACES * (self.pitch + self.outputs_whole);
        let group = (GROUP / each).max(DEPTH).next_multiple_of(DEPTH).min(count);
        let blocks = self.inputs.div_ceil(INPUTS);
        let dw = Scattered::new(dw);
        let sum = place(self.inputs * self.outputs_whole);
        // Where enough tasks have sums of their own, these never leave the task's cache.
        let apart = count == group && self.panels * blocks >= TASKS;
        let shared = if apart { 0 } else { Self::PLACES * sum };
        let [v, d] = self.places(group);
        scratch(Self::PLACES * (v + d) + shared, |values| {
            let (before, values) = values.split_at_mut(Self::PLACES * v);
            let (gradients, sums) = values.split_at_mut(Self::PLACES * d);
            for from in (0..count).step_by(group) {
                let count = group.min(count - from);
                self.transform(from, count, before, gradients);
                let (v, d) = (&*before, &*gradients);
                if apart {
                    self.each(self.panels * blocks, |index| {
                        self.apart(index / blocks, index % blocks, count, v, d, &dw);
                    });
                    return;
                }
                let sums = Scattered::new(sums);
                self.each(Self::PLACES * self.panels, |index| {
                    let (at, index) = (index / self.panels, index % self.panels);
                    let (first, width) = self.columns(index);
                    let start = at * sum + first * self.inputs;
                    // SAFETY: each task has its own place and panel.
                    let sums = unsafe { sums.part(start..start + self.inputs * width) };
                    self.multiply(at, index, 0..self.inputs, count, v, d, sums, from == 0);
                });
            }
            self.each(self.panels * blocks, |index| {
                let (panel, block) = (index / blocks, index % blocks);
                let (first, width) = self.columns(panel);
                let range = self.block(block);
                let start = first * self.inputs + range.start * width;
                self.bring(panel, range, &sums[start..], sum, &dw);
            });
        });
    }

    /// First column and columns of a panel.
    fn columns(&self, index: usize) -> (usize, usize) {
        let (panel, lanes) = (panel(self.isa, self.outputs, index), self.isa.lanes());
        (panel.first * lanes, panel.width * lanes)
    }

    /// Input channels of a block.
    fn block(&self, index: usize) -> Range<usize> {
        index * INPUTS..self.inputs.min((index + 1) * INPUTS)
    }

    /// Values of a place of `count` tiles: of inputs, and of gradients.
    fn places(&self, count: usize) -> [usize; 2] {
        [place(count * self.pitch), place(count * self.outputs_whole)]
    }

    /// Transforms `count` tiles from `from` on.
    fn transform(&self, from: usize, count: usize, v: &mut [f32], d: &mut [f32]) {
        let strides = self.places(count);
        let (v, d) = (Scattered::new(v), Scattered::new(d));
        self.each(count.div_ceil(TILES), |index| {
            let to = index * TILES;
            let range = from + to..from + count.min(to + TILES);
            self.isa.run(Gather::<A> {
                x: self.x,
                tiles: &self.tiles,
                range: range.clone(),
                channels: self.inputs,
                first: to * self.pitch,
                pitch: self.pitch,
                stride: strides[0],
                rows: &v,
            });
            self.isa.run(Spread::<A> {
                isa: self.isa,
                dy: self.dy,
                tiles: &self.tiles,
                range,
                channels: self.outputs,
                to,
                count,
                stride: strides[1],
                rows: &d,
            });
        });
    }

    /// Sums the products of a place for some inputs and a panel.
    #[allow(clippy::too_many_arguments)] // a product has many sides
    fn multiply(
        &self,
        at: usize,
        panel_index: usize,
        inputs: Range<usize>,
        count: usize,
        v: &[f32],
        d: &[f32],
        sums: &mut [f32],
        fresh: bool,
    ) {
        let (first, width) = self.columns(panel_index);
        let strides = self.places(count);
        let v = &v[at * strides[0]..][..count * self.pitch];
        let d = &d[at * strides[1] + first * count..][..count * width];
        let offsets: [usize; DEPTH] = std::array::from_fn(|tile| tile * self.pitch);
        for start in (0..count).step_by(DEPTH) {
            let tiles = DEPTH.min(count - start);
            self.isa.run(Outer {
                input: &v[start * self.pitch + inputs.start..],
                offsets: &offsets[..tiles],
                runs: Runs {
                    count: 1,
                    length: inputs.len(),
                    step: 0,
                },
                gradients: &d[start * width..][..tiles * width],
                width: width / self.isa.lanes(),
                sums,
                fresh: fresh && start == 0,
            });
        }
    }

    /// All places for one panel and block, with sums of their own.
    fn apart(
        &self,
        panel: usize,
        block: usize,
        count: usize,
        v: &[f32],
        d: &[f32],
        dw: &Scattered<'_>,
    ) {
        let range = self.block(block);
        let length = range.len() * self.columns(panel).1;
        let stride = place(length);
        scratch(Self::PLACES * stride, |sums| {
            for (at, sums) in sums.chunks_exact_mut(stride).enumerate() {
                let sums = &mut sums[..length];
                self.multiply(at, panel, range.clone(), count, v, d, sums, true);
            }
            self.bring(panel, range, sums, stride, dw);
        });
    }

    /// Transforms sums, of places `stride` apart, to weights, and brings them to their places.
    fn bring(
        &self,
        panel: usize,
        inputs: Range<usize>,
        sums: &[f32],
        stride: usize,
        dw: &Scattered<'_>,
    ) {
        let (first, width) = self.columns(panel);
        let length = inputs.len() * width;
        scratch(9 * length, |taps| {
            self.isa.run(Kernel::<A> { sums, stride, taps });
            let taps = &*taps;
            let used = width.min(self.outputs - first);
            // From rows (input, tap) of outputs to rows (output) of inputs and taps.
            let line = |row: usize| (row % 9) * length + row / 9 * width;
            let pitch = 9 * self.inputs;
            let start = first * pitch + 9 * inputs.start;
            let rows = 9 * inputs.len();
            // SAFETY: each task has its own outputs or inputs.
            unsafe {
                turn(self.isa, taps, [rows, used], line, |output| {
                    let at = start + output * pitch;
                    dw.part(at..at + rows).as_mut_ptr()
                });
            }
        });
    }
}
