//! Learning rates over time.

use std::f64::consts::PI;

/// What remains of the learning rate at the end.
const FLOOR: f64 = 1e-3;
/// What the warm-up begins with.
const WARM_UP_START: f64 = 0.1;

/// Cosine decay by epoch, after a linear warm-up by batch (BGAD and HGAD).
///
/// `lr_e = lr_min + (lr - lr_min) (1 + cos(pi e / epochs)) / 2` with `lr_min = lr / 1000`; during
/// the first `warm_up` epochs the rate rises linearly from `lr / 10` to the cosine's value at epoch
/// `warm_up`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CosineSchedule {
    /// The highest rate.
    pub learning_rate: f64,
    /// Epochs in all.
    pub epochs: usize,
    /// Epochs of warm-up.
    pub warm_up: usize,
}

impl CosineSchedule {
    /// A run too short for its warm-up still learns at its full rate.
    pub fn new(learning_rate: f64, epochs: usize, warm_up: usize) -> Self {
        Self {
            learning_rate,
            epochs,
            warm_up: warm_up.min(epochs.saturating_sub(1)),
        }
    }

    /// The rate in `epoch` (from 0), `progress` of it done (`[0, 1)`).
    pub fn at(&self, epoch: usize, progress: f64) -> f64 {
        if epoch >= self.warm_up {
            return self.cosine(epoch);
        }
        let start = self.learning_rate * WARM_UP_START;
        let share = (epoch as f64 + progress) / self.warm_up as f64;
        start + share * (self.cosine(self.warm_up) - start)
    }

    fn cosine(&self, epoch: usize) -> f64 {
        let lowest = self.learning_rate * FLOOR;
        let phase = epoch as f64 / self.epochs.max(1) as f64;
        lowest + (self.learning_rate - lowest) * (1.0 + (PI * phase).cos()) / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_without_a_jump_and_then_falls() {
        let schedule = CosineSchedule {
            learning_rate: 2e-4,
            epochs: 25,
            warm_up: 2,
        };
        assert!((schedule.at(0, 0.0) - 2e-5).abs() < 1e-12);
        assert!(schedule.at(1, 0.5) > schedule.at(1, 0.25));
        assert!((schedule.at(1, 1.0) - schedule.at(2, 0.0)).abs() < 1e-12);
        for epoch in 2..24 {
            assert!(schedule.at(epoch, 0.9) > schedule.at(epoch + 1, 0.0));
        }
        assert!(schedule.at(24, 0.0) > 2e-7);
    }
}
