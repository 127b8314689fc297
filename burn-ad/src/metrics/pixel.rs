//! All pixel metrics from one sort.

use serde::{Deserialize, Serialize};

use super::aupro::{ProArea, check_limit};
use super::auroc::RocArea;
use super::precision_recall::{BestF1, F1Search, PrecisionSum};
use super::ranking::{Ranking, anomalous_item, rank_key};
use super::regions::regions;
use super::score_map::ScoreMap;
use crate::error::{Error, Result};

/// Localisation metrics over the pixels of all maps together; `None` where undefined.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PixelMetrics {
    /// See [`auroc`](super::auroc()).
    pub auroc: Option<f64>,
    /// See [`average_precision`](super::average_precision).
    pub average_precision: Option<f64>,
    /// See [`best_f1`](super::best_f1).
    pub best_f1: Option<BestF1>,
    /// See [`aupro`](super::aupro()).
    pub aupro: Option<f64>,
}

/// Computes all localisation metrics; `limit` is the false-positive rate at which AUPRO stops (the papers use 0.3).
///
/// Needs 5 to 8 bytes of memory per normal pixel, by the number of threads, and 16 per anomalous one.
///
/// # Errors
/// A limit outside `(0, 1]`, slices that do not fit their map, or a NaN score on a pixel that counts.
///
/// ```
/// # use burn_ad::metrics::{ScoreMap, pixel_metrics};
/// let scores = [0.1, 0.2, 0.9, 0.3];
/// let mask = [false, false, true, false];
/// let map = ScoreMap { scores: &scores, mask: &mask, valid: None, height: 2, width: 2 };
/// let metrics = pixel_metrics(&[map], 0.3)?;
/// assert_eq!((metrics.auroc, metrics.aupro), (Some(1.0), Some(1.0)));
/// # Ok::<(), burn_ad::Error>(())
/// ```
pub fn pixel_metrics(maps: &[ScoreMap<'_>], limit: f64) -> Result<PixelMetrics> {
    check_limit(limit)?;
    let ranked = RankedMaps::new(maps)?;
    let ranking = &ranked.ranking;
    let (mut roc, mut precision, mut f1) = <(RocArea, PrecisionSum, F1Search)>::default();
    let mut pro = ProArea::new(limit, &ranked);
    for step in ranking.steps() {
        roc.add(&step);
        precision.add(&step);
        f1.add(&step, ranking);
        pro.add(&step);
    }
    Ok(PixelMetrics {
        auroc: roc.finish(ranking),
        average_precision: precision.finish(ranking),
        best_f1: f1.finish(ranking),
        aupro: pro.finish(),
    })
}

/// The pixels of all maps in one ranking, anomalous ones with their region.
pub(super) struct RankedMaps {
    pub(super) ranking: Ranking,
    /// One over its pixel count, for each region.
    pub(super) region_weights: Vec<f64>,
}

impl RankedMaps {
    pub(super) fn new(maps: &[ScoreMap<'_>]) -> Result<Self> {
        // Counting first keeps a growing vector from holding two copies of millions of pixels.
        let (mut counted, mut anomalous_count) = (0, 0);
        for (index, map) in maps.iter().enumerate() {
            map.check(index)?;
            counted += map.valid.map_or(map.scores.len(), count_true);
            anomalous_count += match map.valid {
                None => count_true(map.mask),
                Some(valid) => (map.mask.iter().zip(valid))
                    .filter(|&(m, v)| *m & *v)
                    .count(),
            };
        }
        let mut normal = Vec::with_capacity(counted - anomalous_count);
        let mut anomalous = Vec::with_capacity(anomalous_count);
        let mut region_weights = Vec::new();
        for map in maps {
            let first_region = region_weights.len();
            let found = regions(map);
            region_weights.extend(found.sizes.iter().map(|&size| 1.0 / size as f64));
            if u32::try_from(region_weights.len()).is_err() {
                return Err(Error::data("the masks have more than 2^32 regions"));
            }
            let mut pixel = 0;
            for run in &found.runs {
                push_normal(map, pixel..run.pixels.start, &mut normal);
                let region = (first_region + run.region) as u32; // checked above
                let scores = &map.scores[run.pixels.clone()];
                anomalous.extend(scores.iter().map(|&score| anomalous_item(score, region)));
                pixel = run.pixels.end;
            }
            push_normal(map, pixel..map.scores.len(), &mut normal);
        }
        Ok(Self {
            ranking: Ranking::new(normal, anomalous),
            region_weights,
        })
    }
}

fn count_true(flags: &[bool]) -> usize {
    flags.iter().filter(|&&flag| flag).count()
}

/// Appends the keys of pixels that are not anomalous, leaving out those that do not count.
fn push_normal(map: &ScoreMap<'_>, pixels: std::ops::Range<usize>, keys: &mut Vec<u32>) {
    let scores = &map.scores[pixels.clone()];
    match map.valid {
        None => keys.extend(scores.iter().map(|&score| rank_key(score))),
        Some(valid) => keys.extend(
            (scores.iter().zip(&valid[pixels]))
                .filter(|&(_, &counts)| counts)
                .map(|(&score, _)| rank_key(score)),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_that_do_not_count_change_nothing() {
        // The same 2 x 2 picture alone, and inside a frame that would spoil every metric.
        let small = ScoreMap {
            scores: &[0.4, 0.1, 0.6, 0.5],
            mask: &[true, false, true, false],
            valid: None,
            height: 2,
            width: 2,
        };
        let framed = ScoreMap {
            scores: &[9.0, 0.4, 0.1, f32::NAN, 0.6, 0.5],
            mask: &[false, true, false, true, true, false],
            valid: Some(&[false, true, true, false, true, true]),
            height: 2,
            width: 3,
        };
        let expected = pixel_metrics(&[small], 0.5).expect("valid");
        assert!(
            expected
                .aupro
                .is_some_and(|aupro| aupro > 0.0 && aupro < 1.0)
        );
        assert_eq!(pixel_metrics(&[framed], 0.5).expect("valid"), expected);
    }

    #[test]
    fn the_bad_map_is_named() {
        let good = ScoreMap {
            scores: &[1.0],
            mask: &[true],
            valid: None,
            height: 1,
            width: 1,
        };
        let bad = ScoreMap {
            scores: &[f32::NAN],
            ..good
        };
        let error = pixel_metrics(&[good, bad], 0.3)
            .expect_err("NaN")
            .to_string();
        assert!(error.contains("anomaly map 1"), "{error}");
    }
}
