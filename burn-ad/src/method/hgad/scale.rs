//! From log-probabilities of single vectors to anomaly maps.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

use crate::data::Region;
use crate::method::padding::max_inside;
use crate::ops;
use crate::tensors::to_vec;

/// The maps of one kind of log-probability at all scales, of a batch: for each scale
/// `[batch, rows, columns]`.
pub(super) type Levels<B> = Vec<Tensor<B, 3>>;

/// What log-probabilities and their sum over scales are compared with.
///
/// The published conversion is `max(s) - s` with `s = sum over scales of upsampled exp(v - max v)`.
/// With `d = sum of upsampled 1 - exp(v - max v)` it is `d - min(d)`, which does not lose the
/// differences between probabilities near 1.
///
/// Differs from the paper by default: its extremes are those of the test set, so that a score
/// depends on the other images; ours are those of the training normals and stay with the model.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scale {
    /// The largest log-probability of each scale.
    pub(super) maxima: Vec<f32>,
    /// The smallest sum of deficits.
    pub(super) deficit: f32,
}

impl Scale {
    /// Before anything is known.
    pub(super) fn unset(scales: usize) -> Self {
        Self {
            maxima: vec![0.0; scales],
            deficit: 0.0,
        }
    }

    /// Anomaly maps `[batch, size, size]`, at least 0: what is more normal than everything the
    /// scale was fitted on is as good as that.
    pub(super) fn anomaly<B: Backend>(&self, levels: &Levels<B>, size: usize) -> Tensor<B, 3> {
        (self.deficits(levels, size) - self.deficit).clamp_min(0.0)
    }

    fn deficits<B: Backend>(&self, levels: &Levels<B>, size: usize) -> Tensor<B, 3> {
        let maps = levels.iter().zip(&self.maxima).map(|(level, &largest)| {
            let (shape, device) = (level.dims(), level.device());
            // On the host: not every backend has this function, and the maps are small.
            let deficits: Vec<f32> = to_vec(level.clone())
                .into_iter()
                .map(|value| -(value - largest).exp_m1())
                .collect();
            let level = Tensor::<B, 3>::from_data(TensorData::new(deficits, shape), &device);
            let level = level.unsqueeze_dim::<4>(1);
            ops::resize_bilinear(level, [size; 2], true).squeeze_dim::<3>(1)
        });
        maps.reduce(|sum, map| sum + map)
            .expect("validate() leaves at least one scale")
    }
}

/// Collects maps and finds their extremes.
pub(super) struct ScaleFit {
    maxima: Vec<f32>,
    /// One entry an image: its maps with their shapes, one a scale, and where its picture lies.
    images: Vec<(Vec<TensorData>, Region)>,
}

impl ScaleFit {
    pub(super) fn new(scales: usize) -> Self {
        Self {
            maxima: vec![f32::NEG_INFINITY; scales],
            images: Vec::new(),
        }
    }

    /// Adds the maps of a batch.
    pub(super) fn add<B: Backend>(&mut self, levels: &Levels<B>, valid: &[Region]) {
        let first = self.images.len();
        let new = valid.iter().map(|region| (Vec::new(), *region));
        self.images.extend(new);
        for (map, largest) in levels.iter().zip(&mut self.maxima) {
            let [_, rows, columns] = map.dims();
            let values = to_vec(map.clone());
            *largest = values.iter().copied().fold(*largest, f32::max);
            let images = values.chunks_exact(rows * columns);
            for (values, (levels, _)) in images.zip(&mut self.images[first..]) {
                levels.push(TensorData::new(values.to_vec(), [1, rows, columns]));
            }
        }
    }

    /// The extremes over all images; without any image, those that change nothing.
    pub(super) fn finish<B: Backend>(self, size: usize, device: &B::Device) -> Scale {
        if self.images.is_empty() {
            return Scale::unset(self.maxima.len());
        }
        let mut scale = Scale {
            maxima: self.maxima,
            deficit: 0.0,
        };
        let mut smallest = f32::INFINITY;
        for (levels, region) in self.images {
            let levels: Levels<B> = levels
                .into_iter()
                .map(|data| Tensor::from_data(data, device))
                .collect();
            let normality = scale.deficits(&levels, size).neg();
            smallest = smallest.min(-to_vec(max_inside(&normality, &[region]))[0]);
        }
        scale.deficit = smallest;
        scale
    }
}
