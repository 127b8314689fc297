//! Gradient with respect to the weights of a few outputs: lanes are the window's values, which the
//! gradients are multiplied with one by one.
// Only loads and stores of registers are unchecked.
#![allow(unsafe_code)]

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::weight::{In, POSITIONS, TASKS};
use crate::Isa;
use crate::conv::direct::SERIAL;
use crate::conv::product::Row;
use crate::conv::tile::Runs;
use crate::memory::scratch;
use crate::simd_math::mul_add;
use crate::vector::{Access, Lanes, load};

/// Positions that are summed at a time: their windows stay in the second cache.
const DEPTH: usize = 192;

/// The whole gradient, to `dw` `[outputs, inputs, taps]`.
pub(super) fn sums(isa: Isa, input: In<'_>, dy: &[f32], dw: &mut [f32]) {
    let windows = input.windows;
    let (inputs, outputs) = (windows.channels, windows.target.channels);
    let (positions, total) = (windows.positions(), input.runs.total());
    let length = outputs * total;
    // As many as the size asks for, so that no number of threads changes a bit.
    let parts = TASKS.min(positions.div_ceil(POSITIONS));
    scratch(parts * length, |values| {
        let part = |(part, sums): (usize, &mut [f32])| {
            let (from, to) = (positions * part / parts, positions * (part + 1) / parts);
            sums.fill(0.0);
            let mut table = [Row::default(); DEPTH];
            for at in (from..to).step_by(DEPTH) {
                let rows = &mut table[..DEPTH.min(to - at)];
                windows.rows(at, input.band, rows);
                isa.run(Sums {
                    input: input.values,
                    rows,
                    runs: input.runs,
                    dy: &dy[at * outputs..][..rows.len() * outputs],
                    outputs,
                    sums,
                });
            }
        };
        if positions * length < SERIAL {
            values.chunks_exact_mut(length).enumerate().for_each(part);
        } else {
            values
                .par_chunks_exact_mut(length)
                .enumerate()
                .with_max_len(1)
                .for_each(part);
        }
        let (sums, others) = values.split_at_mut(length);
        for other in others.chunks_exact(length) {
            for (sum, other) in sums.iter_mut().zip(other) {
                *sum += other;
            }
        }
        // From [output, tap, input].
        let taps = total / inputs;
        for (at, value) in dw.iter_mut().enumerate() {
            let (tap, line) = (at % taps, at / taps);
            *value = sums[(line / inputs * taps + tap) * inputs + line % inputs];
        }
    });
}

/// For each output `o` and value `m` of the runs, `sums[o][m] += input[from + m] * dy[p][o]`, summed over
/// the rows.
struct Sums<'a> {
    input: &'a [f32],
    rows: &'a [Row],
    runs: Runs,
    dy: &'a [f32],
    outputs: usize,
    sums: &'a mut [f32],
}

impl WithSimd for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let many = S::REGISTER_COUNT >= 32;
        match self.outputs {
            1 => self.all::<S, 1, 4>(simd),
            2 => self.all::<S, 2, 4>(simd),
            3 if many => self.all::<S, 3, 4>(simd),
            3 => self.all::<S, 3, 3>(simd),
            4 if many => self.all::<S, 4, 4>(simd),
            4 => self.all::<S, 4, 2>(simd),
            _ => unreachable!("more outputs than a narrow product has"),
        }
    }
}

impl Sums<'_> {
    #[inline(always)]
    fn all<S: Simd, const C: usize, const NV: usize>(mut self, simd: S) {
        let runs = self.runs;
        assert_eq!(self.dy.len(), self.rows.len() * C);
        assert_eq!(self.sums.len(), runs.total() * C);
        let last = self.rows.iter().map(|row| row.from).max().unwrap_or(0);
        assert!(last + runs.extent() <= self.input.len());
        for run in 0..runs.count {
            let mut at = 0;
            while at + NV * S::F32_LANES <= runs.length {
                self.tile::<S, C, NV>(simd, run, at);
                at += NV * S::F32_LANES;
            }
            while at < runs.length {
                self.tile::<S, C, 1>(simd, run, at);
                at += S::F32_LANES;
            }
        }
    }

    /// Values `at..` of a run, as many as `NV` registers have; those that are left where `NV` is 1.
    #[inline(always)]
    fn tile<S: Simd, const C: usize, const NV: usize>(&mut self, simd: S, run: usize, at: usize) {
        let (lanes, runs) = (S::F32_LANES, self.runs);
        let last = Lanes::first(simd, runs.length - at - (NV - 1) * lanes);
        let mut sums = [[simd.splat_f32s(0.0); NV]; C];
        // SAFETY: `all` has checked that a run's values lie in the input behind every row's start, and
        // that the sums are `runs.total()` for each of `C` outputs; `NV - 1` registers are full, and `last`
        // has no more lanes than the run has values.
        unsafe {
            let input = self.input.as_ptr().add(run * runs.step + at);
            for (row, dy) in self.rows.iter().zip(self.dy.chunks_exact(C)) {
                let from = input.add(row.from);
                let mut gradients = [simd.splat_f32s(0.0); C];
                for (gradient, &dy) in gradients.iter_mut().zip(dy) {
                    *gradient = simd.splat_f32s(dy);
                }
                for j in 0..NV {
                    let x = if j + 1 < NV {
                        load::<S>(from.add(j * lanes))
                    } else {
                        last.load(simd, from.add(j * lanes))
                    };
                    for (sums, &gradient) in sums.iter_mut().zip(&gradients) {
                        sums[j] = mul_add(simd, x, gradient, sums[j]);
                    }
                }
            }
            for (output, sums) in sums.iter().enumerate() {
                let place = output * runs.total() + run * runs.length + at;
                let to = self.sums.as_mut_ptr().add(place);
                for (j, sum) in sums.iter().enumerate() {
                    let to = to.add(j * lanes);
                    let lanes = if j + 1 < NV {
                        Lanes::first(simd, lanes)
                    } else {
                        last
                    };
                    let before = lanes.load(simd, to);
                    lanes.store(simd, to, simd.add_f32s(before, *sum));
                }
            }
        }
    }
}
