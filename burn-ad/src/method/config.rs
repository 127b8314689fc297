//! Which system, with which settings.

use std::fmt;

use burn::tensor::backend::{AutodiffBackend, Backend};

use super::bgad::{Bgad, BgadConfig};
use super::ckaad::{Ckaad, CkaadConfig};
use super::hgad::{Hgad, HgadConfig};
use super::igd::{Igd, IgdConfig};
use super::npad::{Npad, NpadConfig};
use super::{Detector, Examination, Fit, Prediction, TrainingData};
use crate::backbone::{Backbone, BackboneConfig};
use crate::data::{Batch, Loader, Sample};
use crate::error::{Error, Result};
use crate::report::likelihoods::CentreDistances;
use crate::tensors::TensorSet;
use crate::train::Run;

/// The configuration of any method.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", tag = "name", content = "settings")]
pub enum MethodConfig {
    /// N-pad and its special cases PaDiM and PatchCore.
    Npad(NpadConfig),
    /// BGAD and its relatives NFAD and BGAD-dagger.
    Bgad(BgadConfig),
    /// HGAD and its ablations.
    Hgad(HgadConfig),
    /// CKAAD and its ablations.
    Ckaad(CkaadConfig),
    /// IGD, its ablations and Deep SVDD.
    Igd(IgdConfig),
}

impl MethodConfig {
    /// The names that [`preset`](Self::preset) knows.
    pub const PRESETS: [&'static str; 11] = [
        "npad",
        "padim",
        "patchcore",
        "nfad",
        "bgad",
        "bgad-dagger",
        "hgad",
        "ckaad",
        "ckaad-medical",
        "igd",
        "igd-scratch",
    ];

    /// The settings of a published system.
    ///
    /// # Errors
    /// When there is no such preset.
    pub fn preset(name: &str) -> Result<Self> {
        match name {
            "npad" => Ok(Self::Npad(NpadConfig::npad())),
            "padim" => Ok(Self::Npad(NpadConfig::padim())),
            "patchcore" => Ok(Self::Npad(NpadConfig::patchcore())),
            "nfad" => Ok(Self::Bgad(BgadConfig::nfad())),
            "bgad" => Ok(Self::Bgad(BgadConfig::bgad())),
            "bgad-dagger" => Ok(Self::Bgad(BgadConfig::dagger())),
            "hgad" => Ok(Self::Hgad(HgadConfig::hgad())),
            "ckaad" => Ok(Self::Ckaad(CkaadConfig::industrial())),
            "ckaad-medical" => Ok(Self::Ckaad(CkaadConfig::medical())),
            "igd" => Ok(Self::Igd(IgdConfig::products())),
            "igd-scratch" => Ok(Self::Igd(IgdConfig::scratch())),
            _ => Err(Error::usage(format!("there is no method '{name}'"))
                .help(format!("the methods are {}", Self::PRESETS.join(", ")))),
        }
    }

    /// # Errors
    /// When a setting is out of its range.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::Npad(config) => config.validate(),
            Self::Bgad(config) => config.validate(),
            Self::Hgad(config) => config.validate(),
            Self::Ckaad(config) => config.validate(),
            Self::Igd(config) => config.validate(),
        }
    }

    /// The side in pixels of the images it was published for.
    pub fn default_size(&self) -> usize {
        match self {
            Self::Igd(config) => config.default_size(),
            Self::Npad(_) | Self::Bgad(_) | Self::Hgad(_) | Self::Ckaad(_) => 256,
        }
    }

    /// Whether it looks through a frozen backbone.
    pub fn needs_backbone(&self) -> bool {
        match self {
            Self::Igd(config) => config.needs_backbone(),
            Self::Npad(_) | Self::Bgad(_) | Self::Hgad(_) | Self::Ckaad(_) => true,
        }
    }

    /// Whether it can score labelled images from time to time while it trains.
    pub fn watches(&self) -> bool {
        matches!(self, Self::Igd(_))
    }

    /// # Errors
    /// When it cannot work on inputs of `size` x `size` pixels, whatever the backbone.
    pub fn check_size(&self, size: usize) -> Result<()> {
        match self {
            Self::Npad(_) | Self::Bgad(_) | Self::Hgad(_) => Ok(()),
            Self::Ckaad(config) => config.check_size(size),
            Self::Igd(config) => config.check_size(size),
        }
    }

    /// Whether known anomalies change what is learnt.
    pub fn uses_anomalies(&self) -> bool {
        match self {
            Self::Npad(_) | Self::Hgad(_) | Self::Igd(_) => false,
            Self::Bgad(config) => config.uses_anomalies(),
            Self::Ckaad(config) => config.uses_anomalies(),
        }
    }

    /// Whether a known anomaly is of use only with its mask.
    pub fn needs_masks(&self) -> bool {
        matches!(self, Self::Bgad(_))
    }

    /// Whether it is trained step by step, so that it logs figures, keeps checkpoints and can go on
    /// after an interruption.
    pub fn is_iterative(&self) -> bool {
        match self {
            Self::Npad(_) => false,
            Self::Bgad(_) | Self::Hgad(_) | Self::Ckaad(_) | Self::Igd(_) => true,
        }
    }

    /// Whether one model learns several products as classes of their own.
    pub fn has_classes(&self) -> bool {
        matches!(self, Self::Hgad(_))
    }

    /// Whether it has flows that can start from a checkpoint of FrEIA.
    pub fn has_flows(&self) -> bool {
        matches!(self, Self::Bgad(_))
    }

    /// Parameters that training changes, and all of them with what stays as drawn; `None` for
    /// methods that are not trained by gradients.
    ///
    /// # Errors
    /// When the backbone has not the taps that the method asks for, or it cannot see images of `size` pixels.
    pub fn parameters(&self, backbone: &BackboneConfig, size: usize) -> Result<Option<[usize; 2]>> {
        match self {
            Self::Npad(_) => Ok(None),
            Self::Igd(config) => config.parameters(backbone, size).map(Some),
            Self::Bgad(config) => config.parameters(backbone).map(Some),
            Self::Hgad(config) => config.parameters(backbone).map(Some),
            Self::Ckaad(config) => config.parameters(backbone).map(Some),
        }
    }

    pub(super) fn fit<AB: AutodiffBackend>(
        &self,
        backbone: Backbone<AB::InnerBackend>,
        data: &TrainingData<'_>,
        run: &mut Run<'_, AB>,
    ) -> Result<AnyDetector<AB::InnerBackend>> {
        match self {
            Self::Npad(config) => Ok(AnyDetector::Npad(Box::new(
                config.fit(backbone, data, run)?,
            ))),
            Self::Bgad(config) => Ok(AnyDetector::Bgad(Box::new(
                config.fit(backbone, data, run)?,
            ))),
            Self::Hgad(config) => Ok(AnyDetector::Hgad(Box::new(
                config.fit(backbone, data, run)?,
            ))),
            Self::Ckaad(config) => Ok(AnyDetector::Ckaad(Box::new(
                config.fit(backbone, data, run)?,
            ))),
            Self::Igd(config) => Ok(AnyDetector::Igd(Box::new(config.fit(backbone, data, run)?))),
        }
    }

    pub(super) fn load<B: Backend>(
        &self,
        backbone: Backbone<B>,
        size: usize,
        tensors: TensorSet,
        device: &B::Device,
    ) -> Result<AnyDetector<B>> {
        match self {
            Self::Npad(config) => {
                let detector = config.load(backbone, size, tensors, device)?;
                Ok(AnyDetector::Npad(Box::new(detector)))
            }
            Self::Bgad(config) => {
                let detector = config.load(backbone, size, tensors, device)?;
                Ok(AnyDetector::Bgad(Box::new(detector)))
            }
            Self::Hgad(config) => {
                let detector = config.load(backbone, size, tensors, device)?;
                Ok(AnyDetector::Hgad(Box::new(detector)))
            }
            Self::Ckaad(config) => {
                let detector = config.load(backbone, size, tensors, device)?;
                Ok(AnyDetector::Ckaad(Box::new(detector)))
            }
            Self::Igd(config) => {
                let detector = config.load(backbone, size, tensors, device)?;
                Ok(AnyDetector::Igd(Box::new(detector)))
            }
        }
    }
}

/// The preset whose settings these are, or the method's family name.
impl fmt::Display for MethodConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Which classes there are depends on the data.
        let mut own = self.clone();
        if let Self::Hgad(config) = &mut own {
            config.classes.clear();
        }
        let preset = Self::PRESETS
            .iter()
            .find(|name| Self::preset(name).is_ok_and(|preset| preset == own));
        match (preset, self) {
            (Some(name), _) => f.write_str(name),
            (None, Self::Npad(_)) => f.write_str("npad (own settings)"),
            (None, Self::Bgad(_)) => f.write_str("bgad (own settings)"),
            (None, Self::Hgad(_)) => f.write_str("hgad (own settings)"),
            (None, Self::Ckaad(_)) => f.write_str("ckaad (own settings)"),
            (None, Self::Igd(_)) => f.write_str("igd (own settings)"),
        }
    }
}

/// A trained system of any method.
#[derive(Debug)]
pub(super) enum AnyDetector<B: Backend> {
    Npad(Box<Npad<B>>),
    Bgad(Box<Bgad<B>>),
    Hgad(Box<Hgad<B>>),
    Ckaad(Box<Ckaad<B>>),
    Igd(Box<Igd<B>>),
}

impl<B: Backend> AnyDetector<B> {
    /// The settings it was trained with, where training adds to those it was given.
    pub(super) fn config(&self) -> Option<MethodConfig> {
        match self {
            Self::Npad(_) | Self::Bgad(_) | Self::Ckaad(_) | Self::Igd(_) => None,
            Self::Hgad(detector) => Some(MethodConfig::Hgad(detector.config().clone())),
        }
    }
}

impl<B: Backend> Detector<B> for AnyDetector<B> {
    fn predict(&self, batch: &Batch<B>) -> Prediction<B> {
        match self {
            Self::Npad(detector) => detector.predict(batch),
            Self::Bgad(detector) => detector.predict(batch),
            Self::Hgad(detector) => detector.predict(batch),
            Self::Ckaad(detector) => detector.predict(batch),
            Self::Igd(detector) => detector.predict(batch),
        }
    }

    fn examine(&self, batch: &Batch<B>) -> Examination<B> {
        match self {
            Self::Npad(detector) => detector.examine(batch),
            Self::Bgad(detector) => detector.examine(batch),
            Self::Hgad(detector) => detector.examine(batch),
            Self::Ckaad(detector) => detector.examine(batch),
            Self::Igd(detector) => detector.examine(batch),
        }
    }

    fn centre_distances(&self) -> Vec<CentreDistances> {
        match self {
            Self::Npad(detector) => detector.centre_distances(),
            Self::Bgad(detector) => detector.centre_distances(),
            Self::Hgad(detector) => detector.centre_distances(),
            Self::Ckaad(detector) => detector.centre_distances(),
            Self::Igd(detector) => detector.centre_distances(),
        }
    }

    fn classes(&self) -> &[String] {
        match self {
            Self::Npad(detector) => detector.classes(),
            Self::Bgad(detector) => detector.classes(),
            Self::Hgad(detector) => detector.classes(),
            Self::Ckaad(detector) => detector.classes(),
            Self::Igd(detector) => detector.classes(),
        }
    }

    fn infer_classes(&mut self) {
        match self {
            Self::Npad(detector) => detector.infer_classes(),
            Self::Bgad(detector) => detector.infer_classes(),
            Self::Hgad(detector) => detector.infer_classes(),
            Self::Ckaad(detector) => detector.infer_classes(),
            Self::Igd(detector) => detector.infer_classes(),
        }
    }

    fn backbone(&self) -> &Backbone<B> {
        match self {
            Self::Npad(detector) => detector.backbone(),
            Self::Bgad(detector) => detector.backbone(),
            Self::Hgad(detector) => detector.backbone(),
            Self::Ckaad(detector) => detector.backbone(),
            Self::Igd(detector) => detector.backbone(),
        }
    }

    fn tensors(&self) -> TensorSet {
        match self {
            Self::Npad(detector) => detector.tensors(),
            Self::Bgad(detector) => detector.tensors(),
            Self::Hgad(detector) => detector.tensors(),
            Self::Ckaad(detector) => detector.tensors(),
            Self::Igd(detector) => detector.tensors(),
        }
    }

    fn adopt_statistics(
        &mut self,
        samples: &[Sample],
        loader: &Loader,
        run: &mut Run<'_, B>,
    ) -> Result<()> {
        match self {
            Self::Npad(detector) => detector.adopt_statistics(samples, loader, run),
            Self::Bgad(detector) => detector.adopt_statistics(samples, loader, run),
            Self::Hgad(detector) => detector.adopt_statistics(samples, loader, run),
            Self::Ckaad(detector) => detector.adopt_statistics(samples, loader, run),
            Self::Igd(detector) => detector.adopt_statistics(samples, loader, run),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_exists_is_valid_and_is_recognised() {
        for name in MethodConfig::PRESETS {
            let preset = MethodConfig::preset(name).expect(name);
            preset.validate().expect(name);
            assert_eq!(preset.to_string(), name);
        }
        assert!(
            MethodConfig::preset("padm")
                .expect_err("no such")
                .is_usage()
        );
    }
}
