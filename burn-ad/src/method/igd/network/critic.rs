//! What tells decoded interpolations from images.

use burn::module::Module;
use burn::prelude::*;
use burn::tensor::activation::sigmoid;

use crate::network::Linear;
use crate::network::residual::{LAST_SIDE, Maker, Trunk, is_local};

/// Estimates the share of one of two interpolated images (paper, eq. 9).
#[derive(Module, Debug)]
pub struct Critic<B: Backend> {
    trunk: Trunk<B>,
    out: Linear<B>,
    /// The critic of patches gives values in (0, 1), that of whole images any.
    #[module(skip)]
    bounded: bool,
}

impl<B: Backend> Critic<B> {
    /// For images of `side` pixels.
    ///
    /// # Panics
    /// If there is no network for this side ([`blocks`](crate::network::residual::blocks)).
    pub fn new(side: usize, width: usize, maker: &mut Maker<'_, B>) -> Self {
        Self {
            trunk: Trunk::new(side, width, maker),
            out: maker.linear(8 * width * LAST_SIDE * LAST_SIDE, 1),
            bounded: is_local(side),
        }
    }

    /// `images` `[batch, 3, side, side]` to `[batch]`.
    pub fn forward(&self, images: Tensor<B, 4>) -> Tensor<B, 1> {
        let y = self.out.forward_maps(self.trunk.forward(images));
        let y = y.squeeze_dim::<1>(1);
        match self.bounded {
            true => sigmoid(y),
            false => y,
        }
    }
}
