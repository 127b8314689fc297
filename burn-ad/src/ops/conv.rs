//! Two-dimensional convolution.

use burn::prelude::*;
use burn::tensor::module;
use burn::tensor::ops::{ConvOptions, PadMode};

use super::cpu::{self, conv::Packed};
use super::{Activation, Padding};

/// Everything about a convolution but its weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convolution {
    /// Input pixels from one output position to the next.
    pub stride: usize,
    /// Zeros around the input.
    pub padding: Padding,
    /// Channel groups that do not see each other; as many as channels for a depthwise convolution.
    pub groups: usize,
}

/// Cross-correlation as PyTorch's `conv2d`.
///
/// `x` is `[batch, in_channels, height, width]`, `weight` is
/// `[out_channels, in_channels / groups, kernel_height, kernel_width]`, `bias` is `[out_channels]`.
///
/// # Panics
/// When the channels of input and weight disagree.
pub fn conv2d<B: Backend>(
    x: Tensor<B, 4>,
    weight: Tensor<B, 4>,
    bias: Option<Tensor<B, 1>>,
    convolution: Convolution,
) -> Tensor<B, 4> {
    let tail = Tail::default();
    conv2d_with(x, weight, bias, convolution, tail, None)
}

/// What happens to the sums of a convolution before they are written.
#[derive(Clone, Debug)]
pub struct Tail<B: Backend> {
    /// Added, of the shape of the result.
    pub residual: Option<Tensor<B, 4>>,
    /// Applied last.
    pub activation: Activation,
}

impl<B: Backend> Default for Tail<B> {
    fn default() -> Self {
        Self {
            residual: None,
            activation: Activation::Identity,
        }
    }
}

/// What a convolution keeps of a weight that stays the same: the weight as the kernels read it.
#[derive(Clone, Debug, Default)]
pub struct Prepared(Packed);

/// `activation(conv2d(x) + residual)`.
///
/// `prepared` is remembered between calls with the same weight.
///
/// # Panics
/// When the channels of input and weight disagree, or the residual has another shape than the
/// result.
pub fn conv2d_with<B: Backend>(
    x: Tensor<B, 4>,
    weight: Tensor<B, 4>,
    bias: Option<Tensor<B, 1>>,
    convolution: Convolution,
    tail: Tail<B>,
    prepared: Option<&Prepared>,
) -> Tensor<B, 4> {
    let [_, channels, _, _] = x.dims();
    let known = cpu::conv::is_known(weight.dims(), convolution, channels);
    if let Some(kernels) = cpu::kernels_for::<B>()
        && known
        && cpu::is_f32(&x)
    {
        let call = cpu::conv::Call {
            x: cpu::open(x),
            weight: cpu::open(weight),
            bias: bias.map(cpu::open),
            residual: tail.residual.map(cpu::open),
            activation: tail.activation,
            convolution,
            packed: prepared.map(|prepared| &prepared.0),
        };
        if !call.needs_gradient() {
            return cpu::close(cpu::conv::forward(kernels, call));
        }
        let fused = call.residual.is_none() && tail.activation.shows_its_slope();
        let (inside, behind) = match fused {
            true => (tail.activation, Activation::Identity),
            false => (Activation::Identity, tail.activation),
        };
        let residual = call.residual.map(cpu::close);
        let inputs = (call.x, call.weight, call.bias);
        let y = cpu::conv::forward_tracked(kernels, inputs, inside, convolution);
        return finish(cpu::close(y), residual, behind);
    }
    let sums = on_backend(x, weight, bias, convolution);
    finish(sums, tail.residual, tail.activation)
}

fn finish<B: Backend>(
    sums: Tensor<B, 4>,
    residual: Option<Tensor<B, 4>>,
    activation: Activation,
) -> Tensor<B, 4> {
    activation.apply(match residual {
        Some(residual) => sums + residual,
        None => sums,
    })
}

/// By the backend's own convolution.
fn on_backend<B: Backend>(
    x: Tensor<B, 4>,
    weight: Tensor<B, 4>,
    bias: Option<Tensor<B, 1>>,
    convolution: Convolution,
) -> Tensor<B, 4> {
    let Convolution {
        stride,
        padding,
        groups,
    } = convolution;
    let [_, _, height, width] = x.dims();
    let [_, _, kernel_height, kernel_width] = weight.dims();
    let (top, bottom) = padding.sides(height, kernel_height, stride);
    let (left, right) = padding.sides(width, kernel_width, stride);
    // Backends pad symmetrically while they read; only a lopsided border costs a copy.
    let (x, inner) = if top == bottom && left == right {
        (x, [top, left])
    } else {
        let zeros = PadMode::Constant(0.0);
        (x.pad((left, right, top, bottom), zeros), [0, 0])
    };
    let options = ConvOptions::new([stride, stride], inner, [1, 1], groups);
    module::conv2d(x, weight, bias, options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::assert_close;
    use burn_flex::Flex;

    fn ramp(shape: [usize; 4]) -> Tensor<Flex, 4> {
        let count = shape.iter().product::<usize>() as i64;
        Tensor::<Flex, 1, Int>::arange(0..count, &Default::default())
            .float()
            .reshape(shape)
    }

    #[test]
    fn same_padding_adds_the_odd_zero_behind() {
        // timm.layers.Conv2dSame(1, 1, 3, stride=2, bias=False), weight 0..9, input 0..24 as 4 x 6.
        let same = Convolution {
            stride: 2,
            padding: Padding::Same,
            groups: 1,
        };
        let y = conv2d(ramp([1, 1, 4, 6]), ramp([1, 1, 3, 3]), None, same);
        assert_eq!(y.dims(), [1, 1, 2, 3]);
        assert_close(y, &[366.0, 438.0, 294.0, 271.0, 301.0, 175.0], 0.0);
    }

    #[test]
    fn groups_and_bias_stay_with_their_channels() {
        let device = Default::default();
        let depthwise = Convolution {
            stride: 1,
            padding: Padding::Symmetric(0),
            groups: 2,
        };
        let weight = Tensor::<Flex, 4>::from_floats([[[[1.0]]], [[[10.0]]]], &device);
        let bias = Tensor::from_floats([0.5, -1.0], &device);
        let y = conv2d(ramp([1, 2, 1, 2]), weight, Some(bias), depthwise);
        assert_close(y, &[0.5, 1.5, 19.0, 29.0], 0.0);
    }
}
