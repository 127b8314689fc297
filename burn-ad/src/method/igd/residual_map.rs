//! From reconstructions to one number a pixel (eq. 17).

use burn::prelude::*;
use rayon::prelude::*;

use super::config::Strategy;
use super::objective::Objective;
use crate::tensors::to_vec;

/// Shares of red, green and blue in a grey value.
const GREY: [f32; 3] = [0.2989, 0.5870, 0.1140];

/// For each image `[side, side]`: the grey value of `(1 - rho) sum_s w_s (1 - relu(ssim_s)) + rho |x - x^| / L`
/// of each channel, where the SSIM map of scale `s`, smaller than the image, is brought to its size by the
/// nearest neighbour; under `mse` that of the squared error.
///
/// `images` and `found` are `[batch, 3, side, side]`.
pub(super) fn residual_maps<B: Backend>(
    objective: &Objective,
    images: Tensor<B, 4>,
    found: Tensor<B, 4>,
) -> Vec<Vec<f32>> {
    let [_, _, height, width] = images.dims();
    let area = height * width;
    let (rho, weights) = (objective.loss.rho as f32, &objective.ssim.weights);
    if objective.strategy == Strategy::Mse {
        let errors = to_vec((images - found).square());
        let of_image = |errors: &[f32]| grey(errors, area);
        return errors.par_chunks_exact(3 * area).map(of_image).collect();
    }
    let scales: Vec<(Vec<f32>, [usize; 2], f32)> = objective
        .ssim
        .maps(images.clone(), found.clone())
        .into_iter()
        .zip(weights)
        .map(|(map, &weight)| {
            let [_, _, rows, columns] = map.dims();
            (to_vec(map), [rows, columns], (1.0 - rho) * weight as f32)
        })
        .collect();
    let errors = to_vec((images - found).abs() * (f64::from(rho) / objective.ssim.range));
    let maps = errors.par_chunks_exact(3 * area).enumerate();
    maps.map(|(image, errors)| {
        let mut residuals = errors.to_vec();
        for (channel, residuals) in residuals.chunks_exact_mut(area).enumerate() {
            for (map, [rows, columns], weight) in &scales {
                let map = &map[(3 * image + channel) * rows * columns..][..rows * columns];
                for (row, line) in residuals.chunks_exact_mut(width).enumerate() {
                    let from = &map[row * rows / height * columns..][..*columns];
                    for (column, value) in line.iter_mut().enumerate() {
                        *value += weight * (1.0 - from[column * columns / width].max(0.0));
                    }
                }
            }
        }
        grey(&residuals, area)
    })
    .collect()
}

/// One plane of three.
fn grey(planes: &[f32], area: usize) -> Vec<f32> {
    let mut grey = vec![0.0; area];
    for (plane, share) in planes.chunks_exact(area).zip(GREY) {
        for (sum, value) in grey.iter_mut().zip(plane) {
            *sum += share * value.max(0.0);
        }
    }
    grey
}
