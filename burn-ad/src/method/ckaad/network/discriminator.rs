//! What tells feature maps of normal images from others.

use burn::module::Module;
use burn::prelude::*;
use rand_chacha::ChaCha8Rng;

use super::plan::ReconstructionPlan;
use crate::network::{Conv, ConvShape, Init};
use crate::ops::{Activation, Statistics, join_channels, normalise, unit_channels};

/// The slope that the published code has.
const LEAKY: Activation = Activation::LeakyRelu(0.1);
/// Added to variances.
const EPSILON: f64 = 1e-5;

/// A discriminator of either kind. What it gives has no range yet: an energy is its absolute value.
// A training has one; Burn's modules cannot be boxed.
#[allow(clippy::large_enum_variant)]
#[derive(Module, Debug)]
pub enum Discriminator<B: Backend> {
    /// Judges each position of each tap by itself.
    Patch(PatchDiscriminator<B>),
    /// Judges whole images.
    Image(ImageDiscriminator<B>),
}

impl<B: Backend> Discriminator<B> {
    /// What it makes of feature maps, `[batch, 1, height, width]` each: one a tap, or one of 1 x 1.
    pub fn forward(&self, features: &[Tensor<B, 4>]) -> Vec<Tensor<B, 4>> {
        match self {
            Self::Patch(patch) => patch.forward(features),
            Self::Image(image) => vec![image.forward(features)],
        }
    }
}

/// For each tap three 1 x 1 convolutions of the direction of a position's vector.
#[derive(Module, Debug)]
pub struct PatchDiscriminator<B: Backend> {
    taps: Vec<Vec<Conv<B>>>,
}

impl<B: Backend> PatchDiscriminator<B> {
    /// With fresh weights as PyTorch draws them.
    pub fn new(plan: &ReconstructionPlan, rng: &mut ChaCha8Rng, device: &B::Device) -> Self {
        let taps = plan.taps().map(|(channels, _)| {
            let outputs = [channels, channels, 1];
            let conv = |outputs| {
                let shape = ConvShape::new(channels, outputs, 1, 1);
                Conv::new(shape, Init::Uniform, rng, device)
            };
            outputs.map(conv).into()
        });
        Self {
            taps: taps.collect(),
        }
    }

    fn forward(&self, features: &[Tensor<B, 4>]) -> Vec<Tensor<B, 4>> {
        let taps = features.iter().zip(&self.taps);
        taps.map(|(feature, convs)| {
            let last = convs.len() - 1;
            let convs = convs.iter().enumerate();
            convs.fold(unit_channels(feature.clone()), |x, (index, conv)| {
                let activation = if index < last {
                    LEAKY
                } else {
                    Activation::Identity
                };
                conv.forward(x, activation)
            })
        })
        .collect()
    }
}

/// Brings all taps to one size, and that to one vector.
///
/// What the paper leaves open: the first halving of the joined taps gives twice the channels of the
/// deepest tap, further ones keep them; nothing has a bias.
#[derive(Module, Debug)]
pub struct ImageDiscriminator<B: Backend> {
    taps: Vec<Vec<Conv<B>>>,
    body: Vec<Conv<B>>,
    last: Conv<B>,
    hidden: Conv<B>,
    out: Conv<B>,
}

impl<B: Backend> ImageDiscriminator<B> {
    /// With fresh weights as PyTorch draws them; `side` is that of the deepest map, at least 2.
    ///
    /// # Panics
    /// If `side` is smaller.
    pub fn new(
        plan: &ReconstructionPlan,
        side: usize,
        rng: &mut ChaCha8Rng,
        device: &B::Device,
    ) -> Self {
        assert!(side >= 2, "a map of side {side} cannot be judged");
        let mut conv = |shape: ConvShape| Conv::new(shape, Init::Uniform, rng, device);
        let halving = |inputs, outputs| ConvShape::new(inputs, outputs, 3, 2);
        let taps = plan
            .taps()
            .map(|(channels, halvings)| {
                (0..halvings)
                    .map(|step| conv(halving(channels << step, channels << (step + 1))))
                    .collect()
            })
            .collect();
        let (mut channels, width) = (plan.joined(), 2 * plan.deepest());
        let (mut body, mut side) = (Vec::new(), side);
        while side > 2 {
            body.push(conv(halving(channels, width)));
            (channels, side) = (width, side.div_ceil(2));
        }
        let whole = ConvShape {
            padding: 0,
            ..ConvShape::new(channels, width, 2, 1)
        };
        Self {
            taps,
            body,
            last: conv(whole),
            hidden: conv(ConvShape::new(width, width / 4, 1, 1)),
            out: conv(ConvShape::new(width / 4, 1, 1, 1)),
        }
    }

    fn forward(&self, features: &[Tensor<B, 4>]) -> Tensor<B, 4> {
        let halve = |x: Tensor<B, 4>, convs: &[Conv<B>]| {
            convs.iter().fold(x, |x, conv| {
                normalised(conv.forward(x, Activation::Identity))
            })
        };
        let taps = features.iter().zip(&self.taps);
        let joined = taps.map(|(feature, convs)| halve(feature.clone(), convs));
        let x = halve(join_channels(joined.collect()), &self.body);
        let x = self.last.forward(x, Activation::Identity);
        let x = self.hidden.forward(x, Activation::Identity);
        let [batch, channels, _, _] = x.dims();
        // One sample's values are the positions of one channel.
        let x = normalised(x.reshape([batch, 1, channels, 1]));
        self.out
            .forward(x.reshape([batch, channels, 1, 1]), Activation::Identity)
    }
}

/// Each channel of each image by itself, then the activation.
fn normalised<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 4> {
    normalise(x, None, None, LEAKY, Statistics::Instance, EPSILON)
}
