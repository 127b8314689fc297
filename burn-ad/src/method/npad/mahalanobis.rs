//! Mahalanobis distances on the device.

use std::sync::Arc;

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

use super::gaussian::{Whitening, pack, unpack};
use crate::error::Result;
use crate::ops;
use crate::tensors::{HostTensor, TensorSet, to_vec};

/// The Gaussian of each grid position, in the form that scoring needs: [`Npad`](super::Npad) scores with it.
#[derive(Clone, Debug)]
pub struct Gaussians<B: Backend> {
    /// `[positions, 1, width]`.
    means: Tensor<B, 3>,
    factors: Factors<B>,
}

/// Inverse Cholesky factors: made once at fit, so that scoring is one product without solves.
#[derive(Clone, Debug)]
enum Factors<B: Backend> {
    /// Transposed, `[positions, width, width]`: one batched matrix product on any device.
    Full(Tensor<B, 3>),
    /// Where our kernels compute, the lower triangles, row by row: scoring takes as long as they
    /// take to be read.
    Packed(Arc<Vec<f32>>),
}

/// Larger than any distance, yet finite: infinities do not survive every backend's `min`.
const FAR: f32 = 1e30;

impl<B: Backend> Gaussians<B> {
    /// From means and whitening matrices of vectors of `width` values.
    ///
    /// # Panics
    /// If there are not `width` times as many values in the matrices as in the means.
    pub fn new(host: Whitening, width: usize, device: &B::Device) -> Self {
        if ops::has_kernels::<B>() {
            let packed = pack(&host.matrices, width);
            return Self::from_packed(host.means, packed, width, device);
        }
        let positions = host.means.len() / width;
        let matrices = TensorData::new(host.matrices, [positions, width, width]);
        Self {
            means: means::<B>(host.means, width, device),
            factors: Factors::Full(Tensor::from_data(matrices, device).swap_dims(1, 2)),
        }
    }

    fn from_packed(means: Vec<f32>, packed: Vec<f32>, width: usize, device: &B::Device) -> Self {
        if !ops::has_kernels::<B>() {
            let matrices = unpack(&packed, width);
            return Self::new(Whitening { means, matrices }, width, device);
        }
        Self {
            means: self::means::<B>(means, width, device),
            factors: Factors::Packed(Arc::new(packed)),
        }
    }

    pub(super) fn save(&self, tensors: &mut TensorSet) {
        let [positions, _, width] = self.means.dims();
        let means = HostTensor::new([positions, width], to_vec(self.means.clone()));
        tensors.insert("gaussian.means", means);
        let packed = HostTensor::new([positions, width * (width + 1) / 2], self.packed());
        tensors.insert("gaussian.whitening", packed);
    }

    fn packed(&self) -> Vec<f32> {
        match &self.factors {
            Factors::Full(matrices) => {
                let [_, width, _] = matrices.dims();
                pack(&to_vec(matrices.clone().swap_dims(1, 2)), width)
            }
            Factors::Packed(packed) => packed.to_vec(),
        }
    }

    pub(super) fn load(
        tensors: &mut TensorSet,
        positions: usize,
        width: usize,
        device: &B::Device,
    ) -> Result<Self> {
        let means = tensors
            .take("gaussian.means", &[Some(positions), Some(width)])?
            .values;
        let triangle = Some(width * (width + 1) / 2);
        let packed = tensors
            .take("gaussian.whitening", &[Some(positions), triangle])?
            .values;
        Ok(Self::from_packed(means, packed, width, device))
    }

    /// For features `[batch, positions, width]` on `grid`, the smallest distance to the Gaussians
    /// at most `search` cells away: `[batch, positions]`.
    pub fn distances(
        &self,
        features: Tensor<B, 3>,
        grid: [usize; 2],
        search: usize,
    ) -> Tensor<B, 2> {
        let [batch, positions, width] = features.dims();
        let [rows, columns] = grid;
        let reach = search.min(rows.max(columns) - 1);
        let matrices = match &self.factors {
            Factors::Full(matrices) => matrices,
            Factors::Packed(packed) => {
                let means = self.means.clone();
                return ops::mahalanobis_in_window(features, grid, means, packed, reach);
            }
        };
        if reach == 0 {
            return self.to_own_position(features, matrices);
        }
        // Each Gaussian sees the features around it: it is read once for the whole window, which
        // is what bounds the speed.
        let padded = pad(features.reshape([batch, rows, columns, width]), reach, 0.0);
        let offsets = || (0..=2 * reach).flat_map(|u| (0..=2 * reach).map(move |v| (u, v)));
        let windows = offsets()
            .map(|(u, v)| padded.clone().narrow(1, u, rows).narrow(2, v, columns))
            .collect::<Vec<_>>();
        let count = windows.len();
        let windows = Tensor::cat(windows, 0).reshape([count * batch, positions, width]);
        let distances =
            self.to_own_position(windows, matrices)
                .reshape([count * batch, rows, columns]);
        // A Gaussian's window offset (u, v) belongs to the pixel (u - reach, v - reach) further.
        let distances = pad(distances.unsqueeze_dim::<4>(3), reach, FAR);
        offsets()
            .enumerate()
            .map(|(index, (u, v))| {
                distances
                    .clone()
                    .narrow(0, index * batch, batch)
                    .narrow(1, 2 * reach - u, rows)
                    .narrow(2, 2 * reach - v, columns)
            })
            .reduce(|a, b| a.min_pair(b))
            .expect("at least one offset")
            .reshape([batch, positions])
    }

    /// `[n, positions, width]` to `[n, positions]`, each feature against its own position.
    fn to_own_position(&self, features: Tensor<B, 3>, matrices: &Tensor<B, 3>) -> Tensor<B, 2> {
        let centred = features.swap_dims(0, 1) - self.means.clone();
        let whitened = centred.matmul(matrices.clone());
        whitened
            .square()
            .sum_dim(2)
            .sqrt()
            .squeeze_dim::<2>(2)
            .transpose()
    }
}

/// Adds `reach` cells of `value` on each side of dimensions 1 and 2.
fn pad<B: Backend>(tensor: Tensor<B, 4>, reach: usize, value: f32) -> Tensor<B, 4> {
    let [batch, rows, columns, width] = tensor.dims();
    let device = tensor.device();
    let side = |shape: [usize; 4]| Tensor::<B, 4>::full(shape, value, &device);
    let beside = side([batch, rows, reach, width]);
    let tensor = Tensor::cat(vec![beside.clone(), tensor, beside], 2);
    let above = side([batch, reach, columns + 2 * reach, width]);
    Tensor::cat(vec![above.clone(), tensor, above], 1)
}

fn means<B: Backend>(values: Vec<f32>, width: usize, device: &B::Device) -> Tensor<B, 3> {
    let positions = values.len() / width;
    Tensor::from_data(TensorData::new(values, [positions, 1, width]), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::stream_rng;
    use burn_flex::Flex;
    use rand::RngExt;

    #[test]
    fn the_smallest_distance_in_the_window_is_found() {
        let (grid, width, batch) = ([4, 5], 3, 2);
        let positions = grid[0] * grid[1];
        let mut rng = stream_rng(2, "mahalanobis");
        let mut draw = |count: usize| -> Vec<f32> { (0..count).map(|_| rng.random()).collect() };
        let means = draw(positions * width);
        let mut matrices = draw(positions * width * width);
        for (i, value) in matrices.iter_mut().enumerate() {
            if i % width > (i / width) % width {
                *value = 0.0;
            }
        }
        let features = draw(batch * positions * width);
        let device = Default::default();
        let host = Whitening {
            means: means.clone(),
            matrices: matrices.clone(),
        };
        let gaussians = Gaussians::<Flex>::new(host, width, &device);
        let direct = |image: usize, pixel: usize, gaussian: usize| -> f64 {
            (0..width)
                .map(|row| {
                    let dot: f64 = (0..width)
                        .map(|column| {
                            let x = features[(image * positions + pixel) * width + column];
                            let centred = f64::from(x - means[gaussian * width + column]);
                            f64::from(matrices[(gaussian * width + row) * width + column]) * centred
                        })
                        .sum();
                    dot * dot
                })
                .sum::<f64>()
                .sqrt()
        };
        for search in [0usize, 1, 2] {
            let data = TensorData::new(features.clone(), [batch, positions, width]);
            let found = to_vec(gaussians.distances(Tensor::from_data(data, &device), grid, search));
            for image in 0..batch {
                for pixel in 0..positions {
                    let near = |other: &usize| {
                        let (r, c) = (pixel / grid[1], pixel % grid[1]);
                        let (u, v) = (other / grid[1], other % grid[1]);
                        r.abs_diff(u) <= search && c.abs_diff(v) <= search
                    };
                    let expected = (0..positions)
                        .filter(near)
                        .map(|gaussian| direct(image, pixel, gaussian))
                        .fold(f64::INFINITY, f64::min);
                    let found = f64::from(found[image * positions + pixel]);
                    assert!((found - expected).abs() < 1e-5, "{search} {image} {pixel}");
                }
            }
        }
    }

    #[test]
    fn save_and_load_keep_every_value() {
        let mut rng = stream_rng(2, "save");
        let means: Vec<f32> = (0..4 * 3).map(|_| rng.random()).collect();
        let mut matrices = vec![0.0; 4 * 9];
        for (i, value) in matrices.iter_mut().enumerate() {
            if i % 3 <= (i / 3) % 3 {
                *value = rng.random();
            }
        }
        let device = Default::default();
        let host = Whitening {
            means: means.clone(),
            matrices: matrices.clone(),
        };
        let mut tensors = TensorSet::default();
        Gaussians::<Flex>::new(host, 3, &device).save(&mut tensors);
        let loaded = Gaussians::<Flex>::load(&mut tensors, 4, 3, &device).expect("just saved");
        assert_eq!(to_vec(loaded.means.clone()), means);
        assert_eq!(unpack(&loaded.packed(), 3), matrices);
    }
}
