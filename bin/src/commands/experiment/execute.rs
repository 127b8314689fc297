//! Doing a run: one training, and an evaluation on each of the test sets that share it.

use std::path::Path;

use burn::tensor::backend::AutodiffBackend;
use burn_ad::Result;
use burn_ad::data::{Dataset, KnownSplit};
use burn_ad::report::eval::EvalReport;
use burn_ad::report::experiment::Figures;
use burn_ad::report::memory::reset_peak;
use burn_ad::train::{Checkpoints, Observer, Run};

use super::runs::RunLine;
use super::trial::Trial;
use crate::backend::{BackendChoice, Job, dispatch};
use crate::evaluation::{self, Evaluation, Heatmaps, warn_unreadable};
use crate::progress::Progress;
use crate::train_log::{self, Recorder, TrainLog};
use crate::training::{Training, images_below, say_contamination, split};

/// The folder of all runs below that of the experiment.
pub(super) const RUNS: &str = "runs";

/// Where runs take place.
pub(super) struct Place<'a> {
    /// Folder of the product.
    pub(super) root: &'a Path,
    /// Folder of the experiment.
    pub(super) out: &'a Path,
    pub(super) backend: BackendChoice,
    /// Fingerprint of the images.
    pub(super) data: &'a str,
}

impl Place<'_> {
    /// Trains once for all of `trials`, which share their training, and evaluates each.
    ///
    /// # Errors
    /// When training or an evaluation fails, or the run is interrupted; then a checkpoint stays, and the next call goes
    /// on from it.
    pub(super) fn execute(
        &self,
        trials: &[&Trial],
        labels: &dyn Fn(&Trial) -> Vec<(String, String)>,
        progress: &mut Progress,
    ) -> Result<Vec<RunLine>> {
        let Some(first) = trials.first() else {
            return Ok(Vec::new());
        };
        let settings = &first.settings;
        let dataset = images_below(
            self.root,
            &settings.method,
            settings.data.layout,
            &settings.index_options(),
        )?;
        let mut splits = Vec::with_capacity(trials.len());
        for trial in trials {
            let mut split = split(&trial.settings, &dataset)?;
            split.dataset = trial.tested.tested(split.dataset)?;
            splits.push(split);
        }
        // The same images for all of them.
        say_contamination(settings, &splits[0], progress);
        let runs = self.out.join(RUNS);
        let checkpoint = runs.join(format!("{}.checkpoint", first.training));
        let resume = checkpoint.exists();
        let log = runs.join(format!("{}.train.jsonl", first.training));
        // Where the system does not let it be set back, the figure is the largest so far.
        reset_peak();
        let job = GroupJob {
            training: Training {
                settings,
                weights: &first.weights,
                split: &splits[0],
                root: self.root,
                backend: self.backend.name,
                checkpoints: Some(Checkpoints {
                    path: checkpoint.clone(),
                    resume,
                }),
            },
            tests: trials
                .iter()
                .zip(&splits)
                .map(|(trial, split)| (trial.fingerprint.as_str(), &split.dataset))
                .collect(),
            runs: &runs,
            log: TrainLog::new(log.clone(), resume)?,
            progress,
        };
        let reports = dispatch(self.backend, job).inspect_err(|error| {
            if !error.is_interrupted() {
                // A run that has failed would fail from here again; one that begins afresh may not.
                let _ = std::fs::remove_file(&checkpoint);
            }
        })?;
        train_log::keep(&log, &runs.join(&first.fingerprint).join("train.jsonl"))?;
        let lines = trials.iter().zip(&splits).zip(reports);
        Ok(lines
            .map(|((trial, split), report)| {
                let mut line = self.line(trial, split, &report);
                line.labels = labels(trial);
                if resume {
                    // That of the last part only.
                    line.figures.seconds = None;
                }
                line
            })
            .collect())
    }

    fn line(&self, trial: &Trial, split: &KnownSplit, report: &EvalReport) -> RunLine {
        RunLine {
            fingerprint: trial.fingerprint.clone(),
            data: self.data.to_owned(),
            labels: Vec::new(),
            seed: trial.seed,
            known_anomalies: split.known.len(),
            contamination: split.contamination.len(),
            test_normal: report.counts.test_normal,
            test_anomalous: report.counts.test_anomalous,
            figures: Figures::from(report),
            results: format!("{RUNS}/{}", trial.fingerprint),
        }
    }
}

struct GroupJob<'a> {
    training: Training<'a>,
    /// Name and test set of each evaluation.
    tests: Vec<(&'a str, &'a Dataset)>,
    runs: &'a Path,
    log: TrainLog,
    progress: &'a mut Progress,
}

impl Job for GroupJob<'_> {
    type Output = Vec<EvalReport>;

    fn run<AB: AutodiffBackend>(self, device: AB::Device) -> Result<Vec<EvalReport>> {
        let train = &self.training.settings.train;
        let mut recorder = Recorder {
            progress: self.progress,
            log: Some(self.log),
        };
        let mut model = self.training.fit::<AB>(&device, &mut recorder)?;
        let progress = recorder.progress;
        let loader = self.training.loader();
        let mut reports = Vec::with_capacity(self.tests.len());
        for (name, dataset) in self.tests {
            let out = self.runs.join(name);
            evaluation::FOLDER.prepare(&out, true)?;
            let evaluation = Evaluation {
                dataset,
                root: self.training.root,
                backend: self.training.backend,
                protocol: train.protocol,
                heatmaps: Heatmaps::None,
                original_resolution: false,
                out: &out,
            };
            let mut run = Run::<AB::InnerBackend>::new(device.clone(), train.seed, progress)
                .with_batch_size(train.batch_size);
            let evaluated = evaluation.run(&mut model, &loader, &mut run)?;
            progress.finish();
            warn_unreadable(&evaluated.unreadable, &mut |message| progress.warn(message));
            reports.push(evaluated.report);
        }
        if let Some(checkpoints) = &self.training.checkpoints {
            checkpoints.remove()?;
        }
        Ok(reports)
    }
}
