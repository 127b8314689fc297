//! The steps of a pre-training one after the other, with figures and checkpoints.

use std::time::Instant;

use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::error::{Error, Result};
use crate::train::{BETWEEN_CHECKPOINTS, Run, Step};

/// What to do about a loss that is not finite.
const AFTER_DIVERGENCE: &str = "lower the learning rate and start afresh with --overwrite: \
                                from its checkpoint the run would diverge again";

/// Something that learns.
pub(super) trait Lesson: Sized {
    /// Takes step `step` of the run, whose random draws come from streams named by it; the loss before
    /// it.
    ///
    /// # Errors
    /// When images cannot be read, or the loss is not finite: the step was not taken.
    fn step(&mut self, step: usize) -> Result<f64>;

    /// Names and contents of all that a checkpoint needs.
    ///
    /// # Errors
    /// When an optimiser cannot be serialised.
    fn parts(&self) -> Result<Vec<(String, Vec<u8>)>>;

    /// Takes over what [`parts`](Self::parts) gave.
    ///
    /// # Errors
    /// When a part is missing or belongs to another network.
    fn restored(self, take: &mut dyn FnMut(&str) -> Result<Vec<u8>>) -> Result<Self>;
}

/// How far a pre-training goes.
pub(super) struct Course {
    pub(super) steps: usize,
    /// Figures are recorded after so many steps.
    pub(super) record_every: usize,
    /// Whether these steps are an epoch.
    pub(super) in_epochs: bool,
    /// Tells checkpoints of other runs apart.
    pub(super) fingerprint: String,
}

/// Where a run is.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Position {
    /// Steps taken.
    step: usize,
    /// Losses of the steps since the last record, and how many they are.
    sum: f64,
    count: u64,
    seconds: f64,
    /// Mean loss in the last record.
    loss: f64,
}

/// What a step without a finite loss says.
pub(super) fn finite(loss: f64) -> Result<f64> {
    match loss.is_finite() {
        true => Ok(loss),
        false => Err(Error::numeric("the loss is not finite").help(AFTER_DIVERGENCE)),
    }
}

impl Course {
    /// Goes through it, from the checkpoint on where the run has one; what was learnt, and the mean loss
    /// in the last record.
    ///
    /// # Errors
    /// When a step fails, the checkpoint cannot be used, or the run is interrupted (after a checkpoint
    /// was written).
    pub(super) fn pass<L: Lesson, B: Backend>(
        &self,
        lesson: L,
        run: &mut Run<'_, B>,
    ) -> Result<(L, f64)> {
        let (mut lesson, mut position) = self.restored(lesson, run)?;
        let mut saved = Instant::now();
        while position.step < self.steps {
            let taken = self.step(&mut lesson, &mut position, run);
            let over = position.step == self.steps;
            let interrupted = taken.as_ref().is_err_and(Error::is_interrupted);
            if interrupted || taken.is_ok() && (over || saved.elapsed() >= BETWEEN_CHECKPOINTS) {
                self.checkpoint(&lesson, &position, run)?;
                saved = Instant::now();
            }
            taken?;
        }
        Ok((lesson, position.loss))
    }

    fn step<B: Backend>(
        &self,
        lesson: &mut impl Lesson,
        position: &mut Position,
        run: &mut Run<'_, B>,
    ) -> Result<()> {
        let (started, step) = (Instant::now(), position.step);
        let loss = lesson.step(step);
        let loss =
            loss.map_err(|error| error.context(format!("step {step}, which was not taken")))?;
        position.step += 1;
        position.sum += loss;
        position.count += 1;
        position.seconds += started.elapsed().as_secs_f64();
        let mean = position.sum / position.count as f64;
        let done = position.step;
        if done.is_multiple_of(self.record_every) || done == self.steps {
            let mut figures = json!({
                "step": done,
                "loss": mean,
                "seconds": position.seconds,
            });
            if self.in_epochs {
                figures["epoch"] = json!((done - 1) / self.record_every);
            }
            run.record(&figures);
            *position = Position {
                step: done,
                loss: mean,
                ..Position::default()
            };
        }
        run.step(&Step {
            phase: "training",
            done: done as u64,
            total: self.steps as u64,
            unit: "steps",
            values: &[("loss", mean)],
        })
    }

    /// Writes the checkpoint, where the run has one.
    fn checkpoint<B: Backend>(
        &self,
        lesson: &impl Lesson,
        position: &Position,
        run: &Run<'_, B>,
    ) -> Result<()> {
        match &run.checkpoints {
            Some(checkpoints) => checkpoints.save(&self.fingerprint, position, &lesson.parts()?),
            None => Ok(()),
        }
    }

    /// Takes over the checkpoint that the run is to go on from, where there is one.
    fn restored<L: Lesson, B: Backend>(
        &self,
        lesson: L,
        run: &Run<'_, B>,
    ) -> Result<(L, Position)> {
        let start = Position::default();
        let Some(checkpoints) = &run.checkpoints else {
            return Ok((lesson, start));
        };
        let Some(mut checkpoint) = checkpoints.load::<Position>(&self.fingerprint)? else {
            return Ok((lesson, start));
        };
        let lesson = lesson
            .restored(&mut |name| checkpoint.take(name))
            .map_err(|error| checkpoints.damaged(&error))?;
        Ok((lesson, checkpoint.state))
    }
}
