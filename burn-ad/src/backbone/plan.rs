//! A convolution of a network before it has weights.

use super::spec::{NormSpec, UnitSpec};
use crate::ops::{Activation, Convolution, Padding};

/// A convolution, what follows it, and how large its random weights have to be.
#[derive(Clone, Debug)]
pub(crate) struct ConvPlan {
    pub(crate) unit: UnitSpec,
    pub(crate) convolution: Convolution,
    pub(crate) activation: Activation,
    /// Variance of a random weight times the number of inputs that each output sums.
    pub(crate) gain: f64,
}

/// The shape of a convolution, without its place in the network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) groups: usize,
}

impl Shape {
    /// A dense convolution.
    pub(crate) fn dense(inputs: usize, outputs: usize, kernel: usize, stride: usize) -> Self {
        Self {
            inputs,
            outputs,
            kernel,
            stride,
            groups: 1,
        }
    }

    /// One filter per channel.
    pub(crate) fn depthwise(channels: usize, kernel: usize, stride: usize) -> Self {
        Self {
            inputs: channels,
            outputs: channels,
            kernel,
            stride,
            groups: channels,
        }
    }
}

impl ConvPlan {
    /// A convolution named `name`, followed by `norm` where one is given; else it has a bias.
    pub(crate) fn new(
        name: String,
        shape: Shape,
        padding: Padding,
        norm: Option<NormSpec>,
        activation: Activation,
    ) -> Self {
        Self {
            unit: UnitSpec {
                name,
                shape: [
                    shape.outputs,
                    shape.inputs / shape.groups,
                    shape.kernel,
                    shape.kernel,
                ],
                bias: norm.is_none(),
                norm,
            },
            convolution: Convolution {
                stride: shape.stride,
                padding,
                groups: shape.groups,
            },
            activation,
            gain: 1.0,
        }
    }

    /// The same convolution with another variance of its random weights.
    pub(crate) fn with_gain(mut self, gain: f64) -> Self {
        self.gain = gain;
        self
    }
}

/// `1 / E[activation(x)^2]` for a standard normal `x`: what keeps the variance through a layer.
pub(crate) fn gain_after(activation: Activation) -> f64 {
    match activation {
        Activation::Identity => 1.0,
        Activation::Relu | Activation::Relu6 => 2.0,
        Activation::LeakyRelu(slope) => 2.0 / (1.0 + f64::from(slope).powi(2)),
        // E[silu(x)^2] = 0.3557
        Activation::Swish => 2.811,
    }
}
