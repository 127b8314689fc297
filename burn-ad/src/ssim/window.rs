//! Gaussian windows on images, as two matrix products.

use burn::prelude::*;

/// Weighted mean and variance below the window at every place where it lies on the image,
/// `[maps, height - window + 1, width - window + 1]`.
pub(super) struct Moments<B: Backend> {
    pub(super) mean: Tensor<B, 3>,
    /// Never below 0 but by rounding.
    pub(super) variance: Tensor<B, 3>,
}

/// The window on images of one size.
pub(super) struct Window<B: Backend> {
    /// `[height - window + 1, height]`
    down: Tensor<B, 3>,
    /// `[width, width - window + 1]`
    across: Tensor<B, 2>,
}

impl<B: Backend> Window<B> {
    /// # Panics
    /// When a side is smaller than the window.
    pub(super) fn new(
        window: usize,
        sigma: f64,
        [height, width]: [usize; 2],
        device: &B::Device,
    ) -> Self {
        let weights = gaussian(window, sigma);
        Self {
            down: bands(&weights, height, device).unsqueeze(),
            across: bands(&weights, width, device).transpose(),
        }
    }

    /// Of maps `[maps, height, width]`.
    pub(super) fn moments(&self, maps: Tensor<B, 3>) -> Moments<B> {
        let mean = self.smooth(maps.clone());
        let variance = self.smooth(maps.square()) - mean.clone().square();
        Moments { mean, variance }
    }

    fn smooth(&self, maps: Tensor<B, 3>) -> Tensor<B, 3> {
        let [count, height, width] = maps.dims();
        let [_, narrow] = self.across.dims();
        // One large product: all rows of all maps.
        let rows = maps.reshape([count * height, width]);
        let rows = rows.matmul(self.across.clone());
        self.down
            .clone()
            .matmul(rows.reshape([count, height, narrow]))
    }
}

/// Weights of the window, whose sum is 1.
pub(super) fn gaussian(window: usize, sigma: f64) -> Vec<f64> {
    let centre = (window / 2) as f64;
    let weight = |at: usize| (-0.5 * ((at as f64 - centre) / sigma).powi(2)).exp();
    let weights: Vec<f64> = (0..window).map(weight).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}

/// `[side - window + 1, side]`; row `i` has the weights at `i..i + window`.
fn bands<B: Backend>(weights: &[f64], side: usize, device: &B::Device) -> Tensor<B, 2> {
    let window = weights.len();
    assert!(
        side >= window,
        "a side of {side} pixels is smaller than the window of {window}"
    );
    let places = side - window + 1;
    let mut matrix = vec![0.0f32; places * side];
    for (place, row) in matrix.chunks_exact_mut(side).enumerate() {
        for (value, weight) in row[place..].iter_mut().zip(weights) {
            *value = *weight as f32;
        }
    }
    Tensor::from_data(TensorData::new(matrix, [places, side]), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::assert_close;
    use burn_flex::Flex;

    #[test]
    fn a_window_gives_weighted_mean_and_variance() {
        let device = Default::default();
        let weights = gaussian(3, 1.5);
        // exp(-1 / 4.5) against 1.
        assert!((weights[0] / weights[1] - 0.800_737_4).abs() < 1e-7);
        assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-15);
        let window = Window::<Flex>::new(3, 1.5, [3, 4], &device);
        let map = [
            [1.0, 2.0, 4.0, 0.0],
            [0.0, -1.0, 3.0, 5.0],
            [2.0, 2.0, 2.0, -3.0],
        ];
        let mut expected = [[0.0; 2]; 2];
        for (row, down) in map.iter().zip(&weights) {
            for (place, moments) in expected.iter_mut().enumerate() {
                for (value, across) in row[place..].iter().zip(&weights) {
                    moments[0] += value * down * across;
                    moments[1] += value * value * down * across;
                }
            }
        }
        let values = map.map(|row| row.map(|value| value as f32));
        let found = window.moments(Tensor::<Flex, 2>::from_floats(values, &device).unsqueeze());
        assert_eq!(found.mean.dims(), [1, 1, 2]);
        let mean = expected.map(|[mean, _]| mean as f32);
        assert_close(found.mean, &mean, 1e-6);
        let variance = expected.map(|[mean, square]| (square - mean * mean) as f32);
        assert_close(found.variance, &variance, 2e-6);
    }
}
