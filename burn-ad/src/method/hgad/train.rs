//! The training loop of HGAD.
//!
//! 25 meta epochs of 8 passes. A pass goes through the images in batches; all vectors of a batch at
//! one scale are one step of that scale's flow and mixture. The first meta epochs learn the classes
//! alone; then the centres within classes join.

use std::time::Instant;

use burn::tensor::backend::AutodiffBackend;
use rand::seq::SliceRandom;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::config::HgadConfig;
use super::learner::ScaleLearner;
use super::loss::{BatchLoss, Terms};
use super::pool::{Pool, Vectors};
use crate::error::{Error, Result};
use crate::train::{AFTER_DIVERGENCE, CosineSchedule, Run, Step};

/// Where a run is; all that a checkpoint needs beside parameters and optimisers, because every
/// random draw comes from a stream named by these numbers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Position {
    meta_epoch: usize,
    sub_epoch: usize,
    /// Batches done in this pass.
    batches: usize,
    /// Sums over the steps of this pass.
    sums: Sums,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Sums {
    steps: u64,
    total: f64,
    terms: Terms,
    seconds: f64,
}

impl Sums {
    fn add(&mut self, loss: &BatchLoss) {
        self.steps += 1;
        self.total += loss.total();
        self.terms.add(&loss.terms);
    }

    fn mean(&self, sum: f64) -> f64 {
        sum / self.steps.max(1) as f64
    }
}

/// Trains flows and mixtures.
///
/// # Errors
/// When a loss is not finite, the checkpoint cannot be used, or the run is interrupted (after a
/// checkpoint was written).
pub(super) fn train<AB: AutodiffBackend>(
    config: &HgadConfig,
    learners: Vec<ScaleLearner<AB>>,
    pool: &mut Pool,
    fingerprint: &str,
    run: &mut Run<'_, AB>,
) -> Result<Vec<ScaleLearner<AB>>> {
    let mut trainer = Trainer {
        config,
        learners,
        position: Position::default(),
        fingerprint,
    };
    trainer.restore(run)?;
    let schedule = &config.schedule;
    while trainer.position.meta_epoch < schedule.meta_epochs {
        if let Err(error) = trainer.pass(pool, run) {
            if error.is_interrupted() {
                trainer.checkpoint(run)?;
            }
            return Err(error);
        }
        trainer.position.sub_epoch += 1;
        if trainer.position.sub_epoch == schedule.sub_epochs {
            trainer.position.sub_epoch = 0;
            trainer.position.meta_epoch += 1;
            trainer.checkpoint(run)?;
        }
    }
    Ok(trainer.learners)
}

struct Trainer<'a, AB: AutodiffBackend> {
    config: &'a HgadConfig,
    learners: Vec<ScaleLearner<AB>>,
    position: Position,
    fingerprint: &'a str,
}

impl<AB: AutodiffBackend> Trainer<'_, AB> {
    /// One pass over the images, from the batch the position names.
    fn pass(&mut self, pool: &mut Pool, run: &mut Run<'_, AB>) -> Result<()> {
        let schedule = &self.config.schedule;
        let Position {
            meta_epoch,
            sub_epoch,
            batches: done,
            ..
        } = self.position;
        let intra_phase = meta_epoch >= schedule.intra_from;
        let mut order: Vec<usize> = (0..pool.count()).collect();
        order.shuffle(&mut run.rng(&format!("plan {meta_epoch} {sub_epoch}")));
        let batches = order.len().div_ceil(schedule.batch);
        let rates = CosineSchedule::new(
            schedule.learning_rate,
            schedule.meta_epochs,
            schedule.warm_up,
        );
        let before = (meta_epoch * schedule.sub_epochs + sub_epoch) * batches;
        let total = schedule.meta_epochs * schedule.sub_epochs * batches;
        let mut learning_rate = 0.0;
        for (index, images) in order.chunks(schedule.batch).enumerate().skip(done) {
            let started = Instant::now();
            let within = sub_epoch * batches + index;
            let progress = within as f64 / (schedule.sub_epochs * batches) as f64;
            learning_rate = rates.at(meta_epoch, progress);
            let images: Vec<Vectors> = images
                .iter()
                .map(|&image| pool.image(image))
                .collect::<Result<_>>()?;
            let losses = self.steps(&images, intra_phase, learning_rate);
            for (scale, loss) in losses.into_iter().enumerate() {
                if !loss.is_finite() {
                    return Err(self.diverged(scale, learning_rate));
                }
                self.position.sums.add(&loss);
            }
            self.position.batches = index + 1;
            let sums = &mut self.position.sums;
            sums.seconds += started.elapsed().as_secs_f64();
            run.step(&Step {
                phase: "training",
                done: (before + index + 1) as u64,
                total: total as u64,
                unit: "batches",
                values: &[
                    ("loss", sums.mean(sums.total)),
                    ("classes", sums.mean(sums.terms.accuracy)),
                    ("lr", learning_rate),
                ],
            })?;
        }
        let sums = std::mem::take(&mut self.position.sums);
        self.position.batches = 0;
        let Terms {
            likelihood,
            information,
            entropy,
            intra,
            intra_sigmoid,
            accuracy,
        } = sums.terms;
        run.record(&json!({
            "meta_epoch": meta_epoch,
            "sub_epoch": sub_epoch,
            "learning_rate": learning_rate,
            "loss": sums.mean(sums.total),
            "loss_likelihood": sums.mean(likelihood),
            "mutual_information": sums.mean(information),
            "entropy": sums.mean(entropy),
            "loss_intra": sums.mean(intra),
            "loss_intra_sigmoid": sums.mean(intra_sigmoid),
            "vector_class_accuracy": sums.mean(accuracy),
            "steps": sums.steps,
            "seconds": sums.seconds,
            "cache": pool.statistics(),
            "cache_hit_rate": pool.statistics().hit_rate(),
        }));
        Ok(())
    }

    /// One step of every scale, on all vectors of a batch.
    fn steps(
        &mut self,
        images: &[Vectors],
        intra_phase: bool,
        learning_rate: f64,
    ) -> Vec<BatchLoss> {
        let step = |(scale, learner): (usize, &mut ScaleLearner<AB>)| {
            let channels = learner.map.channels;
            let (mut vectors, mut positions, mut labels) = (Vec::new(), Vec::new(), Vec::new());
            for image in images {
                for &position in &image.cells[scale] {
                    let row = &image.features[scale][position as usize * channels..][..channels];
                    vectors.extend_from_slice(row);
                    positions.push(position as usize);
                }
                labels.resize(positions.len(), image.label as u32);
            }
            learner.step(&vectors, &positions, &labels, intra_phase, learning_rate)
        };
        // Small scales do not keep all cores busy.
        if self.learners.iter().all(ScaleLearner::is_on_host) {
            self.learners.par_iter_mut().enumerate().map(step).collect()
        } else {
            self.learners.iter_mut().enumerate().map(step).collect()
        }
    }

    fn diverged(&self, scale: usize, learning_rate: f64) -> Error {
        let Position {
            meta_epoch,
            sub_epoch,
            sums,
            ..
        } = self.position;
        Error::numeric(format!(
            "the loss is not finite at meta epoch {meta_epoch}, pass {sub_epoch}, step {}, scale 1/{}, \
             learning rate {learning_rate:.2e}; the step was not taken",
            sums.steps, self.learners[scale].map.divisor
        ))
        .help(AFTER_DIVERGENCE)
    }

    /// Writes the checkpoint, where the run has one.
    fn checkpoint(&self, run: &Run<'_, AB>) -> Result<()> {
        let Some(checkpoints) = &run.checkpoints else {
            return Ok(());
        };
        let mut parts = Vec::new();
        for learner in &self.learners {
            parts.extend(learner.to_parts()?);
        }
        checkpoints.save(self.fingerprint, &self.position, &parts)
    }

    /// Takes over the checkpoint that the run is to go on from, where there is one.
    fn restore(&mut self, run: &Run<'_, AB>) -> Result<()> {
        let Some(checkpoints) = &run.checkpoints else {
            return Ok(());
        };
        let Some(mut checkpoint) = checkpoints.load::<Position>(self.fingerprint)? else {
            return Ok(());
        };
        let learners = std::mem::take(&mut self.learners).into_iter();
        let restored = learners.map(|learner| {
            learner
                .with_parts(|name| checkpoint.take(name))
                .map_err(|error| checkpoints.damaged(&error))
        });
        self.learners = restored.collect::<Result<_>>()?;
        self.position = checkpoint.state;
        Ok(())
    }
}
