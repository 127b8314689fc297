//! Convolutions, and the normalisation behind them.

use burn::module::{Module, Param};
use burn::prelude::*;
use rand_chacha::ChaCha8Rng;

use super::init::{Init, zero_for_good};
use super::norm::{Norm, NormKind};
use crate::ops::{self, Activation, Convolution, Padding, Tail};

/// The shape of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    /// Channels in.
    pub inputs: usize,
    /// Channels out.
    pub outputs: usize,
    /// Side of the kernel.
    pub kernel: usize,
    /// Input positions from one output position to the next.
    pub stride: usize,
    /// Zeros around the input.
    pub padding: usize,
}

impl ConvShape {
    /// With zeros around the input that keep its size at stride 1.
    pub fn new(inputs: usize, outputs: usize, kernel: usize, stride: usize) -> Self {
        Self {
            inputs,
            outputs,
            kernel,
            stride,
            padding: kernel / 2,
        }
    }
}

/// A convolution; or a transposed one with a kernel of 2 x 2 and stride 2.
#[derive(Module, Debug)]
pub struct Conv<B: Backend> {
    /// `[outputs, inputs, kernel, kernel]`; of a transposed one `[4 * outputs, inputs, 1, 1]`, ordered
    /// (row, column, output): [`ops::depth_to_space`] does the rest.
    weight: Param<Tensor<B, 4>>,
    /// `[outputs]`.
    bias: Option<Param<Tensor<B, 1>>>,
    #[module(skip)]
    convolution: Convolution,
    #[module(skip)]
    doubles: bool,
}

impl<B: Backend> Conv<B> {
    /// A convolution without bias.
    pub fn new(shape: ConvShape, init: Init, rng: &mut ChaCha8Rng, device: &B::Device) -> Self {
        let ConvShape {
            inputs,
            outputs,
            kernel,
            stride,
            padding,
        } = shape;
        let area = kernel * kernel;
        let fan = match init {
            Init::KaimingNormal => outputs * area,
            Init::Uniform | Init::Zeros => inputs * area,
        };
        let values = init.draw(outputs * inputs * area, fan, rng);
        let convolution = Convolution {
            stride,
            padding: Padding::Symmetric(padding),
            groups: 1,
        };
        let shape = [outputs, inputs, kernel, kernel];
        Self::of(values, shape, convolution, false, device)
    }

    /// A convolution with a bias, drawn as PyTorch does it ([`Init::Uniform`]) or zero.
    pub fn biased(shape: ConvShape, init: Init, rng: &mut ChaCha8Rng, device: &B::Device) -> Self {
        let conv = Self::new(shape, init, rng, device);
        let fan = shape.inputs * shape.kernel * shape.kernel;
        let bias = init.draw(shape.outputs, fan, rng);
        let bias = Tensor::from_data(TensorData::new(bias, [shape.outputs]), device);
        Self {
            bias: Some(Param::from_tensor(bias)),
            ..conv
        }
    }

    /// The same whose bias stays zero.
    #[must_use]
    pub fn without_bias(mut self) -> Self {
        self.bias = self.bias.map(zero_for_good);
        self
    }

    /// A transposed convolution with a kernel of 2 x 2 and stride 2; PyTorch's default is
    /// [`Init::Uniform`].
    pub fn doubling(
        inputs: usize,
        outputs: usize,
        init: Init,
        rng: &mut ChaCha8Rng,
        device: &B::Device,
    ) -> Self {
        let values = init.draw(4 * outputs * inputs, 4 * outputs, rng);
        let convolution = Convolution {
            stride: 1,
            padding: Padding::Symmetric(0),
            groups: 1,
        };
        let shape = [4 * outputs, inputs, 1, 1];
        Self::of(values, shape, convolution, true, device)
    }

    fn of(
        values: Vec<f32>,
        shape: [usize; 4],
        convolution: Convolution,
        doubles: bool,
        device: &B::Device,
    ) -> Self {
        let weight = Tensor::from_data(TensorData::new(values, shape), device);
        Self {
            weight: Param::from_tensor(weight),
            bias: None,
            convolution,
            doubles,
        }
    }

    /// `[batch, inputs, height, width]` to `[batch, outputs, height', width']`; a transposed
    /// convolution doubles both sides.
    pub fn forward(&self, x: Tensor<B, 4>, activation: Activation) -> Tensor<B, 4> {
        let weight = self.weight.val();
        let bias = self.bias.as_ref().map(Param::val);
        if self.doubles {
            let y = ops::conv2d(x, weight, None, self.convolution);
            return activation.apply(ops::depth_to_space(y));
        }
        let tail = Tail {
            residual: None,
            activation,
        };
        ops::conv2d_with(x, weight, bias, self.convolution, tail, None)
    }
}

/// A convolution and the normalisation behind it.
#[derive(Module, Debug)]
pub struct Layer<B: Backend> {
    conv: Conv<B>,
    norm: Norm<B>,
}

impl<B: Backend> Layer<B> {
    /// A convolution of `outputs` channels with a fresh normalisation.
    pub fn new(conv: Conv<B>, outputs: usize, norm: NormKind, device: &B::Device) -> Self {
        Self {
            conv,
            norm: Norm::new(norm, outputs, device),
        }
    }

    /// `activation(norm(conv(x)) + residual)`.
    pub fn forward(
        &self,
        x: Tensor<B, 4>,
        residual: Option<Tensor<B, 4>>,
        activation: Activation,
    ) -> Tensor<B, 4> {
        let y = self.conv.forward(x, Activation::Identity);
        self.norm.forward(y, residual, activation)
    }
}
