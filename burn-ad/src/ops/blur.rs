//! Gaussian smoothing of score maps.

use burn::prelude::*;

/// Weights reach this many standard deviations from the centre (SciPy's default).
const TRUNCATE: f64 = 4.0;

/// Gaussian blur of maps `[batch, height, width]`, equal to
/// `scipy.ndimage.gaussian_filter(map, sigma, mode = "reflect", truncate = 4)`.
///
/// `sigma` is the standard deviation in pixels; zero leaves the maps as they are. The border
/// repeats mirrored, edge pixel included (`d c b a | a b c d | d c b a`).
///
/// # Panics
/// When `sigma` is negative or not finite.
pub fn gaussian_blur<B: Backend>(maps: Tensor<B, 3>, sigma: f64) -> Tensor<B, 3> {
    assert!(
        sigma >= 0.0 && sigma.is_finite(),
        "sigma must be finite and not negative, it is {sigma}"
    );
    let [batch, height, width] = maps.dims();
    if sigma == 0.0 {
        return maps;
    }
    let device = maps.device();
    let rows = blur_matrix::<B>(height, sigma, &device);
    let columns = blur_matrix::<B>(width, sigma, &device);
    rows.unsqueeze::<3>()
        .matmul(maps)
        .reshape([batch * height, width])
        .matmul(columns.transpose())
        .reshape([batch, height, width])
}

/// `[size, size]`; row `i` holds the weights of the output at position `i`.
fn blur_matrix<B: Backend>(size: usize, sigma: f64, device: &B::Device) -> Tensor<B, 2> {
    let radius = (TRUNCATE * sigma + 0.5) as i64;
    let kernel: Vec<f64> = (-radius..=radius)
        .map(|offset| (-0.5 * (offset as f64 / sigma).powi(2)).exp())
        .collect();
    let total: f64 = kernel.iter().sum();
    let mut matrix = vec![0.0f64; size * size];
    for (position, row) in matrix.chunks_exact_mut(size.max(1)).enumerate() {
        for (offset, weight) in (-radius..=radius).zip(&kernel) {
            row[reflect(position as i64 + offset, size)] += weight / total;
        }
    }
    let matrix: Vec<f32> = matrix.into_iter().map(|weight| weight as f32).collect();
    Tensor::from_data(TensorData::new(matrix, [size, size]), device)
}

/// The position inside `0..size` that a mirrored `index` shows.
fn reflect(index: i64, size: usize) -> usize {
    let size = size as i64;
    let folded = index.rem_euclid(2 * size);
    folded.min(2 * size - 1 - folded) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::assert_close;
    use burn_flex::Flex;

    /// Maps of 3 x 5, value `7 i mod 11` at index `i`; the second map is zero.
    fn maps() -> Tensor<Flex, 3> {
        let mut values: Vec<f32> = (0..15).map(|i| (i * 7 % 11) as f32).collect();
        values.resize(30, 0.0);
        Tensor::from_data(TensorData::new(values, [2, 3, 5]), &Default::default())
    }

    #[test]
    fn blur_equals_scipy_also_where_the_kernel_is_wider_than_the_map() {
        // scipy.ndimage.gaussian_filter(map, sigma, mode="reflect", truncate=4)
        let narrow = [
            2.350_561, 4.801_176, 5.360_138, 6.417_999, 6.774_322, 3.130_656, 4.846_007, 5.0,
            5.153_993, 6.869_343, 3.225_679, 3.582_001, 4.639_862, 5.198_824, 7.649_44,
        ];
        let wide = [
            4.914_11, 4.946_899, 5.000_027, 5.053_154, 5.085_944, 4.914_083, 4.946_873, 5.0,
            5.053_127, 5.085_917, 4.914_056, 4.946_846, 4.999_973, 5.053_101, 5.085_89,
        ];
        for (sigma, expected) in [(0.8, narrow), (4.0, wide)] {
            let mut both = expected.to_vec();
            both.resize(30, 0.0);
            assert_close(gaussian_blur(maps(), sigma), &both, 1e-5);
        }
    }

    #[test]
    fn zero_sigma_changes_nothing() {
        assert_eq!(gaussian_blur(maps(), 0.0).to_data(), maps().to_data());
    }
}
