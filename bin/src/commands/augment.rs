//! `burn-ad augment`: looking at pseudo-anomalies before training on them.

use std::path::PathBuf;

use burn_ad::Result;
use burn_ad::augment::{AugmentConfig, Foreground, preview};
use burn_ad::data::{IndexOptions, index};
use burn_ad::report::overlay::write_png;
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};

use super::{at_least_one, layout_parser};
use crate::output::print;

/// Make pseudo-anomalies to look at
#[derive(Debug, Args)]
pub(crate) struct AugmentArgs {
    #[command(subcommand)]
    command: AugmentCommand,
}

#[derive(Debug, Subcommand)]
enum AugmentCommand {
    Preview(PreviewArgs),
}

/// Draw a sheet of pseudo-anomalies: anomaly, augmented anomaly, normal, pasted, mask
///
/// Anomalies are those of the dataset that have a mask, one kind after the other. perlin and poisson
/// take normal images in their place. The same settings give the same sheet.
#[derive(Debug, Args)]
struct PreviewArgs {
    /// Folder of one product
    #[arg(value_name = "DATA")]
    data: PathBuf,
    /// PNG file to write; an existing one is replaced
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// How pseudo-anomalies are made
    #[arg(long, value_parser = strategy_parser(), default_value = "rpag")]
    strategy: String,
    /// Where in the normal image the product is, which is where anomalies belong
    #[arg(long, value_parser = foreground_parser(), default_value = "whole")]
    foreground: String,
    /// How many pseudo-anomalies, at most 300
    #[arg(long, value_name = "N", value_parser = at_least_one().range(..=300), default_value = "10")]
    rows: usize,
    /// Seed of everything
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How the folders are arranged
    #[arg(long, value_parser = layout_parser(), default_value = "auto")]
    layout: String,
    /// In classification datasets (layouts idx and cifar-10) the normal class, by its name or number
    #[arg(long, value_name = "CLASS")]
    normal_class: Option<String>,
}

fn strategy_parser() -> PossibleValuesParser {
    PossibleValuesParser::new(AugmentConfig::PRESETS)
}

fn foreground_parser() -> PossibleValuesParser {
    PossibleValuesParser::new(Foreground::NAMES.map(|(_, name)| name))
}

impl AugmentArgs {
    pub(crate) fn run(self) -> Result<()> {
        match self.command {
            AugmentCommand::Preview(args) => args.run(),
        }
    }
}

impl PreviewArgs {
    fn run(self) -> Result<()> {
        let config = AugmentConfig::preset(&self.strategy)?;
        let options = IndexOptions {
            seed: self.seed,
            normal_class: self.normal_class.clone(),
            ..IndexOptions::default()
        };
        let dataset = index(&self.data, self.layout.parse()?, &options)?;
        let foreground: Foreground = self.foreground.parse()?;
        let sheet = preview(&config, foreground, &dataset, self.rows, self.seed)
            .map_err(|error| error.path(&self.data))?;
        write_png(&self.output, &sheet)?;
        print(&format!(
            "{} pseudo-anomalies: {}\n",
            self.rows,
            self.output.display()
        ))
    }
}
