//! Settings of CKAAD and of its ablations.

use serde::{Deserialize, Serialize};

use super::network::ReconstructionPlan;
use crate::augment::Elastic;
use crate::backbone::BackboneConfig;
use crate::error::{Error, Result};
use crate::network::NormKind;

/// Settings of CKAAD. Defaults are the published ones (paper, appendix and code of Fang et al.,
/// AAAI 2025).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CkaadConfig {
    /// Strides of the backbone taps that are reconstructed.
    pub taps: Vec<usize>,
    /// What follows each convolution of the auto-encoder; `batch` is an ablation (table 6).
    pub norm: NormKind,
    /// What known anomalies are used for (table 3).
    pub strategy: Strategy,
    /// The numbers in the losses.
    pub loss: LossConfig,
    /// Where the anomalies come from.
    pub anomalies: AnomalySource,
    /// How normal images are distorted where that makes the anomalies.
    pub elastic: Elastic,
    /// Distortions of each image whose features are kept; 0 draws a new one in every epoch, as the
    /// paper does. Few are for small budgets: a kept one costs no pass of the backbone.
    pub versions: usize,
    /// Which images are seen how often.
    pub schedule: ScheduleConfig,
    /// Whether images are kept aside to watch the training by.
    pub validation: Validation,
    /// Standard deviation in pixels of the Gaussian that smooths anomaly maps; 0 for none.
    pub sigma: f64,
    /// The image's score is the mean of so many greatest pixels of its map; 0 for all (ISIC).
    pub top_pixels: usize,
}

/// What known anomalies are used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Nothing: reconstruction of normal images (eq. 2).
    Recon,
    /// Their reconstruction is made worse (eq. 4).
    ReconSub,
    /// Inputs whose reconstructions a plain discriminator must not tell from normal features (eq. 7).
    Gan,
    /// An energy discriminator of whole images also learns that they are no normal ones (eqs. 8, 9).
    CkaImg,
    /// The same for each position (eqs. 11, 12): CKAAD.
    CkaPatch,
}

impl Strategy {
    /// Whether a discriminator takes part.
    pub fn is_adversarial(self) -> bool {
        matches!(self, Self::Gan | Self::CkaImg | Self::CkaPatch)
    }
}

/// The numbers in the losses.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossConfig {
    /// Energy that generated and anomalous features are pushed to, `a` of eq. 8.
    pub margin: f64,
    /// Weight of generated features against anomalous ones, in `[0, 1]`.
    pub gamma: f64,
    /// Weight of the generator's adversarial loss, or of the anomalies' reconstruction.
    pub lambda: f64,
}

/// Where the anomalies come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnomalySource {
    /// Known ones, of which only the image label is used; without any the training is `recon`.
    Known,
    /// Each normal image, distorted.
    Elastic,
}

/// Which images are seen how often, and how fast is learnt.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    /// Passes over the normal images.
    pub epochs: usize,
    /// Normal images of a step; anomalous ones are as many, where there are so many.
    pub batch: usize,
    /// Adam's learning rate of the auto-encoder.
    pub learning_rate: f64,
    /// That of the discriminator.
    pub discriminator_rate: f64,
    /// The largest norm of the discriminator's gradient.
    pub clip: f64,
}

/// Whether images are kept aside to watch the training by: of the normal and of the known anomalous
/// ones 5 % of whichever is fewer, and one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Validation {
    /// No.
    Off,
    /// Their AUROC is logged after each epoch.
    Log,
    /// And the epoch in which it was highest is kept.
    Best,
}

impl CkaadConfig {
    /// For products: anomalies are distorted normal images; strides 4, 8 and 16.
    pub fn industrial() -> Self {
        Self {
            taps: vec![4, 8, 16],
            norm: NormKind::Instance,
            strategy: Strategy::CkaPatch,
            loss: LossConfig {
                margin: 5.0,
                gamma: 0.5,
                lambda: 0.02,
            },
            anomalies: AnomalySource::Elastic,
            elastic: Elastic::default(),
            versions: 0,
            schedule: ScheduleConfig {
                epochs: 200,
                batch: 16,
                learning_rate: 5e-3,
                discriminator_rate: 1e-4,
                clip: 1.0,
            },
            validation: Validation::Off,
            sigma: 4.0,
            top_pixels: 100,
        }
    }

    /// For medical images: a few known anomalies; strides 8 and 16.
    pub fn medical() -> Self {
        let industrial = Self::industrial();
        Self {
            taps: vec![8, 16],
            anomalies: AnomalySource::Known,
            schedule: ScheduleConfig {
                batch: 64,
                learning_rate: 1e-3,
                ..industrial.schedule
            },
            ..industrial
        }
    }

    /// Whether known anomalies take part, in learning or in watching.
    pub fn uses_anomalies(&self) -> bool {
        let takes_part = self.strategy != Strategy::Recon || self.validation != Validation::Off;
        self.anomalies == AnomalySource::Known && takes_part
    }

    /// # Errors
    /// When a setting is out of its range.
    pub fn validate(&self) -> Result<()> {
        let wrong =
            |name: &str, what: &str| Err(Error::usage(format!("method.{name} must be {what}")));
        let mut taps = self.taps.clone();
        taps.sort_unstable();
        taps.dedup();
        if taps.is_empty() || taps.len() != self.taps.len() {
            return wrong("taps", "strides of the backbone, each once");
        }
        let LossConfig {
            margin,
            gamma,
            lambda,
        } = self.loss;
        if !(margin > 0.0 && margin.is_finite()) {
            return wrong("loss.margin", "positive");
        }
        if !(0.0..=1.0).contains(&gamma) {
            return wrong("loss.gamma", "in [0, 1]");
        }
        if !(lambda >= 0.0 && lambda.is_finite()) {
            return wrong("loss.lambda", "zero or positive");
        }
        let schedule = &self.schedule;
        if schedule.epochs == 0 {
            return wrong("schedule.epochs", "at least 1");
        }
        if schedule.batch == 0 {
            return wrong("schedule.batch", "at least 1");
        }
        for (name, value) in [
            ("schedule.learning_rate", schedule.learning_rate),
            ("schedule.discriminator_rate", schedule.discriminator_rate),
            ("schedule.clip", schedule.clip),
        ] {
            if !(value > 0.0 && value.is_finite()) {
                return wrong(name, "positive");
            }
        }
        if !(self.sigma >= 0.0 && self.sigma.is_finite()) {
            return wrong("sigma", "zero or positive");
        }
        self.elastic
            .validate()
            .map_err(|error| error.context("method.elastic"))
    }

    /// The auto-encoder for a backbone.
    ///
    /// # Errors
    /// When the backbone has no tap at one of the strides.
    pub fn plan(&self, backbone: BackboneConfig) -> Result<ReconstructionPlan> {
        ReconstructionPlan::new(backbone, &self.taps, self.norm)
    }

    /// Whether images of `size` pixels can be reconstructed: their latent map must have whole positions,
    /// and more than one, or its normalisation leaves nothing.
    ///
    /// # Errors
    /// When they cannot.
    pub fn check_size(&self, size: usize) -> Result<()> {
        let deepest = self.taps.iter().max().copied().unwrap_or(1);
        if size.is_multiple_of(2 * deepest) && size >= 4 * deepest {
            return Ok(());
        }
        Err(Error::usage(format!(
            "images of {size} pixels cannot be reconstructed from a tap of stride {deepest}"
        ))
        .help(format!(
            "choose a multiple of {} and at least {} with data.size",
            2 * deepest,
            4 * deepest
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_named() {
        let check = |change: fn(&mut CkaadConfig), name: &str| {
            let mut config = CkaadConfig::medical();
            assert!(config.validate().is_ok());
            change(&mut config);
            let error = config.validate().expect_err(name).to_string();
            assert!(error.contains(name), "{error}");
        };
        check(|c| c.taps.clear(), "taps");
        check(|c| c.taps = vec![8, 8], "taps");
        check(|c| c.loss.gamma = 1.5, "gamma");
        check(|c| c.loss.margin = 0.0, "margin");
        check(|c| c.loss.lambda = f64::NAN, "lambda");
        check(|c| c.schedule.epochs = 0, "epochs");
        check(|c| c.schedule.batch = 0, "batch");
        check(|c| c.schedule.clip = -1.0, "clip");
        check(|c| c.schedule.learning_rate = 0.0, "learning_rate");
        check(|c| c.sigma = -1.0, "sigma");
        check(|c| c.elastic.sigma = 0.0, "elastic");
    }

    #[test]
    fn sizes_that_do_not_halve_evenly_are_refused() {
        let config = CkaadConfig::industrial();
        for (size, possible) in [
            (256, true),
            (64, true),
            (32, false),
            (112, false),
            (96, true),
        ] {
            assert_eq!(config.check_size(size).is_ok(), possible, "{size}");
        }
    }
}
