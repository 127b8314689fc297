//! Nearest neighbours by matrix products.

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};

/// Rows of queries handled at once: bounds the distance matrix to `CHUNK * bank` values.
const CHUNK: usize = 2048;

/// Distance to the nearest row of `bank`, and which row that is.
///
/// `queries` is `[n, d]`, `bank` is `[k, d]`; both results are `[n]`. The distance is Euclidean,
/// from `|q|^2 - 2 q.b + |b|^2`, clamped at 0. Centre both sides on a common mean first: the error
/// grows with the norms, not with the distance. The lowest index wins a tie on most backends.
///
/// # Panics
/// If the bank is empty or the widths differ.
pub fn nearest<B: Backend>(
    queries: Tensor<B, 2>,
    bank: &Tensor<B, 2>,
) -> (Tensor<B, 1>, Tensor<B, 1, Int>) {
    let [rows, _] = queries.dims();
    let half_norms = bank.clone().square().sum_dim(1).transpose() * 0.5;
    let transposed = bank.clone().transpose();
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
        let (distance, index) = nearest(tensor(&queries, n), &tensor(&bank, k));
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
            assert_eq!(index[row] as usize, best);
            assert!((f64::from(distance[row]) - all[best]).abs() < 1e-5);
        }
    }
}
