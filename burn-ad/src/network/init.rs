//! How parameters are drawn.

use burn::module::Param;
use burn::prelude::*;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// How the weights of a convolution are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Init {
    /// Normal with variance `2 / (outputs * kernel area)`: Kaiming by fan-out.
    KaimingNormal,
    /// Zeros, for weights that are loaded afterwards.
    Zeros,
    /// Uniform up to `1 / sqrt(inputs * kernel area)`: PyTorch's default. For transposed convolutions
    /// PyTorch counts outputs instead of inputs.
    Uniform,
}

impl Init {
    /// `count` weights of a convolution where `fan` inputs or outputs, times the kernel's area, meet.
    pub(super) fn draw(self, count: usize, fan: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
        match self {
            Self::Zeros => vec![0.0; count],
            Self::KaimingNormal => {
                let deviation = (2.0 / fan as f64).sqrt();
                (0..count)
                    .map(|_| (normal(rng) * deviation) as f32)
                    .collect()
            }
            Self::Uniform => {
                let bound = 1.0 / (fan as f32).sqrt();
                (0..count)
                    .map(|_| rng.random_range(-bound..=bound))
                    .collect()
            }
        }
    }
}

/// Zeros that no optimiser changes.
pub(super) fn zero_for_good<B: Backend>(param: Param<Tensor<B, 1>>) -> Param<Tensor<B, 1>> {
    param
        .map(|values| values.zeros_like().detach())
        .set_require_grad(false)
}

/// A standard normal number, by Box and Muller.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    // Never 0, whose logarithm is infinite.
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::stream_rng;

    #[test]
    fn draws_have_the_spread_they_should() {
        let variance = |init: Init| {
            let values = init.draw(100_000, 50, &mut stream_rng(0, "init"));
            let sum: f64 = values.iter().map(|&v| f64::from(v)).sum();
            let squares: f64 = values.iter().map(|&v| f64::from(v).powi(2)).sum();
            assert!((sum / 1e5).abs() < 2e-3);
            squares / 1e5
        };
        assert!((variance(Init::KaimingNormal) / (2.0 / 50.0) - 1.0).abs() < 0.02);
        assert!((variance(Init::Uniform) / (1.0 / 150.0) - 1.0).abs() < 0.02);
    }
}
