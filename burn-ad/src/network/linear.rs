//! A matrix and an offset.

use burn::module::{Module, Param};
use burn::prelude::*;
use rand_chacha::ChaCha8Rng;

use super::init::{Init, zero_for_good};

/// PyTorch's `Linear`.
#[derive(Module, Debug)]
pub struct Linear<B: Backend> {
    /// `[outputs, inputs]`.
    weight: Param<Tensor<B, 2>>,
    /// `[outputs]`.
    bias: Param<Tensor<B, 1>>,
}

impl<B: Backend> Linear<B> {
    /// With weights and offsets drawn by `init`; PyTorch's default is [`Init::Uniform`].
    pub fn new(
        inputs: usize,
        outputs: usize,
        init: Init,
        rng: &mut ChaCha8Rng,
        device: &B::Device,
    ) -> Self {
        let weight = init.draw(outputs * inputs, inputs, rng);
        let bias = init.draw(outputs, inputs, rng);
        let weight = Tensor::from_data(TensorData::new(weight, [outputs, inputs]), device);
        let bias = Tensor::from_data(TensorData::new(bias, [outputs]), device);
        Self {
            weight: Param::from_tensor(weight),
            bias: Param::from_tensor(bias),
        }
    }

    /// The same whose offset stays zero.
    #[must_use]
    pub fn without_bias(mut self) -> Self {
        self.bias = zero_for_good(self.bias);
        self
    }

    /// `[batch, inputs]` to `[batch, outputs]`.
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        x.matmul(self.weight.val().transpose()) + self.bias.val().unsqueeze()
    }

    /// The same of maps, whose values are read in the order channel, row, column.
    pub fn forward_maps(&self, x: Tensor<B, 4>) -> Tensor<B, 2> {
        self.forward(x.flatten(1, 3))
    }
}
