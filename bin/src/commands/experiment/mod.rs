//! `burn-ad experiment`: a grid of trainings and evaluations, compared in one table.

mod args;
mod axes;
mod demo;
mod execute;
mod grid;
mod results;
mod runs;
mod trial;

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use burn_ad::data::{Dataset, IndexOptions};
use burn_ad::train::Observer;
use burn_ad::{Error, Result};

pub(crate) use self::args::ExperimentArgs;
use self::execute::{Place, RUNS};
use self::grid::Grid;
use self::results::Results;
use self::runs::RunFile;
use self::trial::{Source, Trial, data_fingerprint, prepare};
use crate::evaluation::one_line;
use crate::output::{OutputFolder, print, tell};
use crate::progress::{Progress, stop_if_interrupted};
use crate::settings::Settings;
use crate::training::{announce, images_below};

const FOLDER: OutputFolder<'static> = OutputFolder {
    command: "experiment",
    contents: &[
        "data",
        RUNS,
        RUN_FILE,
        results::FILES[0],
        results::FILES[1],
        results::FILES[2],
    ],
};

const RUN_FILE: &str = "runs.jsonl";

impl ExperimentArgs {
    pub(crate) fn run(mut self, quiet: bool) -> Result<()> {
        if self.demo {
            self.set_up_demo();
        }
        let backend = self.machine.prepare()?;
        let mut progress = Progress::new(quiet);
        let rows = self.grid.rows()?;
        // The images are those of the first row; wrong settings in it are found before anything is written.
        let variant = rows.cells.first().map_or(&[][..], |cell| &cell.sets);
        let config = self.settings_file()?;
        let config = config.as_deref();
        let settings = Settings::resolve_variant(config, &self.set, self.flags()?, variant)?;
        self.prepare_folder()?;
        let root = match &self.data {
            Some(data) => data.clone(),
            None => demo::draw(&self.product, &self.output, &mut progress)?,
        };
        // Kept to the end: images that are packed in files are then read but once.
        let dataset = all_images(&root, &settings)?;
        let grid = rows.with_split(|cell| {
            if !self.grid.asks_for_kinds() {
                return self.grid.split(&dataset);
            }
            let settings = Settings::resolve_variant(config, &self.set, self.flags()?, &cell.sets)?;
            self.grid.split(&all_images(&root, &settings)?)
        })?;
        let source = Source {
            root: &root,
            config,
            sets: &self.set,
            flags: self.flags()?,
            backend: backend.name,
            data: data_fingerprint(&dataset, &root)?,
        };
        let trials = prepare(&grid, self.grid.seeds, &source)?;
        let runs = RunFile::open(self.output.join(RUN_FILE))?;
        runs.check(&trials, &source.data, &self.output)?;
        if let Some(trial) = trials.first() {
            announce(&trial.settings, &trial.weights, &mut progress);
        }
        let experiment = Experiment {
            grid: &grid,
            trials: &trials,
            place: Place {
                root: &root,
                out: &self.output,
                backend,
                data: &source.data,
            },
            dataset: &dataset.name,
        };
        experiment.run(runs, &mut progress)
    }
}

/// All images below `root`, however few of them a run uses.
fn all_images(root: &Path, settings: &Settings) -> Result<Dataset> {
    let options = IndexOptions {
        train_limit: None,
        test_limit: None,
        ..settings.index_options()
    };
    images_below(root, &settings.method, settings.data.layout, &options)
}

/// A prepared experiment.
struct Experiment<'a> {
    grid: &'a Grid,
    trials: &'a [Trial],
    place: Place<'a>,
    dataset: &'a str,
}

impl Experiment<'_> {
    /// Does all runs that are not done, and prints the table.
    fn run(&self, mut runs: RunFile, progress: &mut Progress) -> Result<()> {
        let mut failed: HashMap<String, String> = HashMap::new();
        for (position, trial) in self.trials.iter().enumerate() {
            let done = |trial: &Trial| {
                runs.get(&trial.fingerprint).is_some() || failed.contains_key(&trial.fingerprint)
            };
            if done(trial) {
                continue;
            }
            // Those that differ in their test images alone are trained once.
            let mut names = BTreeSet::new();
            let group: Vec<&Trial> = self.trials[position..]
                .iter()
                .filter(|other| other.training == trial.training && !done(other))
                .filter(|other| names.insert(other.fingerprint.as_str()))
                .collect();
            progress.note(&self.title(position, &group));
            let labels = |trial: &Trial| self.labels(trial);
            let outcome =
                stop_if_interrupted().and_then(|()| self.place.execute(&group, &labels, progress));
            progress.finish();
            match outcome {
                Ok(lines) => lines.into_iter().try_for_each(|line| runs.add(line))?,
                Err(error) if error.is_interrupted() => {
                    let count = self.trials.len();
                    let done = self.trials.iter().filter(|trial| done(trial)).count();
                    tell(&format!(
                        "{done} of {count} runs are done; the same command goes on with the others"
                    ));
                    return Err(error);
                }
                Err(error) => {
                    progress.warn(&format!("this run failed: {error}"));
                    let reason = one_line(&error);
                    let group = group.iter().map(|trial| trial.fingerprint.clone());
                    failed.extend(group.map(|fingerprint| (fingerprint, reason.clone())));
                }
            }
            self.results(&runs, &failed).write(self.place.out)?;
        }
        let report = self.results(&runs, &failed).write(self.place.out)?;
        print(&format!(
            "{}\nresults: {}\n",
            report.table().text(),
            self.place.out.join(results::FILES[2]).display()
        ))?;
        match failed.len() {
            0 => Ok(()),
            count => Err(
                Error::data(format!("{count} of {} runs failed", self.trials.len()))
                    .help("the last column says why; the same command tries them again"),
            ),
        }
    }

    fn results<'a>(
        &'a self,
        runs: &'a RunFile,
        failed: &'a HashMap<String, String>,
    ) -> Results<'a> {
        Results {
            grid: self.grid,
            trials: self.trials,
            runs,
            failed,
            dataset: self.dataset,
            backend: self.place.backend.name,
        }
    }

    fn labels(&self, trial: &Trial) -> Vec<(String, String)> {
        let cell = &self.grid.cells[trial.cell];
        self.grid
            .axes
            .iter()
            .cloned()
            .zip(cell.labels.iter().cloned())
            .collect()
    }

    fn title(&self, position: usize, group: &[&Trial]) -> String {
        let name = |trial: &&Trial| {
            let labels = self.labels(trial).into_iter();
            let words = labels.map(|(axis, value)| match axis.as_str() {
                "variant" => value,
                _ => format!("{axis} {value}"),
            });
            words.collect::<Vec<_>>().join(", ")
        };
        format!(
            "run {} of {}: {}; seed {}",
            position + 1,
            self.trials.len(),
            group.iter().map(name).collect::<Vec<_>>().join(" and "),
            self.trials[position].seed
        )
    }
}
