//! Two-dimensional convolution.

use burn::prelude::*;
use burn::tensor::module;
use burn::tensor::ops::{ConvOptions, PadMode};

use super::Padding;

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
