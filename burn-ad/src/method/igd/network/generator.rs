//! Encoder and decoder.

use burn::module::Module;
use burn::prelude::*;

use super::Decoder;
use crate::network::Linear;
use crate::network::residual::{Encoder, FEATURES, Maker};

/// The sizes of a [`Generator`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeneratorPlan {
    /// Side of the images.
    pub side: usize,
    /// Base width of the encoder, and of the critic.
    pub width: usize,
    /// Base width of the decoder.
    pub decoder_width: usize,
    /// Values of a latent vector.
    pub latent: usize,
    /// Values of the frozen encoder's vectors; `None` where the encoder is learnt, too.
    pub frozen: Option<usize>,
    /// Whether images are decoded.
    pub decodes: bool,
}

/// From images to latent vectors, and back.
#[derive(Module, Debug)]
pub struct Generator<B: Backend> {
    /// Absent where a frozen backbone takes its place.
    encoder: Option<Encoder<B>>,
    head: Linear<B>,
    /// Absent where nothing is reconstructed.
    decoder: Option<Decoder<B>>,
}

impl<B: Backend> Generator<B> {
    /// Encoders may go without offsets, decoders never do.
    ///
    /// # Panics
    /// If there is no network for the side ([`blocks`](crate::network::residual::blocks)).
    pub fn new(plan: &GeneratorPlan, maker: &mut Maker<'_, B>) -> Self {
        let encoder = match plan.frozen {
            Some(_) => None,
            None => Some(Encoder::new(plan.side, plan.width, maker)),
        };
        let head = maker.linear(plan.frozen.unwrap_or(FEATURES), plan.latent);
        maker.offsets = true;
        let decoder = plan
            .decodes
            .then(|| Decoder::new(plan.side, plan.decoder_width, plan.latent, maker));
        Self {
            encoder,
            head,
            decoder,
        }
    }

    /// Latent vectors `[batch, latent]`, of images `[batch, 3, side, side]` or, where the encoder is frozen,
    /// of its vectors `[batch, features]`.
    ///
    /// # Panics
    /// If neither is there.
    pub fn encode(&self, images: Tensor<B, 4>, vectors: Option<Tensor<B, 2>>) -> Tensor<B, 2> {
        let features = match &self.encoder {
            Some(encoder) => encoder.forward(images),
            None => vectors.expect("the vectors of the frozen encoder"),
        };
        self.head.forward(features)
    }

    /// Images `[batch, 3, side, side]` from latent vectors; `None` where nothing is reconstructed.
    pub fn decode(&self, z: Tensor<B, 2>) -> Option<Tensor<B, 4>> {
        self.decoder.as_ref().map(|decoder| decoder.forward(z))
    }
}
