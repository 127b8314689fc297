//! `burn-ad pretrain`: encoders for IGD, taught by a larger network or by contrast.

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::backend::AutodiffBackend;
use burn_ad::backbone::{BackboneConfig, WeightsFile};
use burn_ad::data::{Dataset, Filter, Fit, Geometry, IndexOptions, TrainLimit, training_images};
use burn_ad::pretrain::{ContrastConfig, DistilConfig, Teacher, contrast, distil};
use burn_ad::report::memory::peak_resident_bytes;
use burn_ad::report::table::{Align, Table};
use burn_ad::train::{Checkpoints, Run};
use burn_ad::{Error, Result};
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::{MachineArgs, layout_parser};
use crate::backend::{BackendName, Job, dispatch};
use crate::output::print;
use crate::progress::{Progress, duration};
use crate::settings::{BackboneSettings, overlaid};
use crate::train_log::{Recorder, TrainLog};
use crate::unfinished::{beside, checkpoints, say_how_to_go_on};
use crate::weights::ChosenWeights;

/// The teacher where no other is named, as in the paper.
const DEFAULT_TEACHER: &str = "resnet18";

/// Teach an encoder for igd, by a larger network or by telling images apart
///
/// The file is used like any other weights: `burn-ad train DATA --method igd --weights FILE`, or for small images
/// `--method igd-scratch --set method.local.encoder=backbone --weights FILE`. `burn-ad weights info FILE` says how it
/// was made.
#[derive(Debug, Args)]
pub(crate) struct PretrainArgs {
    #[command(subcommand)]
    command: PretrainCommand,
}

#[derive(Debug, Subcommand)]
enum PretrainCommand {
    Kd(Box<KdArgs>),
    Ssl(Box<SslArgs>),
}

/// Learn what a larger network says of images (knowledge distillation)
///
/// The encoder learns the mean over the positions of the teacher's deepest features. Ctrl-C leaves a checkpoint,
/// <FILE>.checkpoint, and --resume goes on from it; the losses stand in <FILE>.pretrain.jsonl.
#[derive(Debug, Args)]
struct KdArgs {
    #[command(flatten)]
    files: FileArgs,
    /// Network that teaches [default: that of the weights file, else resnet18]
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(BackboneConfig::PUBLISHED_NAMES), help_heading = "Learning")]
    teacher: Option<String>,
    /// Its weights: an imported file, or a .pth or .safetensors checkpoint [default: from the cache]
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "random_weights",
        help_heading = "Learning"
    )]
    weights: Option<PathBuf>,
    /// A teacher of random weights, drawn from the seed: for trying out
    #[arg(long, help_heading = "Learning")]
    random_weights: bool,
    /// Steps of the optimiser [default: 50000]
    #[arg(long, value_name = "N", help_heading = "Learning")]
    steps: Option<usize>,
    /// Images a step [default: 64]
    #[arg(long, value_name = "N", help_heading = "Learning")]
    batch: Option<usize>,
    #[command(flatten)]
    learning: LearningArgs,
    #[command(flatten)]
    images: ImageArgs,
    #[command(flatten)]
    machine: MachineArgs,
}

/// Learn to tell random views of an image from those of others (contrastive learning)
///
/// Ctrl-C leaves a checkpoint, <FILE>.checkpoint, and --resume goes on from it; the losses stand in
/// <FILE>.pretrain.jsonl.
#[derive(Debug, Args)]
struct SslArgs {
    #[command(flatten)]
    files: FileArgs,
    /// Passes over the images [default: 2000]
    #[arg(long, value_name = "N", help_heading = "Learning")]
    epochs: Option<usize>,
    /// Images a step; each is seen twice [default: 32]
    #[arg(long, value_name = "N", help_heading = "Learning")]
    batch: Option<usize>,
    #[command(flatten)]
    learning: LearningArgs,
    #[command(flatten)]
    images: ImageArgs,
    #[command(flatten)]
    machine: MachineArgs,
}

/// What is learnt from, and what becomes of it.
#[derive(Debug, Args)]
struct FileArgs {
    /// Folder of images; of a dataset, or of several, the normal training images are learnt from
    #[arg(value_name = "IMAGES")]
    images: PathBuf,
    /// Weights file to write (.safetensors)
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Replace a file that is there, or start afresh where a run was interrupted
    #[arg(long)]
    overwrite: bool,
    /// Go on from the checkpoint of an interrupted run with the same settings
    #[arg(long)]
    resume: bool,
}

/// How is learnt.
#[derive(Debug, Args)]
#[command(next_help_heading = "Learning")]
struct LearningArgs {
    /// Side of the square images that the encoder is for: 32, 64, 128 or 256 [default: 256]
    #[arg(long, value_name = "PIXELS")]
    size: Option<usize>,
    /// One more setting, for instance learning_rate=0.001; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Reproduces the run: same seed, same weights
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Memory for images, in MiB; further ones are read again and again [default: 1024]
    #[arg(long, value_name = "MIB")]
    feature_memory: Option<u64>,
}

/// How images are found and brought to the encoder.
#[derive(Debug, Args)]
#[command(next_help_heading = "Images")]
struct ImageArgs {
    /// How the folders are arranged [default: auto; where no layout is found, all images below the folder]
    #[arg(long, value_parser = layout_parser())]
    layout: Option<String>,
    /// Bring images to this side first; squares are then cut out of them at random, for an encoder of patches or for
    /// finer views [default: that of --size]
    #[arg(long, value_name = "PIXELS")]
    image_size: Option<usize>,
    /// Aspect ratio: letterbox shows everything undistorted, crop cuts the borders off, squash distorts
    #[arg(long, value_parser = PossibleValuesParser::new(["letterbox", "crop", "squash"]), default_value = "letterbox")]
    fit: String,
    /// Share of the normal images that train, in layouts without a split of their own
    #[arg(long, value_name = "SHARE", default_value_t = IndexOptions::default().train_share)]
    train_share: f64,
    /// In classification datasets (layouts idx and cifar-10) the normal class, by its name or number
    #[arg(long, value_name = "CLASS")]
    normal_class: Option<String>,
    /// Use so many of the images, for instance 100 or 20%, drawn by the seed [default: all]
    #[arg(long, value_name = "N|P%")]
    train_limit: Option<TrainLimit>,
}

impl PretrainArgs {
    pub(crate) fn run(self, quiet: bool) -> Result<()> {
        match self.command {
            PretrainCommand::Kd(args) => args.run(quiet),
            PretrainCommand::Ssl(args) => args.run(quiet),
        }
    }
}

impl KdArgs {
    fn run(self, quiet: bool) -> Result<()> {
        let mut config = overlaid(&DistilConfig::default(), &self.learning.set)?;
        config.side = self.learning.size.unwrap_or(config.side);
        config.steps = self.steps.unwrap_or(config.steps);
        config.batch = self.batch.unwrap_or(config.batch);
        let size = self.images.image_size.unwrap_or(config.side);
        config.crops |= size > config.side;
        config.validate()?;
        let teacher = || {
            let named = self.teacher.as_deref();
            let name = match (named, &self.weights) {
                (None, Some(_)) => None,
                _ => Some(named.unwrap_or(DEFAULT_TEACHER).parse()?),
            };
            let settings = BackboneSettings {
                name,
                weights: self.weights.clone(),
                random: self.random_weights,
            };
            ChosenWeights::find(&settings, self.learning.seed)
        };
        let pretraining = Pretraining {
            files: &self.files,
            learning: &self.learning,
            images: &self.images,
            machine: &self.machine,
        };
        pretraining.run(size, quiet, || {
            let teacher = teacher()?;
            Ok((teacher.filter(), Lesson::Distil { config, teacher }))
        })
    }
}

impl SslArgs {
    fn run(self, quiet: bool) -> Result<()> {
        let mut config = overlaid(&ContrastConfig::default(), &self.learning.set)?;
        config.side = self.learning.size.unwrap_or(config.side);
        config.epochs = self.epochs.unwrap_or(config.epochs);
        config.batch = self.batch.unwrap_or(config.batch);
        config.validate()?;
        let size = self.images.image_size.unwrap_or(config.side);
        let pretraining = Pretraining {
            files: &self.files,
            learning: &self.learning,
            images: &self.images,
            machine: &self.machine,
        };
        pretraining.run(size, quiet, || {
            Ok((Filter::Bilinear, Lesson::Contrast { config }))
        })
    }
}

/// What is learnt.
enum Lesson {
    Distil {
        config: DistilConfig,
        teacher: ChosenWeights,
    },
    Contrast {
        config: ContrastConfig,
    },
}

/// What both ways have in common.
struct Pretraining<'a> {
    files: &'a FileArgs,
    learning: &'a LearningArgs,
    images: &'a ImageArgs,
    machine: &'a MachineArgs,
}

impl Pretraining<'_> {
    /// Learns from images of `size` x `size` pixels, resampled as `lesson` says.
    fn run(
        &self,
        size: usize,
        quiet: bool,
        lesson: impl FnOnce() -> Result<(Filter, Lesson)>,
    ) -> Result<()> {
        let started = Instant::now();
        let FileArgs {
            output,
            overwrite,
            resume,
            ..
        } = self.files;
        check_output(output, *overwrite)?;
        let checkpoints = checkpoints(output, *resume, *overwrite)?;
        let backend = self.machine.prepare()?;
        let dataset = self.dataset()?;
        let (filter, lesson) = lesson()?;
        let geometry = Geometry {
            fit: fit(&self.images.fit)?,
            size,
            filter,
        };
        geometry.check()?;
        let mut progress = Progress::new(quiet);
        progress.note(&format!("learning from {} images", dataset.train.len()));
        if let Lesson::Distil { teacher, .. } = &lesson
            && teacher.random_seed().is_some()
        {
            progress
                .note("note: the teacher's weights are random; nothing worth knowing is learnt");
        }
        create_parent(output)?;
        let log = TrainLog::new(beside(output, "pretrain.jsonl"), *resume)?;
        let job = PretrainJob {
            lesson: &lesson,
            dataset: &dataset,
            geometry,
            learning: self.learning,
            checkpoints: &checkpoints,
            recorder: Recorder {
                progress: &mut progress,
                log: Some(log),
            },
        };
        let file =
            dispatch(backend, job).inspect_err(|error| say_how_to_go_on(error, &checkpoints))?;
        progress.finish();
        file.write(output)?;
        checkpoints.remove()?;
        let seconds = started.elapsed().as_secs_f64();
        print(&summary(&file, backend.name, seconds, output).text())
    }

    fn dataset(&self) -> Result<Dataset> {
        let ImageArgs {
            layout,
            train_share,
            normal_class,
            train_limit,
            ..
        } = self.images;
        let layout = layout.as_deref().unwrap_or("auto").parse()?;
        let options = IndexOptions {
            seed: self.learning.seed,
            train_share: *train_share,
            normal_class: normal_class.clone(),
            train_limit: *train_limit,
            test_limit: None,
        };
        training_images(&self.files.images, layout, &options)
    }
}

fn fit(name: &str) -> Result<Fit> {
    let fit = serde_json::from_value(Value::from(name));
    fit.map_err(|error| Error::usage(format!("--fit {name}: {error}")))
}

/// Finds out before the work, not after it, that the file cannot be written.
fn check_output(path: &Path, overwrite: bool) -> Result<()> {
    if path.is_dir() || path.file_name().is_none() {
        return Err(Error::usage("this is no name for a weights file")
            .path(path)
            .help("for instance encoder.safetensors"));
    }
    if path.exists() && !overwrite {
        return Err(Error::usage("a file of this name exists")
            .path(path)
            .help("choose another name, or replace it with --overwrite"));
    }
    Ok(())
}

/// The folder of the file, where the checkpoint will lie, too.
fn create_parent(path: &Path) -> Result<()> {
    match path.parent() {
        Some(parent) => {
            std::fs::create_dir_all(parent).map_err(|error| Error::io(&error).path(parent))
        }
        None => Ok(()),
    }
}

struct PretrainJob<'a> {
    lesson: &'a Lesson,
    dataset: &'a Dataset,
    geometry: Geometry,
    learning: &'a LearningArgs,
    checkpoints: &'a Checkpoints,
    recorder: Recorder<'a>,
}

impl Job for PretrainJob<'_> {
    type Output = WeightsFile;

    fn run<AB: AutodiffBackend>(mut self, device: AB::Device) -> Result<WeightsFile> {
        let images = &self.dataset.train;
        let mut run = Run::<AB>::new(device.clone(), self.learning.seed, &mut self.recorder)
            .with_checkpoints(Some(self.checkpoints.clone()));
        if let Some(memory) = self.learning.feature_memory {
            run = run.with_feature_memory(memory << 20);
        }
        match self.lesson {
            Lesson::Distil { config, teacher } => {
                let backbone = teacher.backbone::<AB::InnerBackend>(&device)?;
                let teacher = Teacher {
                    backbone: &backbone,
                    pixels: teacher.pixels(),
                    source: &teacher.source(),
                };
                distil(config, &teacher, images, self.geometry, &mut run)
            }
            Lesson::Contrast { config } => contrast(config, images, self.geometry, &mut run),
        }
    }
}

/// What was learnt, in one table.
fn summary(file: &WeightsFile, backend: BackendName, seconds: f64, output: &Path) -> Table {
    let recipe = file.recipe.as_ref();
    let teacher = recipe.and_then(|recipe| recipe["teacher"]["source"].as_str());
    let source = match teacher {
        Some(teacher) => format!("{}, {teacher}", file.source),
        None => file.source.clone(),
    };
    let peak = peak_resident_bytes()
        .map(|bytes| format!("{:.0} MiB", bytes as f64 / 1_048_576.0))
        .unwrap_or_default();
    let mut table = Table::new([("pre-trained", Align::Left), ("", Align::Left)]);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    row("encoder", file.arch.to_string());
    row("by", source);
    if let Some(recipe) = recipe {
        row("images", recipe["images"].to_string());
        if let Some(loss) = recipe["loss"].as_f64() {
            row("last loss", format!("{loss:.4}"));
        }
    }
    row("backend", backend.to_string());
    row("time", duration(seconds));
    row("peak memory", peak);
    row("weights", output.display().to_string());
    table
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn settings_are_laid_over_the_defaults() {
        let set = |text: &str| overlaid(&ContrastConfig::default(), &[text.to_owned()]);
        assert_eq!(set("temperature=0.2").unwrap().temperature, 0.2);
        assert_eq!(set("view.area=[0.5, 1]").unwrap().view.area, [0.5, 1.0]);
        for (wrong, parts) in [
            ("temprature=0.2", ["--set temprature=0.2", "'temperature'"]),
            ("temperature=warm", ["temperature", "--set"]),
            ("temperature", ["KEY=VALUE", "--set"]),
        ] {
            let error = set(wrong).unwrap_err();
            assert!(error.is_usage(), "{error}");
            let message = error.to_string();
            assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        }
    }
}
