//! Residual networks in the style of WGAN-GP: pre-activation blocks that halve sides by mean pooling and
//! double them by repeating positions.
//!
//! Source: Chen et al., AAAI 2022 (IGD), and the published code for what the text leaves open. Weights are
//! drawn as PyTorch does it.

use burn::module::Module;
use burn::prelude::*;
use rand_chacha::ChaCha8Rng;

use super::{Conv, ConvShape, Init, Linear, Norm, NormMode};
use crate::ops::{self, Activation};

/// Side of the map that a [`Trunk`] ends with, and that decoders begin with.
pub const LAST_SIDE: usize = 4;
/// Inputs of this side are taken at once; larger ones are halved at the beginning and the end, too.
const LOCAL_SIDE: usize = 32;
/// Values that an [`Encoder`] gives.
pub const FEATURES: usize = 512;

/// What follows the convolutions of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normalisation {
    /// Batch normalisation.
    Batch(NormMode),
    /// Layer normalisation, which looks at one image at a time.
    Layer,
}

/// Draws layers one after the other.
#[derive(Debug)]
pub struct Maker<'a, B: Backend> {
    /// Of all blocks.
    pub norm: Normalisation,
    /// Of all weights: [`Init::Uniform`] or [`Init::Zeros`].
    pub init: Init,
    /// Whether offsets are learnt; without, a network cannot map all inputs to one point.
    pub offsets: bool,
    /// Where draws come from.
    pub rng: &'a mut ChaCha8Rng,
    /// Where tensors live.
    pub device: &'a B::Device,
}

impl<B: Backend> Maker<'_, B> {
    /// A convolution with a bias.
    pub fn conv(&mut self, shape: ConvShape) -> Conv<B> {
        let conv = Conv::biased(shape, self.init, self.rng, self.device);
        match self.offsets {
            true => conv,
            false => conv.without_bias(),
        }
    }

    /// A matrix with an offset.
    pub fn linear(&mut self, inputs: usize, outputs: usize) -> Linear<B> {
        let linear = Linear::new(inputs, outputs, self.init, self.rng, self.device);
        match self.offsets {
            true => linear,
            false => linear.without_bias(),
        }
    }

    /// A normalisation of maps of the given side.
    pub fn norm(&self, channels: usize, side: usize) -> Norm<B> {
        let norm = match self.norm {
            Normalisation::Batch(mode) => Norm::batch(mode, channels, self.device),
            Normalisation::Layer => Norm::layer(channels, side, self.device),
        };
        match self.offsets {
            true => norm,
            false => norm.without_offset(),
        }
    }

    /// A block that halves maps of `side`, or doubles them.
    pub fn block(&mut self, inputs: usize, outputs: usize, side: usize, scale: Scale) -> Block<B> {
        // Halving blocks change the channels last, doubling ones first.
        let (middle, middle_side) = match scale {
            Scale::Halve => (inputs, side),
            Scale::Double => (outputs, 2 * side),
        };
        let first = ConvShape::new(inputs, middle, 3, 1);
        Block {
            norm1: self.norm(inputs, side),
            conv1: Conv::new(first, self.init, self.rng, self.device),
            norm2: self.norm(middle, middle_side),
            conv2: self.conv(ConvShape::new(middle, outputs, 3, 1)),
            shortcut: self.conv(ConvShape::new(inputs, outputs, 1, 1)),
            scale,
        }
    }
}

/// What a block does to the sides of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// By the mean of 2 x 2 positions.
    Halve,
    /// Each position becomes four.
    Double,
}

/// A residual block: twice normalisation, rectifier and 3 x 3 convolution, beside a 1 x 1 convolution.
#[derive(Module, Debug)]
pub struct Block<B: Backend> {
    norm1: Norm<B>,
    conv1: Conv<B>,
    norm2: Norm<B>,
    conv2: Conv<B>,
    shortcut: Conv<B>,
    #[module(skip)]
    scale: Scale,
}

impl<B: Backend> Block<B> {
    /// `[batch, inputs, height, width]` to `[batch, outputs, height', width']`, sides halved or doubled.
    pub fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let (plain, relu) = (Activation::Identity, Activation::Relu);
        let y = self.norm1.forward(x.clone(), None, relu);
        let y = match self.scale {
            Scale::Halve => y,
            Scale::Double => ops::upsample_nearest_2x(y),
        };
        let y = self.conv1.forward(y, plain);
        let y = self.norm2.forward(y, None, relu);
        let y = self.conv2.forward(y, plain);
        match self.scale {
            Scale::Halve => {
                let shortcut = self.shortcut.forward(ops::mean_pool_2x2(x), plain);
                ops::add(ops::mean_pool_2x2(y), shortcut)
            }
            Scale::Double => {
                // A 1 x 1 convolution of repeated positions is its result, repeated.
                let shortcut = ops::upsample_nearest_2x(self.shortcut.forward(x, plain));
                ops::add(y, shortcut)
            }
        }
    }
}

/// Channels of the maps between the `blocks` blocks of a network of base width `width`, from `width` to `8 * width`: each
/// block doubles them up to that, the last one always gives it.
pub fn widths(width: usize, blocks: usize) -> Vec<usize> {
    let mut widths: Vec<usize> = (0..blocks).map(|step| width << step.min(3)).collect();
    widths.push(8 * width);
    widths
}

/// From images to maps of [`LAST_SIDE`].
#[derive(Module, Debug)]
pub struct Trunk<B: Backend> {
    first: Conv<B>,
    blocks: Vec<Block<B>>,
    last: Option<Conv<B>>,
}

/// The number of blocks of a network for images of `side` pixels; `None` where there is no such network.
pub fn blocks(side: usize) -> Option<usize> {
    match side {
        LOCAL_SIDE => Some(3),
        64 | 128 | 256 => Some(side.ilog2() as usize - 4),
        _ => None,
    }
}

/// Whether images of `side` pixels are taken at once.
pub fn is_local(side: usize) -> bool {
    side == LOCAL_SIDE
}

impl<B: Backend> Trunk<B> {
    /// For images of `side` pixels, with maps of `width` to `8 * width` channels.
    ///
    /// # Panics
    /// If there is no network for this side ([`blocks`]).
    pub fn new(side: usize, width: usize, maker: &mut Maker<'_, B>) -> Self {
        let count = blocks(side).expect("a side that there is a network for");
        let local = is_local(side);
        let (kernel, stride) = if local { (3, 1) } else { (5, 2) };
        let first = maker.conv(ConvShape::new(3, width, kernel, stride));
        let widths = widths(width, count);
        let start = side / stride;
        let pairs = widths.windows(2).enumerate();
        let blocks = pairs
            .map(|(step, pair)| maker.block(pair[0], pair[1], start >> step, Scale::Halve))
            .collect();
        let widest = 8 * width;
        let last = (!local).then(|| maker.conv(ConvShape::new(widest, widest, 3, 2)));
        Self {
            first,
            blocks,
            last,
        }
    }

    /// `images` `[batch, 3, side, side]` to `[batch, 8 * width, 4, 4]`.
    pub fn forward(&self, images: Tensor<B, 4>) -> Tensor<B, 4> {
        let x = self.first.forward(images, Activation::Identity);
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        match &self.last {
            Some(last) => last.forward(x, Activation::Identity),
            None => x,
        }
    }
}

/// From images to vectors of [`FEATURES`] values.
#[derive(Module, Debug)]
pub struct Encoder<B: Backend> {
    trunk: Trunk<B>,
    hidden: Linear<B>,
}

impl<B: Backend> Encoder<B> {
    /// For images of `side` pixels; see [`Trunk::new`].
    ///
    /// # Panics
    /// If there is no network for this side ([`blocks`]).
    pub fn new(side: usize, width: usize, maker: &mut Maker<'_, B>) -> Self {
        Self {
            trunk: Trunk::new(side, width, maker),
            hidden: maker.linear(8 * width * LAST_SIDE * LAST_SIDE, FEATURES),
        }
    }

    /// `images` `[batch, 3, side, side]` to `[batch, 512]`.
    pub fn forward(&self, images: Tensor<B, 4>) -> Tensor<B, 2> {
        self.hidden.forward_maps(self.trunk.forward(images))
    }
}
