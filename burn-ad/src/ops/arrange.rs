//! Feature maps put beside one another, and channels spread over positions.

use burn::prelude::*;

use super::cpu;

/// Maps of one size side by side: parts `[batch, channels_i, height, width]` to
/// `[batch, sum of channels_i, height, width]`.
///
/// # Panics
/// If there is no part, or sizes differ.
pub fn join_channels<B: Backend>(parts: Vec<Tensor<B, 4>>) -> Tensor<B, 4> {
    match cpu::kernels_for::<B>() {
        Some(kernels) if parts.iter().all(cpu::is_f32) => {
            let parts = parts.into_iter().map(cpu::open).collect();
            cpu::close(cpu::arrange::join_channels(kernels, parts))
        }
        _ => Tensor::cat(parts, 1),
    }
}

/// Each position becomes 2 x 2 positions: `[batch, 4 * channels, height, width]` to
/// `[batch, channels, 2 * height, 2 * width]`.
///
/// The first quarter of the channels goes to the upper left, the others to the upper right, the lower
/// left and the lower right. Behind a 1 x 1 convolution this is a transposed convolution with a kernel
/// of 2 x 2 and stride 2.
///
/// # Panics
/// If the number of channels is no multiple of 4.
pub fn depth_to_space<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 4> {
    let [batch, deep, height, width] = x.dims();
    assert!(
        deep.is_multiple_of(4),
        "{deep} channels do not make 2 x 2 positions"
    );
    match cpu::kernels_for::<B>() {
        Some(kernels) if cpu::is_f32(&x) => {
            cpu::close(cpu::arrange::depth_to_space(kernels, cpu::open(x)))
        }
        _ => x
            .reshape([batch, 2, 2, deep / 4, height, width])
            .permute([0, 3, 4, 1, 5, 2])
            .reshape([batch, deep / 4, 2 * height, 2 * width]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::assert_close;
    use burn_flex::Flex;

    #[test]
    fn a_transposed_convolution_is_a_convolution_and_a_spread() {
        let device = Default::default();
        // torch.nn.functional.conv_transpose2d(x, weight, stride=2) with x of one channel and a weight
        // [[[[1, 2], [3, 4]], [[5, 6], [7, 8]]]]: each value times the weight's window.
        let x = Tensor::<Flex, 4>::from_floats([[[[1.0, 10.0]]]], &device);
        let deep = Tensor::cat(
            [1.0, 5.0, 2.0, 6.0, 3.0, 7.0, 4.0, 8.0]
                .map(|w| x.clone() * w)
                .to_vec(),
            1,
        );
        let y = depth_to_space(deep);
        assert_eq!(y.dims(), [1, 2, 2, 4]);
        let expected = [
            1.0, 2.0, 10.0, 20.0, 3.0, 4.0, 30.0, 40.0, 5.0, 6.0, 50.0, 60.0, 7.0, 8.0, 70.0, 80.0,
        ];
        assert_close(y, &expected, 0.0);
    }

    #[test]
    fn parts_keep_their_order() {
        let device = Default::default();
        let a = Tensor::<Flex, 4>::from_floats([[[[1.0, 2.0]]], [[[3.0, 4.0]]]], &device);
        let y = join_channels(vec![a.clone() * 10.0, a]);
        assert_close(y, &[10.0, 20.0, 1.0, 2.0, 30.0, 40.0, 3.0, 4.0], 0.0);
    }
}
