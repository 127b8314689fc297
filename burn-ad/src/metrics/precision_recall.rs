//! Average precision, best F1 and accuracy.

use serde::{Deserialize, Serialize};

use super::ranking::{Ranking, Step, check_labelled};
use crate::error::{Error, Result};

/// Average precision, the sum over thresholds of precision times gained recall, as scikit-learn's
/// `average_precision_score` (no interpolation). `None` without an anomalous item.
///
/// # Errors
/// Slices of different lengths, or a NaN score.
pub fn average_precision(scores: &[f32], labels: &[bool]) -> Result<Option<f64>> {
    let ranking = Ranking::of_labels(scores, labels)?;
    let mut sum = PrecisionSum::default();
    ranking.steps().for_each(|step| sum.add(&step));
    Ok(sum.finish(&ranking))
}

/// The threshold with the highest F1 score, and what is reached there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BestF1 {
    /// Harmonic mean of precision and recall, in `[0, 1]`.
    pub f1: f64,
    /// The threshold, one of the scores: `score >= threshold` is predicted anomalous.
    pub threshold: f32,
    /// Share of the predicted anomalous items that are anomalous.
    pub precision: f64,
    /// Share of the anomalous items that are predicted anomalous.
    pub recall: f64,
    /// Share of all items that are predicted correctly.
    pub accuracy: f64,
}

/// The highest F1 score over all thresholds (CKAAD's protocol), the lowest such threshold if several reach it, as the
/// first maximum over scikit-learn's `precision_recall_curve`. `None` without an anomalous item.
///
/// # Errors
/// Slices of different lengths, or a NaN score.
pub fn best_f1(scores: &[f32], labels: &[bool]) -> Result<Option<BestF1>> {
    let ranking = Ranking::of_labels(scores, labels)?;
    let mut best = F1Search::default();
    ranking.steps().for_each(|step| best.add(&step, &ranking));
    Ok(best.finish(&ranking))
}

/// Share of the items predicted correctly when `score >= threshold` is anomalous. `None` without items.
///
/// # Errors
/// Slices of different lengths, a NaN score or a NaN threshold.
pub fn accuracy_at(scores: &[f32], labels: &[bool], threshold: f32) -> Result<Option<f64>> {
    check_labelled(scores, labels)?;
    if threshold.is_nan() {
        return Err(Error::usage("the threshold of an accuracy is NaN"));
    }
    let correct = (scores.iter().zip(labels))
        .filter(|&(&score, &label)| (score >= threshold) == label)
        .count();
    Ok((!scores.is_empty()).then(|| correct as f64 / scores.len() as f64))
}

/// Precision summed over the anomalous items so far.
#[derive(Default)]
pub(super) struct PrecisionSum {
    sum: f64,
    true_positives: u64,
}

impl PrecisionSum {
    pub(super) fn add(&mut self, step: &Step<'_>) {
        let gained = (step.true_positives - self.true_positives) as f64;
        let predicted = (step.true_positives + step.false_positives) as f64;
        self.sum += gained * (step.true_positives as f64 / predicted);
        self.true_positives = step.true_positives;
    }

    pub(super) fn finish(&self, ranking: &Ranking) -> Option<f64> {
        let anomalous = ranking.anomalous_count();
        (anomalous > 0).then(|| self.sum / anomalous as f64)
    }
}

/// The best threshold so far. Only scores of anomalous items can be best: lowering the threshold past normal items
/// alone adds nothing but false positives.
#[derive(Default)]
pub(super) struct F1Search {
    best: Option<Counts>,
}

#[derive(Clone, Copy)]
struct Counts {
    threshold: f32,
    true_positives: u64,
    false_positives: u64,
}

impl Counts {
    fn predicted(&self) -> u64 {
        self.true_positives + self.false_positives
    }
}

impl F1Search {
    pub(super) fn add(&mut self, step: &Step<'_>, ranking: &Ranking) {
        let new = Counts {
            threshold: step.score,
            true_positives: step.true_positives,
            false_positives: step.false_positives,
        };
        // F1 = 2 tp / (anomalous + predicted), compared as fractions so that exact ties are seen as ties.
        let half_f1_denominator =
            |counts: &Counts| u128::from(ranking.anomalous_count() + counts.predicted());
        let is_better = self.best.is_none_or(|best| {
            u128::from(new.true_positives) * half_f1_denominator(&best)
                >= u128::from(best.true_positives) * half_f1_denominator(&new)
        });
        if is_better {
            self.best = Some(new);
        }
    }

    pub(super) fn finish(&self, ranking: &Ranking) -> Option<BestF1> {
        let best = self.best?;
        let (normal, anomalous) = (ranking.normal_count(), ranking.anomalous_count());
        let hits = best.true_positives as f64;
        let correct = best.true_positives + (normal - best.false_positives);
        Some(BestF1 {
            f1: 2.0 * hits / (anomalous + best.predicted()) as f64,
            threshold: best.threshold,
            precision: hits / best.predicted() as f64,
            recall: hits / anomalous as f64,
            accuracy: correct as f64 / (normal + anomalous) as f64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn average_precision_weighs_precision_by_gained_recall() {
        let scores = [0.9, 0.8, 0.8, 0.7];
        let labels = [true, false, true, true];
        let expected = (1.0 + 2.0 / 3.0 + 3.0 / 4.0) / 3.0;
        let value = average_precision(&scores, &labels).expect("valid");
        assert!((value.expect("anomalous items") - expected).abs() < 1e-15);
    }

    #[test]
    fn best_f1_tells_threshold_and_what_it_gives() {
        let best = best_f1(&[0.1, 0.9, 0.3, 0.8], &[false, true, false, true]).expect("valid");
        let expected = BestF1 {
            f1: 1.0,
            threshold: 0.8,
            precision: 1.0,
            recall: 1.0,
            accuracy: 1.0,
        };
        assert_eq!(best, Some(expected));
    }

    #[test]
    fn equal_f1_takes_the_lowest_threshold() {
        // tp/(anomalous + predicted) is 1/3 at 4.0 and 2/6 at 1.0.
        let best = best_f1(&[4.0, 3.0, 2.0, 1.0], &[true, false, false, true]).expect("valid");
        let best = best.expect("anomalous items");
        assert_eq!(
            (best.threshold, best.recall, best.accuracy),
            (1.0, 1.0, 0.5)
        );
    }

    #[test]
    fn without_anomalous_items_nothing_is_defined() {
        assert_eq!(best_f1(&[1.0], &[false]).expect("valid"), None);
        assert_eq!(average_precision(&[1.0], &[false]).expect("valid"), None);
    }

    #[test]
    fn accuracy_counts_a_score_on_the_threshold_as_anomalous() {
        let (scores, labels) = ([0.5, 0.4, 0.6], [true, false, false]);
        assert_eq!(
            accuracy_at(&scores, &labels, 0.5).expect("valid"),
            Some(2.0 / 3.0)
        );
        assert_eq!(accuracy_at(&[], &[], 0.5).expect("valid"), None);
        assert!(accuracy_at(&scores, &labels, f32::NAN).is_err());
        assert!(accuracy_at(&scores, &labels[..2], 0.5).is_err());
    }
}
