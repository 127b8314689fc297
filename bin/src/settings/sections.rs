//! The sections of a settings file.

use std::path::PathBuf;

use burn_ad::backbone::BackboneConfig;
use burn_ad::data::share::read_share;
use burn_ad::data::{Filter, Fit, Layout, TrainLimit};
use clap::ValueEnum;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

/// Section `[backbone]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BackboneSettings {
    /// Architecture; where absent that of the weights file, else the default.
    pub(crate) name: Option<BackboneConfig>,
    /// Weights file: imported, or a checkpoint. Relative to the working directory.
    pub(crate) weights: Option<PathBuf>,
    /// Random weights, drawn from the seed.
    pub(crate) random: bool,
}

/// Section `[data]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DataSettings {
    /// How the images are arranged in folders.
    pub(crate) layout: Layout,
    /// Side of the network's square input in pixels.
    pub(crate) size: usize,
    /// What happens to the aspect ratio.
    pub(crate) fit: Fit,
    /// Resampling filter; where absent, the one the backbone's weights were trained with.
    pub(crate) filter: Option<Filter>,
    /// Share of the normal images that train, in layouts without a split of their own.
    pub(crate) train_share: f64,
    /// In classification datasets the class that is normal, by its name or number.
    #[serde(default, deserialize_with = "text_or_number")]
    pub(crate) normal_class: Option<String>,
    /// So many of the normal training images, or this share of them (`"20%"`), drawn by the seed.
    #[serde(default)]
    pub(crate) train_limit: Option<TrainLimit>,
    /// At most this many test images of each kind, the same ones for every seed.
    #[serde(default)]
    pub(crate) test_limit: Option<usize>,
    /// Share of the anomalous test images that train as normal ones, as a number or a text (`"10%"`).
    #[serde(default, deserialize_with = "share")]
    pub(crate) contamination: f64,
}

/// A share may be written in percent.
fn share<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a share is a number, or a text such as \"10%\"")]
    enum Share {
        Number(f64),
        Text(String),
    }
    match Share::deserialize(from)? {
        Share::Number(share) => Ok(share),
        Share::Text(text) => read_share(&text).map_err(D::Error::custom),
    }
}

/// A class may be called 3, without quotes.
fn text_or_number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a class is a name or a number")]
    enum Class {
        Name(String),
        Number(u64),
    }
    let class = Option::<Class>::deserialize(from)?;
    Ok(class.map(|class| match class {
        Class::Name(name) => name,
        Class::Number(number) => number.to_string(),
    }))
}

/// Section `[train]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrainSettings {
    /// Reproduces the run: split, random draws, random weights.
    pub(crate) seed: u64,
    /// Images per forward pass.
    pub(crate) batch_size: usize,
    /// Threads that decode images; where absent, one per core.
    pub(crate) workers: Option<usize>,
    /// Memory for cached features in MiB; where absent, the library's choice.
    pub(crate) feature_memory_mib: Option<u64>,
    /// Checkpoint of flows to begin with; where absent, they are drawn from the seed. Relative to the working directory.
    pub(crate) init_flows: Option<PathBuf>,
    /// Model directory to begin with, to which products are added; where absent, training begins afresh. Relative to
    /// the working directory.
    pub(crate) init_from: Option<PathBuf>,
    /// Epochs after which the test images are scored each time, for the log alone; where absent, they are not. Only igd
    /// does it.
    #[serde(default)]
    pub(crate) watch_every: Option<usize>,
    /// Share of the training images kept aside for the threshold.
    pub(crate) calibration_share: f64,
    /// Share of normal images allowed above the threshold.
    pub(crate) target_fpr: f64,
    /// Where threshold and scale come from.
    pub(crate) protocol: Protocol,
    /// Whether the backbone's weights go into the model directory.
    pub(crate) with_backbone: bool,
}

/// Where thresholds and the scale of scores come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Protocol {
    /// Normal training images kept aside: scores mean something for one image alone.
    #[default]
    Default,
    /// The test set, as in the papers: for reproducing their tables only.
    Paper,
}

/// Images per forward pass where nothing else is said.
pub(crate) const DEFAULT_BATCH_SIZE: usize = 8;
