//! Flags that stand for settings; the commands that train share them.

use std::path::{Path, PathBuf};

use burn_ad::Result;
use burn_ad::backbone::BackboneConfig;
use burn_ad::data::share::read_share;
use burn_ad::data::{Kinds, KnownCount, TrainLimit};
use burn_ad::method::{MethodConfig, ModelHeader};
use clap::Args;
use clap::builder::PossibleValuesParser;
use serde_json::json;

use super::layout_parser;
use crate::settings::{Flag, Protocol};

/// What learns, and through which network it looks.
#[derive(Debug, Args)]
#[command(next_help_heading = "Method")]
pub(super) struct MethodArgs {
    /// Detection method [default: npad]
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(MethodConfig::PRESETS))]
    method: Option<String>,
    /// Feature extractor; none for methods that look at pixels alone [default: that of the weights file, else
    /// tf_efficientnet_lite0]
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(BackboneConfig::NAMES))]
    backbone: Option<String>,
    /// Its weights: an imported file, or a .pth or .safetensors checkpoint [default: from the cache]
    #[arg(long, value_name = "FILE", conflicts_with = "random_weights")]
    weights: Option<PathBuf>,
    /// Random weights, drawn from the seed: nothing to download, but much weaker features
    #[arg(long)]
    random_weights: bool,
    /// Begin with trained flows: a PyTorch checkpoint of FrEIA flows, one a tap [default: drawn from the seed]
    #[arg(long, value_name = "FILE")]
    init_flows: Option<PathBuf>,
    /// Begin with a trained model and add products to it (hgad); the settings beside it are the defaults, unless --config is given
    #[arg(long, value_name = "MODEL", conflicts_with = "init_flows")]
    init_from: Option<PathBuf>,
}

impl MethodArgs {
    /// The settings file: the one that is given, else that of the model to begin with.
    ///
    /// # Errors
    /// When there is no model to begin with where one is named.
    pub(super) fn config(&self, given: Option<&Path>) -> Result<Option<PathBuf>> {
        if let Some(model) = &self.init_from {
            ModelHeader::read(model)?;
        }
        let of_model = || {
            let path = self.init_from.as_ref()?.join("config.json");
            path.is_file().then_some(path)
        };
        Ok(given.map(Path::to_owned).or_else(of_model))
    }

    /// Whether the user has chosen a method.
    pub(super) fn names_method(&self) -> bool {
        self.method.is_some()
    }

    /// Whether the user has chosen a network or its weights.
    pub(super) fn names_backbone(&self) -> bool {
        self.backbone.is_some() || self.weights.is_some() || self.random_weights
    }

    pub(super) fn flags(&self) -> Result<Vec<Flag>> {
        let random = self.random_weights.then_some(true);
        given([
            Flag::given("--method", ["method", "name"], self.method.as_ref()),
            Flag::given("--backbone", ["backbone", "name"], self.backbone.as_ref()),
            Flag::given("--weights", ["backbone", "weights"], self.weights.as_ref()),
            // A flag replaces what a file says about the same thing.
            Flag::given(
                "--weights",
                ["backbone", "random"],
                self.weights.as_ref().map(|_| false),
            ),
            Flag::given(
                "--init-flows",
                ["train", "init_flows"],
                self.init_flows.as_ref(),
            ),
            Flag::given(
                "--init-from",
                ["train", "init_from"],
                self.init_from.as_ref(),
            ),
            Flag::given("--random-weights", ["backbone", "random"], random),
            Flag::given(
                "--random-weights",
                ["backbone", "weights"],
                random.map(|_| json!(null)),
            ),
        ])
    }
}

/// How images are brought to the network.
#[derive(Debug, Args)]
#[command(next_help_heading = "Images")]
pub(super) struct ImageArgs {
    /// How the folders are arranged [default: auto]
    #[arg(long, value_parser = layout_parser())]
    layout: Option<String>,
    /// Side of the network's input in pixels [default: 256]
    #[arg(long, value_name = "PIXELS")]
    size: Option<usize>,
    /// Aspect ratio: letterbox shows everything undistorted, crop cuts the borders off as the papers do, squash
    /// distorts [default: letterbox]
    #[arg(long, value_parser = PossibleValuesParser::new(["letterbox", "crop", "squash"]))]
    fit: Option<String>,
    /// Resampling filter [default: the one the weights were trained with]
    #[arg(long, value_parser = PossibleValuesParser::new(["bilinear", "bicubic", "lanczos"]))]
    filter: Option<String>,
    /// Share of the normal images that train, in layouts without a split of their own [default: 0.8]
    #[arg(long, value_name = "SHARE")]
    train_share: Option<f64>,
    /// In classification datasets (layouts idx and cifar-10) the normal class, by its name or number; all others are
    /// anomalous
    #[arg(long, value_name = "CLASS")]
    normal_class: Option<String>,
    /// Use so many of the normal training images, for instance 100 or 20%, drawn by the seed; more of them keep those
    /// that fewer have [default: all]
    #[arg(long, value_name = "N|P%")]
    train_limit: Option<TrainLimit>,
    /// Use at most this many test images of each kind, the same ones for every seed; known anomalies that are taken
    /// out of the test set are among them [default: all]
    #[arg(long, value_name = "N")]
    test_limit: Option<usize>,
    /// Train on this share of the anomalous test images as if they were normal, for instance 10%: images of all kinds,
    /// drawn by the seed. They are no test images any more, and `burn-ad eval` leaves them out [default: 0%]
    #[arg(long, value_name = "P%", value_parser = read_share)]
    contamination: Option<f64>,
}

impl ImageArgs {
    pub(super) fn flags(&self) -> Result<Vec<Flag>> {
        given([
            Flag::given("--layout", ["data", "layout"], self.layout.as_ref()),
            Flag::given("--size", ["data", "size"], self.size),
            Flag::given("--fit", ["data", "fit"], self.fit.as_ref()),
            Flag::given("--filter", ["data", "filter"], self.filter.as_ref()),
            Flag::given("--train-share", ["data", "train_share"], self.train_share),
            Flag::given(
                "--normal-class",
                ["data", "normal_class"],
                self.normal_class.as_ref(),
            ),
            Flag::given("--train-limit", ["data", "train_limit"], self.train_limit),
            Flag::given("--test-limit", ["data", "test_limit"], self.test_limit),
            Flag::given(
                "--contamination",
                ["data", "contamination"],
                self.contamination,
            ),
        ])
    }
}

/// How a run is done.
#[derive(Debug, Args)]
#[command(next_help_heading = "Run")]
pub(super) struct RunArgs {
    /// Share of the training images kept aside for the threshold [default: 0.1]
    #[arg(long, value_name = "SHARE")]
    calibration_share: Option<f64>,
    /// Share of normal images allowed above the threshold [default: 0.01]
    #[arg(long, value_name = "RATE")]
    target_fpr: Option<f64>,
    /// `paper` fits on all normal images and leaves the threshold to `burn-ad eval --protocol paper`
    #[arg(long, value_enum)]
    protocol: Option<Protocol>,
    /// Images per forward pass [default: 8]
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Threads that decode images [default: one per core]
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Memory for features that are used again and again, in MiB; further ones go to a temporary file [default: 1024]
    #[arg(long, value_name = "MIB")]
    feature_memory: Option<u64>,
}

impl RunArgs {
    pub(super) fn flags(&self) -> Result<Vec<Flag>> {
        let memory = self.feature_memory;
        given([
            Flag::given(
                "--calibration-share",
                ["train", "calibration_share"],
                self.calibration_share,
            ),
            Flag::given("--target-fpr", ["train", "target_fpr"], self.target_fpr),
            Flag::given("--protocol", ["train", "protocol"], self.protocol),
            Flag::given("--batch-size", ["train", "batch_size"], self.batch_size),
            Flag::given("--workers", ["train", "workers"], self.workers),
            Flag::given("--feature-memory", ["train", "feature_memory_mib"], memory),
        ])
    }
}

/// Which defective images may be learnt from.
#[derive(Debug, Args)]
#[command(next_help_heading = "Known anomalies")]
pub(super) struct AnomalyArgs {
    /// Learn from this many defective images, shared evenly among their kinds. They come from the training side where
    /// the dataset has defective images there; else they are test images, and `burn-ad eval` leaves them out. bgad
    /// takes those that have a mask [default: 0]
    #[arg(long, value_name = "K", conflicts_with_all = ["anomalies_per_kind", "anomaly_ratio"])]
    anomalies: Option<usize>,
    /// The same, this many of each kind
    #[arg(long, value_name = "K", conflicts_with = "anomaly_ratio")]
    anomalies_per_kind: Option<usize>,
    /// The same, so many that they are this share of normal training images and known anomalies together, for
    /// instance 0.05
    #[arg(long, value_name = "RATIO")]
    anomaly_ratio: Option<f64>,
    /// Learn from this many kinds, which are drawn by the seed [default: all]
    #[arg(long, value_name = "K")]
    anomaly_classes: Option<usize>,
    /// Learn from these kinds alone, or draw from them; separated by commas [default: all]
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    anomaly_kinds: Vec<String>,
}

impl AnomalyArgs {
    pub(super) fn flags(&self) -> Result<Vec<Flag>> {
        let path = ["anomalies", "count"];
        let per_kind = self.anomalies_per_kind.map(KnownCount::PerKind);
        let share = self.anomaly_ratio.map(KnownCount::Share);
        given([
            Flag::given("--anomalies", path, self.anomalies.map(KnownCount::Total)),
            Flag::given("--anomalies-per-kind", path, per_kind),
            Flag::given("--anomaly-ratio", path, share),
            Flag::given(
                "--anomaly-classes",
                ["anomalies", "draw"],
                self.anomaly_classes,
            ),
            Flag::given(
                "--anomaly-kinds",
                ["anomalies", "kinds"],
                only(&self.anomaly_kinds),
            ),
        ])
    }
}

/// The kinds that a list of names means; `None` where it is empty.
pub(super) fn only(names: &[String]) -> Option<Kinds> {
    let names: Vec<String> = names.iter().map(|name| name.trim().to_owned()).collect();
    (!names.is_empty()).then_some(Kinds::Only(names))
}

/// Those that were given.
pub(super) fn given(flags: impl IntoIterator<Item = Result<Option<Flag>>>) -> Result<Vec<Flag>> {
    flags.into_iter().filter_map(Result::transpose).collect()
}
