//! The auto-encoder: feature maps of a backbone to a latent map, and back.

use burn::module::Module;
use burn::prelude::*;
use rand_chacha::ChaCha8Rng;

use super::block::{Block, Maker, Scale};
use super::plan::ReconstructionPlan;
use crate::network::{Init, Layer};
use crate::ops::{Activation, join_channels};
use crate::train::stream_rng;

/// `G = D(E(..))` of eq. 1: reconstructs the feature maps of all taps from one latent map.
#[derive(Module, Debug)]
pub struct AutoEncoder<B: Backend> {
    encoder: Encoder<B>,
    decoder: Vec<Vec<Block<B>>>,
    /// Whether each decoder stage gives a reconstruction, deepest first.
    #[module(skip)]
    taps: Vec<bool>,
}

#[derive(Module, Debug)]
struct Encoder<B: Backend> {
    /// What brings each tap to the size of the deepest.
    taps: Vec<Vec<Layer<B>>>,
    latent: Vec<Block<B>>,
}

impl<B: Backend> AutoEncoder<B> {
    /// With fresh weights: convolutions by Kaiming (normal, fan-out), transposed ones as PyTorch draws
    /// them.
    pub fn new(plan: &ReconstructionPlan, rng: &mut ChaCha8Rng, device: &B::Device) -> Self {
        Self::of(plan, [Init::KaimingNormal, Init::Uniform], rng, device)
    }

    /// With zeros, to be loaded.
    pub(in super::super) fn empty(plan: &ReconstructionPlan, device: &B::Device) -> Self {
        let mut unused = stream_rng(0, "zeros");
        Self::of(plan, [Init::Zeros; 2], &mut unused, device)
    }

    fn of(
        plan: &ReconstructionPlan,
        init: [Init; 2],
        rng: &mut ChaCha8Rng,
        device: &B::Device,
    ) -> Self {
        let mut maker = Maker::<B> {
            block: plan.block,
            norm: plan.norm,
            init,
            rng,
            device,
        };
        let taps = plan
            .taps()
            .map(|(channels, halvings)| {
                (0..halvings)
                    .map(|step| maker.layer(channels << step, channels << (step + 1), 3, 2))
                    .collect()
            })
            .collect();
        let mut channels = 2 * plan.deepest();
        let latent = maker.stage(plan.joined(), channels, plan.latent_blocks, Scale::Halve);
        let levels = plan.levels.iter().rev();
        let decoder = levels
            .clone()
            .zip(&plan.stages)
            .map(|(&(outputs, _), &blocks)| {
                let mut stage = maker.stage(channels, outputs, blocks, Scale::Double);
                channels = outputs;
                if plan.signed {
                    let last = stage.pop().map(Block::signed);
                    stage.extend(last);
                }
                stage
            })
            .collect();
        Self {
            encoder: Encoder { taps, latent },
            decoder,
            taps: levels.map(|(_, tap)| *tap).collect(),
        }
    }

    /// The reconstructions of feature maps `[batch, channels, height, width]`, shallowest tap first;
    /// sides halve with each level of the backbone.
    pub fn forward(&self, features: &[Tensor<B, 4>]) -> Vec<Tensor<B, 4>> {
        let steps = self.encoder.taps.iter();
        let joined = features
            .iter()
            .zip(steps)
            .map(|(feature, steps)| {
                steps.iter().fold(feature.clone(), |x, step| {
                    step.forward(x, None, Activation::Relu)
                })
            })
            .collect();
        let run = |x: Tensor<B, 4>, blocks: &[Block<B>]| {
            blocks.iter().fold(x, |x, block| block.forward(x))
        };
        let mut x = run(join_channels(joined), &self.encoder.latent);
        let mut found = Vec::with_capacity(features.len());
        for (stage, &tap) in self.decoder.iter().zip(&self.taps) {
            x = run(x, stage);
            if tap {
                found.push(x.clone());
            }
        }
        found.reverse();
        found
    }
}
