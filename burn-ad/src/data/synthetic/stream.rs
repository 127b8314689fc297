//! Random numbers: one stream per picture, so that no picture depends on how many others are drawn.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What a stream is drawn for; each purpose has its own numbers, so that a defect never moves the scene under it.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    Scene,
    Noise,
    Defect { attempt: u64 },
}

/// The place of a picture in the set: together with the seed it determines every pixel.
#[derive(Clone, Copy)]
pub(super) struct Address {
    pub(super) seed: u64,
    pub(super) product: u32,
    pub(super) split: u32,
    pub(super) kind: u64,
    pub(super) index: u64,
}

/// Draws from one stream. The conversions are ours because those of `rand` may change between releases.
pub(super) struct Draws(ChaCha8Rng);

impl Draws {
    pub(super) fn new(address: Address, purpose: Purpose) -> Self {
        // The address fills the 256-bit key: different pictures can never share a stream.
        let mut key = [0u8; 32];
        key[..8].copy_from_slice(&address.seed.to_le_bytes());
        key[8..12].copy_from_slice(&address.product.to_le_bytes());
        key[12..16].copy_from_slice(&address.split.to_le_bytes());
        key[16..24].copy_from_slice(&address.kind.to_le_bytes());
        key[24..].copy_from_slice(&address.index.to_le_bytes());
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream(match purpose {
            Purpose::Scene => 0,
            Purpose::Noise => 1,
            Purpose::Defect { attempt } => 2 + attempt,
        });
        Self(rng)
    }

    /// Uniform in `[low, high)`.
    pub(super) fn uniform(&mut self, low: f32, high: f32) -> f32 {
        let unit = (self.0.next_u32() >> 8) as f32 / (1u32 << 24) as f32;
        low + (high - low) * unit
    }

    /// Uniform in `[-width, width)`.
    pub(super) fn around_zero(&mut self, width: f32) -> f32 {
        self.uniform(-width, width)
    }

    /// Uniform angle in radians.
    pub(super) fn angle(&mut self) -> f32 {
        self.uniform(0.0, std::f32::consts::TAU)
    }

    /// Uniform integer below `count`, which is small and not zero.
    pub(super) fn below(&mut self, count: usize) -> usize {
        ((u64::from(self.0.next_u32()) * count as u64) >> 32) as usize
    }

    /// -1 or 1.
    pub(super) fn sign(&mut self) -> f32 {
        if self.below(2) == 0 { -1.0 } else { 1.0 }
    }

    /// Seed for a [`super::noise::Noise`] field.
    pub(super) fn seed(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// Nearly Gaussian with mean 0 and variance 1: the sum of four uniform numbers out of one 64-bit draw.
    pub(super) fn gaussian(&mut self) -> f32 {
        let bits = self.0.next_u64();
        let sum: u64 = (0..4).map(|part| (bits >> (16 * part)) & 0xffff).sum();
        // Variance of a sum of four uniforms on [0, 1] is 4/12.
        (sum as f32 / 65536.0 - 2.0) * 3.0f32.sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Address = Address {
        seed: 7,
        product: 0,
        split: 1,
        kind: 2,
        index: 3,
    };

    #[test]
    fn every_part_of_the_address_and_the_purpose_changes_the_stream() {
        let first = |address, purpose| Draws::new(address, purpose).seed();
        let reference = first(ADDRESS, Purpose::Scene);
        assert_eq!(reference, first(ADDRESS, Purpose::Scene));
        for other in [
            Address { seed: 8, ..ADDRESS },
            Address {
                product: 1,
                ..ADDRESS
            },
            Address {
                split: 0,
                ..ADDRESS
            },
            Address { kind: 1, ..ADDRESS },
            Address {
                index: 4,
                ..ADDRESS
            },
        ] {
            assert_ne!(reference, first(other, Purpose::Scene));
        }
        assert_ne!(reference, first(ADDRESS, Purpose::Noise));
        assert_ne!(
            first(ADDRESS, Purpose::Defect { attempt: 0 }),
            first(ADDRESS, Purpose::Defect { attempt: 1 })
        );
    }

    #[test]
    fn gaussian_draws_have_mean_zero_and_variance_one() {
        let mut draws = Draws::new(ADDRESS, Purpose::Noise);
        let values: Vec<f64> = (0..20_000).map(|_| f64::from(draws.gaussian())).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
        assert!(mean.abs() < 0.03, "{mean}");
        assert!((variance - 1.0).abs() < 0.05, "{variance}");
    }
}
