//! Area under the per-region overlap curve.

use super::pixel::RankedMaps;
use super::ranking::Step;
use super::score_map::ScoreMap;
use crate::error::{Error, Result};

/// Area under the mean per-region overlap (PRO) as a function of the pixel false-positive rate, from 0 to `limit` (the
/// papers use 0.3), divided by `limit`: Bergmann et al., "The MVTec Anomaly Detection Dataset" (IJCV 2021), section 4.
///
/// Regions are the 8-connected components of the ground truth over all maps, each of weight one. Exact: every distinct
/// score is a threshold, tied pixels are one step, and the curve is interpolated linearly at the limit.
/// `None` without a region or without a normal pixel.
///
/// # Errors
/// A limit outside `(0, 1]`, slices that do not fit their map, or a NaN score on a pixel that counts.
pub fn aupro(maps: &[ScoreMap<'_>], limit: f64) -> Result<Option<f64>> {
    check_limit(limit)?;
    let ranked = RankedMaps::new(maps)?;
    let mut area = ProArea::new(limit, &ranked);
    ranked.ranking.steps().for_each(|step| area.add(&step));
    Ok(area.finish())
}

pub(super) fn check_limit(limit: f64) -> Result<()> {
    if limit > 0.0 && limit <= 1.0 {
        return Ok(());
    }
    Err(
        Error::usage(format!("AUPRO limit {limit} is not a false-positive rate"))
            .help("use a number above 0 and at most 1; the papers use 0.3"),
    )
}

/// The area so far; x counts normal pixels, y is the sum of the overlaps.
pub(super) struct ProArea<'a> {
    /// One over its pixel count, for each region.
    weights: &'a [f64],
    /// The limit in pixels, not rounded.
    end: f64,
    area: f64,
    false_positives: f64,
    overlap: f64,
}

impl<'a> ProArea<'a> {
    pub(super) fn new(limit: f64, ranked: &'a RankedMaps) -> Self {
        Self {
            weights: &ranked.region_weights,
            end: limit * ranked.ranking.normal_count() as f64,
            area: 0.0,
            false_positives: 0.0,
            overlap: 0.0,
        }
    }

    pub(super) fn add(&mut self, step: &Step<'_>) {
        let (left, right) = (step.normal_above as f64, step.false_positives as f64);
        self.advance_level(left);
        let before = self.overlap;
        self.overlap += step
            .regions()
            .map(|region| self.weights[region])
            .sum::<f64>();
        if left < right && left < self.end {
            let stop = right.min(self.end);
            let at_stop = before + (self.overlap - before) * (stop - left) / (right - left);
            self.area += (stop - left) * (before + at_stop) / 2.0;
        }
        self.false_positives = right;
    }

    /// The overlap stays until `x` false positives.
    fn advance_level(&mut self, x: f64) {
        let width = x.min(self.end) - self.false_positives.min(self.end);
        self.area += width * self.overlap;
        self.false_positives = x;
    }

    pub(super) fn finish(mut self) -> Option<f64> {
        if self.weights.is_empty() || self.end == 0.0 {
            return None;
        }
        self.advance_level(self.end.max(self.false_positives));
        Some(self.area / (self.end * self.weights.len() as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map<'a>(scores: &'a [f32], mask: &'a [bool]) -> ScoreMap<'a> {
        ScoreMap {
            scores,
            mask,
            valid: None,
            height: 1,
            width: scores.len(),
        }
    }

    const MASK: [bool; 8] = [true, true, false, true, false, false, false, false];

    fn value(scores: &[f32], limit: f64) -> f64 {
        aupro(&[map(scores, &MASK)], limit)
            .expect("valid")
            .expect("a region")
    }

    #[test]
    fn perfect_map_gives_one_and_inverted_map_zero() {
        let perfect = MASK.map(|m| f32::from(u8::from(m)));
        for limit in [0.05, 0.3, 1.0] {
            assert!((value(&perfect, limit) - 1.0).abs() < 1e-15);
            assert!(value(&perfect.map(|s| -s), limit).abs() < 1e-15);
        }
    }

    #[test]
    fn every_region_weighs_the_same() {
        // The region of two pixels is found at once, the single pixel after every normal pixel.
        assert!((value(&[9.0, 9.0, 5.0, 1.0, 5.0, 5.0, 5.0, 5.0], 0.3) - 0.5).abs() < 1e-15);
    }

    #[test]
    fn a_tie_is_one_slope_cut_at_the_limit() {
        // One segment from (0, 0) to (1, 1): the mean height up to the limit is half the limit.
        assert!((value(&[2.0; 8], 0.3) - 0.15).abs() < 1e-15);
        assert!((value(&[2.0; 8], 1.0) - 0.5).abs() < 1e-15);
    }

    #[test]
    fn undefined_without_region_or_without_normal_pixel() {
        for mask in [[true; 2], [false; 2]] {
            let maps = [map(&[1.0, 2.0], &mask)];
            assert_eq!(aupro(&maps, 0.3).expect("valid"), None);
        }
        assert_eq!(aupro(&[], 0.3).expect("valid"), None);
    }

    #[test]
    fn a_limit_that_is_no_rate_is_a_usage_error() {
        for limit in [0.0, -0.1, 1.1, f64::NAN] {
            assert!(
                aupro(&[], limit).expect_err("no rate").is_usage(),
                "{limit}"
            );
        }
    }
}
