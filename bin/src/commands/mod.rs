//! The commands, one file each.

mod augment;
mod backends;
mod bench;
mod data;
mod demo;
mod eval;
mod experiment;
mod flags;
mod predict;
mod pretrain;
mod train;
mod weights;

use std::path::PathBuf;

use burn_ad::data::{Layout, Loader};
use burn_ad::method::ModelHeader;
use burn_ad::{Error, Result};
use clap::builder::{PossibleValuesParser, RangedU64ValueParser};
use clap::{Args, Parser, Subcommand};

use crate::backend::{BackendChoice, BackendName};
use crate::settings::DEFAULT_BATCH_SIZE;
use crate::training::with_workers;

/// Visual anomaly detection: learn what good products look like, find what is wrong with others.
///
/// Try it without any data: burn-ad demo
#[derive(Debug, Parser)]
#[command(name = "burn-ad", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Show warnings and errors only
    #[arg(long, short, global = true)]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Train(Box<train::TrainArgs>),
    Eval(eval::EvalArgs),
    Experiment(Box<experiment::ExperimentArgs>),
    Predict(predict::PredictArgs),
    Pretrain(pretrain::PretrainArgs),
    Demo(demo::DemoArgs),
    Data(data::DataArgs),
    Augment(augment::AugmentArgs),
    Weights(weights::WeightsArgs),
    Backends(backends::BackendsArgs),
    Bench(bench::BenchArgs),
}

impl Cli {
    /// Does what the user asks.
    pub(crate) fn run(self) -> Result<()> {
        let quiet = self.quiet;
        match self.command {
            Command::Train(args) => args.run(quiet),
            Command::Eval(args) => args.run(quiet),
            Command::Experiment(args) => args.run(quiet),
            Command::Predict(args) => args.run(quiet),
            Command::Pretrain(args) => args.run(quiet),
            Command::Demo(args) => args.run(quiet),
            Command::Data(args) => args.run(quiet),
            Command::Augment(args) => args.run(),
            Command::Weights(args) => args.run(quiet),
            Command::Backends(args) => args.run(),
            Command::Bench(args) => args.run(quiet),
        }
    }
}

/// What to compute on.
#[derive(Debug, Args)]
#[command(next_help_heading = "Machine")]
pub(crate) struct MachineArgs {
    /// Where tensors are computed; `burn-ad backends` shows what works here [default: flex]
    #[arg(long, value_enum)]
    backend: Option<BackendName>,
    /// Which GPU, counted from 0 [default: the backend's choice]
    #[arg(long, value_name = "N")]
    device_index: Option<usize>,
    /// Threads that compute on the CPU [default: one per core]
    #[arg(long, value_name = "N", value_parser = at_least_one())]
    threads: Option<usize>,
}

impl MachineArgs {
    /// The backend; makes the threads that compute, so it comes before any work for them.
    fn prepare(&self) -> Result<BackendChoice> {
        let threads = self.threads.unwrap_or_else(default_threads);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        // This thread is one of those that compute: handing each of a network's many small works to
        // other threads and sleeping until they are done costs up to a tenth of the time. A single
        // one would have nobody to compute for other threads while it waits for them.
        let pool = if threads > 1 {
            pool.use_current_thread()
        } else {
            pool
        };
        pool.build_global().map_err(|error| {
            Error::usage(format!("no {threads} threads to compute on: {error}"))
        })?;
        let compiled = || BackendName::ALL.into_iter().find(|name| name.is_compiled());
        let name = self.backend.or_else(compiled).unwrap_or(BackendName::Flex);
        Ok(BackendChoice {
            name,
            device_index: self.device_index,
        })
    }
}

/// As rayon has it: `RAYON_NUM_THREADS`, or one per core.
fn default_threads() -> usize {
    let wanted = std::env::var("RAYON_NUM_THREADS").ok();
    let wanted = wanted.and_then(|threads| threads.parse().ok());
    wanted
        .filter(|&threads| threads > 0)
        .or_else(|| std::thread::available_parallelism().ok().map(usize::from))
        .unwrap_or(1)
}

/// How images are read and grouped while scoring.
#[derive(Debug, Args)]
#[command(next_help_heading = "Machine")]
pub(crate) struct ReadArgs {
    /// Images per forward pass; scores do not depend on it
    #[arg(long, value_name = "N", default_value_t = DEFAULT_BATCH_SIZE, value_parser = at_least_one())]
    batch_size: usize,
    /// Threads that decode images [default: one per core]
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
}

impl ReadArgs {
    /// The loader that a model needs.
    fn loader(&self, header: &ModelHeader) -> Loader {
        with_workers(Loader::new(header.preprocess.clone()), self.workers)
    }
}

/// A model on disk and the weights of its backbone.
#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// Model directory written by `burn-ad train`
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Weights of the model's backbone, where they are neither in the model nor in the cache
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
}

fn at_least_one() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

/// The names of the layouts, checked while the command line is read.
fn layout_parser() -> PossibleValuesParser {
    PossibleValuesParser::new(Layout::NAMES.map(|(_, name)| name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
