//! The training loop of NFAD, BGAD and BGAD-dagger.
//!
//! 25 meta epochs of 8 passes. A pass goes through the images in batches; the vectors of a batch
//! are shuffled and cut into chunks, and every chunk is one optimiser step of its tap's flow.

use std::time::Instant;

use burn::tensor::backend::AutodiffBackend;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::FlowLearner;
use super::config::BgadConfig;
use super::loss::ChunkLoss;
use super::plan::{batches, count};
use super::pool::{Pool, Vectors};
use crate::error::{Error, Result};
use crate::flow::ConditionalFlow;
use crate::method::taps::{TapMap, Taps};
use crate::train::{AFTER_DIVERGENCE, AdamSettings, CosineSchedule, Run, Step};

/// Where a run is; all that a checkpoint needs beside parameters and optimisers, because every
/// random draw comes from a stream named by these numbers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Position {
    meta_epoch: usize,
    sub_epoch: usize,
    /// Batches done in this pass.
    batches: usize,
    /// Sums over the chunks of this pass.
    sums: Sums,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Sums {
    steps: u64,
    total: f64,
    likelihood: f64,
    pull: f64,
    push: f64,
    seconds: f64,
}

impl Sums {
    fn add(&mut self, loss: &ChunkLoss) {
        self.steps += 1;
        self.total += loss.total();
        self.likelihood += loss.likelihood;
        self.pull += loss.pull;
        self.push += loss.push;
    }

    fn mean(&self, sum: f64) -> f64 {
        sum / self.steps.max(1) as f64
    }
}

/// Trains one flow a tap, beginning with `flows`.
///
/// # Errors
/// When a loss is not finite, the checkpoint cannot be used, or the run is interrupted (after a
/// checkpoint was written).
pub(super) fn train<AB: AutodiffBackend>(
    config: &BgadConfig,
    flows: Vec<ConditionalFlow<AB>>,
    taps: &Taps,
    pool: &mut Pool<'_, AB::InnerBackend>,
    fingerprint: &str,
    run: &mut Run<'_, AB>,
) -> Result<Vec<ConditionalFlow<AB::InnerBackend>>> {
    let mut trainer = Trainer {
        config,
        learners: flows
            .into_iter()
            .zip(&taps.maps)
            .map(|(flow, &map)| Tap {
                map,
                learner: FlowLearner::new(flow, map.grid, AdamSettings::default(), &run.device),
            })
            .collect(),
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
    let flows = trainer.learners.into_iter();
    Ok(flows.map(|tap| tap.learner.finish()).collect())
}

struct Trainer<'a, AB: AutodiffBackend> {
    config: &'a BgadConfig,
    learners: Vec<Tap<AB>>,
    position: Position,
    fingerprint: &'a str,
}

/// One tap: its map, and its flow while it learns.
struct Tap<AB: AutodiffBackend> {
    map: TapMap,
    learner: FlowLearner<AB>,
}

impl<AB: AutodiffBackend> Trainer<'_, AB> {
    /// One pass over the images, from the batch the position names.
    fn pass(&mut self, pool: &mut Pool<'_, AB::InnerBackend>, run: &mut Run<'_, AB>) -> Result<()> {
        let schedule = &self.config.schedule;
        let Position {
            meta_epoch,
            sub_epoch,
            batches: done,
            ..
        } = self.position;
        let boundary_phase = meta_epoch > 0;
        let anomalies = if boundary_phase { pool.anomalies() } else { 0 };
        let name = format!("{meta_epoch} {sub_epoch}");
        let plan = batches(
            schedule,
            pool.normals.len(),
            anomalies,
            &mut run.rng(&format!("plan {name}")),
        );
        let rates = CosineSchedule::new(
            schedule.learning_rate,
            schedule.meta_epochs,
            schedule.warm_up,
        );
        let pass = meta_epoch * schedule.sub_epochs + sub_epoch;
        // Passes of the first meta epoch are without anomalies, so they may have fewer batches.
        let batches_until = |passes: usize| {
            let first = passes.min(schedule.sub_epochs);
            let of = |anomalies: usize| count(schedule, pool.normals.len(), anomalies);
            (first * of(0) + (passes - first) * of(pool.anomalies())) as u64
        };
        let before = batches_until(pass);
        let total = batches_until(schedule.meta_epochs * schedule.sub_epochs);
        let mut learning_rate = 0.0;
        for (index, items) in plan.iter().enumerate().skip(done) {
            let started = Instant::now();
            let within = sub_epoch * plan.len() + index;
            let progress = within as f64 / (schedule.sub_epochs * plan.len()) as f64;
            learning_rate = rates.at(meta_epoch, progress);
            self.batch(
                pool.batch(items, pass, run)?,
                &mut run.rng(&format!("vectors {name} {index}")),
                learning_rate,
            )?;
            self.position.batches = index + 1;
            let sums = &mut self.position.sums;
            sums.seconds += started.elapsed().as_secs_f64();
            let loss = sums.mean(sums.total);
            run.step(&Step {
                phase: "training",
                done: before + index as u64 + 1,
                total,
                unit: "batches",
                values: &[("loss", loss), ("lr", learning_rate)],
            })?;
        }
        let sums = std::mem::take(&mut self.position.sums);
        self.position.batches = 0;
        run.record(&json!({
            "meta_epoch": meta_epoch,
            "sub_epoch": sub_epoch,
            "learning_rate": learning_rate,
            "loss": sums.mean(sums.total),
            "loss_likelihood": sums.mean(sums.likelihood),
            "loss_normal": sums.mean(sums.pull),
            "loss_anomalous": sums.mean(sums.push),
            "steps": sums.steps,
            "seconds": sums.seconds,
            "cache": pool.statistics(),
            "cache_hit_rate": pool.statistics().hit_rate(),
        }));
        Ok(())
    }

    /// All steps of one batch.
    fn batch(
        &mut self,
        images: Vec<Vectors>,
        rng: &mut ChaCha8Rng,
        learning_rate: f64,
    ) -> Result<()> {
        let boundary_phase = self.position.meta_epoch > 0;
        for tap in 0..self.learners.len() {
            let vectors = self.shuffled(&images, tap, rng);
            let size = self.config.schedule.chunk.min(vectors.len().max(1));
            for chunk in vectors.chunks_exact(size) {
                let loss = self.step(tap, chunk, &images, boundary_phase, learning_rate)?;
                self.position.sums.add(&loss);
            }
        }
        Ok(())
    }

    /// The vectors of a batch at one tap, in random order.
    fn shuffled(&self, images: &[Vectors], tap: usize, rng: &mut ChaCha8Rng) -> Vec<Pick> {
        let share = self.config.schedule.vector_share;
        let mut vectors = Vec::new();
        for (image, vector) in images.iter().enumerate() {
            let pick = |&position: &u32| Pick {
                image: image as u32,
                position,
                anomalous: false,
            };
            vectors.extend(vector.cells[tap].normal.iter().map(pick));
        }
        if share < 1.0 {
            let kept = (vectors.len() as f64 * share).ceil() as usize;
            let (sample, _) = vectors.partial_shuffle(rng, kept);
            vectors = sample.to_vec();
        }
        for (image, vector) in images.iter().enumerate() {
            let pick = |&position: &u32| Pick {
                image: image as u32,
                position,
                anomalous: true,
            };
            vectors.extend(vector.cells[tap].anomalous.iter().map(pick));
        }
        vectors.shuffle(rng);
        vectors
    }

    /// One optimiser step of one tap's flow.
    fn step(
        &mut self,
        tap: usize,
        chunk: &[Pick],
        images: &[Vectors],
        boundary_phase: bool,
        learning_rate: f64,
    ) -> Result<ChunkLoss> {
        let learner = &mut self.learners[tap];
        // Normal vectors first: their order within a chunk means nothing.
        let (normal, anomalous): (Vec<Pick>, Vec<Pick>) =
            chunk.iter().copied().partition(|pick| !pick.anomalous);
        let picks = [normal.as_slice(), anomalous.as_slice()].concat();
        let channels = learner.map.channels;
        let mut vectors = Vec::with_capacity(picks.len() * channels);
        for pick in &picks {
            let level = &images[pick.image as usize].features[tap];
            vectors.extend_from_slice(&level[pick.position as usize * channels..][..channels]);
        }
        let positions: Vec<usize> = picks.iter().map(|pick| pick.position as usize).collect();
        let loss = |values: &[f32]| {
            let (of_normal, of_anomalous) = values.split_at(normal.len());
            self.config
                .loss
                .evaluate(of_normal, of_anomalous, boundary_phase)
        };
        let loss = learner
            .learner
            .step(&vectors, &positions, loss, learning_rate);
        if !loss.is_finite() {
            return Err(self.diverged(tap, learning_rate));
        }
        Ok(loss)
    }

    fn diverged(&self, tap: usize, learning_rate: f64) -> Error {
        let Position {
            meta_epoch,
            sub_epoch,
            sums,
            ..
        } = self.position;
        Error::numeric(format!(
            "the loss is not finite at meta epoch {meta_epoch}, pass {sub_epoch}, step {}, tap of \
             stride {}, learning rate {learning_rate:.2e}; the step was not taken",
            sums.steps, self.learners[tap].map.stride
        ))
        .help(AFTER_DIVERGENCE)
    }

    /// Writes the checkpoint, where the run has one.
    fn checkpoint(&self, run: &Run<'_, AB>) -> Result<()> {
        let Some(checkpoints) = &run.checkpoints else {
            return Ok(());
        };
        let mut parts = Vec::new();
        for Tap { map, learner } in &self.learners {
            let [flow, adam] = learner.to_bytes()?;
            parts.push((format!("flow.{}", map.stride), flow));
            parts.push((format!("adam.{}", map.stride), adam));
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
        let mut restore = |Tap { map, learner }: Tap<AB>| {
            let flow = checkpoint.take(&format!("flow.{}", map.stride))?;
            let adam = checkpoint.take(&format!("adam.{}", map.stride))?;
            let learner = learner.with_bytes(flow, adam)?;
            Ok(Tap { map, learner })
        };
        let learners = std::mem::take(&mut self.learners).into_iter();
        let restored =
            learners.map(|tap| restore(tap).map_err(|error: Error| checkpoints.damaged(&error)));
        self.learners = restored.collect::<Result<_>>()?;
        self.position = checkpoint.state;
        Ok(())
    }
}

/// One vector of a batch.
#[derive(Clone, Copy, Debug)]
struct Pick {
    image: u32,
    position: u32,
    anomalous: bool,
}
