//! Mean and variance below the window, and the losses.

use pulp::{Simd, WithSimd};

use super::{Measure, Scale};
use crate::simd_math::{mul_add, negate_mul_add};
use crate::sums::lanes;
use crate::vector::{by_registers, read, write};

/// What remains of a scale besides its loss.
pub(super) enum Keep<'a> {
    Nothing,
    /// Means of sum and difference, then their variances, a map each.
    Moments(&'a mut [f32]),
    /// 1 minus the loss.
    Map(&'a mut [f32]),
}

/// The sum of the losses at all places of the window.
pub(super) struct Losses<'a> {
    pub(super) measure: &'a Measure<'a>,
    pub(super) scale: Scale,
    pub(super) sum: &'a [f32],
    pub(super) difference: &'a [f32],
    /// Whether the loss is that of SSIM, not of structure alone.
    pub(super) luminance: bool,
    pub(super) keep: Keep<'a>,
    /// Memory for four rows.
    pub(super) rows: &'a mut [f32],
}

impl WithSimd for Losses<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) -> f64 {
        let mut total = 0.0;
        for row in 0..self.scale.down {
            self.smooth_down(simd, row);
            total += self.smooth_across(simd, row * self.scale.across);
        }
        total
    }
}

impl Losses<'_> {
    /// Columns of both planes and of their squares, below the window's rows from `row` on.
    #[inline(always)]
    fn smooth_down<S: Simd>(&mut self, simd: S, row: usize) {
        let width = self.scale.width;
        let mut rows = self.rows.chunks_exact_mut(width);
        let [Some(sums), Some(differences), Some(squares), Some(others)] =
            [rows.next(), rows.next(), rows.next(), rows.next()]
        else {
            unreachable!("memory for four rows");
        };
        let (sum, difference) = (&self.sum[row * width..], &self.difference[row * width..]);
        by_registers!(S, width, 2, |range, N| {
            let mut total = [[simd.splat_f32s(0.0); N]; 4];
            for (line, &weight) in self.measure.window.iter().enumerate() {
                let weight = simd.splat_f32s(weight);
                let sum = read::<S, N>(simd, &sum[line * width..][range.clone()]);
                let difference = read::<S, N>(simd, &difference[line * width..][range.clone()]);
                for n in 0..N {
                    let of_sum = simd.mul_f32s(weight, sum[n]);
                    let of_difference = simd.mul_f32s(weight, difference[n]);
                    total[0][n] = simd.add_f32s(total[0][n], of_sum);
                    total[1][n] = simd.add_f32s(total[1][n], of_difference);
                    total[2][n] = mul_add(simd, of_sum, sum[n], total[2][n]);
                    total[3][n] = mul_add(simd, of_difference, difference[n], total[3][n]);
                }
            }
            write::<S, N>(simd, &mut sums[range.clone()], total[0]);
            write::<S, N>(simd, &mut differences[range.clone()], total[1]);
            write::<S, N>(simd, &mut squares[range.clone()], total[2]);
            write::<S, N>(simd, &mut others[range], total[3]);
        });
    }

    /// The sum of a row's losses; `place` is that of its first.
    #[inline(always)]
    fn smooth_across<S: Simd>(&mut self, simd: S, place: usize) -> f64 {
        let Scale { width, across, .. } = self.scale;
        let places = self.scale.places();
        let luminance = self.luminance;
        let [c1, c2] = self.measure.constants;
        let (c1, c2) = (simd.splat_f32s(c1), simd.splat_f32s(c2));
        let (half, one) = (simd.splat_f32s(0.5), simd.splat_f32s(1.0));
        let rows = &self.rows[..4 * width];
        let mut total = [simd.splat_f32s(0.0)];
        by_registers!(S, across, 2, |range, N| {
            let mut found = [[simd.splat_f32s(0.0); N]; 4];
            for (column, &weight) in self.measure.window.iter().enumerate() {
                let weight = simd.splat_f32s(weight);
                for (map, found) in found.iter_mut().enumerate() {
                    let row = &rows[map * width + column..];
                    let values = read::<S, N>(simd, &row[range.clone()]);
                    for n in 0..N {
                        found[n] = mul_add(simd, weight, values[n], found[n]);
                    }
                }
            }
            let mut loss = found[0];
            for n in 0..N {
                let (sum, difference) = (found[0][n], found[1][n]);
                found[2][n] = negate_mul_add(simd, sum, sum, found[2][n]);
                found[3][n] = negate_mul_add(simd, difference, difference, found[3][n]);
                let both = simd.add_f32s(found[2][n], found[3][n]);
                loss[n] = simd.div_f32s(found[3][n], mul_add(simd, both, half, c2));
                if luminance {
                    let square = simd.mul_f32s(difference, difference);
                    let both = mul_add(simd, sum, sum, square);
                    let of_mean = simd.div_f32s(square, mul_add(simd, both, half, c1));
                    let rest = negate_mul_add(simd, loss[n], of_mean, of_mean);
                    loss[n] = simd.add_f32s(loss[n], rest);
                }
                // Lanes behind the last place have no loss.
                total[0] = simd.add_f32s(total[0], loss[n]);
            }
            let here = place + range.start..place + range.end;
            match &mut self.keep {
                Keep::Nothing => {}
                Keep::Moments(maps) => {
                    for (map, found) in maps.chunks_exact_mut(places).zip(found) {
                        write::<S, N>(simd, &mut map[here.clone()], found);
                    }
                }
                Keep::Map(map) => {
                    for loss in &mut loss {
                        *loss = simd.sub_f32s(one, *loss);
                    }
                    write::<S, N>(simd, &mut map[here], loss);
                }
            }
        });
        lanes::<S, 1>(&total)
            .iter()
            .map(|&loss| f64::from(loss))
            .sum()
    }
}
