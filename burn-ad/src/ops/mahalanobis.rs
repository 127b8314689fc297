//! Distances to Gaussians.

use burn::prelude::*;

use super::cpu::{self, Kernels};

/// For `features` `[batch, positions, width]` on `grid` (rows, columns), the smallest Mahalanobis
/// distance `|W (x - mean)|` to the Gaussians of the positions at most `reach` cells away:
/// `[batch, positions]`.
///
/// `means` is `[positions, 1, width]`; `factors` holds the lower triangle `W` of each position, row
/// by row. For backends of which [`has_kernels`](super::has_kernels) holds, or held when the
/// triangles were packed.
///
/// # Panics
/// For other backends, and if sizes do not fit.
pub(crate) fn mahalanobis_in_window<B: Backend>(
    features: Tensor<B, 3>,
    grid: [usize; 2],
    means: Tensor<B, 3>,
    factors: &[f32],
    reach: usize,
) -> Tensor<B, 2> {
    let [batch, positions, _] = features.dims();
    assert_eq!(positions, grid[0] * grid[1], "positions of the grid");
    let device = features.device();
    let distances = cpu::mahalanobis::in_window(
        Kernels::current(),
        cpu::open(features),
        grid,
        cpu::open(means),
        factors,
        reach,
    );
    Tensor::from_data(TensorData::new(distances, [batch, positions]), &device)
}
