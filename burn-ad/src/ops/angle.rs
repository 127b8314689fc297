//! Directions of vectors and cosines between feature maps.

use burn::prelude::*;

use super::cpu;

/// Shorter vectors are divided by this (PyTorch's `normalize`).
const SHORTEST: f64 = 1e-12;
/// The product of lengths counts as at least this (PyTorch's `cosine_similarity`).
const SMALLEST: f64 = 1e-8;

/// The vector of every position divided by its Euclidean length; `[batch, channels, height, width]`.
pub fn unit_channels<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 4> {
    match cpu::kernels_for::<B>() {
        Some(kernels) if cpu::is_f32(&x) => {
            cpu::close(cpu::angle::unit_channels(kernels, cpu::open(x)))
        }
        _ => {
            let lengths = x.clone().square().sum_dim(1).sqrt().clamp_min(SHORTEST);
            x / lengths
        }
    }
}

/// The cosine between the whole maps of each image, `[batch]`; 0 where a map is all zeros.
///
/// Both are `[batch, channels, height, width]`.
///
/// # Panics
/// If sizes differ.
pub fn map_cosines<B: Backend>(target: Tensor<B, 4>, x: Tensor<B, 4>) -> Tensor<B, 1> {
    let [batch, ..] = x.dims();
    assert_eq!(target.dims(), x.dims(), "sizes of maps");
    if let Some(kernels) = cpu::kernels_for::<B>()
        && cpu::is_f32(&x)
        && cpu::is_f32(&target)
    {
        let target = cpu::open(target);
        if !cpu::needs_gradient(&target) {
            return cpu::close(cpu::angle::map_cosines(kernels, target, cpu::open(x)));
        }
        return cosines_on_backend(cpu::close(target), x, batch);
    }
    cosines_on_backend(target, x, batch)
}

fn cosines_on_backend<B: Backend>(
    target: Tensor<B, 4>,
    x: Tensor<B, 4>,
    batch: usize,
) -> Tensor<B, 1> {
    let rows = |x: Tensor<B, 4>| -> Tensor<B, 2> { x.reshape([batch as i32, -1]) };
    let (target, x) = (rows(target), rows(x));
    let sum = |x: Tensor<B, 2>| x.sum_dim(1).squeeze_dim::<1>(1);
    let lengths = sum(target.clone().square()) * sum(x.clone().square());
    // Beneath the root: the slope of a root is infinite at 0.
    let lengths = lengths.clamp_min(SMALLEST * SMALLEST).sqrt();
    sum(target * x) / lengths
}

/// The cosine between the vectors of each position, `[batch, height, width]`; 0 where one is nothing.
///
/// Both are `[batch, channels, height, width]`.
///
/// # Panics
/// If sizes differ.
pub fn position_cosines<B: Backend>(a: Tensor<B, 4>, b: Tensor<B, 4>) -> Tensor<B, 3> {
    assert_eq!(a.dims(), b.dims(), "sizes of maps");
    let on_backend = |a: Tensor<B, 4>, b: Tensor<B, 4>| {
        let length = |x: &Tensor<B, 4>| x.clone().square().sum_dim(1).sqrt();
        let lengths = (length(&a) * length(&b)).clamp_min(SMALLEST);
        ((a * b).sum_dim(1) / lengths).squeeze_dim::<3>(1)
    };
    match cpu::open_without_gradient(a) {
        Ok((kernels, a)) => match cpu::open_without_gradient(b) {
            Ok((_, b)) => cpu::close(cpu::angle::position_cosines(kernels, a, b)),
            Err(b) => on_backend(cpu::close(a), b),
        },
        Err(a) => on_backend(a, b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::assert_close;
    use burn_flex::Flex;

    #[test]
    fn directions_and_cosines_follow_their_formulas() {
        let device = Default::default();
        let x = Tensor::<Flex, 4>::from_floats([[[[3.0, 0.0]], [[4.0, 0.0]]]], &device);
        assert_close(unit_channels(x.clone()), &[0.6, 0.0, 0.8, 0.0], 1e-6);
        let other = Tensor::<Flex, 4>::from_floats([[[[4.0, 12.0]], [[3.0, 0.0]]]], &device);
        // (12 + 12) / (5 * 13)
        assert_close(map_cosines(x.clone(), other.clone()), &[24.0 / 65.0], 1e-6);
        assert_close(position_cosines(x.clone(), other), &[0.96, 0.0], 1e-6);
        assert_close(map_cosines(x.clone(), x * 0.0), &[0.0], 0.0);
    }
}
