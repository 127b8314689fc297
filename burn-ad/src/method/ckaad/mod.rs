//! CKAAD: reconstruction of feature maps that an energy discriminator with coarse knowledge of anomalies
//! keeps from reconstructing those; with its ablations.
//!
//! Source: Fang, Su, Lv, Xu, Yu, "Boosting Fine-Grained Visual Anomaly Detection with
//! Coarse-Knowledge-Aware Adversarial Learning", AAAI 2025, with its appendix, and the published code for
//! what the text leaves open.
//!
//! An auto-encoder reconstructs the feature maps of normal images. A discriminator learns that normal
//! features have low energy, reconstructed ones and those of anomalous images high energy; the
//! auto-encoder lowers the energy of what it makes. Of anomalous images only the image label is used.

mod config;
mod learner;
pub mod network;
mod objective;
mod pool;
mod score;
#[cfg(test)]
mod tests;
mod train;
mod watch;

use burn::tensor::backend::{AutodiffBackend, Backend};

pub use config::{AnomalySource, CkaadConfig, LossConfig, ScheduleConfig, Strategy, Validation};
pub use learner::{Game, Learner, StepFigures};
pub use objective::{Objective, reconstruction_errors};

use self::learner::GENERATOR;
use self::network::AutoEncoder;
use self::pool::Pool;
use self::score::Scoring;
use super::fingerprint::{fingerprint, names};
use super::padding::blank_padding;
use super::taps::Taps;
use super::{Detector, Fit, Prediction, TrainingData};
use crate::backbone::{Backbone, BackboneConfig};
use crate::data::Batch;
use crate::error::Result;
use crate::network::{load, save};
use crate::tensors::TensorSet;
use crate::train::Run;

/// A trained CKAAD.
#[derive(Clone, Debug)]
pub struct Ckaad<B: Backend> {
    backbone: Backbone<B>,
    taps: Taps,
    generator: AutoEncoder<B>,
    scoring: Scoring,
}

impl<B: Backend> Detector<B> for Ckaad<B> {
    fn predict(&self, batch: &Batch<B>) -> Prediction<B> {
        let features = self.taps.features(&self.backbone, batch.images.clone());
        // As in training.
        let features = blank_padding(features, &batch.valid, self.scoring.size);
        let found = self.generator.forward(&features);
        let anomaly_maps = self.scoring.maps(&features, found, &batch.valid);
        Prediction {
            image_scores: self.scoring.scores(&anomaly_maps, &batch.valid),
            anomaly_maps,
        }
    }

    fn backbone(&self) -> &Backbone<B> {
        &self.backbone
    }

    fn tensors(&self) -> TensorSet {
        let mut tensors = TensorSet::default();
        save(&self.generator, GENERATOR, &mut tensors);
        tensors
    }
}

impl CkaadConfig {
    fn taps(&self, backbone: &BackboneConfig, size: usize) -> Result<Taps> {
        let mut strides = self.taps.clone();
        strides.sort_unstable();
        Taps::new(backbone, &strides, size)
    }

    fn scoring(&self, size: usize) -> Scoring {
        Scoring {
            size,
            sigma: self.sigma,
            top_pixels: self.top_pixels,
        }
    }

    /// Parameters of the auto-encoder; all of them are trained.
    ///
    /// # Errors
    /// When the backbone has no tap at one of the strides.
    pub fn parameters(&self, backbone: &BackboneConfig) -> Result<[usize; 2]> {
        Ok([self.plan(*backbone)?.parameters(); 2])
    }
}

impl Fit for CkaadConfig {
    type Detector<B: Backend> = Ckaad<B>;

    fn fit<AB: AutodiffBackend>(
        &self,
        backbone: Backbone<AB::InnerBackend>,
        data: &TrainingData<'_>,
        run: &mut Run<'_, AB>,
    ) -> Result<Ckaad<AB::InnerBackend>> {
        self.validate()?;
        let size = data.loader.preprocess().geometry.size;
        self.check_size(size)?;
        let taps = self.taps(&backbone.config(), size)?;
        let plan = self.plan(backbone.config())?;
        let deepest = taps.maps.last().map_or(1, |map| map.grid[0]);
        let images = (names(data.fit), names(data.anomalous));
        let fingerprint = fingerprint(self, &backbone, data, images, run)?;
        let scoring = self.scoring(size);
        let generator = {
            let mut pool = Pool::fill(self, &backbone, &taps, data, run)?;
            let learner = Learner::new(self, &plan, deepest, run.seed, &run.device);
            train::train(self, learner, scoring, &mut pool, &fingerprint, run)?
        };
        Ok(Ckaad {
            backbone,
            taps,
            generator,
            scoring,
        })
    }

    fn load<B: Backend>(
        &self,
        backbone: Backbone<B>,
        size: usize,
        mut tensors: TensorSet,
        device: &B::Device,
    ) -> Result<Ckaad<B>> {
        self.validate()?;
        self.check_size(size)?;
        let taps = self.taps(&backbone.config(), size)?;
        let empty = AutoEncoder::empty(&self.plan(backbone.config())?, device);
        let generator = load(empty, GENERATOR, &mut tensors)?;
        tensors.finish()?;
        Ok(Ckaad {
            backbone,
            taps,
            generator,
            scoring: self.scoring(size),
        })
    }
}
