//! `burn-ad bench`: how fast this machine computes what training and scoring consist of.

mod facts;
mod fit;
mod measure;
mod plan;
mod results;
mod worker;

use std::path::PathBuf;

use burn::tensor::backend::AutodiffBackend;
use burn_ad::backbone::BackboneConfig;
use burn_ad::{Error, Result};
use clap::Args;
use clap::builder::{PossibleValuesParser, RangedU64ValueParser};

use self::measure::{Effort, Measured, measure};
use self::plan::{Group, Plan, Task};
use self::results::Results;
use super::{MachineArgs, at_least_one};
use crate::backend::{Job, dispatch};
use crate::output::{OutputFolder, print};
use crate::progress::{Progress, interrupted};

const FOLDER: OutputFolder<'static> = OutputFolder {
    command: "bench",
    contents: &[results::JSON, results::MARKDOWN],
};

/// Measure how fast this machine computes features, training steps, scores, metrics and a whole fit
///
/// Needs no data: weights are random, images noise. Run it while nothing else runs. Ctrl-C shows what has been
/// measured so far.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// What to measure [default: everything]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "GROUP,...")]
    only: Vec<Group>,
    /// Networks whose features are timed [default: resnet18, wide_resnet50_2, tf_efficientnet_lite0, tf_efficientnet_b6]
    #[arg(long, value_delimiter = ',', value_name = "NAME,...", value_parser = PossibleValuesParser::new(BackboneConfig::PUBLISHED_NAMES))]
    backbones: Vec<String>,
    /// Images per feature pass [default: 1,8]
    #[arg(long, value_delimiter = ',', value_name = "N,...", value_parser = at_least_one())]
    batch: Vec<usize>,
    /// Side of the images of a feature pass, in pixels [default: 256]
    #[arg(long, value_name = "PIXELS", value_parser = RangedU64ValueParser::<usize>::new().range(32..=4096))]
    size: Option<usize>,
    /// Timed runs of each piece of work
    #[arg(long, value_name = "N", value_parser = at_least_one(), conflicts_with = "seconds")]
    runs: Option<usize>,
    /// Seconds for each piece of work, at least three runs [default: 5]
    #[arg(long, value_name = "S", value_parser = positive)]
    seconds: Option<f64>,
    /// Small sizes and three runs: whether everything works, not how fast
    #[arg(long)]
    quick: bool,
    /// Folder for the table (bench.md) and every single time (bench.json)
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Write into a folder that holds something else
    #[arg(long, requires = "output")]
    overwrite: bool,
    /// Answer requests on standard input, one a line: NAME RUNS
    #[arg(long, hide = true, conflicts_with_all = ["output", "runs", "seconds"])]
    worker: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

impl BenchArgs {
    pub(crate) fn run(self, quiet: bool) -> Result<()> {
        let backend = self.machine.prepare()?;
        let tasks = self.plan()?.tasks();
        if self.worker {
            let name = backend.name;
            return dispatch(backend, worker::Worker { name, tasks });
        }
        if let Some(output) = &self.output {
            FOLDER.prepare(output, self.overwrite)?;
        }
        let effort = match (self.runs, self.seconds) {
            (Some(runs), _) => Effort::Runs(runs),
            (None, Some(seconds)) => Effort::Seconds(seconds),
            (None, None) if self.quick => Effort::Runs(3),
            (None, None) => Effort::Seconds(5.0),
        };
        let mut progress = Progress::new(quiet);
        if cfg!(debug_assertions) {
            progress
                .note("note: a debug build; what it measures says little: build with --release");
        }
        let job = BenchJob {
            tasks,
            effort,
            progress: &mut progress,
        };
        let works = dispatch(backend, job)?;
        progress.finish();
        let stopped = interrupted();
        let results = Results {
            backend: backend.name,
            quick: self.quick,
            complete: !stopped,
            effort,
            works,
        };
        print(&results.text())?;
        if let Some(output) = &self.output {
            results.write(output)?;
        }
        if stopped {
            return Err(Error::interrupted());
        }
        Ok(())
    }

    fn plan(&self) -> Result<Plan> {
        let mut plan = if self.quick {
            Plan::quick()
        } else {
            Plan::full()
        };
        if !self.only.is_empty() {
            plan.groups.clone_from(&self.only);
        }
        if !self.backbones.is_empty() {
            let names = self.backbones.iter();
            plan.backbones = names.map(|name| name.parse()).collect::<Result<_>>()?;
        }
        if !self.batch.is_empty() {
            plan.batches.clone_from(&self.batch);
        }
        plan.size = self.size.unwrap_or(plan.size);
        Ok(plan)
    }
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if seconds > 0.0 && f64::is_finite(seconds) => Ok(seconds),
        _ => Err("a number above 0 is needed".to_owned()),
    }
}

struct BenchJob<'a> {
    tasks: Vec<Task>,
    effort: Effort,
    progress: &'a mut Progress,
}

impl Job for BenchJob<'_> {
    type Output = Vec<Measured>;

    fn run<AB: AutodiffBackend>(self, device: AB::Device) -> Result<Vec<Measured>> {
        let mut works = Vec::new();
        for task in self.tasks {
            if interrupted() {
                break;
            }
            let mut run = task.prepare::<AB>(&device)?;
            let measured = measure(task, self.effort, &mut run, self.progress)?;
            // Stopped during its warm-up: there is nothing to tell.
            if !measured.ms.is_empty() {
                works.push(measured);
            }
        }
        Ok(works)
    }
}
