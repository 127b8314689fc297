//! Residual blocks that halve, keep or double the sides of a map.

use burn::module::Module;
use burn::prelude::*;
use rand_chacha::ChaCha8Rng;

use super::plan::BlockKind;
use crate::network::{Conv, ConvShape, Init, Layer, NormKind};
use crate::ops::Activation;

/// What a block does to the sides of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    Halve,
    Keep,
    Double,
}

/// A residual block of [`BlockKind`].
#[derive(Module, Debug)]
pub(super) struct Block<B: Backend> {
    main: Vec<Layer<B>>,
    shortcut: Option<Layer<B>>,
    /// Follows the sum of both.
    #[module(skip)]
    last: Activation,
}

/// Draws layers one after the other.
pub(super) struct Maker<'a, B: Backend> {
    pub(super) block: BlockKind,
    pub(super) norm: NormKind,
    /// Of convolutions, and of transposed ones.
    pub(super) init: [Init; 2],
    pub(super) rng: &'a mut ChaCha8Rng,
    pub(super) device: &'a B::Device,
}

impl<B: Backend> Maker<'_, B> {
    /// A convolution that keeps or halves the sides.
    pub(super) fn layer(
        &mut self,
        inputs: usize,
        outputs: usize,
        kernel: usize,
        stride: usize,
    ) -> Layer<B> {
        let shape = ConvShape::new(inputs, outputs, kernel, stride);
        let conv = Conv::new(shape, self.init[0], self.rng, self.device);
        Layer::new(conv, outputs, self.norm, self.device)
    }

    /// A convolution of the given kernel; one that doubles the sides is transposed, with a kernel of
    /// 2 x 2.
    fn scaling(&mut self, inputs: usize, outputs: usize, kernel: usize, scale: Scale) -> Layer<B> {
        match scale {
            Scale::Keep => self.layer(inputs, outputs, kernel, 1),
            Scale::Halve => self.layer(inputs, outputs, kernel, 2),
            Scale::Double => {
                let conv = Conv::doubling(inputs, outputs, self.init[1], self.rng, self.device);
                Layer::new(conv, outputs, self.norm, self.device)
            }
        }
    }

    /// `count` blocks, of which the first changes sides and channels.
    pub(super) fn stage(
        &mut self,
        inputs: usize,
        outputs: usize,
        count: usize,
        scale: Scale,
    ) -> Vec<Block<B>> {
        (0..count)
            .map(|index| match index {
                0 => self.block(inputs, outputs, scale),
                _ => self.block(outputs, outputs, Scale::Keep),
            })
            .collect()
    }

    fn block(&mut self, inputs: usize, outputs: usize, scale: Scale) -> Block<B> {
        let main = match self.block {
            BlockKind::Basic => vec![
                self.scaling(inputs, outputs, 3, scale),
                self.layer(outputs, outputs, 3, 1),
            ],
            BlockKind::Bottleneck { width } => {
                let middle = outputs / 4 * width;
                vec![
                    self.layer(inputs, middle, 1, 1),
                    self.scaling(middle, middle, 3, scale),
                    self.layer(middle, outputs, 1, 1),
                ]
            }
        };
        let differs = scale != Scale::Keep || inputs != outputs;
        let shortcut = differs.then(|| self.scaling(inputs, outputs, 1, scale));
        Block {
            main,
            shortcut,
            last: Activation::Relu,
        }
    }
}

impl<B: Backend> Block<B> {
    /// The same without a rectifier behind the sum.
    pub(super) fn signed(self) -> Self {
        Self {
            last: Activation::Identity,
            ..self
        }
    }

    /// `relu(main(x) + shortcut(x))`, or without the rectifier.
    pub(super) fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let residual = match &self.shortcut {
            Some(shortcut) => shortcut.forward(x.clone(), None, Activation::Identity),
            None => x.clone(),
        };
        let mut residual = Some(residual);
        let last = self.main.len() - 1;
        let layers = self.main.iter().enumerate();
        layers.fold(x, |x, (index, layer)| match index == last {
            true => layer.forward(x, residual.take(), self.last),
            false => layer.forward(x, None, Activation::Relu),
        })
    }
}
