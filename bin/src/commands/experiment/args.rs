//! What an experiment is asked for.

use std::path::PathBuf;

use burn_ad::data::known::learnable_kinds;
use burn_ad::data::{Dataset, Kinds, KnownCount};
use burn_ad::{Error, Result};
use clap::{Args, ValueEnum};

use super::FOLDER;
use super::axes::{Axis, Variant};
use super::demo;
use super::grid::{Grid, Split};
use crate::commands::MachineArgs;
use crate::commands::data::product_parser;
use crate::commands::flags::{ImageArgs, MethodArgs, RunArgs, given, only};
use crate::output::OutputFolder;
use crate::settings::Flag;

/// Train and measure a grid of variants over several seeds, and compare them in one table
///
/// Prints mean and sample standard deviation over the seeds, and writes them to results.json, results.csv and
/// results.md. Each seed draws its own known anomalies (and its own split where the layout has none): the same ones for
/// all variants. A killed experiment goes on where it was with the same command; more seeds, variants and values may be
/// added to it.
#[derive(Debug, Args)]
pub(crate) struct ExperimentArgs {
    /// Folder of one product; for hgad also of several products, or of several such datasets
    #[arg(value_name = "DATA", required_unless_present = "demo")]
    pub(super) data: Option<PathBuf>,
    /// Draw a product instead, and compare NFAD and BGAD on it where nothing else is asked for
    #[arg(long, conflicts_with = "data")]
    pub(super) demo: bool,
    /// What the demo draws
    #[arg(long, value_parser = product_parser(), default_value = "metal-plate", conflicts_with = "data")]
    pub(super) product: String,
    /// Folder for the results
    #[arg(long, short, value_name = "DIR")]
    pub(super) output: PathBuf,
    /// Start afresh, or write into a folder that holds something else
    #[arg(long)]
    pub(super) overwrite: bool,
    /// Settings file, TOML or JSON, with sections method, backbone, data, anomalies, train
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// One setting of all runs, for instance method.schedule.meta_epochs=5; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
    #[command(flatten)]
    pub(super) grid: GridArgs,
    #[command(flatten)]
    method: MethodArgs,
    #[command(flatten)]
    images: ImageArgs,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    pub(super) machine: MachineArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Grid")]
pub(super) struct GridArgs {
    /// A row of its own: 'NAME: KEY=VALUE; KEY=VALUE', for instance 'no weights: method.loss.weights.enabled=false';
    /// may be repeated
    #[arg(long, value_name = "VARIANT")]
    variant: Vec<String>,
    /// A row for each value, for instance method.loss.beta=0.01,0.05; may be repeated
    #[arg(long, value_name = "KEY=V1,V2")]
    vary: Vec<String>,
    /// Runs of each row, with seeds 0 to N - 1
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) seeds: u64,
    /// Known anomalies in total; a row for each number
    #[arg(long, value_name = "K1,K2", value_delimiter = ',')]
    anomalies: Vec<usize>,
    /// Known anomalies of each kind; a row for each number
    #[arg(long, value_name = "K1,K2", value_delimiter = ',')]
    anomalies_per_kind: Vec<usize>,
    /// Known anomalies as a share of normal training images and known anomalies together, for instance 0.05; a row for
    /// each number
    #[arg(long, value_name = "R1,R2", value_delimiter = ',')]
    anomaly_ratio: Vec<f64>,
    /// Number of kinds that known anomalies come from, drawn by the seed; a row for each number [default: all]
    #[arg(long, value_name = "K1,K2", value_delimiter = ',')]
    anomaly_classes: Vec<usize>,
    /// Kinds that known anomalies are chosen from [default: all]
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    anomaly_kinds: Vec<String>,
    /// Which kinds are learnt from and which are tested
    #[arg(long, value_enum, default_value_t)]
    split: SplitName,
    /// Kinds that are tested and never learnt from, for `--split unseen`
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    unseen_kinds: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum SplitName {
    /// Learn from all kinds, test all
    #[default]
    General,
    /// Learn from one kind, test the others; each kind in turn
    OneClass,
    /// Learn from one kind, test all; each kind in turn
    EachKind,
    /// Test the unseen kinds alone, learn from the others
    Unseen,
}

impl ExperimentArgs {
    /// The settings file: the one that is given, else that of the model to begin with.
    pub(super) fn settings_file(&self) -> Result<Option<PathBuf>> {
        self.method.config(self.config.as_deref())
    }

    /// The settings of all runs that were given as flags of their own.
    pub(super) fn flags(&self) -> Result<Vec<Flag>> {
        let kinds = match self.grid.split {
            SplitName::General => only(&self.grid.anomaly_kinds),
            SplitName::OneClass | SplitName::EachKind | SplitName::Unseen => None,
        };
        let kinds = given([Flag::given(
            "--anomaly-kinds",
            ["anomalies", "kinds"],
            kinds,
        )])?;
        let parts = [
            self.method.flags()?,
            self.images.flags()?,
            self.run.flags()?,
            kinds,
        ];
        Ok(parts.concat())
    }

    /// Keeps what an earlier part of the experiment has left, unless it is to be overwritten.
    pub(super) fn prepare_folder(&self) -> Result<()> {
        let contents: &[&str] = if self.overwrite { FOLDER.contents } else { &[] };
        let folder = OutputFolder { contents, ..FOLDER };
        folder.prepare(&self.output, self.overwrite)
    }

    /// The demo's settings lie below those of the user.
    pub(super) fn set_up_demo(&mut self) {
        let configured = self.config.is_some();
        let mut sets = demo::SIZE.to_vec();
        if !(configured || self.method.names_backbone()) {
            sets.extend(demo::BACKBONE);
        }
        let grid = &mut self.grid;
        if !(configured || self.method.names_method())
            && grid.variant.is_empty()
            && grid.vary.is_empty()
        {
            sets.extend(demo::METHOD);
            grid.variant = demo::VARIANTS.map(str::to_owned).to_vec();
            if grid.anomalies.is_empty()
                && grid.anomalies_per_kind.is_empty()
                && grid.anomaly_ratio.is_empty()
            {
                grid.anomalies = demo::ANOMALIES.to_vec();
            }
        }
        self.set.splice(0..0, sets.into_iter().map(str::to_owned));
    }
}

impl GridArgs {
    /// All that varies but the kinds of anomaly.
    pub(super) fn rows(&self) -> Result<Grid> {
        let variants: Vec<Variant> = parsed(&self.variant, Variant::parse)?;
        let vary: Vec<Axis> = parsed(&self.vary, Axis::parse)?;
        let totals = self.anomalies.iter().copied().map(KnownCount::Total);
        let per_kind = self
            .anomalies_per_kind
            .iter()
            .copied()
            .map(KnownCount::PerKind);
        let shares = self.anomaly_ratio.iter().copied().map(KnownCount::Share);
        let counts: Vec<KnownCount> = totals.chain(per_kind).chain(shares).collect();
        if self.learns_in_turn() && !self.anomaly_classes.is_empty() {
            return Err(Error::usage(
                "--anomaly-classes draws kinds, and --split takes one in turn",
            )
            .help("leave one of them out"));
        }
        Grid::new(&variants, &vary, &counts, &self.anomaly_classes)
    }

    /// Whether one kind is learnt from in turn.
    fn learns_in_turn(&self) -> bool {
        matches!(self.split, SplitName::OneClass | SplitName::EachKind)
    }

    /// Whether the rows depend on the kinds that the images have.
    pub(super) fn asks_for_kinds(&self) -> bool {
        self.learns_in_turn() && self.anomaly_kinds.is_empty()
    }

    /// The kinds that are learnt from and tested.
    pub(super) fn split(&self, dataset: &Dataset) -> Result<Split> {
        let listed = |names| match only(names) {
            Some(Kinds::Only(kinds)) => kinds,
            _ => Vec::new(),
        };
        let (learnt, unseen) = (listed(&self.anomaly_kinds), listed(&self.unseen_kinds));
        match self.split {
            SplitName::Unseen if unseen.is_empty() => Err(Error::usage(
                "--split unseen needs the kinds that are not learnt from",
            )
            .help("name them with --unseen-kinds A,B")),
            SplitName::Unseen if !learnt.is_empty() => Err(Error::usage(
                "--split unseen learns from all kinds but the unseen ones",
            )
            .help("leave --anomaly-kinds out")),
            SplitName::Unseen => Ok(Split::Unseen(unseen)),
            _ if !unseen.is_empty() => Err(Error::usage(
                "--unseen-kinds means nothing without --split unseen",
            )),
            SplitName::General => Ok(Split::General),
            SplitName::OneClass | SplitName::EachKind => {
                let kinds = match learnt.is_empty() {
                    true => learnable_kinds(dataset).into_iter().collect(),
                    false => learnt,
                };
                Ok(match self.split {
                    SplitName::OneClass => Split::OneClass(kinds),
                    _ => Split::EachKind(kinds),
                })
            }
        }
    }
}

fn parsed<T>(texts: &[String], parse: impl Fn(&str) -> Result<T>) -> Result<Vec<T>> {
    texts.iter().map(|text| parse(text)).collect()
}
