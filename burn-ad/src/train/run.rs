//! One run: its seed, its device, its observer.

use std::ops::ControlFlow;

use burn::tensor::backend::Backend;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use sha2::{Digest, Sha256};

use super::Checkpoints;
use crate::error::{Error, Result};

/// Progress of a long piece of work.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// What is being done, in words (`extracting features`).
    pub phase: &'a str,
    /// How much of it is done.
    pub done: u64,
    /// How much there is to do; 0 when unknown.
    pub total: u64,
    /// What `done` counts (`images`).
    pub unit: &'a str,
    /// Named figures worth watching (loss, learning rate).
    pub values: &'a [(&'a str, f64)],
}

/// Watches a run: a progress bar, a log, Ctrl-C, a test.
pub trait Observer {
    /// Called after each piece of work. `Break` stops the run with [`Error::interrupted`].
    fn step(&mut self, step: &Step<'_>) -> ControlFlow<()>;

    /// Called when the run goes on but the user should know something.
    fn warn(&mut self, message: &str);

    /// Called with figures worth keeping, a JSON object each: a line of a training log.
    fn record(&mut self, _figures: &serde_json::Value) {}
}

/// An observer that says nothing and never stops a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl Observer for Quiet {
    fn step(&mut self, _step: &Step<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn warn(&mut self, _message: &str) {}
}

/// A generator for one purpose (`stream`), reproducible from the run's seed.
///
/// Streams are independent: drawing more from one changes nothing in another.
pub fn stream_rng(seed: u64, stream: &str) -> ChaCha8Rng {
    let mut hasher = Sha256::new();
    hasher.update(seed.to_le_bytes());
    hasher.update(stream.as_bytes());
    ChaCha8Rng::from_seed(hasher.finalize().into())
}

/// One GiB.
const DEFAULT_FEATURE_MEMORY: u64 = 1 << 30;

/// What every method is handed to work with.
pub struct Run<'a, B: Backend> {
    /// Where tensors live.
    pub device: B::Device,
    /// The one seed that reproduces the run on this backend.
    pub seed: u64,
    /// Images per forward pass of a frozen backbone.
    pub batch_size: usize,
    /// Bytes of features kept in memory; further ones go to a temporary file.
    pub feature_memory: u64,
    /// Where the run keeps its checkpoint; `None` for none.
    pub checkpoints: Option<Checkpoints>,
    observer: &'a mut dyn Observer,
}

impl<'a, B: Backend> Run<'a, B> {
    /// A run with batches of 8 images.
    pub fn new(device: B::Device, seed: u64, observer: &'a mut dyn Observer) -> Self {
        Self {
            device,
            seed,
            batch_size: 8,
            feature_memory: DEFAULT_FEATURE_MEMORY,
            checkpoints: None,
            observer,
        }
    }

    /// Sets the number of images per forward pass (at least 1).
    #[must_use]
    pub fn with_batch_size(mut self, batch_size: usize) -> Self {
        self.batch_size = batch_size.max(1);
        self
    }

    /// Sets how many bytes of features are kept in memory.
    #[must_use]
    pub fn with_feature_memory(mut self, bytes: u64) -> Self {
        self.feature_memory = bytes;
        self
    }

    /// Keeps a checkpoint while training, or goes on from it.
    #[must_use]
    pub fn with_checkpoints(mut self, checkpoints: Option<Checkpoints>) -> Self {
        self.checkpoints = checkpoints;
        self
    }

    /// A seeded generator for one purpose.
    pub fn rng(&self, stream: &str) -> ChaCha8Rng {
        stream_rng(self.seed, stream)
    }

    /// Reports progress.
    ///
    /// # Errors
    /// [`Error::interrupted`] when the observer asks to stop.
    pub fn step(&mut self, step: &Step<'_>) -> Result<()> {
        match self.observer.step(step) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::interrupted()),
        }
    }

    /// Passes figures on to the log.
    pub fn record(&mut self, figures: &serde_json::Value) {
        self.observer.record(figures);
    }

    /// Passes a warning on to the user.
    pub fn warn(&mut self, message: &str) {
        self.observer.warn(message);
    }
}
