//! Pooling with a 3 x 3 window.

use burn::prelude::*;
use burn::tensor::module;
use burn_ad_kernels::Window;

use super::cpu::{self, pool::Pooling};

/// Maximum over 3 x 3 windows at every second position, as in the stem of a ResNet.
///
/// The border counts as minus infinity. `[batch, channels, height, width]` to half the size,
/// rounded up.
pub fn max_pool_3x3_stride_2<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 4> {
    match cpu::kernels_for::<B>() {
        Some(kernels) if cpu::is_f32(&x) => {
            let window = Window::square(3, 2, 1);
            cpu::close(cpu::pool::pool(
                kernels,
                cpu::open(x),
                Pooling::Maximum,
                window,
            ))
        }
        _ => module::max_pool2d(x, [3, 3], [2, 2], [1, 1], [1, 1], false),
    }
}

/// Mean over the 3 x 3 neighbourhood of every position; the size stays.
///
/// `count_border`: whether the zeros outside the map count in the divisor (always 9, PyTorch's
/// `count_include_pad`) or only the values inside do.
pub fn average_pool_3x3<B: Backend>(x: Tensor<B, 4>, count_border: bool) -> Tensor<B, 4> {
    match cpu::kernels_for::<B>() {
        Some(kernels) if cpu::is_f32(&x) => {
            let pooling = Pooling::Average { count_border };
            let window = Window::square(3, 1, 1);
            cpu::close(cpu::pool::pool(kernels, cpu::open(x), pooling, window))
        }
        _ => module::avg_pool2d(x, [3, 3], [1, 1], [1, 1], count_border, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::assert_close;
    use burn_flex::Flex;

    #[test]
    fn the_border_never_wins_the_maximum() {
        let x = Tensor::<Flex, 4>::full([1, 1, 3, 5], -2.0, &Default::default());
        let y = max_pool_3x3_stride_2(x);
        assert_eq!(y.dims(), [1, 1, 2, 3]);
        assert_close(y, &[-2.0; 6], 0.0);
    }

    #[test]
    fn average_counts_the_border_only_on_request() {
        let x =
            || Tensor::<Flex, 4>::from_floats([[[[1.0, 2.0], [3.0, 12.0]]]], &Default::default());
        assert_close(average_pool_3x3(x(), true), &[2.0; 4], 1e-6);
        assert_close(average_pool_3x3(x(), false), &[4.5; 4], 1e-6);
    }
}
