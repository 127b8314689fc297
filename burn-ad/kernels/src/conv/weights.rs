//! Weights in the order in which the kernels read them.
// Tasks write their parts of one buffer.
#![allow(unsafe_code)]

use std::ops::Range;

use rayon::prelude::*;

use super::algorithm::Algorithm;
use super::narrow::{self, is_narrow};
use super::tile::{panel, panel_count};
use super::turn::turn;
use super::winograd;
use crate::Isa;
use crate::memory::{Lines, scratch};
use crate::parallel::{Scattered, worth};

/// Inputs that a task packs.
pub(super) const INPUTS: usize = 16;

/// Weights of a convolution, packed for an instruction set and an algorithm.
#[derive(Clone, Debug)]
pub struct Weights {
    isa: Isa,
    algorithm: Algorithm,
    shape: [usize; 4],
    packed: Lines,
}

/// Packed weights in anybody's memory.
#[derive(Clone, Copy)]
pub(super) struct Packed<'a> {
    pub(super) isa: Isa,
    pub(super) algorithm: Algorithm,
    /// Of the convolution they are for.
    pub(super) outputs: usize,
    pub(super) inputs: usize,
    pub(super) values: &'a [f32],
}

/// Weights `[outputs, inputs, height, width]` as they come, and how they are to be read.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) values: &'a [f32],
    pub(super) shape: [usize; 4],
    /// Whether outputs and inputs change places, as they do in a gradient.
    pub(super) swapped: bool,
    /// Which place of the kernel each packed one is.
    pub(super) taps: &'a [usize],
}

impl<'a> Source<'a> {
    /// Weights as they come, for an algorithm.
    ///
    /// # Panics
    /// If `values` are not of `shape`, or the algorithm does not fit its kernel.
    fn of(algorithm: Algorithm, values: &'a [f32], shape: [usize; 4], taps: &'a [usize]) -> Self {
        let length = shape
            .iter()
            .try_fold(1usize, |all, &size| all.checked_mul(size));
        assert_eq!(Some(values.len()), length, "length of weights {shape:?}");
        assert!(
            shape[1..].iter().all(|size| *size > 0),
            "weights {shape:?} without values for an output"
        );
        assert!(
            algorithm.fits_kernel([shape[2], shape[3]]),
            "{algorithm:?} needs a kernel of 3x3, not {shape:?}"
        );
        Self {
            values,
            shape,
            swapped: false,
            taps,
        }
    }

    /// Columns and summed channels of the product.
    pub(super) fn sizes(&self) -> (usize, usize) {
        let [outputs, inputs, ..] = self.shape;
        if self.swapped {
            (inputs, outputs)
        } else {
            (outputs, inputs)
        }
    }

    /// Writes rows of `width` columns, those from `first` on, for each tap and each input in
    /// `inputs`, in that order; columns beyond the last are 0.
    pub(super) fn rows(
        &self,
        isa: Isa,
        first: usize,
        width: usize,
        inputs: Range<usize>,
        rows: &mut [f32],
    ) {
        let [_, stride, height, columns] = self.shape;
        let taps = height * columns;
        let used = width.min(self.sizes().0 - first);
        let count = inputs.len();
        assert_eq!(rows.len(), self.taps.len() * count * width, "rows to write");
        if used < width {
            for row in rows.chunks_exact_mut(width) {
                row[used..].fill(0.0);
            }
        }
        let base = rows.as_mut_ptr();
        if !self.swapped {
            // Rows of the weights are outputs, columns are (input, tap): so are the taps all and in
            // order.
            assert_eq!(self.taps.len(), taps);
            let line = |output: usize| ((first + output) * stride + inputs.start) * taps;
            let place = |column: usize| (column % taps * count + column / taps) * width;
            // SAFETY: there are `taps * count` rows of `width` values by the checks above; each `(tap,
            // input)` has one of its own, whose first `used <= width` values are written.
            unsafe {
                turn(isa, self.values, [used, count * taps], line, |column| {
                    base.add(place(column))
                });
            }
            return;
        }
        if taps == 1 {
            for (index, output) in inputs.enumerate() {
                let from = &self.values[output * stride + first..][..used];
                rows[index * width..][..used].copy_from_slice(from);
            }
            return;
        }
        let mut places = [0; 9];
        if self.taps.len() == taps && taps <= places.len() {
            for (place, tap) in self.taps.iter().enumerate() {
                places[*tap] = place;
            }
            for (index, output) in inputs.enumerate() {
                let start = (output * stride + first) * taps;
                // SAFETY: `places[tap] < taps` and `index < count`, so that the row is one of the `taps *
                // count` that were checked, and its first `used <= width` values are written.
                unsafe {
                    turn(
                        isa,
                        self.values,
                        [used, taps],
                        |input| start + input * taps,
                        |tap| base.add((places[tap] * count + index) * width),
                    );
                }
            }
            return;
        }
        for (index, output) in inputs.enumerate() {
            let from = &self.values[(output * stride + first) * taps..][..used * taps];
            for (place, tap) in self.taps.iter().enumerate() {
                let row = &mut rows[(place * count + index) * width..][..used];
                for (lane, value) in row.iter_mut().enumerate() {
                    *value = from[lane * taps + tap];
                }
            }
        }
    }
}

impl Weights {
    /// Packs `weight` `[outputs, inputs, kernel height, kernel width]`.
    ///
    /// # Panics
    /// If `weight` is not of `shape`, or the algorithm does not fit its kernel.
    pub fn pack(isa: Isa, algorithm: Algorithm, weight: &[f32], shape: [usize; 4]) -> Self {
        let mut weights = Self {
            isa: isa.or_lower(),
            algorithm,
            shape,
            packed: Lines::default(),
        };
        weights.repack(weight);
        weights
    }

    /// Packs other weights of the same shape into the same memory.
    ///
    /// # Panics
    /// If `weight` is not of that shape.
    pub fn repack(&mut self, weight: &[f32]) {
        let (isa, algorithm) = (self.isa, self.algorithm);
        let taps = taps_of(self.shape);
        let source = Source::of(algorithm, weight, self.shape, &taps);
        self.packed.grow(packed_length(isa, algorithm, &source));
        pack(isa, algorithm, source, self.packed.values_mut());
    }

    /// `[outputs, inputs, kernel height, kernel width]`.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// What the weights were packed for.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The instructions that use them.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    pub(super) fn packed(&self) -> Packed<'_> {
        Packed {
            isa: self.isa,
            algorithm: self.algorithm,
            outputs: self.shape[0],
            inputs: self.shape[1],
            values: self.packed.values(),
        }
    }
}

/// All places of the kernel, in order.
fn taps_of([.., height, width]: [usize; 4]) -> Vec<usize> {
    (0..height * width).collect()
}

/// Calls `work` with a weight of `shape` packed in kept memory.
pub(super) fn packed_once<R>(
    isa: Isa,
    algorithm: Algorithm,
    weight: &[f32],
    shape: [usize; 4],
    work: impl FnOnce(Packed<'_>) -> R,
) -> R {
    let [outputs, inputs, ..] = shape;
    let isa = isa.or_lower();
    let taps = taps_of(shape);
    let source = Source::of(algorithm, weight, shape, &taps);
    scratch(packed_length(isa, algorithm, &source), |values| {
        pack(isa, algorithm, source, values);
        work(Packed {
            isa,
            algorithm,
            outputs,
            inputs,
            values,
        })
    })
}

/// Values of packed weights.
pub(super) fn packed_length(isa: Isa, algorithm: Algorithm, source: &Source<'_>) -> usize {
    let (columns, inputs) = source.sizes();
    if algorithm == Algorithm::Direct && is_narrow(isa, columns, inputs) {
        return columns * inputs * source.taps.len();
    }
    let size = columns.next_multiple_of(isa.lanes()) * inputs;
    match algorithm {
        Algorithm::Direct => size * source.taps.len(),
        _ => winograd::place(size) * winograd::kernels(algorithm.tile().0).pow(2),
    }
}

/// Packs to the first [`packed_length`] values.
pub(super) fn pack(isa: Isa, algorithm: Algorithm, source: Source<'_>, packed: &mut [f32]) {
    match algorithm {
        Algorithm::Direct => pack_direct(isa, source, packed),
        _ => winograd::pack(isa, algorithm.tile().0, source, packed),
    }
}

/// For each panel, for each tap and input a row of the panel's columns; a few columns as
/// [`narrow::pack`] has them.
fn pack_direct(isa: Isa, source: Source<'_>, packed: &mut [f32]) {
    let (columns, inputs) = source.sizes();
    if is_narrow(isa, columns, inputs) {
        return narrow::pack(source, packed);
    }
    let taps = source.taps.len();
    let out = Scattered::new(packed);
    for_panels(isa, source, taps * INPUTS * 64, |block, rows| {
        for (tap, rows) in rows
            .chunks_exact(block.inputs.len() * block.width)
            .enumerate()
        {
            let at =
                block.first * inputs * taps + (tap * inputs + block.inputs.start) * block.width;
            // SAFETY: each block has its own panel or its own inputs.
            unsafe { out.part(at..at + rows.len()) }.copy_from_slice(rows);
        }
    });
}

/// Columns of a panel, and some inputs.
pub(super) struct Block {
    /// First column.
    pub(super) first: usize,
    /// Columns.
    pub(super) width: usize,
    /// The inputs.
    pub(super) inputs: Range<usize>,
}

/// Hands every block of every panel to `pack` with its values: for each tap and input a row of the
/// block's columns. `values` is about what one block costs.
pub(super) fn for_panels(
    isa: Isa,
    source: Source<'_>,
    values: usize,
    pack: impl Fn(Block, &[f32]) + Sync + Send,
) {
    let lanes = isa.lanes();
    let (columns, inputs) = source.sizes();
    let parts = inputs.div_ceil(INPUTS);
    let task = |index: usize| {
        let panel = panel(isa, columns, index / parts);
        let start = index % parts * INPUTS;
        let block = Block {
            first: panel.first * lanes,
            width: panel.width * lanes,
            inputs: start..inputs.min(start + INPUTS),
        };
        scratch(
            source.taps.len() * block.inputs.len() * block.width,
            |rows| {
                source.rows(isa, block.first, block.width, block.inputs.clone(), rows);
                pack(block, rows);
            },
        );
    };
    each(panel_count(isa, columns) * parts, values, task);
}

/// Runs `task` for each of `count`; on this thread if `count * values` is little.
fn each(count: usize, values: usize, task: impl Fn(usize) + Sync + Send) {
    if count * values < worth(1 << 16) {
        (0..count).for_each(task);
    } else {
        (0..count).into_par_iter().for_each(task);
    }
}
