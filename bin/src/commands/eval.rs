//! `burn-ad eval`: how good a model is on labelled images.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use burn::tensor::backend::AutodiffBackend;
use burn_ad::Result;
use burn_ad::data::known::leave_out;
use burn_ad::data::{Dataset, IndexOptions, Kinds, Layout};
use burn_ad::method::{MethodConfig, ModelHeader};
use burn_ad::report::eval::Quality;
use burn_ad::report::table::{Align, Table, number};
use burn_ad::train::{Observer, Run};
use clap::Args;

use super::flags::only;
use super::{MachineArgs, ModelArgs, ReadArgs, layout_parser};
use crate::backend::{Job, dispatch};
use crate::evaluation::{
    Evaluated, Evaluation, FOLDER, Heatmaps, refuse_unreadable, warn_unreadable,
};
use crate::output::print;
use crate::progress::Progress;
use crate::settings::{Protocol, Settings};
use crate::training::images_below;
use crate::weights::load_model;

/// Measure a model on labelled images
///
/// Writes metrics.json, predictions.csv, predictions.jsonl, report.html and heat maps, and prints the figures; for
/// methods with likelihoods (bgad, hgad) also likelihoods.json, with its pictures in the report.
/// Layout, split and seed are those of the training run, and known anomalies and contamination are left out, so that no
/// training image is tested.
#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Folder of the product; for hgad also of several products, or of several such datasets
    #[arg(value_name = "DATA")]
    data: PathBuf,
    /// Folder for the results
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    /// Write into a folder that holds something else
    #[arg(long)]
    overwrite: bool,
    /// How many heat maps: all, none, or a number spread over the kinds of images
    #[arg(long, value_name = "N", default_value = "64")]
    heatmaps: Heatmaps,
    /// Pixel metrics at the images' own resolution as well (needs memory for all their maps)
    #[arg(long)]
    original_resolution: bool,
    /// `paper` takes threshold and score range from the test set, as the papers' tables do
    #[arg(long, value_enum, default_value_t)]
    protocol: Protocol,
    /// Test these kinds of anomaly alone, beside the normal images; separated by commas [default: all]
    #[arg(
        long,
        value_name = "KINDS",
        value_delimiter = ',',
        conflicts_with = "exclude_kinds"
    )]
    kinds: Vec<String>,
    /// Test all kinds of anomaly but these
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    exclude_kinds: Vec<String>,
    /// End with exit code 1 when an image could not be read
    #[arg(long)]
    strict: bool,
    /// Score every image as the product it looks most like, also where its folder says which it is
    #[arg(long)]
    infer_classes: bool,
    /// How the folders are arranged [default: as in training]
    #[arg(long, value_parser = layout_parser())]
    layout: Option<String>,
    /// In classification datasets (layouts idx and cifar-10) the normal class [default: as in training]
    #[arg(long, value_name = "CLASS")]
    normal_class: Option<String>,
    /// Test at most this many images of each kind [default: as in training]
    #[arg(long, value_name = "N")]
    test_limit: Option<usize>,
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    read: ReadArgs,
}

impl EvalArgs {
    pub(crate) fn run(self, quiet: bool) -> Result<()> {
        let header = ModelHeader::read(&self.model.model)?;
        let (layout, options) = self.split(&header)?;
        let mut dataset = images_below(&self.data, &header.method, layout, &options)?;
        name_product(&mut dataset, &header.method);
        let mut dataset = self.kinds().tested(dataset)?;
        let backend = self.machine.prepare()?;
        FOLDER.prepare(&self.output, self.overwrite)?;
        let mut progress = Progress::new(quiet);
        let known = &header.training.known_anomalies;
        let left_out = leave_out(&mut dataset, &self.data, known);
        if !known.is_empty() {
            progress.note(&format!(
                "{left_out} of the model's {} known anomalies are among these images; they are not tested",
                known.len()
            ));
        }
        let contamination = &header.training.contamination;
        let left_out = leave_out(&mut dataset, &self.data, contamination);
        if !contamination.is_empty() {
            progress.note(&format!(
                "{left_out} of the {} anomalous images that the model has learnt as normal are among these images; they \
                 are not tested",
                contamination.len()
            ));
        }
        if self.protocol == Protocol::Paper {
            progress.warn(PAPER);
        }
        let job = EvalJob {
            evaluation: Evaluation {
                dataset: &dataset,
                root: &self.data,
                backend: backend.name,
                protocol: self.protocol,
                heatmaps: self.heatmaps,
                original_resolution: self.original_resolution,
                out: &self.output,
            },
            model: &self.model,
            read: &self.read,
            infer_classes: self.infer_classes,
            progress: &mut progress,
        };
        let evaluated = dispatch(backend, job)?;
        progress.finish();
        warn_unreadable(&evaluated.unreadable, &mut |message| progress.warn(message));
        print(&text(&evaluated, self.protocol, &self.output))?;
        refuse_unreadable(evaluated.unreadable.len(), self.strict)
    }

    /// The kinds that are tested.
    fn kinds(&self) -> Kinds {
        match only(&self.exclude_kinds) {
            Some(Kinds::Only(names)) => Kinds::Except(names),
            _ => only(&self.kinds).unwrap_or_default(),
        }
    }

    /// Layout and split of the training run, so that what it trained on is not tested.
    fn split(&self, header: &ModelHeader) -> Result<(Layout, IndexOptions)> {
        let config = self.model.model.join("config.json");
        let (trained, mut options) = if config.is_file() {
            let settings = Settings::resolve(Some(&config), &[], Vec::new())?;
            (settings.data.layout, settings.index_options())
        } else {
            let options = IndexOptions {
                seed: header.training.seed,
                ..IndexOptions::default()
            };
            (Layout::Auto, options)
        };
        if let Some(class) = &self.normal_class {
            options.normal_class = Some(class.clone());
        }
        options.test_limit = self.test_limit.or(options.test_limit);
        let layout = match &self.layout {
            Some(name) => name.parse()?,
            None => trained,
        };
        Ok((layout, options))
    }
}

const PAPER: &str = "protocol 'paper': threshold and normalised scores come from this test set, so they are \
                     better than anything a user would see. For reproducing tables only";

struct EvalJob<'a> {
    evaluation: Evaluation<'a>,
    model: &'a ModelArgs,
    read: &'a ReadArgs,
    infer_classes: bool,
    progress: &'a mut Progress,
}

impl Job for EvalJob<'_> {
    type Output = Evaluated;

    fn run<AB: AutodiffBackend>(self, device: AB::Device) -> Result<Evaluated> {
        let ModelArgs { model, weights } = self.model;
        let mut model = load_model::<AB::InnerBackend>(model, weights.as_deref(), &device)?;
        let loader = self.read.loader(model.header());
        let seed = model.header().training.seed;
        if self.infer_classes {
            model.infer_classes();
        } else {
            warn_unknown(
                self.evaluation.dataset,
                &model.header().method,
                &mut |message| self.progress.warn(message),
            );
        }
        let mut run = Run::<AB::InnerBackend>::new(device, seed, self.progress)
            .with_batch_size(self.read.batch_size);
        self.evaluation.run(&mut model, &loader, &mut run)
    }
}

/// A product of a union of datasets (`visa/candle`) that is looked at alone goes by the end of its name;
/// where the model knows one such product, this is it.
fn name_product(dataset: &mut Dataset, method: &MethodConfig) {
    let MethodConfig::Hgad(config) = method else {
        return;
    };
    let named = |class: &str| {
        if config.classes.iter().any(|known| known == class) {
            return None;
        }
        let mut known = config.classes.iter();
        let ends = |known: &&String| known.rsplit_once('/').is_some_and(|(_, end)| end == class);
        let found = known.find(ends)?;
        known.find(ends).is_none().then(|| found.clone())
    };
    for sample in dataset.train.iter_mut().chain(&mut dataset.test) {
        if let Some((class, kind)) = sample.kind.rsplit_once('/')
            && let Some(class) = named(class)
        {
            sample.kind = format!("{class}/{kind}");
        }
    }
}

/// Tells of products that the model has never seen.
fn warn_unknown(dataset: &Dataset, method: &MethodConfig, warn: &mut dyn FnMut(&str)) {
    let MethodConfig::Hgad(config) = method else {
        return;
    };
    if config.classes.len() < 2 {
        return;
    }
    let known = |class: &str| config.classes.iter().any(|known| known == class);
    let classes: BTreeSet<&str> = dataset.test.iter().filter_map(|s| s.class()).collect();
    for class in classes.into_iter().filter(|class| !known(class)) {
        warn(&format!(
            "the model knows no product '{class}': its images are scored as the one they look most like"
        ));
    }
}

/// Everything for the terminal.
pub(super) fn text(evaluated: &Evaluated, protocol: Protocol, out: &Path) -> String {
    let mut text = evaluated.report.text();
    if let Some(original) = &evaluated.original {
        text += "\n";
        text += &at_original_resolution(original).text();
    }
    if protocol == Protocol::Paper {
        text += &format!("\nNOTE: {PAPER}.\n");
    }
    text + &format!("\nresults: {}\n", out.join("report.html").display())
}

fn at_original_resolution(quality: &Quality) -> Table {
    let mut table = Table::new([
        ("at the images' own resolution", Align::Left),
        ("value", Align::Right),
    ]);
    for (name, value) in [
        ("pixel AUROC", quality.auroc),
        ("pixel average precision", quality.average_precision),
        ("pixel best F1", quality.best_f1),
        ("AUPRO", quality.aupro),
    ] {
        table.row([name.to_owned(), number(value, 4)]);
    }
    table
}
