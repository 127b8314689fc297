//! Bilinear resizing as two matrix products, differentiable on every backend.

use burn::prelude::*;

use super::cpu;

/// Bilinear resizing without antialiasing, as PyTorch's
/// `interpolate(mode = "bilinear", antialias = False)`.
///
/// `x` is `[batch, channels, height, width]`, `size` is `[height, width]` of the result.
/// `align_corners`: whether the centres of the corner pixels coincide, or the outer edges do.
///
/// # Panics
/// When a side of `x` or of `size` is zero.
pub fn resize_bilinear<B: Backend>(
    x: Tensor<B, 4>,
    size: [usize; 2],
    align_corners: bool,
) -> Tensor<B, 4> {
    let [batch, channels, height, width] = x.dims();
    let [new_height, new_width] = size;
    assert!(
        height > 0 && width > 0 && new_height > 0 && new_width > 0,
        "cannot resize {height} x {width} to {new_height} x {new_width}"
    );
    let device = x.device();
    let mut maps = cpu::row_major(x).reshape([batch * channels, height, width]);
    if height != new_height {
        let rows = interpolation_matrix::<B>(height, new_height, align_corners, &device);
        maps = rows.unsqueeze::<3>().matmul(maps);
    }
    if width != new_width {
        let columns = interpolation_matrix::<B>(width, new_width, align_corners, &device);
        // One large product: every row of every map is resized alike.
        maps = maps
            .reshape([batch * channels * new_height, width])
            .matmul(columns.transpose())
            .reshape([batch * channels, new_height, new_width]);
    }
    maps.reshape([batch, channels, new_height, new_width])
}

/// `[to, from]`; each row holds the two weights of one output position.
fn interpolation_matrix<B: Backend>(
    from: usize,
    to: usize,
    align_corners: bool,
    device: &B::Device,
) -> Tensor<B, 2> {
    let mut matrix = vec![0.0f32; to * from];
    for (position, row) in matrix.chunks_exact_mut(from).enumerate() {
        let source = if align_corners {
            // A single output position is the first pixel, as in PyTorch.
            position as f64 * (from - 1) as f64 / (to - 1).max(1) as f64
        } else {
            ((position as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0)
        };
        let first = (source as usize).min(from - 1);
        let second = (first + 1).min(from - 1);
        let weight = (source - first as f64) as f32;
        row[first] += 1.0 - weight;
        row[second] += weight;
    }
    Tensor::from_data(TensorData::new(matrix, [to, from]), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::assert_close;
    use burn_flex::Flex;

    /// Two channels of 2 x 3, value `7 i mod 11` at index `i`.
    fn wave() -> Tensor<Flex, 4> {
        let values: Vec<f32> = (0..12).map(|i| (i * 7 % 11) as f32).collect();
        Tensor::from_data(TensorData::new(values, [1, 2, 2, 3]), &Default::default())
    }

    // Expected values: torch.nn.functional.interpolate on the same input.

    #[test]
    fn outer_edges_coincide_as_in_torch() {
        let expected = [
            1.75, 4.0, 3.5625, 3.75, 7.1875, 3.25, 9.0, 3.0, 8.0, 2.0, 7.75, 1.75, 7.25, 1.25, 7.0,
            1.0,
        ];
        assert_close(resize_bilinear(wave(), [4, 2], false), &expected, 1e-5);
        let expected = [
            0.0, 2.8, 7.0, 4.6, 3.0, 5.0, 5.6, 6.5, 4.1, 2.5, 10.0, 8.4, 6.0, 3.6, 2.0, 9.0, 7.4,
            5.0, 2.6, 1.0, 8.5, 6.9, 4.5, 2.1, 0.5, 8.0, 6.4, 4.0, 1.6, 0.0,
        ];
        assert_close(resize_bilinear(wave(), [3, 5], false), &expected, 1e-5);
    }

    #[test]
    fn corner_centres_coincide_as_in_torch() {
        let expected = [
            0.0, 3.0, 3.333_333, 2.666_667, 6.666_667, 2.333_333, 10.0, 2.0, 9.0, 1.0, 8.666_666,
            0.666_667, 8.333_333, 0.333_333, 8.0, 0.0,
        ];
        assert_close(resize_bilinear(wave(), [4, 2], true), &expected, 1e-5);
        assert_close(resize_bilinear(wave(), [1, 1], true), &[0.0, 9.0], 1e-5);
        assert_close(resize_bilinear(wave(), [1, 1], false), &[6.5, 4.5], 1e-5);
    }

    #[test]
    fn the_same_size_changes_nothing() {
        let same = resize_bilinear(wave(), [2, 3], false);
        assert_eq!(same.to_data(), wave().to_data());
    }
}
