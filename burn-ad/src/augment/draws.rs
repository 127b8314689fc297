//! Random numbers from the caller's generator.
//!
//! The conversions are ours because those of `rand` may change between releases: a seed keeps its
//! meaning.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

pub(super) struct Draws<'a>(pub(super) &'a mut ChaCha8Rng);

impl Draws<'_> {
    /// Uniform in `[low, high)`; `low` where both are equal.
    pub(super) fn uniform(&mut self, low: f64, high: f64) -> f64 {
        let unit = (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        low + (high - low) * unit
    }

    /// Uniform in `[-limit, limit)`.
    pub(super) fn around_zero(&mut self, limit: f64) -> f64 {
        self.uniform(-limit, limit)
    }

    /// Uniform integer below `count`, which is not zero and below 2^32.
    pub(super) fn below(&mut self, count: usize) -> usize {
        ((u64::from(self.0.next_u32()) * count as u64) >> 32) as usize
    }

    /// `true` with the probability given.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.uniform(0.0, 1.0) < probability
    }

    /// Which of several, with probabilities in proportion to their weights.
    pub(super) fn weighted<T: Copy>(&mut self, choices: &[(f64, T)]) -> T {
        let total: f64 = choices.iter().map(|(weight, _)| weight).sum();
        let mut rest = self.uniform(0.0, total);
        for &(weight, choice) in choices {
            if rest < weight {
                return choice;
            }
            rest -= weight;
        }
        // Only rounding leads here.
        choices[choices.len() - 1].1
    }

    /// Every order equally likely.
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    /// Nearly Gaussian with mean 0 and variance 1: the sum of four uniform numbers out of one
    /// 64-bit draw.
    pub(super) fn gaussian(&mut self) -> f64 {
        let bits = self.0.next_u64();
        let sum: u64 = (0..4).map(|part| (bits >> (16 * part)) & 0xffff).sum();
        // Variance of a sum of four uniforms on [0, 1] is 4/12.
        ((sum as f64 + 2.0) / 65536.0 - 2.0) * 3.0f64.sqrt()
    }

    /// Exponential with mean 1.
    pub(super) fn exponential(&mut self) -> f64 {
        -(1.0 - self.uniform(0.0, 1.0)).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::SeedableRng;

    fn moments(mut draw: impl FnMut(&mut Draws<'_>) -> f64) -> (f64, f64) {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let values: Vec<f64> = (0..20_000).map(|_| draw(&mut Draws(&mut rng))).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let squares = values.iter().map(|value| (value - mean).powi(2));
        (mean, squares.sum::<f64>() / values.len() as f64)
    }

    #[test]
    fn distributions_have_the_moments_they_claim() {
        let check = |name, (mean, variance): (f64, f64), claim: [f64; 2]| {
            assert!((mean - claim[0]).abs() < 0.03, "{name}: {mean}");
            assert!((variance - claim[1]).abs() < 0.06, "{name}: {variance}");
        };
        check("gaussian", moments(|d| d.gaussian()), [0.0, 1.0]);
        check("exponential", moments(|d| d.exponential()), [1.0, 1.0]);
        check("uniform", moments(|d| d.uniform(2.0, 5.0)), [3.5, 0.75]);
        check("below", moments(|d| d.below(5) as f64), [2.0, 2.0]);
    }

    #[test]
    fn every_order_is_equally_likely() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let mut counts = std::collections::HashMap::new();
        for _ in 0..6000 {
            let mut items = [0, 1, 2];
            Draws(&mut rng).shuffle(&mut items);
            *counts.entry(items).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 6);
        assert!(
            counts.values().all(|count| (880..1120).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn choices_come_in_proportion_to_their_weights() {
        let (share, _) = moments(|draws| draws.weighted(&[(0.2, 1.0), (0.6, 0.0)]));
        assert!((share - 0.25).abs() < 0.01, "{share}");
        let (share, _) = moments(|draws| f64::from(u8::from(draws.chance(0.3))));
        assert!((share - 0.3).abs() < 0.01, "{share}");
    }
}
