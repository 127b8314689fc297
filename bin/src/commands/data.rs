//! `burn-ad data`: looking through a dataset, and drawing one.

use std::collections::BTreeMap;
use std::path::PathBuf;

use burn_ad::data::check::Severity;
use burn_ad::data::synthetic::{Product, SyntheticConfig, write_mvtec};
use burn_ad::data::{IndexOptions, Sample, check};
use burn_ad::report::table::{Align, Table};
use burn_ad::{Error, Result};
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};

use super::layout_parser;
use crate::output::print;
use crate::progress::Progress;

/// Look through a dataset, or draw one
#[derive(Debug, Args)]
pub(crate) struct DataArgs {
    #[command(subcommand)]
    command: DataCommand,
}

#[derive(Debug, Subcommand)]
enum DataCommand {
    Check(CheckArgs),
    Info(InfoArgs),
    Synth(SynthArgs),
}

/// Where a dataset is, and how it is arranged.
#[derive(Debug, Args)]
struct DatasetArgs {
    /// Folder of one product
    #[arg(value_name = "DIR")]
    data: PathBuf,
    /// How the folders are arranged
    #[arg(long, value_parser = layout_parser(), default_value = "auto")]
    layout: String,
    /// Share of the normal images that train, in layouts without a split of their own
    #[arg(long, value_name = "SHARE", default_value_t = IndexOptions::default().train_share)]
    train_share: f64,
    /// Seed of that split
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// In classification datasets (layouts idx and cifar-10) the normal class, by its name or number
    #[arg(long, value_name = "CLASS")]
    normal_class: Option<String>,
}

impl DatasetArgs {
    fn options(&self) -> IndexOptions {
        IndexOptions {
            seed: self.seed,
            train_share: self.train_share,
            normal_class: self.normal_class.clone(),
            ..IndexOptions::default()
        }
    }
}

/// Report unreadable files, masks without image, images without mask, sizes that differ, duplicates
///
/// Every image and mask is decoded. Ends with exit code 1 when an image cannot be used or results would be wrong.
#[derive(Debug, Args)]
struct CheckArgs {
    #[command(flatten)]
    dataset: DatasetArgs,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Count the images of a dataset without reading them
#[derive(Debug, Args)]
struct InfoArgs {
    #[command(flatten)]
    dataset: DatasetArgs,
}

/// Draw a product with defects and their exact masks, in the layout of MVTec AD
///
/// The same settings give the same images.
#[derive(Debug, Args)]
struct SynthArgs {
    /// Folder to write; one that this command wrote before is replaced
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Replace a folder that holds something else
    #[arg(long)]
    overwrite: bool,
    /// What to draw
    #[arg(long, value_parser = product_parser(), default_value = "metal-plate")]
    product: String,
    /// Seed of everything
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Side of the pictures in pixels, 64 to 2048 [default: 256]
    #[arg(long, value_name = "PIXELS")]
    size: Option<usize>,
    /// Good products to train on [default: 60]
    #[arg(long, value_name = "N")]
    train: Option<usize>,
    /// Good products to test on [default: 20]
    #[arg(long, value_name = "N")]
    test_normal: Option<usize>,
    /// Defective products of each kind [default: 6]
    #[arg(long, value_name = "N")]
    per_kind: Option<usize>,
    /// Kinds of defect, separated by commas [default: all of the product]
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    kinds: Vec<String>,
}

/// The products that can be drawn.
pub(super) fn product_parser() -> PossibleValuesParser {
    PossibleValuesParser::new(Product::ALL.map(Product::name))
}

impl DataArgs {
    pub(crate) fn run(self, quiet: bool) -> Result<()> {
        match self.command {
            DataCommand::Check(args) => args.run(quiet),
            DataCommand::Info(args) => args.run(),
            DataCommand::Synth(args) => args.run(quiet),
        }
    }
}

impl CheckArgs {
    fn run(self, quiet: bool) -> Result<()> {
        let DatasetArgs { data, layout, .. } = &self.dataset;
        let mut progress = Progress::new(quiet);
        let report = check(
            data,
            layout.parse()?,
            &self.dataset.options(),
            &mut |done, total| {
                progress.count_or_exit("checking", done, total);
            },
        )?;
        progress.finish();
        if self.json {
            let json = serde_json::to_string_pretty(&report)
                .map_err(|error| Error::data(error.to_string()))?;
            print(&format!("{json}\n"))?;
        } else {
            print(&format!("{report}\n"))?;
        }
        if report.is_usable() {
            return Ok(());
        }
        Err(Error::data(format!(
            "the dataset has {} errors, listed above",
            report.count(Severity::Error)
        ))
        .path(data))
    }
}

impl InfoArgs {
    fn run(self) -> Result<()> {
        let DatasetArgs { data, layout, .. } = &self.dataset;
        let dataset = burn_ad::data::index(data, layout.parse()?, &self.dataset.options())?;
        let mut table = Table::new([
            ("kind", Align::Left),
            ("images", Align::Right),
            ("with mask", Align::Right),
        ]);
        let counts = |samples: &[Sample]| {
            let mut kinds: BTreeMap<(bool, String), [usize; 2]> = BTreeMap::new();
            for sample in samples {
                let kind = (sample.label.is_anomalous(), sample.kind.clone());
                let [images, masks] = kinds.entry(kind).or_default();
                *images += 1;
                *masks += usize::from(sample.mask.is_some());
            }
            kinds
        };
        let train = dataset.train.len().to_string();
        table.row(["(training)".to_owned(), train, String::new()]);
        for (before, samples) in [("(training) ", &dataset.pool), ("", &dataset.test)] {
            for ((anomalous, kind), [images, masks]) in counts(samples) {
                let masks = if anomalous {
                    masks.to_string()
                } else {
                    String::new()
                };
                table.row([format!("{before}{kind}"), images.to_string(), masks]);
            }
        }
        print(&format!("{}\n\n{}", dataset.name, table.text()))
    }
}

impl SynthArgs {
    fn run(self, quiet: bool) -> Result<()> {
        let mut config = SyntheticConfig::new(self.product.parse()?);
        config.seed = self.seed;
        config.size = self.size.unwrap_or(config.size);
        config.train = self.train.unwrap_or(config.train);
        config.test_normal = self.test_normal.unwrap_or(config.test_normal);
        config.per_kind = self.per_kind.unwrap_or(config.per_kind);
        if !self.kinds.is_empty() {
            config.kinds = self
                .kinds
                .iter()
                .map(|kind| kind.trim().parse())
                .collect::<Result<_>>()?;
        }
        let mut progress = Progress::new(quiet);
        write_mvtec(&config, &self.dir, self.overwrite, &mut |done, total| {
            progress.count("drawing", done, total);
        })?;
        progress.finish();
        print(&format!(
            "{} training, {} good and {} defective test images: {}\n",
            config.train,
            config.test_normal,
            config.per_kind * config.kinds.len(),
            self.dir.display()
        ))
    }
}
