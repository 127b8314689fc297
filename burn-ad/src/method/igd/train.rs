//! The EM loop of IGD: every few epochs an E-step that estimates centre and scale, in between M-steps.

use std::time::Instant;

use burn::tensor::backend::AutodiffBackend;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::config::{IgdConfig, Scale};
use super::eye::Eye;
use super::gaussian::Gaussian;
use super::learner::{Draws, Learner, StepFigures};
use super::network::GeneratorPlan;
use super::pool::{Pool, View};
use super::watch::Watch;
use crate::backbone::Backbone;
use crate::data::for_each_batch;
use crate::error::{Error, Result};
use crate::method::TrainingData;
use crate::metrics::auroc;
use crate::tensors::{TensorSet, to_vec};
use crate::train::{
    AFTER_DIVERGENCE, BETWEEN_CHECKPOINTS, Checkpoint, Run, Step, indices_by_seed, stream_rng,
};

/// Views of an E-step that are encoded together.
const ENCODED_AT_ONCE: usize = 64;

/// Where the training of a model is; all that a checkpoint needs beside networks and optimisers, because
/// every random draw comes from a stream named by these numbers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Position {
    scale: Scale,
    epoch: usize,
    /// Batches done in this epoch.
    batches: usize,
    /// What the last E-step found.
    gaussian: Gaussian,
    /// Sums over the steps of this epoch.
    sums: Sums,
    watch: Watch,
}

/// Sums over steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sums {
    steps: u64,
    distance: f64,
    classifier: Option<f64>,
    reconstruction: Option<f64>,
    similarity: Option<f64>,
    fooled: Option<f64>,
    critic: Option<f64>,
    seconds: f64,
}

impl Sums {
    fn add(&mut self, figures: &StepFigures) {
        let add = |sum: &mut Option<f64>, value: Option<f64>| {
            if let Some(value) = value {
                *sum.get_or_insert(0.0) += value;
            }
        };
        self.steps += 1;
        self.distance += figures.distance;
        add(&mut self.classifier, figures.classifier);
        add(&mut self.reconstruction, figures.reconstruction);
        add(&mut self.similarity, figures.similarity);
        add(&mut self.fooled, figures.game.map(|game| game.fooled));
        add(&mut self.critic, figures.game.map(|game| game.critic));
    }

    fn mean(&self, sum: f64) -> f64 {
        sum / self.steps.max(1) as f64
    }

    /// Means with their names in logs.
    fn figures(&self) -> Vec<(&'static str, f64)> {
        let named = [
            ("loss_rec", self.reconstruction),
            ("loss_gac", self.classifier),
            ("ms_ssim", self.similarity),
            ("distance", Some(self.distance)),
            ("loss_fool", self.fooled),
            ("loss_critic", self.critic),
        ];
        let present = named
            .into_iter()
            .filter_map(|(name, sum)| Some((name, sum?)));
        present.map(|(name, sum)| (name, self.mean(sum))).collect()
    }
}

/// What the training of all models needs.
pub(super) struct Task<'a> {
    pub(super) config: &'a IgdConfig,
    pub(super) data: &'a TrainingData<'a>,
    /// The networks of each model, in the order of training.
    pub(super) plans: Vec<(Scale, GeneratorPlan)>,
    /// Span of normalised pixels.
    pub(super) range: f64,
    pub(super) fingerprint: String,
}

/// Trains the models one after the other.
///
/// # Errors
/// When a loss is not finite, the checkpoint cannot be used, or the run is interrupted (after a
/// checkpoint was written).
pub(super) fn train<AB: AutodiffBackend>(
    task: &Task<'_>,
    backbone: &Backbone<AB::InnerBackend>,
    run: &mut Run<'_, AB>,
) -> Result<Vec<Eye<AB::InnerBackend>>> {
    let mut pool = Pool::fill(task.config, backbone, task.data, run)?;
    let mut stored = Stored::read(task, run)?;
    let mut eyes: Vec<Eye<AB::InnerBackend>> = Vec::new();
    for (index, (scale, plan)) in task.plans.iter().enumerate() {
        if let Some(stored) = &mut stored
            && index < stored.finished
        {
            let (size, device) = (task.size(), &run.device);
            let eye = Eye::load(task.config, *scale, plan, size, &mut stored.done, device);
            eyes.push(eye.map_err(|error| damaged(run, error))?);
            continue;
        }
        let (range, seed) = (task.range, run.seed);
        let mut trainer = Trainer {
            task,
            scale: *scale,
            index,
            learner: Learner::new(task.config, *scale, plan, range, seed, &run.device),
            position: Position {
                scale: *scale,
                ..Position::default()
            },
            done: TensorSet::default(),
            saved: Instant::now(),
        };
        eyes.iter().for_each(|eye| eye.save(&mut trainer.done));
        if let Some(stored) = stored.take() {
            let restored = trainer.restored(stored.checkpoint);
            trainer = restored.map_err(|error| damaged(run, error))?;
        }
        while trainer.position.epoch < task.config.schedule.epochs {
            if let Err(error) = trainer.epoch(&mut pool, backbone, run) {
                if error.is_interrupted() {
                    trainer.checkpoint(run)?;
                }
                return Err(error);
            }
        }
        eyes.push(trainer.eye());
    }
    Ok(eyes)
}

impl Task<'_> {
    fn size(&self) -> usize {
        self.data.loader.preprocess().geometry.size
    }
}

/// A checkpoint that the run goes on from.
struct Stored {
    checkpoint: Checkpoint<Position>,
    /// Models that were finished, and their tensors.
    finished: usize,
    done: TensorSet,
}

impl Stored {
    fn read<AB: AutodiffBackend>(task: &Task<'_>, run: &Run<'_, AB>) -> Result<Option<Self>> {
        let Some(checkpoints) = &run.checkpoints else {
            return Ok(None);
        };
        let Some(mut checkpoint) = checkpoints.load::<Position>(&task.fingerprint)? else {
            return Ok(None);
        };
        let done = checkpoint.take(DONE);
        let done = done.and_then(|done| TensorSet::from_bytes(&done));
        let done = done.map_err(|error| damaged(run, error))?;
        let scale = checkpoint.state.scale;
        let finished = task.plans.iter().position(|(known, _)| *known == scale);
        Ok(Some(Self {
            checkpoint,
            finished: finished.unwrap_or(0),
            done,
        }))
    }
}

fn damaged<AB: AutodiffBackend>(run: &Run<'_, AB>, error: Error) -> Error {
    match &run.checkpoints {
        Some(checkpoints) => checkpoints.damaged(&error),
        None => error,
    }
}

/// Name of a checkpoint's part.
const DONE: &str = "done";

struct Trainer<'a, AB: AutodiffBackend> {
    task: &'a Task<'a>,
    scale: Scale,
    /// Models trained before this one.
    index: usize,
    learner: Learner<AB>,
    position: Position,
    done: TensorSet,
    saved: Instant,
}

impl<AB: AutodiffBackend> Trainer<'_, AB> {
    /// One pass over the images, from the batch the position names.
    fn epoch(
        &mut self,
        pool: &mut Pool<'_, AB::InnerBackend>,
        backbone: &Backbone<AB::InnerBackend>,
        run: &mut Run<'_, AB>,
    ) -> Result<()> {
        let (config, scale) = (self.task.config, self.scale);
        let (schedule, epoch) = (config.schedule, self.position.epoch);
        let due = match config.strategy.is_svdd() {
            true => epoch == 0,
            false => epoch.is_multiple_of(schedule.e_step),
        };
        if due && self.position.batches == 0 {
            self.e_step(pool, epoch, run)?;
        }
        let stream = format!("{} epoch {epoch}", scale.name());
        let order = indices_by_seed(pool.len(), run.seed, &stream);
        let batches = batches(&order, config.scale(scale).batch);
        let steps = (schedule.epochs * batches.len()) as u64;
        for (index, batch) in batches.iter().enumerate().skip(self.position.batches) {
            let started = Instant::now();
            let step = epoch * batches.len() + index;
            let views = batch.iter().copied();
            let mut views: Vec<View> = views
                .flat_map(|image| pool.views(scale, image, epoch, run.seed))
                .collect();
            let name = scale.name();
            pool.mirror(&mut views, run.seed, &format!("{name} mirrored {step}"));
            let draws = self.draws(views.len(), step, run.seed);
            let views = pool.batch(scale, &views)?;
            let rate = schedule.rate(step as u64, steps);
            let figures = self.learner.step(&views, &draws, rate);
            let figures = figures.map_err(|error| {
                let place = format!("{name} model, epoch {epoch}, step {index}");
                error
                    .context(format!("{place}; the step was not taken"))
                    .help(AFTER_DIVERGENCE)
            })?;
            let sums = &mut self.position.sums;
            sums.add(&figures);
            sums.seconds += started.elapsed().as_secs_f64();
            self.position.batches = index + 1;
            let phase = match config.scales.iter().count() {
                1 => "training".to_owned(),
                _ => format!("training, {name} model"),
            };
            run.step(&Step {
                phase: &phase,
                done: step as u64 + 1,
                total: steps,
                unit: "batches",
                values: &sums.figures()[..2],
            })?;
        }
        let watched = self.watch(backbone, epoch, run)?;
        self.record(epoch, watched, run);
        self.position.epoch += 1;
        self.position.batches = 0;
        self.position.sums = Sums::default();
        let over = self.position.epoch == schedule.epochs;
        if over || self.saved.elapsed() >= BETWEEN_CHECKPOINTS {
            self.checkpoint(run)?;
        }
        Ok(())
    }

    /// Estimates centre and scale from all images, none of them mirrored.
    fn e_step(
        &mut self,
        pool: &mut Pool<'_, AB::InnerBackend>,
        epoch: usize,
        run: &mut Run<'_, AB>,
    ) -> Result<()> {
        let scale = self.scale;
        let generator = self.learner.trained();
        let images: Vec<usize> = (0..pool.len()).collect();
        let mut found: Vec<Vec<f32>> = Vec::new();
        let mut done = 0;
        for batch in images.chunks(self.task.config.scale(scale).batch) {
            let views = batch.iter();
            let views: Vec<View> = views
                .flat_map(|&image| pool.views(scale, image, epoch, run.seed))
                .collect();
            let mut vectors = Vec::new();
            for views in views.chunks(ENCODED_AT_ONCE) {
                let views = pool.batch(scale, views)?;
                vectors.extend(to_vec(generator.encode(views.images, views.vectors)));
            }
            found.push(vectors);
            done += batch.len() as u64;
            run.step(&Step {
                phase: "estimating centre and scale",
                done,
                total: images.len() as u64,
                unit: "images",
                values: &[],
            })?;
        }
        let gaussian = Gaussian::of(&found, self.task.config.latent);
        self.position.gaussian = gaussian.clone();
        self.learner.gaussian = gaussian;
        Ok(())
    }

    /// Random numbers of a step.
    fn draws(&self, views: usize, step: usize, seed: u64) -> Draws {
        let mut rng = stream_rng(seed, &format!("{} step {step}", self.scale.name()));
        let alpha = (0..views).map(|_| rng.random_range(0.0..0.5)).collect();
        let zeta = (0..views).map(|_| self.task.config.loss.zeta.draw(&mut rng));
        Draws {
            alpha,
            zeta: zeta.collect(),
        }
    }

    /// The model as it is.
    fn eye(&self) -> Eye<AB::InnerBackend> {
        let learner = &self.learner;
        Eye::new(
            self.task.config,
            self.scale,
            learner.trained(),
            learner.gaussian.clone(),
            learner.objective().clone(),
            self.task.size(),
        )
    }

    /// How the images that are only watched are told apart after this epoch; `None` where it is not their
    /// turn.
    fn watch(
        &self,
        backbone: &Backbone<AB::InnerBackend>,
        epoch: usize,
        run: &mut Run<'_, AB>,
    ) -> Result<Option<f64>> {
        let watched = self.task.data.watched;
        let last = epoch + 1 == self.task.config.schedule.epochs;
        if watched.samples.is_empty() || !(last || (epoch + 1).is_multiple_of(watched.every)) {
            return Ok(None);
        }
        let eye = self.eye();
        let (mut scores, mut anomalous) = (Vec::new(), Vec::new());
        let (device, batch_size) = (run.device.clone(), run.batch_size);
        for_each_batch(
            self.task.data.loader,
            watched.samples,
            batch_size,
            &device,
            // The evaluation says what cannot be read.
            &mut |_, _| Ok(()),
            &mut |batch, items| {
                scores.extend(eye.look(&batch, backbone, false).scores);
                let labels = items.iter().map(|item| watched.samples[item.index].label);
                anomalous.extend(labels.map(|label| label.is_anomalous()));
                run.step(&Step {
                    phase: "watching",
                    done: scores.len() as u64,
                    total: watched.samples.len() as u64,
                    unit: "images",
                    values: &[],
                })
            },
        )?;
        auroc(&scores, &anomalous)
    }

    fn record(&mut self, epoch: usize, watched: Option<f64>, run: &mut Run<'_, AB>) {
        let sums = self.position.sums;
        let gaussian = &self.learner.gaussian;
        let epochs = self.task.config.schedule.epochs;
        let mut figures = json!({
            // One model after the other: a figure that only grows.
            "epoch": self.index * epochs + epoch,
            "model": self.scale.name(),
            "steps": sums.steps,
            "scale": gaussian.scale,
            "seconds": sums.seconds,
        });
        for (name, value) in sums.figures() {
            figures[name] = json!(value);
        }
        if let Some(auroc) = watched {
            figures["watched_auroc"] = json!(auroc);
        }
        let distance = sums.mean(sums.distance);
        let warning = self.position.watch.look(epoch, distance, gaussian);
        if let Some(warning) = warning {
            let warning = format!("{} model, {warning}", self.scale.name());
            run.warn(&warning);
            figures["warning"] = json!(warning);
        }
        run.record(&figures);
    }

    /// Writes the checkpoint, where the run has one.
    fn checkpoint(&mut self, run: &Run<'_, AB>) -> Result<()> {
        let Some(checkpoints) = &run.checkpoints else {
            return Ok(());
        };
        let mut parts = self.learner.parts()?;
        parts.push((DONE.to_owned(), self.done.to_bytes()?));
        checkpoints.save(&self.task.fingerprint, &self.position, &parts)?;
        self.saved = Instant::now();
        Ok(())
    }

    /// Takes over the checkpoint that the run is to go on from.
    fn restored(mut self, mut checkpoint: Checkpoint<Position>) -> Result<Self> {
        self.learner = self.learner.restored(&mut |name| checkpoint.take(name))?;
        self.learner.gaussian = checkpoint.state.gaussian.clone();
        self.position = checkpoint.state;
        Ok(self)
    }
}

/// Images of each step; a last one alone, which could be interpolated with itself only, is left out.
fn batches(order: &[usize], size: usize) -> Vec<&[usize]> {
    let mut batches: Vec<&[usize]> = order.chunks(size).collect();
    if batches.len() > 1 && size > 1 && batches[batches.len() - 1].len() == 1 {
        batches.pop();
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::batches;

    #[test]
    fn an_image_that_would_be_alone_in_the_last_step_is_left_out() {
        let steps = |images: usize, size: usize| -> Vec<usize> {
            let order: Vec<usize> = (0..images).collect();
            batches(&order, size)
                .iter()
                .map(|batch| batch.len())
                .collect()
        };
        assert_eq!(steps(8, 3), [3, 3, 2]);
        assert_eq!(steps(7, 3), [3, 3]);
        assert_eq!(steps(1, 3), [1]);
        assert_eq!(steps(3, 1), [1, 1, 1]);
    }
}
