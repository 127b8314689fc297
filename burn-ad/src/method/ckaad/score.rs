//! From feature maps and their reconstructions to scores (eq. 14).

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

use crate::data::Region;
use crate::method::padding;
use crate::ops::{gaussian_blur, position_cosines, resize_bilinear};
use crate::tensors::to_vec;

/// What becomes of the errors of single positions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scoring {
    /// Side of the input in pixels.
    pub(super) size: usize,
    /// Standard deviation of the smoothing, in pixels.
    pub(super) sigma: f64,
    /// Greatest pixels that make the image's score; 0 for all.
    pub(super) top_pixels: usize,
}

impl Scoring {
    /// Anomaly maps `[batch, size, size]`: the sum over taps of `1 - cos`, brought to the input's size
    /// (bilinear, corners aligned) and smoothed.
    pub(super) fn maps<B: Backend>(
        &self,
        features: &[Tensor<B, 4>],
        reconstructions: Vec<Tensor<B, 4>>,
        valid: &[Region],
    ) -> Tensor<B, 3> {
        let taps = features.iter().zip(reconstructions);
        let maps = taps.map(|(feature, found)| {
            let error = position_cosines(feature.clone(), found).neg() + 1.0;
            let error = padding::extend_over_padding(error, valid, self.size);
            let error = error.unsqueeze_dim::<4>(1);
            resize_bilinear(error, [self.size; 2], true).squeeze_dim::<3>(1)
        });
        let sum = maps.reduce(|sum, map| sum + map);
        gaussian_blur(sum.expect("there is at least one tap"), self.sigma)
    }

    /// The mean of the greatest pixels of each picture, `[batch]`.
    pub(super) fn scores<B: Backend>(&self, maps: &Tensor<B, 3>, valid: &[Region]) -> Tensor<B, 1> {
        let values = to_vec(maps.clone());
        let maps_of = values.chunks(self.size * self.size).zip(valid);
        let scores: Vec<f32> = maps_of
            .map(|(map, region)| mean_of_greatest(region.values(map, self.size), self.top_pixels))
            .collect();
        let count = scores.len();
        Tensor::from_data(TensorData::new(scores, [count]), &maps.device())
    }
}

/// The mean of the `count` greatest values, of all when there are fewer or `count` is 0.
fn mean_of_greatest(mut values: Vec<f32>, count: usize) -> f32 {
    let count = match count {
        0 => values.len(),
        some => some.min(values.len()),
    };
    if count < values.len() {
        values.select_nth_unstable_by(count, |a, b| b.total_cmp(a));
    }
    let sum: f64 = values[..count].iter().map(|&value| f64::from(value)).sum();
    (sum / count as f64) as f32
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use burn_flex::Flex;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Reference {
        size: usize,
        images: usize,
        /// Channels and side.
        shapes: Vec<[usize; 2]>,
        taps: Vec<Vec<f32>>,
        reconstructions: Vec<Vec<f32>>,
        map: Vec<f32>,
        scores: Scores,
    }

    #[derive(Deserialize)]
    struct Scores {
        top_10: Vec<f32>,
        top_100: Vec<f32>,
        mean: Vec<f32>,
    }

    #[test]
    fn maps_and_scores_are_those_of_torch_and_scipy() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/fixtures/ckaad/scoring.json"
        );
        let reference: Reference =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let device = Default::default();
        let maps = |values: &[Vec<f32>]| -> Vec<Tensor<Flex, 4>> {
            let shapes = values.iter().zip(&reference.shapes);
            shapes
                .map(|(values, &[channels, side])| {
                    let shape = [reference.images, channels, side, side];
                    Tensor::from_data(TensorData::new(values.clone(), shape), &device)
                })
                .collect()
        };
        let whole = Region {
            top: 0,
            left: 0,
            height: reference.size,
            width: reference.size,
        };
        let valid = vec![whole; reference.images];
        let Scores {
            top_10,
            top_100,
            mean,
        } = &reference.scores;
        for (top_pixels, expected) in [(10, top_10), (100, top_100), (0, mean), (10_000, mean)] {
            let scoring = Scoring {
                size: reference.size,
                sigma: 4.0,
                top_pixels,
            };
            let found = scoring.maps(
                &maps(&reference.taps),
                maps(&reference.reconstructions),
                &valid,
            );
            for (a, b) in to_vec(found.clone()).iter().zip(&reference.map) {
                assert!((a - b).abs() < 2e-6, "{a} {b}");
            }
            let scores = to_vec(scoring.scores(&found, &valid));
            assert_eq!(scores.len(), expected.len());
            for (a, b) in scores.iter().zip(expected) {
                assert!((a - b).abs() < 2e-6, "{a} {b}");
            }
        }
    }
}
