//! `burn-ad train`: from normal images to a model directory.

use std::path::{Path, PathBuf};

use burn::tensor::backend::AutodiffBackend;
use burn_ad::backbone::BackboneConfig;
use burn_ad::data::{Dataset, Geometry, Loader, Preprocess, index};
use burn_ad::method::{
    CalibrationSource, MethodConfig, Model, ModelHeader, TrainOptions, TrainingImages,
};
use burn_ad::report::memory::peak_resident_bytes;
use burn_ad::report::table::{Align, Table};
use burn_ad::train::{Observer, Run};
use burn_ad::{Error, Result};
use clap::Args;
use clap::builder::PossibleValuesParser;
use serde_json::json;

use super::{MachineArgs, layout_parser, with_workers};
use crate::backend::{BackendName, Job, dispatch};
use crate::output::{print, write_json};
use crate::progress::{Progress, duration};
use crate::settings::{Flag, Protocol, Settings};
use crate::weights::ChosenWeights;

/// Learn from normal images
///
/// Settings come from the method's preset, then the file given with --config, then --set, then the other flags; the
/// last one wins. What came out of it is written before training starts, as <MODEL>.config.json, and moves into the
/// model directory when that is complete. It can be given to --config again.
#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    /// Folder of one product
    #[arg(value_name = "DATA")]
    data: PathBuf,
    /// Model directory to write
    #[arg(long, short, value_name = "MODEL")]
    output: PathBuf,
    /// Replace a model that is there
    #[arg(long)]
    overwrite: bool,
    /// Settings file, TOML or JSON, with sections method, backbone, data, train
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, for instance method.sigma=2; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    method: MethodArgs,
    #[command(flatten)]
    images: ImageArgs,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    machine: MachineArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Method")]
struct MethodArgs {
    /// Detection method [default: npad]
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(MethodConfig::PRESETS))]
    method: Option<String>,
    /// Feature extractor [default: that of the weights file, else tf_efficientnet_lite0]
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(BackboneConfig::NAMES))]
    backbone: Option<String>,
    /// Its weights: an imported file, or a .pth or .safetensors checkpoint [default: from the cache]
    #[arg(long, value_name = "FILE", conflicts_with = "random_weights")]
    weights: Option<PathBuf>,
    /// Random weights, drawn from the seed: nothing to download, but much weaker features
    #[arg(long)]
    random_weights: bool,
    /// Put the backbone's weights into the model directory, so that it needs nothing else
    #[arg(long)]
    with_backbone: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Images")]
struct ImageArgs {
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
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Run")]
struct RunArgs {
    /// Reproduces the run: same seed, same model [default: 0]
    #[arg(long)]
    seed: Option<u64>,
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
}

impl TrainArgs {
    pub(crate) fn run(self, quiet: bool) -> Result<()> {
        let mut settings = Settings::resolve(self.config.as_deref(), &self.set, self.flags()?)?;
        check_output(&self.output, self.overwrite)?;
        let backend = self.machine.prepare()?;
        let options = settings.index_options();
        let dataset = index(&self.data, settings.data.layout, &options)?;
        let weights = ChosenWeights::find(&settings.backbone, settings.train.seed)?;
        settings.pin(&weights);

        let config = beside(&self.output, "config.json");
        write_json(&config, settings.to_value())?;
        let mut progress = Progress::new(quiet);
        let training = Training {
            settings: &settings,
            weights: &weights,
            dataset: &dataset,
            backend: backend.name,
        };
        let header = dispatch(
            backend,
            TrainJob {
                training,
                output: &self.output,
                progress: &mut progress,
            },
        )?;
        let kept = self.output.join("config.json");
        std::fs::rename(&config, &kept).map_err(|error| Error::io(&error).path(&kept))?;
        print(&summary(&header, &self.output).text())
    }

    /// The settings given as flags of their own.
    fn flags(&self) -> Result<Vec<Flag>> {
        let (method, images, run) = (&self.method, &self.images, &self.run);
        let on = |flag: bool| flag.then_some(true);
        let all = [
            Flag::given("--method", ["method", "name"], method.method.as_ref())?,
            Flag::given("--backbone", ["backbone", "name"], method.backbone.as_ref())?,
            Flag::given(
                "--weights",
                ["backbone", "weights"],
                method.weights.as_ref(),
            )?,
            // A flag replaces what a file says about the same thing.
            Flag::given(
                "--weights",
                ["backbone", "random"],
                method.weights.as_ref().map(|_| false),
            )?,
            Flag::given(
                "--random-weights",
                ["backbone", "random"],
                on(method.random_weights),
            )?,
            Flag::given(
                "--random-weights",
                ["backbone", "weights"],
                on(method.random_weights).map(|_| json!(null)),
            )?,
            Flag::given(
                "--with-backbone",
                ["train", "with_backbone"],
                on(method.with_backbone),
            )?,
            Flag::given("--layout", ["data", "layout"], images.layout.as_ref())?,
            Flag::given("--size", ["data", "size"], images.size)?,
            Flag::given("--fit", ["data", "fit"], images.fit.as_ref())?,
            Flag::given("--filter", ["data", "filter"], images.filter.as_ref())?,
            Flag::given("--train-share", ["data", "train_share"], images.train_share)?,
            Flag::given("--seed", ["train", "seed"], run.seed)?,
            Flag::given(
                "--calibration-share",
                ["train", "calibration_share"],
                run.calibration_share,
            )?,
            Flag::given("--target-fpr", ["train", "target_fpr"], run.target_fpr)?,
            Flag::given("--protocol", ["train", "protocol"], run.protocol)?,
            Flag::given("--batch-size", ["train", "batch_size"], run.batch_size)?,
            Flag::given("--workers", ["train", "workers"], run.workers)?,
        ];
        Ok(all.into_iter().flatten().collect())
    }
}

/// `<path>.<ending>`, whatever dots `path` has.
fn beside(path: &Path, ending: &str) -> PathBuf {
    // Component by component, so that `model/` loses its slash.
    let mut name = path.components().collect::<PathBuf>().into_os_string();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

/// Finds out before the work, not after it, that the model cannot be written.
fn check_output(dir: &Path, overwrite: bool) -> Result<()> {
    if dir.file_name().is_none() {
        return Err(Error::usage("this is no name for a model directory").path(dir));
    }
    if !dir.exists() {
        return Ok(());
    }
    if !dir.is_dir() {
        return Err(Error::usage("a file of this name exists").path(dir));
    }
    let empty = std::fs::read_dir(dir)
        .map_err(|error| Error::io(&error).path(dir))?
        .next()
        .is_none();
    if dir.join("model.json").is_file() {
        if overwrite {
            return Ok(());
        }
        return Err(Error::usage("there is a model already")
            .path(dir)
            .help("choose another name, or replace it with --overwrite"));
    }
    if empty {
        return Ok(());
    }
    Err(
        Error::usage("the directory holds something that is not a model")
            .path(dir)
            .help("choose another directory, or empty this one"),
    )
}

/// All that a training run is made from.
#[derive(Clone, Copy)]
pub(super) struct Training<'a> {
    pub(super) settings: &'a Settings,
    pub(super) weights: &'a ChosenWeights,
    pub(super) dataset: &'a Dataset,
    pub(super) backend: BackendName,
}

impl Training<'_> {
    /// How images are brought to the network.
    pub(super) fn loader(&self) -> Loader {
        let data = &self.settings.data;
        let preprocess = Preprocess {
            geometry: Geometry {
                fit: data.fit,
                size: data.size,
                filter: data.filter.unwrap_or_else(|| self.weights.filter()),
            },
            normalisation: self.weights.normalisation(),
        };
        with_workers(Loader::new(preprocess), self.settings.train.workers)
    }

    /// Trains, calibrates and saves.
    pub(super) fn run<AB: AutodiffBackend>(
        &self,
        device: &AB::Device,
        output: &Path,
        progress: &mut Progress,
    ) -> Result<Model<AB::InnerBackend>> {
        let train = &self.settings.train;
        let loader = self.loader();
        let options = TrainOptions {
            dataset: self.dataset.name.clone(),
            backend: self.backend.to_string(),
            weights_source: self.weights.source(),
            random_seed: self.weights.random_seed(),
            known_anomalies: Vec::new(),
            calibration_share: train.calibration_share,
            target_fpr: train.target_fpr,
        };
        let backbone = self.weights.backbone::<AB::InnerBackend>(device)?;
        if self.weights.random_seed().is_some() {
            progress.note("note: random backbone weights; real ones find far more");
        }
        let mut run =
            Run::<AB>::new(device.clone(), train.seed, progress).with_batch_size(train.batch_size);
        let model = Model::train(
            &self.settings.method,
            backbone,
            &TrainingImages::of_normal(&self.dataset.train),
            &loader,
            &options,
            &mut run,
        )?;
        progress.finish();
        if train.protocol == Protocol::Paper {
            progress.warn(
                "protocol 'paper': all normal images were fitted, none kept aside; the stored threshold \
                 means little. Evaluate with `burn-ad eval --protocol paper`",
            );
        }
        model.save(output, train.with_backbone)?;
        Ok(model)
    }
}

struct TrainJob<'a> {
    training: Training<'a>,
    output: &'a Path,
    progress: &'a mut Progress,
}

impl Job for TrainJob<'_> {
    type Output = ModelHeader;

    fn run<AB: AutodiffBackend>(self, device: AB::Device) -> Result<ModelHeader> {
        let model = self
            .training
            .run::<AB>(&device, self.output, self.progress)?;
        Ok(model.header().clone())
    }
}

/// What was trained, in one table.
pub(super) fn summary(header: &ModelHeader, output: &Path) -> Table {
    let calibration = &header.calibration;
    let images = match calibration.source {
        CalibrationSource::HeldOut => format!("{} images kept aside", calibration.images),
        CalibrationSource::Training => {
            format!("{} images, the ones it was fitted on", calibration.images)
        }
        CalibrationSource::TestSet => format!("{} test images", calibration.images),
    };
    let peak = peak_resident_bytes()
        .map(|bytes| format!("{:.0} MiB", bytes as f64 / 1_048_576.0))
        .unwrap_or_default();
    let mut table = Table::new([("trained", Align::Left), ("", Align::Left)]);
    for (name, value) in [
        ("method", header.method.to_string()),
        (
            "backbone",
            format!("{}, {}", header.backbone.arch, header.backbone.source),
        ),
        ("dataset", header.training.dataset.clone()),
        ("normal images", header.training.images.to_string()),
        ("calibration", images),
        (
            "threshold",
            format!(
                "{:.4} (false-positive rate at most {:.3})",
                calibration.threshold,
                calibration.guaranteed_fpr()
            ),
        ),
        ("backend", header.training.backend.clone()),
        ("time", duration(header.training.seconds)),
        ("peak memory", peak),
        ("model", output.display().to_string()),
    ] {
        table.row([name.to_owned(), value]);
    }
    table
}
