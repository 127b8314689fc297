//! Area under the receiver operating characteristic.

use super::ranking::{Ranking, Step};
use crate::error::Result;

/// Area under the ROC curve by the trapezoid rule, as scikit-learn's `roc_auc_score`: the probability that an
/// anomalous item scores above a normal one, ties counting one half. `None` unless both classes are present.
///
/// # Errors
/// Slices of different lengths, or a NaN score.
///
/// ```
/// # use burn_ad::metrics::auroc;
/// assert_eq!(auroc(&[0.1, 0.4, 0.4, 0.9], &[false, false, true, true])?, Some(0.875));
/// # Ok::<(), burn_ad::Error>(())
/// ```
pub fn auroc(scores: &[f32], labels: &[bool]) -> Result<Option<f64>> {
    let ranking = Ranking::of_labels(scores, labels)?;
    let mut area = RocArea::default();
    ranking.steps().for_each(|step| area.add(&step));
    Ok(area.finish(&ranking))
}

/// The area so far, in integers: no rounding whatever the number of pixels.
#[derive(Default)]
pub(super) struct RocArea {
    /// Twice the area in units of (normal item) x (anomalous item).
    twice: u128,
    false_positives: u64,
    true_positives: u64,
}

impl RocArea {
    pub(super) fn add(&mut self, step: &Step<'_>) {
        let level = u128::from(step.normal_above - self.false_positives);
        let slope = u128::from(step.false_positives - step.normal_above);
        let before = u128::from(self.true_positives);
        self.twice += 2 * level * before + slope * (before + u128::from(step.true_positives));
        self.false_positives = step.false_positives;
        self.true_positives = step.true_positives;
    }

    pub(super) fn finish(&self, ranking: &Ranking) -> Option<f64> {
        let (normal, anomalous) = (ranking.normal_count(), ranking.anomalous_count());
        if normal == 0 || anomalous == 0 {
            return None;
        }
        let rest = 2 * u128::from(normal - self.false_positives) * u128::from(anomalous);
        Some((self.twice + rest) as f64 / (2 * u128::from(normal) * u128::from(anomalous)) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separated_classes_give_one_and_swapped_zero() {
        let scores = [0.0, 1.0, 2.0, 3.0];
        let labels = [false, false, true, true];
        assert_eq!(auroc(&scores, &labels).expect("valid"), Some(1.0));
        assert_eq!(
            auroc(&scores, &labels.map(|l| !l)).expect("valid"),
            Some(0.0)
        );
    }

    #[test]
    fn equal_scores_give_one_half() {
        let labels = [true, false, false];
        assert_eq!(
            auroc(&[-0.0, 0.0, -0.0], &labels).expect("valid"),
            Some(0.5)
        );
        assert_eq!(
            auroc(&[f32::NEG_INFINITY; 3], &labels).expect("valid"),
            Some(0.5)
        );
    }

    #[test]
    fn one_class_is_undefined() {
        for labels in [[true; 2], [false; 2]] {
            assert_eq!(auroc(&[1.0, 2.0], &labels).expect("valid"), None);
        }
        assert_eq!(auroc(&[], &[]).expect("valid"), None);
    }

    #[test]
    fn nan_and_unequal_lengths_are_errors() {
        let nan = auroc(&[1.0, f32::NAN], &[true, false]).expect_err("NaN");
        assert!(nan.to_string().contains("score 1 is NaN"), "{nan}");
        let lengths = auroc(&[1.0], &[true, false]).expect_err("lengths");
        assert!(
            lengths.to_string().contains("1 scores with 2 labels"),
            "{lengths}"
        );
    }
}
