//! `burn-ad train`: from normal images to a model directory.

use std::path::{Path, PathBuf};

use burn::tensor::backend::AutodiffBackend;
use burn_ad::method::ModelHeader;
use burn_ad::train::Checkpoints;
use burn_ad::{Error, Result};
use clap::Args;

use super::MachineArgs;
use super::flags::{AnomalyArgs, ImageArgs, MethodArgs, RunArgs, given};
use crate::backend::{Job, dispatch};
use crate::output::{print, write_json};
use crate::progress::Progress;
use crate::settings::{Flag, Settings};
use crate::train_log::{self, Recorder, TrainLog};
use crate::training::{Training, announce, images_below, known_anomalies, summary};
use crate::unfinished::{self, beside, say_how_to_go_on};
use crate::weights::ChosenWeights;

/// Learn from normal images, and from a few known anomalies where the method can
///
/// Settings come from the method's preset, then the file given with --config, then --set, then the other flags; the
/// last one wins. What came out of it is written before training starts, as <MODEL>.config.json, and moves into the
/// model directory when that is complete. It can be given to --config again.
#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    /// Folder of one product; for hgad also of several products, or of several such datasets
    #[arg(value_name = "DATA")]
    data: PathBuf,
    /// Model directory to write
    #[arg(long, short, value_name = "MODEL")]
    output: PathBuf,
    /// Replace a model that is there, or start afresh where a run was interrupted
    #[arg(long)]
    overwrite: bool,
    /// Go on from the checkpoint of an interrupted run with the same settings, <MODEL>.checkpoint
    #[arg(long)]
    resume: bool,
    /// Settings file, TOML or JSON, with sections method, backbone, data, anomalies, train
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, for instance method.sigma=2; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    method: MethodArgs,
    /// Put the backbone's weights into the model directory, so that it needs nothing else
    #[arg(long, help_heading = "Method")]
    with_backbone: bool,
    #[command(flatten)]
    images: ImageArgs,
    #[command(flatten)]
    anomalies: AnomalyArgs,
    /// Reproduces the run: same seed, same model [default: 0]
    #[arg(long, help_heading = "Run")]
    seed: Option<u64>,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    machine: MachineArgs,
}

impl TrainArgs {
    pub(crate) fn run(self, quiet: bool) -> Result<()> {
        let file = self.method.config(self.config.as_deref())?;
        let mut settings = Settings::resolve(file.as_deref(), &self.set, self.flags()?)?;
        check_output(&self.output, self.overwrite)?;
        let checkpoints = self.checkpoints(&settings)?;
        let backend = self.machine.prepare()?;
        let options = settings.index_options();
        let dataset = images_below(&self.data, &settings.method, settings.data.layout, &options)?;
        let mut progress = Progress::new(quiet);
        let split = known_anomalies(&settings, &dataset, &mut progress)?;
        let weights = ChosenWeights::find(&settings.backbone, settings.train.seed)?;
        settings.pin(&weights);

        let config = beside(&self.output, "config.json");
        // A run that goes on may turn out to have other settings: those of the interrupted one stay until then.
        if !(self.resume && config.exists()) {
            write_json(&config, settings.to_value())?;
        }
        announce(&settings, &weights, &mut progress);
        let log = beside(&self.output, "train.jsonl");
        let training = Training {
            settings: &settings,
            weights: &weights,
            split: &split,
            root: &self.data,
            backend: backend.name,
            checkpoints: Some(checkpoints.clone()),
        };
        let header = dispatch(
            backend,
            TrainJob {
                training,
                output: &self.output,
                recorder: Recorder {
                    progress: &mut progress,
                    log: Some(TrainLog::new(log.clone(), self.resume)?),
                },
            },
        )
        .inspect_err(|error| say_how_to_go_on(error, &checkpoints))?;
        write_json(&config, settings.to_value())?;
        let kept = self.output.join("config.json");
        std::fs::rename(&config, &kept).map_err(|error| Error::io(&error).path(&kept))?;
        train_log::keep(&log, &self.output.join("train.jsonl"))?;
        print(&summary(&header, &self.output).text())
    }

    /// The settings given as flags of their own.
    fn flags(&self) -> Result<Vec<Flag>> {
        let on = |flag: bool| flag.then_some(true);
        let own = given([
            Flag::given("--seed", ["train", "seed"], self.seed),
            Flag::given(
                "--with-backbone",
                ["train", "with_backbone"],
                on(self.with_backbone),
            ),
        ])?;
        let parts = [
            self.method.flags()?,
            self.images.flags()?,
            self.anomalies.flags()?,
            self.run.flags()?,
            own,
        ];
        Ok(parts.concat())
    }

    /// Where the checkpoint is kept, once it is clear what becomes of one that is there.
    fn checkpoints(&self, settings: &Settings) -> Result<Checkpoints> {
        if self.resume && !settings.method.is_iterative() {
            let message = format!(
                "{} learns in one pass and keeps no checkpoint",
                settings.method
            );
            return Err(Error::usage(message).help("leave --resume out"));
        }
        unfinished::checkpoints(&self.output, self.resume, self.overwrite)
    }
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

struct TrainJob<'a> {
    training: Training<'a>,
    output: &'a Path,
    recorder: Recorder<'a>,
}

impl Job for TrainJob<'_> {
    type Output = ModelHeader;

    fn run<AB: AutodiffBackend>(mut self, device: AB::Device) -> Result<ModelHeader> {
        let model = self.training.fit::<AB>(&device, &mut self.recorder)?;
        model.save(self.output, self.training.settings.train.with_backbone)?;
        if let Some(checkpoints) = &self.training.checkpoints {
            checkpoints.remove()?;
        }
        Ok(model.header().clone())
    }
}
