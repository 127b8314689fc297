//! Statistics and scaling of whole channels, carried out on rows.

use burn::prelude::*;

use super::cpu;

/// Mean over all positions of each channel: `[batch, channels, height, width]` to
/// `[batch, channels, 1, 1]`.
pub fn position_mean<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 4> {
    match cpu::open_without_gradient(x) {
        Ok((kernels, x)) => cpu::close(cpu::channels::position_mean(kernels, x)),
        Err(x) => mean_on_backend(x),
    }
}

fn mean_on_backend<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 4> {
    let [batch, channels, height, width] = x.dims();
    x.reshape([batch * channels, height * width])
        .mean_dim(1)
        .reshape([batch, channels, 1, 1])
}

/// Multiplies every channel of every image by its own factor.
///
/// `x` is `[batch, channels, height, width]`, `scale` is `[batch, channels, 1, 1]`.
pub fn scale_channels<B: Backend>(x: Tensor<B, 4>, scale: Tensor<B, 4>) -> Tensor<B, 4> {
    let scale = match cpu::open_without_gradient(scale) {
        Ok((_, scale)) => scale,
        Err(scale) => return scale_on_backend(x, scale),
    };
    match cpu::open_without_gradient(x) {
        Ok((kernels, x)) => cpu::close(cpu::channels::scale(kernels, x, scale)),
        Err(x) => scale_on_backend(x, cpu::close(scale)),
    }
}

fn scale_on_backend<B: Backend>(x: Tensor<B, 4>, scale: Tensor<B, 4>) -> Tensor<B, 4> {
    let shape @ [batch, channels, height, width] = x.dims();
    let rows = x.reshape([batch * channels, height * width]);
    (rows * scale.reshape([batch * channels, 1])).reshape(shape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::assert_close;
    use burn_flex::Flex;

    #[test]
    fn each_image_and_channel_has_its_own_mean_and_scale() {
        let device = Default::default();
        let x = Tensor::<Flex, 4>::from_floats(
            [[[[1.0, 3.0]], [[0.0, 4.0]]], [[[5.0, 5.0]], [[-1.0, 1.0]]]],
            &device,
        );
        let mean = position_mean(x.clone());
        assert_eq!(mean.dims(), [2, 2, 1, 1]);
        assert_close(mean.clone(), &[2.0, 2.0, 5.0, 0.0], 0.0);
        let scaled = scale_channels(x, mean);
        assert_close(scaled, &[2.0, 6.0, 0.0, 8.0, 25.0, 25.0, 0.0, 0.0], 0.0);
    }
}
