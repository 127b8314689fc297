//! From raw scores to decisions: a threshold that means something for one image alone.

use crate::error::{Error, Result};

/// Which images the threshold was fitted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CalibrationSource {
    /// Normal training images that the method was not fitted on.
    HeldOut,
    /// The images the method was fitted on: there were too few to keep any aside.
    Training,
    /// The test set, as the papers do (`--protocol paper`): for reproducing tables only.
    TestSet,
}

/// The threshold of a model and the scale of its normalised score.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Calibration {
    /// Images scoring above this are anomalous.
    pub threshold: f32,
    /// Pixels scoring above this are drawn as anomalous.
    pub pixel_threshold: f32,
    /// Median image score of normal images.
    pub median: f32,
    /// Range of pixel scores for colours: median of normal pixels to well above the threshold.
    pub display_range: [f32; 2],
    /// The share of normal images allowed above the threshold.
    pub target_fpr: f64,
    /// Number of images behind the figures.
    pub images: usize,
    /// Which images they were.
    pub source: CalibrationSource,
}

/// The normalised score of the median normal image.
const NORMALISED_MEDIAN: f64 = 0.01;

impl Calibration {
    /// Fits threshold and scale on normal images: for each its score and the maximum of its map.
    ///
    /// The threshold is the conformal quantile: the `ceil((n + 1)(1 - target_fpr))`-th smallest of
    /// `n` scores, so that a further normal image exceeds it with probability at most `target_fpr`.
    /// With fewer than `1 / target_fpr - 1` images no score is large enough for that promise: the
    /// largest is then taken, which a further normal image exceeds with probability `1 / (n + 1)`.
    ///
    /// # Errors
    /// When there is no score, or one is not finite, or the target is outside (0, 1).
    pub fn fit(
        image_scores: &[f32],
        map_maxima: &[f32],
        pixel_median: f32,
        target_fpr: f64,
        source: CalibrationSource,
    ) -> Result<Self> {
        if !(target_fpr > 0.0 && target_fpr < 1.0) {
            return Err(Error::usage(format!(
                "a target false-positive rate of {target_fpr} is not between 0 and 1"
            )));
        }
        let sorted = |values: &[f32]| -> Result<Vec<f32>> {
            if values.is_empty() {
                return Err(Error::data("there is no normal image to calibrate on"));
            }
            if values.iter().any(|value| !value.is_finite()) {
                return Err(Error::numeric("a score of a normal image is not finite"));
            }
            let mut values = values.to_vec();
            values.sort_unstable_by(f32::total_cmp);
            Ok(values)
        };
        let scores = sorted(image_scores)?;
        let maxima = sorted(map_maxima)?;
        let quantile = |values: &[f32]| {
            let rank = ((values.len() as f64 + 1.0) * (1.0 - target_fpr)).ceil() as usize;
            values[rank.clamp(1, values.len()) - 1]
        };
        let threshold = quantile(&scores);
        let pixel_threshold = quantile(&maxima);
        Ok(Self {
            threshold,
            pixel_threshold,
            median: scores[scores.len() / 2],
            display_range: display_range(pixel_median, pixel_threshold),
            target_fpr,
            images: scores.len(),
            source,
        })
    }

    /// The smallest false-positive rate that this many images can promise.
    pub fn guaranteed_fpr(&self) -> f64 {
        self.target_fpr.max(1.0 / (self.images as f64 + 1.0))
    }

    /// A score in (0, 1): 0.5 at the threshold, 0.01 at the median of normal images, strictly
    /// increasing (logistic), so it can be compared between models.
    pub fn normalise(&self, score: f32) -> f32 {
        let spread = f64::from(self.threshold - self.median).max(resolution(self.threshold));
        let slope = (1.0 / NORMALISED_MEDIAN - 1.0).ln() / spread;
        let margin = slope * f64::from(score - self.threshold);
        (1.0 / (1.0 + (-margin).exp())) as f32
    }

    /// Whether an image with this score is called anomalous.
    pub fn is_anomalous(&self, score: f32) -> bool {
        score > self.threshold
    }
}

/// The smallest difference from `value` that means something: scores may be tiny, as products of
/// maps are.
fn resolution(value: f32) -> f64 {
    f64::from(f32::EPSILON * value.abs()).max(f64::from(f32::MIN_POSITIVE))
}

/// Colours run from the median normal pixel to twice the way up to the threshold.
fn display_range(pixel_median: f32, pixel_threshold: f32) -> [f32; 2] {
    let span = (pixel_threshold - pixel_median).max(resolution(pixel_threshold) as f32);
    [pixel_median, pixel_median + 2.0 * span]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn fit(count: usize, fpr: f64) -> Calibration {
        let scores: Vec<f32> = (1..=count).map(|v| v as f32).collect();
        Calibration::fit(&scores, &scores, 0.0, fpr, CalibrationSource::HeldOut).unwrap()
    }

    #[test]
    fn threshold_is_the_conformal_quantile() {
        assert_eq!(fit(99, 0.01).threshold, 99.0);
        assert_eq!(fit(199, 0.01).threshold, 198.0);
        assert_eq!(fit(9, 0.5).threshold, 5.0);
    }

    #[test]
    fn too_few_images_fall_back_to_the_largest_score_and_say_what_it_promises() {
        let calibration = fit(9, 0.01);
        assert_eq!(calibration.threshold, 9.0);
        assert!((calibration.guaranteed_fpr() - 0.1).abs() < 1e-12);
    }

    #[test]
    fn normalised_score_is_anchored_and_increasing() {
        let calibration = fit(199, 0.01);
        assert!((calibration.normalise(calibration.threshold) - 0.5).abs() < 1e-6);
        assert!((calibration.normalise(calibration.median) - 0.01).abs() < 1e-4);
        assert!(calibration.normalise(120.0) < calibration.normalise(121.0));
        let flat = Calibration::fit(&[2.0], &[2.0], 2.0, 0.1, CalibrationSource::Training).unwrap();
        assert!(flat.normalise(1.0) >= 0.0 && flat.normalise(3.0) <= 1.0);
        assert!(flat.normalise(2.0).is_finite());
        let zero = Calibration::fit(&[0.0], &[0.0], 0.0, 0.1, CalibrationSource::Training).unwrap();
        assert!(zero.normalise(0.0).is_finite() && zero.normalise(1.0) <= 1.0);
    }

    #[test]
    fn tiny_scores_are_normalised_as_large_ones() {
        let scores = |factor: f32| -> Calibration {
            let scores: Vec<f32> = (1..=199).map(|v| v as f32 * factor).collect();
            Calibration::fit(
                &scores,
                &scores,
                100.0 * factor,
                0.01,
                CalibrationSource::HeldOut,
            )
            .unwrap()
        };
        let (large, tiny) = (scores(1.0), scores(1e-12));
        for score in [50.0, 150.0, 250.0] {
            let difference = large.normalise(score) - tiny.normalise(score * 1e-12);
            assert!(difference.abs() < 1e-5, "{score}: {difference}");
        }
        let [low, high] = tiny.display_range;
        assert!((low / 1e-10 - 1.0).abs() < 1e-5 && (high / 2.96e-10 - 1.0).abs() < 1e-3);
    }

    #[test]
    fn bad_input_is_an_error() {
        let source = CalibrationSource::HeldOut;
        assert!(Calibration::fit(&[], &[], 0.0, 0.1, source).is_err());
        assert!(Calibration::fit(&[f32::NAN], &[1.0], 0.0, 0.1, source).is_err());
        assert!(Calibration::fit(&[1.0], &[1.0], 0.0, 1.0, source).is_err());
    }
}
