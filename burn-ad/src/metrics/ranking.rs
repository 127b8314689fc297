//! The one sort that every curve is read from.
//!
//! Normal and anomalous scores are sorted apart, as integers: most pixels are normal and need nothing but their
//! 4-byte key, and a curve only turns where there are anomalous scores. Curves need to know how many normal scores
//! lie above a threshold, not which: so these are sorted in a few parts, side by side, and never merged.

use rayon::prelude::*;

use crate::error::{Error, Result};

/// Scores of normal and anomalous items, each from highest to lowest.
pub(super) struct Ranking {
    /// [`rank_key`] of every normal score; each part of `part` keys ascending (highest score first).
    normal: Vec<u32>,
    part: usize,
    /// `rank_key << 32 | region` of every anomalous score, ascending by key.
    anomalous: Vec<u64>,
}

/// All anomalous items of one score, with the normal items met on the way down to it.
pub(super) struct Step<'a> {
    /// The threshold: items with this score and above are predicted anomalous.
    pub(super) score: f32,
    /// Normal items with a higher score.
    pub(super) normal_above: u64,
    /// Normal items with this score or a higher one: the false positives.
    pub(super) false_positives: u64,
    /// Anomalous items with this score or a higher one.
    pub(super) true_positives: u64,
    /// The anomalous items of this score; see [`Step::regions`].
    tied: &'a [u64],
}

impl Step<'_> {
    /// The region of every anomalous item with exactly this score.
    pub(super) fn regions(&self) -> impl Iterator<Item = usize> {
        self.tied.iter().map(|&item| (item as u32) as usize)
    }
}

impl Ranking {
    /// Sorts keys of normal scores, and [`anomalous_item`]s.
    pub(super) fn new(mut normal: Vec<u32>, mut anomalous: Vec<u64>) -> Self {
        let part = normal.len().div_ceil(PARTS).max(SMALLEST_PART);
        normal
            .par_chunks_mut(part)
            .for_each_init(Vec::new, |scratch, keys| {
                radix_sort(keys, scratch, |key| key)
            });
        radix_sort(&mut anomalous, &mut Vec::new(), |item| (item >> 32) as u32);
        Self {
            normal,
            part,
            anomalous,
        }
    }

    /// Ranks labelled scores; all anomalous items belong to region 0.
    pub(super) fn of_labels(scores: &[f32], labels: &[bool]) -> Result<Self> {
        check_labelled(scores, labels)?;
        let (mut normal, mut anomalous) = (Vec::new(), Vec::new());
        for (&score, &label) in scores.iter().zip(labels) {
            if label {
                anomalous.push(anomalous_item(score, 0));
            } else {
                normal.push(rank_key(score));
            }
        }
        Ok(Self::new(normal, anomalous))
    }

    pub(super) fn normal_count(&self) -> u64 {
        self.normal.len() as u64
    }

    pub(super) fn anomalous_count(&self) -> u64 {
        self.anomalous.len() as u64
    }

    /// The lowest and the highest score, if there is any.
    pub(super) fn score_range(&self) -> Option<(f32, f32)> {
        let parts = self.normal.chunks(self.part);
        let normal = parts.filter_map(|keys| Some([*keys.first()?, *keys.last()?]));
        let anomalous = self.anomalous.first().zip(self.anomalous.last());
        let keys =
            normal.chain(anomalous.map(|(&high, &low)| [(high >> 32) as u32, (low >> 32) as u32]));
        let [high, low] = keys.reduce(|a, b| [a[0].min(b[0]), a[1].max(b[1])])?;
        Some((score_of(low), score_of(high)))
    }

    /// Counts normal scores from the highest down.
    pub(super) fn normal_counter(&self) -> Counter<'_> {
        Counter {
            parts: self.normal.chunks(self.part).collect(),
            counted: 0,
        }
    }

    /// Anomalous scores with their regions from the highest down, without the first `skipped`.
    pub(super) fn anomalous_from(&self, skipped: usize) -> impl Iterator<Item = (f32, usize)> {
        let items = self.anomalous[skipped..].iter();
        items.map(|&item| (score_of((item >> 32) as u32), (item as u32) as usize))
    }

    /// Every distinct anomalous score from the highest down. Thresholds that only normal items have are not listed:
    /// true positives do not change there.
    pub(super) fn steps(&self) -> impl Iterator<Item = Step<'_>> {
        let (mut normal, mut anomalous_at) = (self.normal_counter(), 0);
        std::iter::from_fn(move || {
            let key = (*self.anomalous.get(anomalous_at)? >> 32) as u32;
            let normal_above = normal.count_while(|k| k < key);
            let false_positives = normal.count_while(|k| k == key);
            let tied = run_length(&self.anomalous[anomalous_at..], |&item| {
                (item >> 32) as u32 == key
            });
            let first = anomalous_at;
            anomalous_at += tied;
            Some(Step {
                score: score_of(key),
                normal_above,
                false_positives,
                true_positives: anomalous_at as u64,
                tied: &self.anomalous[first..anomalous_at],
            })
        })
    }
}

/// How many normal scores have been passed on the way down.
pub(super) struct Counter<'a> {
    /// What is left of each part.
    parts: Vec<&'a [u32]>,
    counted: u64,
}

impl Counter<'_> {
    /// Passes the next scores above `threshold`, and counts all that have been passed.
    pub(super) fn count_above(&mut self, threshold: f64) -> u64 {
        self.count_while(|key| f64::from(score_of(key)) > threshold)
    }

    /// `holds` must hold for no key after one for which it does not.
    fn count_while(&mut self, holds: impl Fn(u32) -> bool) -> u64 {
        for part in &mut self.parts {
            let passed = run_length(part, |&key| holds(key));
            *part = &part[passed..];
            self.counted += passed as u64;
        }
        self.counted
    }
}

/// Refuses slices of different lengths and NaN scores.
pub(super) fn check_labelled(scores: &[f32], labels: &[bool]) -> Result<()> {
    if scores.len() != labels.len() {
        return Err(Error::data(format!(
            "{} scores with {} labels: every score needs one label",
            scores.len(),
            labels.len()
        )));
    }
    match scores.iter().position(|score| score.is_nan()) {
        Some(index) => Err(Error::numeric(format!("score {index} is NaN"))
            .help("a model with NaN scores is broken: look at its training loss and its inputs")),
        None => Ok(()),
    }
}

/// A key that is smaller for a higher score and equal for equal scores (`-0.0` included). Not for NaN.
pub(super) fn rank_key(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits(); // -0.0 + 0.0 is 0.0
    // IEEE 754 orders positive floats as their bits, and negative ones the other way round.
    if bits >> 31 == 0 {
        !bits & !(1 << 31)
    } else {
        bits
    }
}

/// The score of a [`rank_key`].
fn score_of(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 0 {
        !key & !(1 << 31)
    } else {
        key
    })
}

/// An anomalous score with its region, ready for [`Ranking::new`].
pub(super) fn anomalous_item(score: f32, region: u32) -> u64 {
    u64::from(rank_key(score)) << 32 | u64::from(region)
}

/// How many of the first items satisfy `holds`.
fn run_length<T>(items: &[T], holds: impl Fn(&T) -> bool) -> usize {
    items
        .iter()
        .position(|item| !holds(item))
        .unwrap_or(items.len())
}

/// Digits of the radix sort: three of 11 bits hold 32, and a histogram of 2048 counters stays in the first-level cache.
const DIGIT_BITS: u32 = 11;
const BUCKETS: usize = 1 << DIGIT_BITS;

/// Below this the histograms cost more than comparing.
const COMPARE_BELOW: usize = 4 * BUCKETS;

/// Parts that normal scores are sorted in. Every threshold looks into all of them, so a few.
const PARTS: usize = 4;

/// Fewer keys than this are not worth another thread.
const SMALLEST_PART: usize = 1 << 16;

/// Sorts by a 32-bit key, ascending: least significant digit first, with one scratch copy.
fn radix_sort<T: Copy + Default>(items: &mut [T], scratch: &mut Vec<T>, key: impl Fn(T) -> u32) {
    if items.len() < COMPARE_BELOW {
        items.sort_unstable_by_key(|&item| key(item));
        return;
    }
    let digit = |item: T, pass: usize| (key(item) >> (DIGIT_BITS * pass as u32)) as usize % BUCKETS;
    let mut histograms = [[0_usize; BUCKETS]; 3];
    for &item in items.iter() {
        for (pass, histogram) in histograms.iter_mut().enumerate() {
            histogram[digit(item, pass)] += 1;
        }
    }
    scratch.resize(items.len(), T::default());
    let (mut from, mut to) = (&mut *items, scratch.as_mut_slice());
    let mut moved = false;
    for (pass, histogram) in histograms.iter_mut().enumerate() {
        if histogram[digit(from[0], pass)] == from.len() {
            continue; // all items share this digit
        }
        let mut start = 0;
        for bucket in histogram.iter_mut() {
            start += std::mem::replace(bucket, start);
        }
        for &item in from.iter() {
            let place = &mut histogram[digit(item, pass)];
            to[*place] = item;
            *place += 1;
        }
        (from, to) = (to, from);
        moved = !moved;
    }
    if moved {
        to.copy_from_slice(from); // `to` is where the items came from
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDERED: [f32; 9] = [
        f32::INFINITY,
        f32::MAX,
        1.5,
        f32::MIN_POSITIVE,
        1e-45,
        0.0,
        -1e-45,
        -2.0,
        f32::NEG_INFINITY,
    ];

    #[test]
    fn keys_fall_as_scores_rise_and_give_the_score_back() {
        for pair in ORDERED.windows(2) {
            assert!(rank_key(pair[0]) < rank_key(pair[1]), "{pair:?}");
        }
        for score in ORDERED {
            assert_eq!(score_of(rank_key(score)).to_bits(), score.to_bits());
        }
        assert_eq!(rank_key(-0.0), rank_key(0.0));
    }

    #[test]
    fn radix_sort_orders_like_a_comparison() {
        let mut state = 1_u64;
        let mut draw = move |mask: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 20) & mask
        };
        // All digits, only the middle one, and a constant: the last two skip passes.
        for mask in [u64::from(u32::MAX), 0x003F_F800, 0] {
            let mut items: Vec<u64> = (0..3 * COMPARE_BELOW as u64)
                .map(|i| draw(mask) << 32 | i)
                .collect();
            let mut expected = items.clone();
            expected.sort_by_key(|&item| item >> 32);
            radix_sort(&mut items, &mut Vec::new(), |item| (item >> 32) as u32);
            assert_eq!(items, expected, "mask {mask:x}"); // the payload shows that equal keys keep their order
        }
    }

    #[test]
    fn parts_count_as_one() {
        // More keys than one part holds, with ties within and between parts.
        let count = 3 * SMALLEST_PART + 7;
        let scores: Vec<f32> = (0..count).map(|i| (i * 7919 % 1000) as f32).collect();
        let labels: Vec<bool> = (0..count).map(|i| i % 49_999 == 3).collect();
        let ranking = Ranking::of_labels(&scores, &labels).expect("valid input");
        let normal = |holds: &dyn Fn(f32) -> bool| {
            let all = scores.iter().zip(&labels);
            all.filter(|&(&score, &label)| !label && holds(score))
                .count() as u64
        };
        let mut steps = 0;
        for step in ranking.steps() {
            assert_eq!(step.normal_above, normal(&|score| score > step.score));
            assert_eq!(step.false_positives, normal(&|score| score >= step.score));
            steps += 1;
        }
        assert!(steps > 2);
        assert_eq!(ranking.score_range(), Some((0.0, 999.0)));
        let mut counter = ranking.normal_counter();
        for threshold in [998.5, 500.0, 500.0, -1.0] {
            let expected = normal(&|score| f64::from(score) > threshold);
            assert_eq!(counter.count_above(threshold), expected);
        }
    }

    #[test]
    fn steps_count_ties_once() {
        let scores = [3.0, 2.0, 2.0, 2.0, 1.0, 0.5];
        let labels = [false, true, false, true, false, true];
        let ranking = Ranking::of_labels(&scores, &labels).expect("valid input");
        let steps: Vec<_> = ranking
            .steps()
            .map(|s| {
                (
                    s.score,
                    s.normal_above,
                    s.false_positives,
                    s.true_positives,
                    s.regions().count(),
                )
            })
            .collect();
        assert_eq!(steps, [(2.0, 1, 2, 2, 2), (0.5, 3, 3, 3, 1)]);
        assert_eq!(ranking.score_range(), Some((0.5, 3.0)));
    }
}
