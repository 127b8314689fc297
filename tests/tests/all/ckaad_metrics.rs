//! CKAAD's metrics against its protocol in Python; `reference/ckaad.py` made the fixture.
#![allow(clippy::unwrap_used)]

use burn_ad::metrics::{
    ScoreMap, ThresholdGrid, accuracy_at, auroc, best_f1, mean_image_aupro_sampled,
};
use serde::Deserialize;

/// The fixture has nine digits.
const TOLERANCE: f64 = 1e-8;

#[derive(Deserialize)]
struct Fixture {
    labelled: Vec<Labelled>,
    pro: Pro,
}

#[derive(Deserialize)]
struct Labelled {
    scores: Vec<f32>,
    labels: Vec<u8>,
    auroc: f64,
    best_f1: f64,
    highest: End,
    lowest: End,
}

/// One of the thresholds that share the best F1.
#[derive(Deserialize)]
struct End {
    threshold: f32,
    accuracy: f64,
}

#[derive(Deserialize)]
struct Pro {
    side: usize,
    scores: Vec<f32>,
    /// `0` and `1`, row by row.
    masks: Vec<String>,
    values: Vec<Option<f64>>,
    mean: f64,
}

fn fixture() -> Fixture {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/ckaad/metrics.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn auroc_best_f1_and_accuracy_agree() {
    for (case, labelled) in fixture().labelled.into_iter().enumerate() {
        let labels: Vec<bool> = labelled.labels.iter().map(|&label| label != 0).collect();
        let scores = &labelled.scores;
        let best = best_f1(scores, &labels).unwrap().unwrap();
        let near = |found: f64, expected: f64| {
            assert!(
                (found - expected).abs() < TOLERANCE,
                "case {case}: {found}, not {expected}"
            );
        };
        near(auroc(scores, &labels).unwrap().unwrap(), labelled.auroc);
        near(best.f1, labelled.best_f1);
        // Of several the lowest, as the first maximum over scikit-learn's curve.
        assert_eq!(best.threshold, labelled.lowest.threshold, "case {case}");
        near(best.accuracy, labelled.lowest.accuracy);
        for end in [labelled.lowest, labelled.highest] {
            let accuracy = accuracy_at(scores, &labels, end.threshold);
            near(accuracy.unwrap().unwrap(), end.accuracy);
        }
    }
}

#[test]
fn the_published_pro_is_the_mean_over_images() {
    let pro = fixture().pro;
    let pixels = pro.side * pro.side;
    let masks: Vec<Vec<bool>> = pro
        .masks
        .iter()
        .map(|mask| mask.chars().map(|pixel| pixel == '1').collect())
        .collect();
    let maps: Vec<ScoreMap<'_>> = pro
        .scores
        .chunks_exact(pixels)
        .zip(&masks)
        .map(|(scores, mask)| ScoreMap {
            scores,
            mask,
            valid: None,
            height: pro.side,
            width: pro.side,
        })
        .collect();
    assert_eq!(maps.len(), pro.values.len());
    let mean =
        |maps: &[ScoreMap<'_>]| mean_image_aupro_sampled(maps, 0.3, ThresholdGrid::CKAAD).unwrap();
    for (map, expected) in maps.iter().zip(&pro.values) {
        match (mean(std::slice::from_ref(map)), expected) {
            (Some(found), Some(expected)) => assert!(
                (found - expected).abs() < TOLERANCE,
                "{found}, not {expected}"
            ),
            (found, expected) => assert_eq!(found, *expected),
        }
    }
    let found = mean(&maps).unwrap();
    assert!(
        (found - pro.mean).abs() < TOLERANCE,
        "{found}, not {}",
        pro.mean
    );
}
