//! IGD: a Gaussian classifier of latent vectors, an auto-encoder and an interpolation critic, trained by
//! expectation maximisation on whole images and on patches; with its ablations and Deep SVDD.
//!
//! Source: Chen, Tian, Pang, Carneiro, "Deep One-Class Classification via Interpolated Gaussian Descriptor",
//! AAAI 2022, and the published code for what the text leaves open.

mod config;
mod eye;
mod gaussian;
mod learner;
pub mod network;
mod objective;
mod patches;
mod pool;
mod residual_map;
#[cfg(test)]
mod tests;
mod train;
mod watch;

use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};

pub use config::{
    EncoderSource, IgdConfig, LossConfig, PatchConfig, Scale, ScaleConfig, Scales, ScheduleConfig,
    ScoreConfig, Strategy, Zeta,
};
pub use gaussian::Gaussian;
pub use learner::{Draws, Game, Learner, StepFigures, Views};
pub use objective::{Losses, Objective};

use self::eye::{Eye, Seen};
use self::network::GeneratorPlan;
use self::train::{Task, train};
use super::fingerprint::{fingerprint, names};
use super::padding::extend_over_padding;
use super::{Detector, Fit, Prediction, TrainingData};
use crate::backbone::{Backbone, BackboneConfig};
use crate::data::{Batch, Normalisation};
use crate::error::Result;
use crate::tensors::TensorSet;
use crate::train::Run;

/// A trained IGD.
#[derive(Clone, Debug)]
pub struct Igd<B: Backend> {
    backbone: Backbone<B>,
    /// One a scale.
    eyes: Vec<Eye<B>>,
}

impl<B: Backend> Detector<B> for Igd<B> {
    fn predict(&self, batch: &Batch<B>) -> Prediction<B> {
        let [count, _, size, _] = batch.images.dims();
        let share = 1.0 / self.eyes.len() as f32;
        let mut image_scores = vec![0.0; count];
        let mut values = vec![0.0; count * size * size];
        for eye in &self.eyes {
            let Seen { scores, maps } = eye.look(batch, &self.backbone, true);
            for (sum, score) in image_scores.iter_mut().zip(scores) {
                *sum += share * score;
            }
            for (sum, value) in values.iter_mut().zip(maps.iter().flatten()) {
                *sum += share * value;
            }
        }
        let device = batch.images.device();
        let maps = TensorData::new(values, [count, size, size]);
        let maps = Tensor::from_data(maps, &device);
        Prediction {
            image_scores: Tensor::from_data(TensorData::new(image_scores, [count]), &device),
            anomaly_maps: extend_over_padding(maps, &batch.valid, size),
        }
    }

    fn backbone(&self) -> &Backbone<B> {
        &self.backbone
    }

    fn tensors(&self) -> TensorSet {
        let mut tensors = TensorSet::default();
        for eye in &self.eyes {
            eye.save(&mut tensors);
        }
        tensors
    }
}

impl IgdConfig {
    /// Parameters of encoders and decoders; all of them are trained.
    ///
    /// # Errors
    /// When images of `size` pixels cannot be looked at, or the backbone has no features.
    pub fn parameters(&self, backbone: &BackboneConfig, size: usize) -> Result<[usize; 2]> {
        let plans = self.plans(size, *backbone)?.into_iter();
        let sum = plans.map(|(_, plan)| plan.parameters()).sum();
        Ok([sum; 2])
    }

    fn plans(&self, size: usize, backbone: BackboneConfig) -> Result<Vec<(Scale, GeneratorPlan)>> {
        self.check_size(size)?;
        let scales = self.scales.iter();
        scales
            .map(|scale| Ok((scale, self.plan(scale, size, backbone)?)))
            .collect()
    }
}

impl Fit for IgdConfig {
    type Detector<B: Backend> = Igd<B>;

    fn fit<AB: AutodiffBackend>(
        &self,
        backbone: Backbone<AB::InnerBackend>,
        data: &TrainingData<'_>,
        run: &mut Run<'_, AB>,
    ) -> Result<Igd<AB::InnerBackend>> {
        self.validate()?;
        let preprocess = data.loader.preprocess();
        let nothing: [String; 0] = [];
        let task = Task {
            config: self,
            data,
            plans: self.plans(preprocess.geometry.size, backbone.config())?,
            range: range(&preprocess.normalisation),
            fingerprint: fingerprint(self, &backbone, data, (names(data.fit), nothing), run)?,
        };
        let eyes = train(&task, &backbone, run)?;
        Ok(Igd { backbone, eyes })
    }

    fn load<B: Backend>(
        &self,
        backbone: Backbone<B>,
        size: usize,
        mut tensors: TensorSet,
        device: &B::Device,
    ) -> Result<Igd<B>> {
        self.validate()?;
        let plans = self.plans(size, backbone.config())?;
        let eyes = plans
            .iter()
            .map(|(scale, plan)| Eye::load(self, *scale, plan, size, &mut tensors, device));
        let eyes = eyes.collect::<Result<_>>()?;
        tensors.finish()?;
        Ok(Igd { backbone, eyes })
    }
}

/// From the smallest to the greatest value of normalised pixels: `L` of MS-SSIM, 4.7579 for ImageNet's
/// statistics.
fn range(normalisation: &Normalisation) -> f64 {
    let channels = || normalisation.mean.iter().zip(&normalisation.std);
    let ends = |value: f64| {
        channels().map(move |(&mean, &std)| (value - f64::from(mean)) / f64::from(std))
    };
    ends(1.0).fold(f64::NEG_INFINITY, f64::max) - ends(0.0).fold(f64::INFINITY, f64::min)
}
