//! `burn-ad demo`: everything end to end, without data and without a download.

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::backend::AutodiffBackend;
use burn_ad::Result;
use burn_ad::data::index;
use burn_ad::data::synthetic::{Product, SyntheticConfig, write_mvtec};
use burn_ad::method::ModelHeader;
use burn_ad::train::Run;
use clap::Args;

use super::MachineArgs;
use super::eval::text;
use crate::backend::{Job, dispatch};
use crate::evaluation::{self, Evaluated, Evaluation, Heatmaps};
use crate::output::{OutputFolder, print};
use crate::progress::{Progress, duration, stop_if_interrupted};
use crate::settings::{Protocol, Settings};
use crate::train_log::Recorder;
use crate::training::{Training, announce, known_anomalies, summary};
use crate::weights::ChosenWeights;

const FOLDER: OutputFolder<'static> = OutputFolder {
    command: "demo",
    contents: &["data", "model", "results"],
};

/// N-pad's Gaussians alone, on random features brought to one scale. Measured on the metal plate, with seeds 0, 1
/// and 2: image AUROC 0.998, 0.984, 0.992 and AUPRO 0.979, 0.976, 0.975; the presets, made for real features,
/// reach 0.94 and 0.96 here.
pub(super) const SETTINGS: [&str; 8] = [
    "backbone.name=resnet18",
    "backbone.random=true",
    "method.combination=gaussian",
    "method.reduction={projection=100}",
    "method.scaling=unit-norm",
    // Features of length 1 spread over 100 dimensions: their variances are of this order.
    "method.gaussian.epsilon=0.00001",
    // Of 60 images as many as the rate needs to be promised.
    "train.calibration_share=0.34",
    "train.target_fpr=0.05",
];

/// Draw a product with defects, learn it, find the defects, and show the report
///
/// Needs no data and no download: the backbone's weights are random. For photographs use real ones.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Folder for images, model and results
    #[arg(long, short, value_name = "DIR", default_value = "burn-ad-demo")]
    output: PathBuf,
    /// Write into a folder that holds something else
    #[arg(long)]
    overwrite: bool,
    /// What to draw
    #[arg(long, value_parser = super::data::product_parser(), default_value = "metal-plate")]
    product: String,
    /// One setting, for instance method.name=padim; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    machine: MachineArgs,
}

impl DemoArgs {
    pub(crate) fn run(self, quiet: bool) -> Result<()> {
        let started = Instant::now();
        let product: Product = self.product.parse()?;
        let sets: Vec<String> = SETTINGS
            .iter()
            .map(|&set| set.to_owned())
            .chain(self.set)
            .collect();
        let settings = Settings::resolve(None, &sets, Vec::new())?;
        let backend = self.machine.prepare()?;
        let weights = ChosenWeights::find(&settings.backbone, settings.train.seed)?;
        FOLDER.prepare(&self.output, self.overwrite)?;
        let (data, model, results) = (
            self.output.join("data").join(product.name()),
            self.output.join("model"),
            self.output.join("results"),
        );
        let mut progress = Progress::new(quiet);
        progress
            .note("Drawing a product: every image and defect below is made in code, from a seed.");
        let config = SyntheticConfig::new(product);
        write_mvtec(&config, &data, self.overwrite, &mut |done, total| {
            progress.count("drawing", done, total);
        })?;
        progress.finish();
        stop_if_interrupted()?;
        let dataset = index(&data, settings.data.layout, &settings.index_options())?;
        announce(&settings, &weights, &mut progress);
        let split = known_anomalies(&settings, &dataset, &mut progress)?;
        evaluation::FOLDER.prepare(&results, self.overwrite)?;
        let job = DemoJob {
            training: Training {
                settings: &settings,
                weights: &weights,
                split: &split,
                root: &data,
                backend: backend.name,
                checkpoints: None,
            },
            model: &model,
            results: &results,
            progress: &mut progress,
        };
        let (header, evaluated) = dispatch(backend, job)?;
        progress.finish();
        print(&format!(
            "{}\n{}{}",
            summary(&header, &model).text(),
            text(&evaluated, Protocol::Default, &results),
            closing(&self.output, started.elapsed().as_secs_f64(), &weights)
        ))
    }
}

fn closing(output: &Path, seconds: f64, weights: &ChosenWeights) -> String {
    let features = match weights.random_seed() {
        Some(_) => {
            "The backbone's weights are random. For photographs use real ones: `burn-ad weights \
             fetch efficientnet_lite0`.\n"
        }
        None => "",
    };
    format!(
        "\nThe whole demo took {}. {features}Open {} in a browser; the images are in {}.\n",
        duration(seconds),
        output.join("results").join("report.html").display(),
        output.join("data").display()
    )
}

struct DemoJob<'a> {
    training: Training<'a>,
    model: &'a Path,
    results: &'a Path,
    progress: &'a mut Progress,
}

impl Job for DemoJob<'_> {
    type Output = (ModelHeader, Evaluated);

    fn run<AB: AutodiffBackend>(self, device: AB::Device) -> Result<Self::Output> {
        let mut recorder = Recorder {
            progress: self.progress,
            log: None,
        };
        let mut model = self.training.fit::<AB>(&device, &mut recorder)?;
        model.save(self.model, self.training.settings.train.with_backbone)?;
        let train = &self.training.settings.train;
        let mut run = Run::<AB::InnerBackend>::new(device, train.seed, self.progress)
            .with_batch_size(train.batch_size);
        let evaluation = Evaluation {
            dataset: &self.training.split.dataset,
            root: self.training.root,
            backend: self.training.backend,
            protocol: Protocol::Default,
            heatmaps: Heatmaps::All,
            original_resolution: false,
            out: self.results,
        };
        let evaluated = evaluation.run(&mut model, &self.training.loader(), &mut run)?;
        Ok((model.header().clone(), evaluated))
    }
}
