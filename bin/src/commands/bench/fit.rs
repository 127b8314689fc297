//! The end-to-end row: N-pad learns the product that `burn-ad demo` draws.

use std::fmt;
use std::path::Path;

use burn::tensor::backend::AutodiffBackend;
use burn_ad::Result;
use burn_ad::data::synthetic::{Product, SyntheticConfig, in_memory};
use serde::Serialize;

use super::plan::Runner;
use crate::backend::BackendName;
use crate::commands::demo;
use crate::progress::Progress;
use crate::settings::Settings;
use crate::train_log::Recorder;
use crate::training::{Training, known_anomalies};
use crate::weights::ChosenWeights;

/// A training run with the demo's settings on images in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename = "fit")]
pub(super) struct Fit {
    /// Training images.
    pub(super) images: usize,
    /// Their side in pixels.
    size: usize,
}

impl Fit {
    /// What the demo does.
    pub(super) const DEMO: Self = Self {
        images: 60,
        size: 256,
    };
    /// The same in about a second.
    pub(super) const MINI: Self = Self {
        images: 8,
        size: 64,
    };

    /// Draws the images; a run goes from them to a calibrated model.
    pub(super) fn prepare<AB: AutodiffBackend>(self, device: &AB::Device) -> Result<Runner> {
        let mut sets: Vec<String> = demo::SETTINGS.map(str::to_owned).to_vec();
        sets.push(format!("data.size={}", self.size));
        // A rate that the few images of the quick run can promise too: time does not depend on it.
        sets.push("train.target_fpr=0.3".to_owned());
        let settings = Settings::resolve(None, &sets, Vec::new())?;
        let weights = ChosenWeights::find(&settings.backbone, settings.train.seed)?;
        let dataset = in_memory(&SyntheticConfig {
            size: self.size,
            train: self.images,
            test_normal: 1,
            per_kind: 1,
            ..SyntheticConfig::new(Product::MetalPlate)
        })?;
        // Says nothing, and stops the fit on a signal.
        let mut progress = Progress::new(true);
        let split = known_anomalies(&settings, &dataset, &mut progress)?;
        let device = device.clone();
        Ok(Box::new(move || {
            let training = Training {
                settings: &settings,
                weights: &weights,
                split: &split,
                root: Path::new(""),
                // Only a name in the model's header, which nobody reads.
                backend: BackendName::Flex,
                checkpoints: None,
            };
            let mut recorder = Recorder {
                progress: &mut progress,
                log: None,
            };
            // Calibration reads scores back: the device has finished.
            training.fit::<AB>(&device, &mut recorder).map(drop)
        }))
    }
}

impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { images, size } = self;
        write!(f, "fit of N-pad, {images} images of {size} x {size}")
    }
}
