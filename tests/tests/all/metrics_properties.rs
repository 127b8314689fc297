//! What must hold for every input of the metrics.
#![allow(clippy::unwrap_used)]

use burn_ad::metrics::{ScoreMap, aupro, auroc, average_precision, best_f1, pixel_metrics};
use proptest::prelude::*;

/// Scores on few levels (ties) or on many, with labels.
fn labelled() -> impl Strategy<Value = (Vec<f32>, Vec<bool>)> {
    let score = (1_i32..2000).prop_flat_map(|levels| -levels..=levels);
    prop::collection::vec((score.prop_map(|s| s as f32), any::<bool>()), 2..200)
        .prop_map(|items| items.into_iter().unzip())
}

#[derive(Clone, Debug)]
struct Maps {
    height: usize,
    width: usize,
    maps: Vec<(Vec<f32>, Vec<bool>, Vec<bool>)>,
}

impl Maps {
    fn views(&self) -> Vec<ScoreMap<'_>> {
        self.maps
            .iter()
            .map(|(scores, mask, valid)| ScoreMap {
                scores,
                mask,
                valid: Some(valid),
                height: self.height,
                width: self.width,
            })
            .collect()
    }
}

fn maps() -> impl Strategy<Value = Maps> {
    (1_usize..9, 1_usize..9, 1_usize..4).prop_flat_map(|(height, width, count)| {
        let size = height * width;
        let map = (
            prop::collection::vec((0_i32..12).prop_map(|s| s as f32), size),
            prop::collection::vec(prop::bool::weighted(0.3), size),
            prop::collection::vec(prop::bool::weighted(0.9), size),
        );
        prop::collection::vec(map, count).prop_map(move |maps| Maps {
            height,
            width,
            maps,
        })
    })
}

proptest! {
    #[test]
    fn auroc_sees_the_order_only((scores, labels) in labelled()) {
        let bent: Vec<f32> = scores.iter().map(|s| (s / 500.0).exp() * 3.0 - 40.0).collect();
        prop_assert_eq!(auroc(&bent, &labels).unwrap(), auroc(&scores, &labels).unwrap());
    }

    #[test]
    fn auroc_of_flipped_labels_is_the_complement((scores, labels) in labelled()) {
        let flipped: Vec<bool> = labels.iter().map(|l| !l).collect();
        let (a, b) = (auroc(&scores, &labels).unwrap(), auroc(&scores, &flipped).unwrap());
        prop_assert_eq!(a.is_some(), b.is_some());
        if let (Some(a), Some(b)) = (a, b) {
            prop_assert!((a + b - 1.0).abs() < 1e-15);
        }
    }

    #[test]
    fn auroc_is_the_share_of_ordered_pairs((scores, labels) in labelled()) {
        let (mut won, mut pairs) = (0.0, 0.0);
        for (high, _) in scores.iter().zip(&labels).filter(|(_, l)| **l) {
            for (low, _) in scores.iter().zip(&labels).filter(|(_, l)| !**l) {
                pairs += 1.0;
                won += if high > low { 1.0 } else if high == low { 0.5 } else { 0.0 };
            }
        }
        match auroc(&scores, &labels).unwrap() {
            Some(value) => prop_assert!((value - won / pairs).abs() < 1e-15),
            None => prop_assert_eq!(pairs, 0.0),
        }
    }

    #[test]
    fn no_threshold_beats_the_best_f1((scores, labels) in labelled()) {
        let best = best_f1(&scores, &labels).unwrap();
        for threshold in &scores {
            let count = |anomalous: bool, label: bool| {
                scores.iter().zip(&labels).filter(|&(s, &l)| (s >= threshold) == anomalous && l == label).count() as f64
            };
            let (hits, alarms, misses) = (count(true, true), count(true, false), count(false, true));
            if hits + misses == 0.0 {
                prop_assert!(best.is_none());
                continue;
            }
            let f1 = 2.0 * hits / (2.0 * hits + alarms + misses);
            let best = best.unwrap();
            prop_assert!(f1 <= best.f1 + 1e-15);
            if *threshold == best.threshold {
                prop_assert!((f1 - best.f1).abs() < 1e-15);
                let accuracy = (hits + count(false, false)) / scores.len() as f64;
                prop_assert!((accuracy - best.accuracy).abs() < 1e-15);
            }
        }
    }

    #[test]
    fn pixel_metrics_equal_the_plain_functions_on_flat_pixels(maps in maps()) {
        let (scores, labels): (Vec<f32>, Vec<bool>) = maps.maps.iter()
            .flat_map(|(s, m, v)| s.iter().zip(m).zip(v).filter(|(_, v)| **v).map(|((s, m), _)| (*s, *m)))
            .unzip();
        let together = pixel_metrics(&maps.views(), 0.3).unwrap();
        prop_assert_eq!(together.auroc, auroc(&scores, &labels).unwrap());
        prop_assert_eq!(together.average_precision, average_precision(&scores, &labels).unwrap());
        prop_assert_eq!(together.best_f1, best_f1(&scores, &labels).unwrap());
        prop_assert_eq!(together.aupro, aupro(&maps.views(), 0.3).unwrap());
    }

    #[test]
    fn perfect_maps_reach_one_and_inverted_maps_zero(mut maps in maps(), limit in 0.01_f64..=1.0) {
        for sign in [1.0, -1.0] {
            for (scores, mask, _) in &mut maps.maps {
                *scores = mask.iter().map(|m| sign * f32::from(u8::from(*m))).collect();
            }
            if let Some(value) = aupro(&maps.views(), limit).unwrap() {
                prop_assert!((value - f64::from(sign.max(0.0))).abs() < 1e-12, "{value} for {sign}");
            }
        }
    }

    #[test]
    fn aupro_ignores_the_order_of_maps(maps in maps()) {
        let mut turned = maps.clone();
        turned.maps.reverse();
        match (aupro(&maps.views(), 0.3).unwrap(), aupro(&turned.views(), 0.3).unwrap()) {
            (Some(a), Some(b)) => prop_assert!((a - b).abs() < 1e-12),
            (a, b) => prop_assert_eq!(a, b),
        }
    }
}
