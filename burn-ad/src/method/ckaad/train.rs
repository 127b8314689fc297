//! The training loop of CKAAD: each step one of the discriminator, then one of the auto-encoder.

use std::time::Instant;

use burn::module::AutodiffModule;
use burn::tensor::backend::AutodiffBackend;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::config::{AnomalySource, CkaadConfig, Strategy, Validation};
use super::learner::{Game, Learner, StepFigures};
use super::network::AutoEncoder;
use super::objective::reconstruction_errors;
use super::pool::{Item, Pool};
use super::score::Scoring;
use super::watch::Watch;
use crate::error::Result;
use crate::metrics::auroc;
use crate::network::{load, save};
use crate::tensors::{TensorSet, to_vec};
use crate::train::{AFTER_DIVERGENCE, BETWEEN_CHECKPOINTS, Run, Step, cycled, indices_by_seed};

/// Share of the fewer of the two groups that validation takes of each, beside one image.
const VALIDATION_SHARE: f64 = 0.05;

/// Where a run is; all that a checkpoint needs beside networks and optimisers, because every random
/// draw comes from a stream named by these numbers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Position {
    epoch: usize,
    /// Batches done in this epoch.
    batches: usize,
    /// Sums over the steps of this epoch.
    sums: Sums,
    /// The best epoch so far and its AUROC.
    best: Option<(usize, f64)>,
    watch: Watch,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Sums {
    steps: u64,
    games: u64,
    reconstruction: f64,
    of_anomalies: f64,
    game: Game,
    seconds: f64,
}

impl Sums {
    fn add(&mut self, figures: &StepFigures) {
        self.steps += 1;
        self.reconstruction += figures.reconstruction;
        self.of_anomalies += figures.of_anomalies.unwrap_or(0.0);
        if let Some(game) = figures.game {
            self.games += 1;
            self.game.add(game);
        }
    }

    fn reconstruction(&self) -> f64 {
        self.reconstruction / self.steps.max(1) as f64
    }

    /// Means over the steps with a discriminator.
    fn game(&self) -> Option<Game> {
        (self.games > 0).then(|| self.game.divided(self.games as f64))
    }
}

/// Which images train, and which only watch.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Roles {
    normals: Vec<usize>,
    anomalies: Vec<usize>,
    watching: Vec<Item>,
}

impl Roles {
    fn new(validation: Validation, normals: usize, anomalies: usize, seed: u64) -> Self {
        let fewer = match anomalies {
            0 => normals,
            some => normals.min(some),
        };
        let aside = match validation {
            Validation::Off => 0,
            _ => (fewer as f64 * VALIDATION_SHARE).round() as usize + 1,
        };
        // Something to learn from is always left.
        let split = |count: usize, stream: &str| {
            let order = indices_by_seed(count, seed, stream);
            let aside = aside.min(count.saturating_sub(1));
            let (mut watch, mut train) = (order[..aside].to_vec(), order[aside..].to_vec());
            watch.sort_unstable();
            train.sort_unstable();
            (train, watch)
        };
        let (normals, normal_watch) = split(normals, "validation normals");
        let (anomalies, anomalous_watch) = split(anomalies, "validation anomalies");
        let watching = normal_watch.into_iter().map(Item::Normal);
        Self {
            normals,
            anomalies,
            watching: watching
                .chain(anomalous_watch.into_iter().map(Item::Anomaly))
                .collect(),
        }
    }
}

/// Trains the auto-encoder that `learner` begins with.
///
/// # Errors
/// When a loss is not finite, the checkpoint cannot be used, or the run is interrupted (after a
/// checkpoint was written).
pub(super) fn train<AB: AutodiffBackend>(
    config: &CkaadConfig,
    learner: Learner<AB>,
    scoring: Scoring,
    pool: &mut Pool<'_, AB::InnerBackend>,
    fingerprint: &str,
    run: &mut Run<'_, AB>,
) -> Result<AutoEncoder<AB::InnerBackend>> {
    let roles = Roles::new(
        config.validation,
        pool.normals(),
        pool.anomalies(),
        run.seed,
    );
    let mut trainer = Trainer {
        config,
        learner,
        scoring,
        roles,
        position: Position::default(),
        best: None,
        fingerprint,
        saved: Instant::now(),
    };
    trainer = trainer.restored(run)?;
    if config.uses_anomalies() && config.strategy != Strategy::Recon && pool.anomalies() == 0 {
        run.warn(
            "no known anomaly was given: what is trained is the reconstruction of normal images",
        );
    }
    while trainer.position.epoch < config.schedule.epochs {
        if let Err(error) = trainer.epoch(pool, run) {
            if error.is_interrupted() {
                trainer.checkpoint(run)?;
            }
            return Err(error);
        }
    }
    let generator = trainer.learner.generator().valid();
    match trainer.best {
        Some(mut best) => load(generator, "", &mut best),
        None => Ok(generator),
    }
}

struct Trainer<'a, AB: AutodiffBackend> {
    config: &'a CkaadConfig,
    learner: Learner<AB>,
    scoring: Scoring,
    roles: Roles,
    position: Position,
    /// The auto-encoder of the best epoch, where that is the one to keep.
    best: Option<TensorSet>,
    fingerprint: &'a str,
    saved: Instant,
}

impl<AB: AutodiffBackend> Trainer<'_, AB> {
    /// One pass over the normal images, from the batch the position names.
    fn epoch(
        &mut self,
        pool: &mut Pool<'_, AB::InnerBackend>,
        run: &mut Run<'_, AB>,
    ) -> Result<()> {
        let schedule = self.config.schedule;
        let epoch = self.position.epoch;
        let order = indices_by_seed(
            self.roles.normals.len(),
            run.seed,
            &format!("epoch {epoch}"),
        );
        let batches: Vec<&[usize]> = order.chunks(schedule.batch).collect();
        for (index, batch) in batches.iter().enumerate().skip(self.position.batches) {
            let started = Instant::now();
            let normals: Vec<usize> = batch.iter().map(|&i| self.roles.normals[i]).collect();
            let mut items: Vec<Item> = normals.iter().map(|&i| Item::Normal(i)).collect();
            items.extend(self.anomalies(&normals, epoch * batches.len() + index, run.seed));
            let features = pool.batch(&items, epoch)?;
            let figures = self.learner.step(&features, normals.len());
            let figures = figures.map_err(|error| {
                let place = format!("epoch {epoch}, step {index}; the step was not taken");
                error.context(place).help(AFTER_DIVERGENCE)
            })?;
            let sums = &mut self.position.sums;
            sums.add(&figures);
            sums.seconds += started.elapsed().as_secs_f64();
            self.position.batches = index + 1;
            let mut values = vec![("loss", sums.reconstruction())];
            if let Some(game) = sums.game() {
                values.extend([("normal", game.normal), ("anomalous", game.anomalous)]);
            }
            run.step(&Step {
                phase: "training",
                done: (epoch * batches.len() + index) as u64 + 1,
                total: (schedule.epochs * batches.len()) as u64,
                unit: "batches",
                values: &values,
            })?;
        }
        let validation = self.validate(pool, epoch)?;
        self.record(epoch, validation.as_ref(), pool, run);
        self.position.epoch += 1;
        self.position.batches = 0;
        self.position.sums = Sums::default();
        let finished = self.position.epoch == schedule.epochs;
        if finished || self.saved.elapsed() >= BETWEEN_CHECKPOINTS {
            self.checkpoint(run)?;
        }
        Ok(())
    }

    /// The anomalous images of step `step` of the run.
    fn anomalies(&self, normals: &[usize], step: usize, seed: u64) -> Vec<Item> {
        if self.config.strategy == Strategy::Recon {
            return Vec::new();
        }
        match self.config.anomalies {
            AnomalySource::Elastic => normals.iter().map(|&normal| Item::Twin(normal)).collect(),
            AnomalySource::Known => {
                let known = &self.roles.anomalies;
                let each = self.config.schedule.batch.min(known.len());
                cycled(known.len(), step * each, each, seed, "anomalies")
                    .into_iter()
                    .map(|place| Item::Anomaly(known[place]))
                    .collect()
            }
        }
    }

    /// How the images that only watch are told apart; `None` without any.
    fn validate(
        &mut self,
        pool: &mut Pool<'_, AB::InnerBackend>,
        epoch: usize,
    ) -> Result<Option<Validated>> {
        if self.roles.watching.is_empty() {
            return Ok(None);
        }
        let generator = self.learner.generator().valid();
        let (mut scores, mut errors) = (Vec::new(), Vec::new());
        for items in self.roles.watching.chunks(self.config.schedule.batch) {
            let features = pool.batch(items, epoch)?;
            let found = generator.forward(&features);
            let error = reconstruction_errors(&features, &found);
            errors.extend(to_vec(error));
            let valid: Vec<_> = items.iter().map(|&item| pool.region(item)).collect();
            let maps = self.scoring.maps(&features, found, &valid);
            scores.extend(to_vec(self.scoring.scores(&maps, &valid)));
        }
        let anomalous: Vec<bool> = self
            .roles
            .watching
            .iter()
            .map(|item| matches!(item, Item::Anomaly(_)))
            .collect();
        let mean = |which: bool| {
            let chosen = errors.iter().zip(&anomalous).filter(|(_, a)| **a == which);
            let (sum, count) = chosen.fold((0.0, 0), |(sum, count), (&error, _)| {
                (sum + f64::from(error), count + 1)
            });
            (count > 0).then(|| sum / f64::from(count))
        };
        let found = Validated {
            auroc: auroc(&scores, &anomalous)?,
            of_normal: mean(false),
            of_anomalous: mean(true),
        };
        if self.config.validation == Validation::Best
            && let Some(auroc) = found.auroc
            && self.position.best.is_none_or(|(_, best)| auroc > best)
        {
            let mut tensors = TensorSet::default();
            save(&generator, "", &mut tensors);
            self.best = Some(tensors);
            self.position.best = Some((epoch, auroc));
        }
        Ok(Some(found))
    }

    fn record(
        &mut self,
        epoch: usize,
        validation: Option<&Validated>,
        pool: &Pool<'_, AB::InnerBackend>,
        run: &mut Run<'_, AB>,
    ) {
        let sums = self.position.sums;
        let mut figures = json!({
            "epoch": epoch,
            "steps": sums.steps,
            "loss_rec": sums.reconstruction(),
            "seconds": sums.seconds,
            "cache": pool.statistics(),
            "cache_hit_rate": pool.statistics().hit_rate(),
        });
        if sums.of_anomalies > 0.0 {
            figures["loss_rec_anomalous"] = json!(sums.of_anomalies / sums.steps as f64);
        }
        if let Some(game) = sums.game() {
            figures["loss_d"] = json!(game.discriminator);
            figures["loss_g"] = json!(game.generator);
            figures["energy_normal"] = json!(game.normal);
            figures["energy_generated"] = json!(game.generated);
            figures["energy_anomalous"] = json!(game.anomalous);
            figures["gradient_d"] = json!(game.gradient);
            let warning = self
                .position
                .watch
                .look(self.config, epoch, sums.games, &game);
            if let Some(warning) = warning {
                run.warn(&warning);
                figures["warning"] = json!(warning);
            }
        }
        if let Some(validation) = validation {
            figures["validation"] = json!(validation);
            figures["best_epoch"] = json!(self.position.best.map(|(epoch, _)| epoch));
        }
        run.record(&figures);
    }

    /// Writes the checkpoint, where the run has one.
    fn checkpoint(&mut self, run: &Run<'_, AB>) -> Result<()> {
        let Some(checkpoints) = &run.checkpoints else {
            return Ok(());
        };
        let mut parts = self.learner.parts()?;
        if let Some(best) = &self.best {
            parts.push((BEST.to_owned(), best.to_bytes()?));
        }
        checkpoints.save(self.fingerprint, &self.position, &parts)?;
        self.saved = Instant::now();
        Ok(())
    }

    /// Takes over the checkpoint that the run is to go on from, where there is one.
    fn restored(mut self, run: &Run<'_, AB>) -> Result<Self> {
        let Some(checkpoints) = &run.checkpoints else {
            return Ok(self);
        };
        let Some(mut checkpoint) = checkpoints.load::<Position>(self.fingerprint)? else {
            return Ok(self);
        };
        let damaged = |error| checkpoints.damaged(&error);
        self.learner = self
            .learner
            .restored(&mut |name| checkpoint.take(name))
            .map_err(damaged)?;
        if checkpoint.state.best.is_some() && self.config.validation == Validation::Best {
            let best = checkpoint.take(BEST).map_err(damaged)?;
            self.best = Some(TensorSet::from_bytes(&best).map_err(damaged)?);
        }
        self.position = checkpoint.state;
        Ok(self)
    }
}

/// Name of a checkpoint's part.
const BEST: &str = "best";

/// What the images that only watch say.
#[derive(Clone, Copy, Debug, Serialize)]
struct Validated {
    /// `None` unless there are both kinds.
    auroc: Option<f64>,
    /// Mean reconstruction error of whole maps.
    of_normal: Option<f64>,
    of_anomalous: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validation_takes_a_twentieth_of_the_fewer_and_one() {
        for (normals, anomalies, aside) in [(1000, 100, 6), (40, 100, 3), (200, 0, 11), (2, 1, 1)] {
            let roles = Roles::new(Validation::Log, normals, anomalies, 0);
            let watching = |anomalous: bool| {
                let watching = roles.watching.iter();
                let is = |item: &&Item| matches!(item, Item::Anomaly(_)) == anomalous;
                watching.filter(is).count()
            };
            assert_eq!(watching(false), aside);
            assert_eq!(roles.normals.len(), normals - aside);
            assert_eq!(watching(true), aside.min(anomalies.saturating_sub(1)));
            assert_eq!(roles.anomalies.len() + watching(true), anomalies);
        }
        assert!(Roles::new(Validation::Off, 10, 10, 0).watching.is_empty());
    }
}
