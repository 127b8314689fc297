//! A training step of CKAAD: the discriminator's, then the auto-encoder's.

use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use burn_ad::backbone::BackboneConfig;
use burn_ad::method::ckaad::{CkaadConfig, Learner};

use crate::noise;

/// Networks as a run begins with them, for images of `size` pixels.
pub fn learner<AB: AutodiffBackend>(
    backbone: BackboneConfig,
    strides: &[usize],
    size: usize,
    device: &AB::Device,
) -> Learner<AB> {
    let config = CkaadConfig {
        taps: strides.to_vec(),
        ..CkaadConfig::medical()
    };
    let plan = config.plan(backbone).expect("the backbone has these taps");
    let deepest = strides.iter().max().copied().unwrap_or(1);
    Learner::new(&config, &plan, size / deepest, 0, device)
}

/// Feature maps of `images` images, none below zero, channels last in memory as training has them.
pub fn features<B: Backend>(
    backbone: BackboneConfig,
    strides: &[usize],
    [images, size]: [usize; 2],
    device: &B::Device,
) -> Vec<Tensor<B, 4>> {
    let info = backbone.feature_info();
    let levels = backbone.levels_at_strides(strides);
    let levels = levels.expect("the backbone has these taps").into_iter();
    levels
        .map(|level| {
            let side = size / info[level].stride;
            let shape = [images, side, side, info[level].channels];
            let values = noise::centred(11, shape.iter().product(), 1.0);
            let values: Vec<f32> = values.into_iter().map(f32::abs).collect();
            let rows = Tensor::<B, 4>::from_data(TensorData::new(values, shape), device);
            rows.permute([0, 3, 1, 2])
        })
        .collect()
}
