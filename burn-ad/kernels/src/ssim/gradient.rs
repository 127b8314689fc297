//! From the slope of the loss to that of the planes.

use pulp::{Simd, WithSimd};

use super::Scale;
use crate::simd_math::{mul_add, negate_mul_add};
use crate::vector::{by_registers, read, write};

/// Means and variances, four maps, become slopes by the smoothed planes and their smoothed squares.
pub(super) struct Slopes<'a> {
    pub(super) constants: [f32; 2],
    /// Whether the loss is that of SSIM, not of structure alone.
    pub(super) luminance: bool,
    /// By the loss at each place.
    pub(super) slope: f32,
    pub(super) moments: &'a mut [f32],
}

impl WithSimd for Slopes<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let places = self.moments.len() / 4;
        let (means, variances) = self.moments.split_at_mut(2 * places);
        let (mean_s, mean_d) = means.split_at_mut(places);
        let (var_s, var_d) = variances.split_at_mut(places);
        let [c1, c2] = self.constants;
        let (c1, c2) = (simd.splat_f32s(c1), simd.splat_f32s(c2));
        let (half, one) = (simd.splat_f32s(0.5), simd.splat_f32s(1.0));
        let (zero, two) = (simd.splat_f32s(0.0), simd.splat_f32s(2.0));
        let slope = simd.splat_f32s(self.slope);
        by_registers!(S, places, 1, |range, N| {
            let [m_s] = read::<S, N>(simd, &mean_s[range.clone()]);
            let [m_d] = read::<S, N>(simd, &mean_d[range.clone()]);
            let [v_s] = read::<S, N>(simd, &var_s[range.clone()]);
            let [v_d] = read::<S, N>(simd, &var_d[range.clone()]);
            // Structure a = v_d / D and luminance b = m_d ^ 2 / E; their slopes by v_d, v_s, m_d, m_s are
            // (1 - a / 2) / D, -a / (2 D), (2 - b) m_d / E, -b m_s / E.
            let both = simd.add_f32s(v_s, v_d);
            let per_d = simd.div_f32s(one, mul_add(simd, both, half, c2));
            let a = simd.mul_f32s(v_d, per_d);
            let (mut by_structure, mut of_mean_s, mut of_mean_d) = (slope, zero, zero);
            if self.luminance {
                let square = simd.mul_f32s(m_d, m_d);
                let both = mul_add(simd, m_s, m_s, square);
                let per_e = simd.div_f32s(one, mul_add(simd, both, half, c1));
                let b = simd.mul_f32s(square, per_e);
                // The loss is a + b - a b.
                by_structure = negate_mul_add(simd, slope, b, slope);
                let by_luminance = negate_mul_add(simd, slope, a, slope);
                let scaled = simd.mul_f32s(by_luminance, per_e);
                of_mean_d = simd.mul_f32s(simd.mul_f32s(scaled, m_d), simd.sub_f32s(two, b));
                of_mean_s = simd.neg_f32s(simd.mul_f32s(simd.mul_f32s(scaled, m_s), b));
            }
            let scaled = simd.mul_f32s(by_structure, per_d);
            let half_a = simd.mul_f32s(a, half);
            let of_v_s = simd.neg_f32s(simd.mul_f32s(scaled, half_a));
            let of_v_d = negate_mul_add(simd, scaled, half_a, scaled);
            // A variance is the smoothed square less the square of the mean.
            let twice = simd.mul_f32s(two, of_v_s);
            let of_mean_s = negate_mul_add(simd, m_s, twice, of_mean_s);
            let twice = simd.mul_f32s(two, of_v_d);
            let of_mean_d = negate_mul_add(simd, m_d, twice, of_mean_d);
            write::<S, N>(simd, &mut mean_s[range.clone()], [of_mean_s]);
            write::<S, N>(simd, &mut mean_d[range.clone()], [of_mean_d]);
            write::<S, N>(simd, &mut var_s[range.clone()], [of_v_s]);
            write::<S, N>(simd, &mut var_d[range], [of_v_d]);
        });
    }
}

/// Sum and difference of the planes become the gradients with respect to them: what [`Slopes`] gave,
/// smoothed the other way round.
pub(super) struct Spread<'a> {
    pub(super) window: &'a [f32],
    pub(super) scale: Scale,
    pub(super) moments: &'a [f32],
    pub(super) sum: &'a mut [f32],
    pub(super) difference: &'a mut [f32],
    /// Memory for four rows with a window's margin on both sides.
    pub(super) rows: &'a mut [f32],
}

impl WithSimd for Spread<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let margin = self.window.len() - 1;
        let length = self.scale.across + 2 * margin;
        for row in self.rows[..4 * length].chunks_exact_mut(length) {
            row[..margin].fill(0.0);
            row[length - margin..].fill(0.0);
        }
        for row in 0..self.scale.height {
            self.smooth_down(simd, row, length);
            self.smooth_across(simd, row, length);
        }
    }
}

impl Spread<'_> {
    /// The slopes of all places whose window reaches the row, in rows of `length`.
    #[inline(always)]
    fn smooth_down<S: Simd>(&mut self, simd: S, row: usize, length: usize) {
        let Scale { down, across, .. } = self.scale;
        let margin = self.window.len() - 1;
        let lines = row.saturating_sub(margin)..(row + 1).min(down);
        let maps = self.moments.chunks_exact(self.scale.places());
        for (map, out) in maps.zip(self.rows.chunks_exact_mut(length)) {
            let out = &mut out[margin..][..across];
            by_registers!(S, across, 4, |range, N| {
                let mut total = [simd.splat_f32s(0.0); N];
                for line in lines.clone() {
                    let weight = simd.splat_f32s(self.window[row - line]);
                    let values = read::<S, N>(simd, &map[line * across..][range.clone()]);
                    for n in 0..N {
                        total[n] = mul_add(simd, weight, values[n], total[n]);
                    }
                }
                write::<S, N>(simd, &mut out[range], total);
            });
        }
    }

    #[inline(always)]
    fn smooth_across<S: Simd>(&mut self, simd: S, row: usize, length: usize) {
        let width = self.scale.width;
        let two = simd.splat_f32s(2.0);
        let sum = &mut self.sum[row * width..][..width];
        let difference = &mut self.difference[row * width..][..width];
        let rows = &self.rows[..4 * length];
        by_registers!(S, width, 2, |range, N| {
            let mut found = [[simd.splat_f32s(0.0); N]; 4];
            for (column, &weight) in self.window.iter().rev().enumerate() {
                let weight = simd.splat_f32s(weight);
                for (map, found) in found.iter_mut().enumerate() {
                    let row = &rows[map * length + column..];
                    let values = read::<S, N>(simd, &row[range.clone()]);
                    for n in 0..N {
                        found[n] = mul_add(simd, weight, values[n], found[n]);
                    }
                }
            }
            let mut of_sum = read::<S, N>(simd, &sum[range.clone()]);
            let mut of_difference = read::<S, N>(simd, &difference[range.clone()]);
            for n in 0..N {
                let twice = simd.mul_f32s(two, of_sum[n]);
                of_sum[n] = mul_add(simd, twice, found[2][n], found[0][n]);
                let twice = simd.mul_f32s(two, of_difference[n]);
                of_difference[n] = mul_add(simd, twice, found[3][n], found[1][n]);
            }
            write::<S, N>(simd, &mut sum[range.clone()], of_sum);
            write::<S, N>(simd, &mut difference[range], of_difference);
        });
    }
}
