//! Mahalanobis distances by `burn-ad-kernels`.

use burn_ad_kernels::mahalanobis;

use super::settings::Kernels;
use super::tensor::{Cpu, contiguous, values};

/// For features `[batch, positions, width]` on `grid`, the smallest distance to the Gaussians at
/// most `reach` cells away; `factors` are lower triangles, row by row.
pub(crate) fn in_window(
    kernels: Kernels,
    features: Cpu,
    grid: [usize; 2],
    means: Cpu,
    factors: &[f32],
    reach: usize,
) -> Vec<f32> {
    let features = contiguous(features.into_primitive());
    let means = contiguous(means.into_primitive());
    let shape = features.layout().shape();
    let (batch, width) = (shape[0], shape[2]);
    let gaussians = mahalanobis::Gaussians {
        grid,
        dimension: width,
        means: values(&means),
        factors,
    };
    let mut out = vec![0.0; batch * grid[0] * grid[1]];
    let features = values(&features);
    mahalanobis::distances(kernels.isa, &gaussians, features, batch, reach, &mut out);
    out
}
