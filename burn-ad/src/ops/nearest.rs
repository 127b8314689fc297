//! Nearest neighbours.

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};

use super::cpu::{self, nearest::PackedBank};

/// Rows of queries handled at once: bounds the distance matrix to `CHUNK * bank` values.
const CHUNK: usize = 2048;

/// Vectors among which the nearest one is looked up.
#[derive(Clone, Debug)]
pub struct Neighbours<B: Backend> {
    members: Tensor<B, 2>,
    packed: PackedBank,
}

impl<B: Backend> Neighbours<B> {
    /// `members` are `[count, width]`.
    ///
    /// # Panics
    /// If there are none.
    pub fn new(members: Tensor<B, 2>) -> Self {
        assert!(members.dims()[0] > 0, "there are no members");
        Self {
            members,
            packed: PackedBank::default(),
        }
    }

    /// `[count, width]`.
    pub fn members(&self) -> &Tensor<B, 2> {
        &self.members
    }

    /// Distance to the nearest member, and which one that is.
    ///
    /// `queries` are `[n, width]`; both results are `[n]`. The distance is Euclidean. Members are
    /// compared by `|b|^2 - 2 q.b`, so centre both sides on a common mean first: the error grows
    /// with the norms, not with the distance. The lowest index wins a tie on most backends.
    ///
    /// # Panics
    /// If the widths differ.
    pub fn nearest(&self, queries: Tensor<B, 2>) -> (Tensor<B, 1>, Tensor<B, 1, Int>) {
        assert_eq!(queries.dims()[1], self.members.dims()[1], "width");
        let members = match cpu::open_without_gradient(self.members.clone()) {
            Ok((_, members)) => members,
            Err(_) => return self.nearest_on_backend(queries),
        };
        match cpu::open_without_gradient(queries) {
            Ok((kernels, queries)) => {
                let device = self.members.device();
                let (distances, indices) = self.packed.nearest(kernels, queries, members);
                (
                    Tensor::from_data(distances.as_slice(), &device),
                    Tensor::from_data(indices.as_slice(), &device),
                )
            }
            Err(queries) => self.nearest_on_backend(queries),
        }
    }

    /// By matrix products. The distance is from `|q|^2 - 2 q.b + |b|^2`, clamped at 0.
    fn nearest_on_backend(&self, queries: Tensor<B, 2>) -> (Tensor<B, 1>, Tensor<B, 1, Int>) {
        let [rows, _] = queries.dims();
        let half_norms = self.members.clone().square().sum_dim(1).transpose() * 0.5;
        let transposed = self.members.clone().transpose();
        let mut distances = Vec::new();
        let mut indices = Vec::new();
        for start in (0..rows).step_by(CHUNK) {
            let chunk = queries.clone().narrow(0, start, CHUNK.min(rows - start));
            let norms = chunk.clone().square().sum_dim(1);
            // Half the squared distance, less the query's own norm: the order is the same.
            let partial = half_norms.clone() - chunk.matmul(transposed.clone());
            let (smallest, index) = partial.min_dim_with_indices(1);
            let squared = smallest * 2.0 + norms;
            distances.push(squared.clamp_min(0.0).sqrt().squeeze_dim::<1>(1));
            indices.push(index.squeeze_dim::<1>(1));
        }
        (Tensor::cat(distances, 0), Tensor::cat(indices, 0))
    }
}

/// All Euclidean distances between the rows of `left` `[n, d]` and `right` `[m, d]`: `[n, m]`.
pub fn distances<B: Backend>(left: Tensor<B, 2>, right: Tensor<B, 2>) -> Tensor<B, 2> {
    let left_norms = left.clone().square().sum_dim(1);
    let right_norms = right.clone().square().sum_dim(1).transpose();
    (left.matmul(right.transpose()) * -2.0 + left_norms + right_norms)
        .clamp_min(0.0)
        .sqrt()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ops::Kernels;
    use burn_flex::Flex;
    use rand::RngExt;

    fn rows(count: usize, width: usize, seed: u64) -> Vec<f32> {
        let mut rng = crate::train::stream_rng(seed, "rows");
        (0..count * width)
            .map(|_| rng.random::<f32>() - 0.5)
            .collect()
    }

    #[test]
    fn nearest_matches_an_exhaustive_search_across_chunks() {
        let (n, k, d) = (CHUNK + 37, 53, 11);
        let (queries, bank) = (rows(n, d, 1), rows(k, d, 2));
        let device = Default::default();
        let tensor = |values: &[f32], rows: usize| {
            Tensor::<Flex, 2>::from_data(
                burn::tensor::TensorData::new(values.to_vec(), [rows, d]),
                &device,
            )
        };
        for kernels in ["off", "precise", "fast"] {
            let kernels: Kernels = kernels.parse().unwrap();
            let neighbours = Neighbours::new(tensor(&bank, k));
            let (distance, index) = kernels.scope(|| neighbours.nearest(tensor(&queries, n)));
            let distance: Vec<f32> = distance.into_data().to_vec().unwrap();
            let index: Vec<i32> = index.into_data().convert::<i32>().to_vec().unwrap();
            for row in 0..n {
                let all: Vec<f64> = (0..k)
                    .map(|b| {
                        (0..d)
                            .map(|c| f64::from(queries[row * d + c] - bank[b * d + c]).powi(2))
                            .sum::<f64>()
                            .sqrt()
                    })
                    .collect();
                let best = (0..k).min_by(|&a, &b| all[a].total_cmp(&all[b])).unwrap();
                assert_eq!(index[row] as usize, best, "{kernels}");
                assert!((f64::from(distance[row]) - all[best]).abs() < 1e-5);
            }
        }
    }
}
