//! Settings of a flow.

use burn::tensor::backend::Backend;
use rand_chacha::ChaCha8Rng;

use super::{ConditionalFlow, CouplingBlock};
use crate::error::{Error, Result};

/// How the scaling of a coupling block is kept in bounds; `a` is what the subnet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clamp {
    /// `alpha tanh(a)`: FrEIA 0.2, which the published code uses.
    Tanh,
    /// `alpha tanh(a / alpha)`: later versions of FrEIA.
    ScaledTanh,
}

/// How channels are mixed between blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Permutation {
    /// A fixed random rotation from SO(channels).
    Soft,
    /// A fixed random permutation of channels.
    Hard,
}

/// A stack of conditional coupling blocks.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowConfig {
    /// Coupling blocks, one after another.
    pub blocks: usize,
    /// Channels of the position code, a multiple of 4; 0 is no code.
    pub position_channels: usize,
    /// How the scaling is kept in bounds.
    pub clamp: Clamp,
    /// The bound: a block scales a channel by at most `exp(alpha)`.
    pub alpha: f64,
    /// How channels are mixed between blocks.
    pub permutation: Permutation,
}

impl FlowConfig {
    /// BGAD's: 8 blocks, 128 position channels, alpha 1.9 (published code; the appendix agrees).
    pub fn bgad() -> Self {
        Self {
            blocks: 8,
            position_channels: 128,
            clamp: Clamp::Tanh,
            alpha: 1.9,
            permutation: Permutation::Soft,
        }
    }

    /// HGAD's: 12 blocks, 256 position channels, otherwise as BGAD's (appendix C, published code).
    pub fn hgad() -> Self {
        Self {
            blocks: 12,
            position_channels: 256,
            ..Self::bgad()
        }
    }

    /// # Errors
    /// When a field is out of its range.
    pub fn validate(&self) -> Result<()> {
        let wrong = |message: String| Err(Error::usage(message));
        if self.blocks == 0 {
            return wrong("'flow.blocks' must be at least 1".into());
        }
        if !self.position_channels.is_multiple_of(4) {
            return wrong(format!(
                "'flow.position_channels' must be a multiple of 4 (sine and cosine of two axes), not {}",
                self.position_channels
            ));
        }
        if !(self.alpha > 0.0 && self.alpha.is_finite()) {
            return wrong(format!("'flow.alpha' must be positive, not {}", self.alpha));
        }
        Ok(())
    }

    /// Draws a flow for vectors of `channels` values: weights as PyTorch initialises linear layers
    /// (uniform within `1 / sqrt(inputs)`), scale 1, offset 0, permutations from `rng`.
    ///
    /// # Panics
    /// If `channels < 2`: there would be nothing to couple.
    pub fn init<B: Backend>(
        &self,
        channels: usize,
        rng: &mut ChaCha8Rng,
        device: &B::Device,
    ) -> ConditionalFlow<B> {
        let blocks = (0..self.blocks)
            .map(|_| CouplingBlock::init(self, channels, rng, device))
            .collect();
        ConditionalFlow::new(blocks)
    }

    /// Inputs of the subnet: the untransformed half of the channels, and the condition.
    pub(super) fn subnet_inputs(&self, channels: usize) -> usize {
        channels - channels / 2 + self.position_channels
    }

    /// Parameters that training changes, for vectors of `channels` values.
    pub fn trainable_parameters(&self, channels: usize) -> usize {
        let inputs = self.subnet_inputs(channels);
        let hidden = 2 * inputs;
        let outputs = 2 * (channels / 2);
        let subnet = (inputs + 1) * hidden + (hidden + 1) * outputs;
        self.blocks * (subnet + 2 * channels)
    }

    /// Parameters that stay as drawn, counted as FrEIA does: each rotation and its inverse.
    pub fn fixed_parameters(&self, channels: usize) -> usize {
        self.blocks * 2 * channels * channels
    }
}
