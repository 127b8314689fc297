//! AUPRO as the published code bases compute it, for comparing with their tables only.

use rayon::prelude::*;

use super::aupro::check_limit;
use super::pixel::RankedMaps;
use super::ranking::Counter;
use super::score_map::ScoreMap;
use crate::error::{Error, Result};

/// Equally spaced thresholds between the lowest and the highest score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThresholdGrid {
    /// `lowest + i * (highest - lowest) / count`, `i < count`; keeps false-positive rates below the limit.
    UpFromLowest(usize),
    /// `highest - i * (highest - lowest) / count`, `i < count`; keeps false-positive rates up to the limit.
    DownFromHighest(usize),
}

impl ThresholdGrid {
    /// The loop of CKAAD's published code.
    pub const CKAAD: Self = Self::UpFromLowest(200);
    /// The loop of BGAD's published code.
    // Differs from the published code: holes of a region are not filled, which there lets an overlap exceed 1.
    pub const BGAD: Self = Self::DownFromHighest(1000);
}

/// AUPRO at sampled thresholds: predictions are `score > threshold`, points of the curve beyond `limit` are dropped, and
/// the false-positive rate is divided by the largest one left (not by `limit`) before the trapezoid rule.
/// Biased by the spacing of the thresholds; use [`aupro`](super::aupro()) for anything but comparison.
///
/// `None` where the published code fails: no region, no normal pixel, fewer than two points or no false positive left.
///
/// # Errors
/// As [`aupro`](super::aupro()); also infinite scores and a grid of no thresholds.
pub fn aupro_sampled(
    maps: &[ScoreMap<'_>],
    limit: f64,
    grid: ThresholdGrid,
) -> Result<Option<f64>> {
    check_limit(limit)?;
    let ranked = RankedMaps::new(maps)?;
    let (ThresholdGrid::UpFromLowest(count) | ThresholdGrid::DownFromHighest(count)) = grid;
    if count == 0 {
        return Err(Error::usage("a sampled AUPRO needs at least one threshold"));
    }
    let Some((low, high)) = ranked.ranking.score_range() else {
        return Ok(None);
    };
    let (low, high) = (f64::from(low), f64::from(high));
    if !low.is_finite() || !high.is_finite() {
        return Err(Error::numeric("a sampled AUPRO needs finite scores")
            .help("use the exact AUPRO, which takes infinite scores"));
    }
    let (regions, normal) = (ranked.region_weights.len(), ranked.ranking.normal_count());
    if regions == 0 || normal == 0 {
        return Ok(None);
    }
    let spacing = (high - low) / count as f64;
    let mut points = Vec::with_capacity(count);
    let mut sweep = Sweep::new(&ranked);
    for step in 0..count {
        // Both grids are walked from the highest threshold down, as the ranking goes.
        let (threshold, is_kept): (_, fn(f64, f64) -> bool) = match grid {
            ThresholdGrid::UpFromLowest(_) => {
                (low + (count - 1 - step) as f64 * spacing, |fpr, limit| {
                    fpr < limit
                })
            }
            ThresholdGrid::DownFromHighest(_) => {
                (high - step as f64 * spacing, |fpr, limit| fpr <= limit)
            }
        };
        let (false_positives, overlap) = sweep.above(threshold);
        let rate = false_positives as f64 / normal as f64;
        if is_kept(rate, limit) {
            points.push((rate, overlap / regions as f64));
        }
    }
    Ok(rescaled_area(&points))
}

/// The mean over anomalous images of each image's own [`aupro_sampled`]: the "PRO" of CKAAD's published code.
/// Images on which it is undefined are left out; `None` if none is left.
///
/// # Errors
/// As [`aupro_sampled`].
pub fn mean_image_aupro_sampled(
    maps: &[ScoreMap<'_>],
    limit: f64,
    grid: ThresholdGrid,
) -> Result<Option<f64>> {
    let images = maps.par_iter().enumerate().map(|(index, map)| {
        map.check(index)?;
        aupro_sampled(std::slice::from_ref(map), limit, grid)
    });
    // Summed in the order of the maps, whichever was done first.
    let values: Vec<Option<f64>> = images.collect::<Result<_>>()?;
    let values: Vec<f64> = values.into_iter().flatten().collect();
    Ok((!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64))
}

/// Trapezoid area over rates divided by the largest one; points ordered by rising rate.
fn rescaled_area(points: &[(f64, f64)]) -> Option<f64> {
    let &(last, _) = points
        .last()
        .filter(|&&(rate, _)| points.len() > 1 && rate > 0.0)?;
    let area: f64 = points
        .windows(2)
        .map(|pair| (pair[1].0 - pair[0].0) * (pair[0].1 + pair[1].1) / 2.0)
        .sum();
    Some(area / last)
}

/// What lies above a falling threshold.
struct Sweep<'a> {
    ranked: &'a RankedMaps,
    normal: Counter<'a>,
    anomalous: usize,
    overlap: f64,
}

impl<'a> Sweep<'a> {
    fn new(ranked: &'a RankedMaps) -> Self {
        Self {
            ranked,
            normal: ranked.ranking.normal_counter(),
            anomalous: 0,
            overlap: 0.0,
        }
    }

    /// False positives and summed overlap of `score > threshold`; thresholds must not rise from call to call.
    fn above(&mut self, threshold: f64) -> (u64, f64) {
        let normal = self.normal.count_above(threshold);
        let items = self
            .ranked
            .ranking
            .anomalous_from(self.anomalous)
            .take_while(|&(s, _)| f64::from(s) > threshold);
        for (_, region) in items {
            self.overlap += self.ranked.region_weights[region];
            self.anomalous += 1;
        }
        (normal, self.overlap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: ScoreMap<'static> = ScoreMap {
        scores: &[4.0, 0.0, 3.0, 2.0, 1.0],
        mask: &[true, false, false, true, false],
        valid: None,
        height: 1,
        width: 5,
    };

    #[test]
    fn points_past_the_limit_are_dropped_and_the_rest_rescaled() {
        // Thresholds 3, 2, 1, 0: overlaps 1/2, 1/2, 1, 1 at rates 0, 1/3, 1/3, 2/3.
        let up = ThresholdGrid::UpFromLowest(4);
        let all = aupro_sampled(&[MAP], 1.0, up).expect("valid");
        assert!((all.expect("defined") - 0.75).abs() < 1e-15);
        let cut = aupro_sampled(&[MAP], 0.5, up).expect("valid");
        assert!((cut.expect("defined") - 0.5).abs() < 1e-15);
    }

    #[test]
    fn grids_differ_in_their_ends() {
        // Thresholds 4, 3, 2, 1: overlaps 0, 1/2, 1/2, 1 at rates 0, 0, 1/3, 1/3.
        let down = aupro_sampled(&[MAP], 1.0, ThresholdGrid::DownFromHighest(4)).expect("valid");
        assert!((down.expect("defined") - 0.5).abs() < 1e-15);
        // A rate equal to the limit is kept only by the grid that comes down.
        let third = 1.0 / 3.0;
        let kept = aupro_sampled(&[MAP], third, ThresholdGrid::DownFromHighest(4)).expect("valid");
        assert!(kept.is_some());
        let dropped = aupro_sampled(&[MAP], third, ThresholdGrid::UpFromLowest(4)).expect("valid");
        assert_eq!(dropped, None);
    }

    #[test]
    fn undefined_or_impossible_input_gives_no_number() {
        let normal = ScoreMap {
            mask: &[false; 5],
            ..MAP
        };
        let constant = ScoreMap {
            scores: &[1.0; 5],
            ..MAP
        };
        for maps in [&[][..], &[normal], &[constant]] {
            assert_eq!(
                aupro_sampled(maps, 0.3, ThresholdGrid::CKAAD).expect("valid"),
                None
            );
            assert_eq!(
                mean_image_aupro_sampled(maps, 0.3, ThresholdGrid::BGAD).expect("valid"),
                None
            );
        }
        let infinite = ScoreMap {
            scores: &[f32::INFINITY, 0.0, 0.0, 0.0, 0.0],
            ..MAP
        };
        assert!(aupro_sampled(&[infinite], 0.3, ThresholdGrid::CKAAD).is_err());
        assert!(aupro_sampled(&[MAP], 0.3, ThresholdGrid::UpFromLowest(0)).is_err());
    }
}
