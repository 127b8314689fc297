//! Winograd's convolutions: tiles of input and kernel are transformed, multiplied place by place, and
//! the sums over input channels transformed back.

mod back;
mod gradient;
mod pack;
mod tiles;
mod transform;

pub(super) use gradient::gradient;
pub(super) use pack::pack;
pub(super) use transform::{kernels, outputs};

use std::ops::Range;

use rayon::prelude::*;

use super::epilogue::Epilogue;
use super::geometry::Geometry;
use super::product::{Product, Row};
use super::tile::{ROWS, Runs, panel_count};
use super::weights::Packed;
use crate::Isa;
use crate::memory::scratch;
use crate::parallel::Scattered;
use tiles::{Gather, Scatter, Tiles};

/// Values, before and after the product, that a task keeps in its core's second cache.
const BLOCK: usize = 96 * 1024;
/// Most tiles of a task.
const MOST: usize = 12 * ROWS;

/// Values from a place of `size` values to the next one: were they a power of two apart, as sizes
/// often are, the same element of all places would compete for few places of the first cache.
pub(super) fn place(size: usize) -> usize {
    size.next_multiple_of(16) + 16
}

/// [`forward`](super::forward) for weights of one of Winograd's algorithms.
pub(super) fn convolve(
    x: &[f32],
    geometry: &Geometry,
    weights: Packed<'_>,
    epilogue: Epilogue<'_>,
    out: &mut [f32],
) {
    if out.is_empty() {
        return;
    }
    match weights.algorithm.tile().0 {
        4 => Pass::<4>::new(x, geometry, weights, epilogue).run(out),
        5 => Pass::<5>::new(x, geometry, weights, epilogue).run(out),
        9 => Pass::<9>::new(x, geometry, weights, epilogue).run(out),
        _ => Pass::<6>::new(x, geometry, weights, epilogue).run(out),
    }
}

struct Pass<'a, const A: usize> {
    isa: Isa,
    x: &'a [f32],
    tiles: Tiles,
    weights: &'a [f32],
    /// Channels, and the same rounded up to whole registers.
    inputs: usize,
    outputs: usize,
    inputs_whole: usize,
    outputs_whole: usize,
    epilogue: Epilogue<'a>,
}

impl<'a, const A: usize> Pass<'a, A> {
    const PLACES: usize = A * A;
    /// Fewest tiles that make loading the weights worth while: where places share them, a tile meets them often.
    const FEWEST: usize = if A == 9 { 3 } else { 6 } * ROWS;
    /// Places of a transformed kernel.
    const KERNELS: usize = transform::kernels(A) * transform::kernels(A);

    fn new(x: &'a [f32], geometry: &Geometry, weights: Packed<'a>, epilogue: Epilogue<'a>) -> Self {
        let Packed {
            isa,
            outputs,
            inputs,
            ..
        } = weights;
        Self {
            isa,
            x,
            tiles: Tiles::new(geometry, A),
            weights: weights.values,
            inputs,
            outputs,
            inputs_whole: inputs.next_multiple_of(isa.lanes()),
            outputs_whole: outputs.next_multiple_of(isa.lanes()),
            epilogue,
        }
    }

    fn run(&self, out: &mut [f32]) {
        let (count, threads) = (self.tiles.count(), rayon::current_num_threads());
        let each = Self::PLACES * (self.inputs_whole + self.outputs_whole);
        let wanted = (BLOCK / each).clamp(Self::FEWEST, MOST);
        let multiplications = count * Self::PLACES * self.inputs * self.outputs;
        let out = Scattered::new(out);
        if multiplications < super::direct::SERIAL || threads == 1 {
            let blocks = count.div_ceil(wanted);
            let block = count.div_ceil(blocks);
            (0..blocks).for_each(|index| self.block(index * block, block, &out));
        } else if count >= threads * Self::FEWEST / 2 {
            let blocks = count.div_ceil(wanted).next_multiple_of(threads);
            let block = count.div_ceil(blocks);
            (0..count.div_ceil(block))
                .into_par_iter()
                .with_max_len(1)
                .for_each(|index| self.block(index * block, block, &out));
        } else {
            self.phases(&out);
        }
    }

    /// All steps for `count` tiles from `from` on, or as many as there are.
    fn block(&self, from: usize, count: usize, out: &Scattered<'_>) {
        let count = count.min(self.tiles.count() - from);
        let (v, m) = (
            place(count * self.inputs_whole),
            place(count * self.outputs_whole),
        );
        scratch(Self::PLACES * (v + m), |values| {
            let (before, after) = values.split_at_mut(Self::PLACES * v);
            self.gather(from, count, 0, v, &Scattered::new(before));
            let sums = Scattered::new(after);
            for at in 0..Self::KERNELS {
                self.multiply(at, count, 0..self.panels(), before, &sums);
            }
            self.scatter(from, count, 0, m, after, out);
        });
    }

    /// The steps one after another, each over all tiles: for few tiles and many channels, where
    /// the weights are most of what is read, so that each is read once.
    fn phases(&self, out: &Scattered<'_>) {
        let count = self.tiles.count();
        let threads = rayon::current_num_threads();
        let (v, m) = (
            place(count * self.inputs_whole),
            place(count * self.outputs_whole),
        );
        let part = count.div_ceil(2 * threads);
        let parts = count.div_ceil(part);
        let groups = (2 * threads).div_ceil(Self::KERNELS).min(self.panels());
        scratch(Self::PLACES * (v + m), |values| {
            let (before, after) = values.split_at_mut(Self::PLACES * v);
            let range = |index: usize| (index * part, part.min(count - index * part));
            let transformed = Scattered::new(before);
            (0..parts).into_par_iter().for_each(|index| {
                let (from, count) = range(index);
                self.gather(from, count, from, v, &transformed);
            });
            let sums = Scattered::new(after);
            (0..Self::KERNELS * groups)
                .into_par_iter()
                .for_each(|index| {
                    let (at, group) = (index / groups, index % groups);
                    let panels = self.panels();
                    let panels = panels * group / groups..panels * (group + 1) / groups;
                    self.multiply(at, count, panels, before, &sums);
                });
            (0..parts).into_par_iter().for_each(|index| {
                let (from, count) = range(index);
                self.scatter(from, count, from, m, after, out);
            });
        });
    }

    /// Transforms tiles `from..from + count` to rows `to..` of each place, places `stride` apart.
    fn gather(&self, from: usize, count: usize, to: usize, stride: usize, rows: &Scattered<'_>) {
        self.isa.run(Gather::<A> {
            x: self.x,
            tiles: &self.tiles,
            range: from..from + count,
            channels: self.inputs,
            first: to * self.inputs_whole,
            pitch: self.inputs_whole,
            stride,
            rows,
        });
    }

    /// Transforms rows `at..at + count` of each place to the outputs of tiles `from..`.
    fn scatter(
        &self,
        from: usize,
        count: usize,
        at: usize,
        stride: usize,
        rows: &[f32],
        out: &Scattered<'_>,
    ) {
        self.isa.run(Scatter::<A> {
            rows,
            first: at * self.outputs_whole,
            stride,
            tiles: &self.tiles,
            range: from..from + count,
            channels: self.outputs,
            epilogue: self.epilogue,
            out,
        });
    }

    /// The products of the places that meet place `kernel` of the transformed kernels, for `count` tiles.
    fn multiply(
        &self,
        kernel: usize,
        count: usize,
        panels: Range<usize>,
        before: &[f32],
        after: &Scattered<'_>,
    ) {
        let (v, m) = (
            place(count * self.inputs_whole),
            place(count * self.outputs_whole),
        );
        let weights = place(self.outputs_whole * self.inputs);
        let mut table = [Row::default(); MOST];
        for at in Self::meeting(kernel) {
            for start in (0..count).step_by(MOST) {
                let rows = &mut table[..MOST.min(count - start)];
                for (tile, row) in (start..).zip(&mut *rows) {
                    *row = Row {
                        from: tile * self.inputs_whole,
                        to: at * m + tile * self.outputs_whole,
                    };
                }
                self.isa.run(Product {
                    isa: self.isa,
                    input: &before[at * v..][..v],
                    rows,
                    runs: Runs {
                        count: 1,
                        length: self.inputs,
                        step: 0,
                    },
                    weights: &self.weights[kernel * weights..][..self.outputs_whole * self.inputs],
                    columns: self.outputs_whole,
                    panels: panels.clone(),
                    epilogue: Epilogue::default(),
                    out: after,
                });
            }
        }
    }

    /// Places of a tile that are multiplied by place `kernel`: one, or those of equal rows and columns.
    fn meeting(kernel: usize) -> impl Iterator<Item = usize> {
        let side = transform::kernels(A);
        let of = move |at: usize| at..if at + 1 == side { A } else { at + 1 };
        of(kernel / side).flat_map(move |i| of(kernel % side).map(move |j| i * A + j))
    }

    fn panels(&self) -> usize {
        panel_count(self.isa, self.outputs)
    }
}
