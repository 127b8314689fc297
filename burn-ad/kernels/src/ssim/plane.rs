//! One pair of planes at all scales.

use super::gradient::{Slopes, Spread};
use super::halves::{add_gradient, halve};
use super::moments::{Keep, Losses};
use super::{Measure, Scale};
use crate::isa::Isa;

/// Memory of a pair of planes.
pub(super) struct Plane<'a> {
    isa: Isa,
    measure: &'a Measure<'a>,
    levels: Vec<Level<'a>>,
    /// Four rows with a window's margin on both sides.
    rows: &'a mut [f32],
}

/// Sum and difference of the planes at one scale, and what is kept for the gradient.
struct Level<'a> {
    scale: Scale,
    sum: &'a mut [f32],
    difference: &'a mut [f32],
    /// Means of both, then variances; empty where no gradient is wanted.
    moments: &'a mut [f32],
}

/// What a window needs beside the columns, on both sides.
fn row_length(scales: &[Scale]) -> usize {
    let Scale { width, across, .. } = scales[0];
    // Columns of places, and twice the window but one.
    across + 2 * (width - across)
}

impl<'a> Plane<'a> {
    /// Values of the memory.
    pub(super) fn length(scales: &[Scale], gradient: bool) -> usize {
        let moments = if gradient { 4 } else { 0 };
        let levels = scales
            .iter()
            .map(|scale| 2 * scale.pixels() + moments * scale.places());
        levels.sum::<usize>() + 4 * row_length(scales)
    }

    pub(super) fn new(
        isa: Isa,
        measure: &'a Measure<'a>,
        scales: &[Scale],
        memory: &'a mut [f32],
        gradient: bool,
    ) -> Self {
        let mut rest = memory;
        let mut levels = Vec::with_capacity(scales.len());
        for &scale in scales {
            let (sum, others) = rest.split_at_mut(scale.pixels());
            let (difference, others) = others.split_at_mut(scale.pixels());
            let (moments, others) =
                others.split_at_mut(if gradient { 4 * scale.places() } else { 0 });
            rest = others;
            levels.push(Level {
                scale,
                sum,
                difference,
                moments,
            });
        }
        Self {
            isa,
            measure,
            levels,
            rows: rest,
        }
    }

    /// Sum and difference at every scale.
    fn open(&mut self, x: &[f32], y: &[f32]) {
        let finest = &mut self.levels[0];
        for (sum, (x, y)) in finest.sum.iter_mut().zip(x.iter().zip(y)) {
            *sum = x + y;
        }
        for (difference, (x, y)) in finest.difference.iter_mut().zip(x.iter().zip(y)) {
            *difference = x - y;
        }
        for at in 1..self.levels.len() {
            let (finer, coarser) = self.levels.split_at_mut(at);
            let (finer, coarser) = (&finer[at - 1], &mut coarser[0]);
            halve(finer.sum, finer.scale, coarser.sum);
            halve(finer.difference, finer.scale, coarser.difference);
        }
    }

    /// The mean loss of each scale: of structure, at the last of SSIM.
    pub(super) fn losses(&mut self, x: &[f32], y: &[f32]) -> Vec<f64> {
        self.open(x, y);
        let last = self.levels.len() - 1;
        let mut losses = Vec::with_capacity(self.levels.len());
        for (at, level) in self.levels.iter_mut().enumerate() {
            let keep = if level.moments.is_empty() {
                Keep::Nothing
            } else {
                Keep::Moments(level.moments)
            };
            let total = self.isa.run(Losses {
                measure: self.measure,
                scale: level.scale,
                sum: level.sum,
                difference: level.difference,
                luminance: at == last,
                keep,
                rows: self.rows,
            });
            losses.push(total / level.scale.places() as f64);
        }
        losses
    }

    /// The SSIM maps of all scales.
    pub(super) fn maps(&mut self, x: &[f32], y: &[f32], out: &mut [f32]) {
        self.open(x, y);
        let mut rest = out;
        for level in &mut self.levels {
            let (map, others) = rest.split_at_mut(level.scale.places());
            rest = others;
            self.isa.run(Losses {
                measure: self.measure,
                scale: level.scale,
                sum: level.sum,
                difference: level.difference,
                luminance: true,
                keep: Keep::Map(map),
                rows: self.rows,
            });
        }
    }

    /// The gradient with respect to the second plane, after [`losses`](Self::losses); `slopes` are those by
    /// each scale's loss.
    pub(super) fn gradient(mut self, slopes: &[f64], out: &mut [f32]) {
        if slopes.iter().all(|slope| *slope == 0.0) {
            return out.fill(0.0);
        }
        let last = self.levels.len() - 1;
        for at in (0..=last).rev() {
            let (finer, coarser) = self.levels.split_at_mut(at + 1);
            let level = &mut finer[at];
            self.isa.run(Slopes {
                constants: self.measure.constants,
                luminance: at == last,
                slope: (slopes[at] / level.scale.places() as f64) as f32,
                moments: level.moments,
            });
            self.isa.run(Spread {
                window: self.measure.window,
                scale: level.scale,
                moments: level.moments,
                sum: level.sum,
                difference: level.difference,
                rows: self.rows,
            });
            if let Some(coarser) = coarser.first() {
                add_gradient(coarser.sum, level.scale, level.sum);
                add_gradient(coarser.difference, level.scale, level.difference);
            }
        }
        let finest = &self.levels[0];
        let both = finest.sum.iter().zip(finest.difference.iter());
        for (out, (sum, difference)) in out.iter_mut().zip(both) {
            *out = sum - difference;
        }
    }
}
