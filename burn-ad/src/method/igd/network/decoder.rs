//! From vectors back to images.

use burn::module::Module;
use burn::prelude::*;

use crate::network::residual::{Block, LAST_SIDE, Maker, Scale, blocks, is_local};
use crate::network::{Conv, ConvShape, Linear, Norm};
use crate::ops::{self, Activation};

/// Channels of the maps between `count` blocks, from `8 * width` to `width`: each block halves them, but a
/// fourth one, which comes first, keeps them, and the last one always gives `width`.
pub(super) fn widths(width: usize, count: usize) -> Vec<usize> {
    let kept = count.saturating_sub(3);
    let mut widths: Vec<usize> = (0..count)
        .map(|step| (8 * width) >> step.saturating_sub(kept))
        .collect();
    widths.push(width);
    widths
}

/// Residual blocks that double the sides of a map of 4 x 4.
#[derive(Module, Debug)]
pub struct Decoder<B: Backend> {
    input: Linear<B>,
    /// Doubles the sides before the blocks, of whole images.
    first: Option<Conv<B>>,
    blocks: Vec<Block<B>>,
    norm: Norm<B>,
    /// Doubles the sides behind the blocks, of whole images.
    last: Conv<B>,
}

impl<B: Backend> Decoder<B> {
    /// For images of `side` pixels from vectors of `latent` values, with maps of `8 * width` to `width`
    /// channels.
    ///
    /// # Panics
    /// If there is no network for this side ([`blocks`]).
    pub fn new(side: usize, width: usize, latent: usize, maker: &mut Maker<'_, B>) -> Self {
        let count = blocks(side).expect("a side that there is a network for");
        let local = is_local(side);
        let widest = 8 * width;
        let input = maker.linear(latent, widest * LAST_SIDE * LAST_SIDE);
        let first = (!local).then(|| maker.conv(ConvShape::new(widest, widest, 3, 1)));
        let start = if local { LAST_SIDE } else { 2 * LAST_SIDE };
        let widths = widths(width, count);
        let pairs = widths.windows(2).enumerate();
        let blocks = pairs
            .map(|(step, pair)| maker.block(pair[0], pair[1], start << step, Scale::Double))
            .collect();
        let kernel = if local { 3 } else { 5 };
        Self {
            input,
            first,
            blocks,
            norm: maker.norm(width, start << count),
            last: maker.conv(ConvShape::new(width, 3, kernel, 1)),
        }
    }

    /// `[batch, latent]` to images `[batch, 3, side, side]`, normalised as those it learns from.
    pub fn forward(&self, z: Tensor<B, 2>) -> Tensor<B, 4> {
        let plain = Activation::Identity;
        let x = self.input.forward(z);
        let [batch, values] = x.dims();
        let x = x.reshape([
            batch,
            values / (LAST_SIDE * LAST_SIDE),
            LAST_SIDE,
            LAST_SIDE,
        ]);
        let x = match &self.first {
            Some(first) => first.forward(ops::upsample_nearest_2x(x), plain),
            None => x,
        };
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        let x = self.norm.forward(x, None, Activation::Relu);
        let x = match self.first {
            Some(_) => ops::upsample_nearest_2x(x),
            None => x,
        };
        self.last.forward(x, plain)
    }
}
