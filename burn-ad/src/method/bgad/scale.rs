//! The maxima that turn likelihoods into scores.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

use super::Bgad;
use crate::data::Region;
use crate::method::padding::max_inside;
use crate::tensors::to_vec;

/// What likelihoods and their sum are compared with.
///
/// Differs from the paper by default: its maxima are those of the test set, so that a score depends
/// on the other images; ours are those of the training normals and stay with the model.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scale {
    /// The largest log-likelihood a dimension of each tap.
    pub(super) likelihood_maxima: Vec<f32>,
    /// The largest sum over taps of relative likelihoods.
    pub(super) normality_maximum: f32,
}

impl Scale {
    /// Before anything is known.
    pub(super) fn unset(taps: usize) -> Self {
        Self {
            likelihood_maxima: vec![0.0; taps],
            normality_maximum: 0.0,
        }
    }
}

/// Collects likelihood maps and finds their maxima.
pub(super) struct ScaleFit {
    maxima: Vec<f32>,
    /// One entry an image: its maps, one a tap, and where its picture lies.
    images: Vec<(Vec<Vec<f32>>, Region)>,
}

impl ScaleFit {
    pub(super) fn new(taps: usize) -> Self {
        Self {
            maxima: vec![f32::NEG_INFINITY; taps],
            images: Vec::new(),
        }
    }

    /// Adds the maps of a batch, one tensor `[batch, rows, columns]` a tap.
    pub(super) fn add<B: Backend>(&mut self, maps: Vec<Tensor<B, 3>>, valid: &[Region]) {
        let first = self.images.len();
        self.images
            .extend(valid.iter().map(|region| (Vec::new(), *region)));
        for (map, largest) in maps.into_iter().zip(&mut self.maxima) {
            let values = to_vec(map);
            *largest = values.iter().copied().fold(*largest, f32::max);
            let images = values.chunks_exact(values.len() / valid.len());
            for (values, (levels, _)) in images.zip(&mut self.images[first..]) {
                levels.push(values.to_vec());
            }
        }
    }

    /// The maxima over all images; without any image, the ones that change nothing.
    pub(super) fn finish<B: Backend>(self, bgad: &Bgad<B>, device: &B::Device) -> Scale {
        if self.images.is_empty() {
            return Scale::unset(self.maxima.len());
        }
        let mut scaled = bgad.clone();
        scaled.scale.likelihood_maxima = self.maxima;
        let mut largest = f32::NEG_INFINITY;
        for (levels, region) in self.images {
            let maps = levels
                .into_iter()
                .zip(&bgad.taps.maps)
                .map(|(values, map)| {
                    let [rows, columns] = map.grid;
                    Tensor::from_data(TensorData::new(values, [1, rows, columns]), device)
                });
            let normality = scaled.normality(maps.collect());
            largest = to_vec(max_inside(&normality, &[region]))[0].max(largest);
        }
        Scale {
            normality_maximum: largest,
            ..scaled.scale
        }
    }
}
