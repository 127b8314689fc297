//! `burn-ad weights`: published weights, and files of weights.

use std::path::PathBuf;

use burn_ad::backbone::BackboneConfig;
use burn_ad::report::table::{Align, Table};
use burn_ad::{Error, Result};
use burn_ad_weights::catalogue::{self, Source};
use burn_ad_weights::{Info, cache, fetch_and_import, import, info};
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use serde_json::Value;

use crate::output::print;
use crate::progress::Progress;

/// List, describe, import and fetch the weights of backbones
#[derive(Debug, Args)]
pub(crate) struct WeightsArgs {
    #[command(subcommand)]
    command: WeightsCommand,
}

#[derive(Debug, Subcommand)]
enum WeightsCommand {
    List(ListArgs),
    Info(InfoArgs),
    Import(ImportArgs),
    Fetch(FetchArgs),
}

/// Show the published weights that `fetch` knows, and which of them are in the cache
#[derive(Debug, Args)]
struct ListArgs {
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Describe a weights file: what it holds, and which backbone it fits
#[derive(Debug, Args)]
struct InfoArgs {
    /// A .pth, .pt or .safetensors file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Check a checkpoint strictly and write it as a weights file of burn-ad
///
/// Every parameter must be there and every entry of the file must be used, else the keys are listed. Nothing in a
/// pickle is ever executed.
#[derive(Debug, Args)]
struct ImportArgs {
    /// A .pth, .pt or .safetensors checkpoint
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Its architecture [default: the one that fits]
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(BackboneConfig::PUBLISHED_NAMES))]
    arch: Option<String>,
    /// Weights file to write (.safetensors)
    #[arg(long, short, value_name = "OUT")]
    output: PathBuf,
    /// Replace a file that is there
    #[arg(long)]
    overwrite: bool,
}

/// Get published weights into the cache
///
/// The cache is BURN_AD_CACHE, or the user's cache directory. An interrupted download goes on where it stopped; what
/// arrives is checked against its SHA-256.
#[derive(Debug, Args)]
struct FetchArgs {
    /// Name as `burn-ad weights list` shows it, or of a backbone
    #[arg(value_name = "NAME")]
    name: String,
}

impl WeightsArgs {
    pub(crate) fn run(self, quiet: bool) -> Result<()> {
        match self.command {
            WeightsCommand::List(args) => args.run(),
            WeightsCommand::Info(args) => args.run(),
            WeightsCommand::Import(args) => args.run(),
            WeightsCommand::Fetch(args) => args.run(quiet),
        }
    }
}

impl ListArgs {
    fn run(self) -> Result<()> {
        if self.json {
            return print_json(&catalogue::entries());
        }
        let folder = cache::directory()?;
        let mut table = Table::new([
            ("name", Align::Left),
            ("backbone", Align::Left),
            ("licence", Align::Left),
            ("cached", Align::Left),
            ("from", Align::Left),
        ]);
        for entry in catalogue::entries() {
            let cached = if folder.join(entry.file).is_file() {
                "yes"
            } else {
                ""
            };
            table.row([
                entry.name.to_owned(),
                entry.arch.to_string(),
                entry.licence.to_owned(),
                cached.to_owned(),
                origin(&entry.source),
            ]);
        }
        print(&format!("{}\ncache: {}\n", table.text(), folder.display()))
    }
}

/// The server, or the package index; `--json` has the whole address.
fn origin(source: &Source) -> String {
    match source {
        Source::Url { base, .. } => base.split('/').nth(2).unwrap_or(base).to_owned(),
        Source::Pypi { .. } => "PyPI (through pip)".to_owned(),
    }
}

impl InfoArgs {
    fn run(self) -> Result<()> {
        let info = info(&self.file)?;
        if self.json {
            return print_json(&info);
        }
        print(&describe(&info).text())
    }
}

fn describe(info: &Info) -> Table {
    let mut table = Table::new([
        ("file", Align::Left),
        (&info.path.to_string_lossy(), Align::Left),
    ]);
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            table.row([name.to_owned(), value]);
        }
    };
    row("stored as", info.container.to_string());
    row(
        "size",
        format!("{:.1} MiB", info.bytes as f64 / 1_048_576.0),
    );
    row("SHA-256", info.sha256.clone());
    row("wrapped in", info.wrapper.clone().unwrap_or_default());
    row("keys begin with", info.prefix.clone());
    row("tensors", info.tensors.to_string());
    row("parameters", info.parameters.to_string());
    let types: Vec<String> = info
        .dtypes
        .iter()
        .map(|(dtype, count)| format!("{dtype} ({count})"))
        .collect();
    row("types", types.join(", "));
    match &info.imported {
        Some(imported) => {
            row("weights of", imported.arch.to_string());
            let made = match imported.recipe {
                Some(_) => "made from",
                None => "imported from",
            };
            row(made, imported.source.clone());
            row("digest", imported.digest.clone());
            for (name, value) in imported.recipe.iter().flat_map(recipe_rows) {
                row(&name, value);
            }
        }
        None => {
            let fits: Vec<&str> = info
                .detected
                .iter()
                .map(|found| found.arch.name())
                .collect();
            let fits = if fits.is_empty() {
                "no known backbone".to_owned()
            } else {
                fits.join(", ")
            };
            row("fits", fits);
        }
    }
    row(
        "published as",
        info.catalogue.unwrap_or_default().to_owned(),
    );
    table
}

/// One line a setting, `recipe: teacher`; a value that is a table becomes lines of its own.
fn recipe_rows(recipe: &Value) -> Vec<(String, String)> {
    fn add(name: &str, value: &Value, rows: &mut Vec<(String, String)>) {
        match value {
            Value::Object(table) => {
                for (key, value) in table {
                    add(&format!("{name} {key}"), value, rows);
                }
            }
            Value::Null => {}
            Value::String(text) => rows.push((name.to_owned(), text.clone())),
            other => rows.push((name.to_owned(), other.to_string())),
        }
    }
    let mut rows = Vec::new();
    add("recipe:", recipe, &mut rows);
    rows
}

impl ImportArgs {
    fn run(self) -> Result<()> {
        if self.output.exists() && !self.overwrite {
            return Err(Error::usage("a file of this name exists")
                .path(&self.output)
                .help("choose another name, or replace it with --overwrite"));
        }
        let arch = self.arch.map(|name| name.parse()).transpose()?;
        let file = import(&self.file, arch)?;
        file.write(&self.output)?;
        print(&format!(
            "{} from {}: {} (digest {})\n",
            file.arch,
            file.source,
            self.output.display(),
            file.digest()
        ))
    }
}

impl FetchArgs {
    fn run(self, quiet: bool) -> Result<()> {
        let folder = cache::directory()?;
        let mut progress = Progress::new(quiet);
        let path = fetch_and_import(&self.name, &folder, &mut |done, total| {
            progress.bytes("downloading", done, total);
        })?;
        progress.finish();
        print(&format!("{}\n", path.display()))
    }
}

fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let json =
        serde_json::to_string_pretty(value).map_err(|error| Error::weights(error.to_string()))?;
    print(&format!("{json}\n"))
}
