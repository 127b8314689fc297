//! Half and double the sides of a map, and sums of maps: what residual blocks are joined by.

use burn::prelude::*;
use burn::tensor::module;

use super::cpu::{self, halves::Change};

/// Mean over windows of 2 x 2: `[batch, channels, height, width]` to half the sides.
///
/// # Panics
/// When a side is odd.
pub fn mean_pool_2x2<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 4> {
    let [_, _, height, width] = x.dims();
    assert!(
        height.is_multiple_of(2) && width.is_multiple_of(2),
        "sides of {height} x {width} are not even"
    );
    match cpu::kernels_for::<B>() {
        Some(kernels) if cpu::is_f32(&x) => {
            cpu::close(cpu::halves::change(kernels, cpu::open(x), Change::Mean))
        }
        _ => module::avg_pool2d(x, [2, 2], [2, 2], [0, 0], true, false),
    }
}

/// Each position becomes 2 x 2 equal ones: `[batch, channels, height, width]` to twice the sides.
pub fn upsample_nearest_2x<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 4> {
    if let Some(kernels) = cpu::kernels_for::<B>()
        && cpu::is_f32(&x)
    {
        return cpu::close(cpu::halves::change(kernels, cpu::open(x), Change::Repeat));
    }
    let [batch, channels, height, width] = x.dims();
    let rows = batch * channels * height;
    x.reshape([rows, 1, width, 1])
        .expand([rows, 2, width, 2])
        .reshape([batch, channels, 2 * height, 2 * width])
}

/// Sum of two maps of one size.
///
/// # Panics
/// When their sizes differ.
pub fn add<B: Backend>(a: Tensor<B, 4>, b: Tensor<B, 4>) -> Tensor<B, 4> {
    assert_eq!(a.dims(), b.dims(), "sizes of maps to add");
    match cpu::kernels_for::<B>() {
        Some(kernels) if cpu::is_f32(&a) && cpu::is_f32(&b) => {
            cpu::close(cpu::halves::add(kernels, cpu::open(a), cpu::open(b)))
        }
        _ => a + b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::assert_close;
    use burn_autodiff::Autodiff;
    use burn_flex::Flex;

    type AB = Autodiff<Flex>;

    /// Squares of `0..count`, a quarter of each.
    fn squares(shape: [usize; 4]) -> Tensor<AB, 4> {
        let count = shape.iter().product::<usize>() as i64;
        let ramp = Tensor::<AB, 1, Int>::arange(0..count, &Default::default()).float();
        (ramp.square() / 4.0).reshape(shape).detach().require_grad()
    }

    #[test]
    fn windows_become_their_mean() {
        let x = squares([1, 2, 2, 4]);
        let y = mean_pool_2x2(x.clone());
        assert_eq!(y.dims(), [1, 2, 1, 2]);
        // torch.nn.functional.avg_pool2d(x, 2)
        assert_close(y.clone(), &[2.625, 6.125, 28.625, 40.125], 0.0);
        let weights = Tensor::from_floats([[[[4.0, 8.0]], [[-4.0, 2.0]]]], &Default::default());
        let gradients = (y * weights).sum().backward();
        let expected = [
            1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0, -1.0, -1.0, 0.5, 0.5, -1.0, -1.0, 0.5, 0.5,
        ];
        assert_close(x.grad(&gradients).expect("used"), &expected, 0.0);
    }

    #[test]
    #[should_panic(expected = "not even")]
    fn odd_sides_have_no_half() {
        mean_pool_2x2(squares([1, 1, 2, 3]));
    }

    #[test]
    fn positions_become_four() {
        let x = squares([1, 2, 1, 2]);
        let y = upsample_nearest_2x(x.clone());
        assert_eq!(y.dims(), [1, 2, 2, 4]);
        // torch.nn.functional.interpolate(x, scale_factor=2, mode="nearest")
        let expected = [
            0.0, 0.0, 0.25, 0.25, 0.0, 0.0, 0.25, 0.25, 1.0, 1.0, 2.25, 2.25, 1.0, 1.0, 2.25, 2.25,
        ];
        assert_close(y.clone(), &expected, 0.0);
        let gradients = (y * squares([1, 2, 2, 4])).sum().backward();
        // Sums of the windows of the squares.
        let expected = [10.5, 24.5, 114.5, 160.5];
        assert_close(x.grad(&gradients).expect("used"), &expected, 0.0);
    }

    #[test]
    fn both_parts_of_a_sum_have_its_gradient() {
        let (a, b) = (squares([1, 1, 1, 3]), squares([1, 1, 1, 3]));
        let y = add(a.clone(), add(b.clone(), a.clone()));
        assert_close(y.clone(), &[0.0, 0.75, 3.0], 0.0);
        let gradients = (y * squares([1, 1, 1, 3])).sum().backward();
        assert_close(a.grad(&gradients).expect("used"), &[0.0, 0.5, 2.0], 0.0);
        assert_close(b.grad(&gradients).expect("used"), &[0.0, 0.25, 1.0], 0.0);
    }
}
