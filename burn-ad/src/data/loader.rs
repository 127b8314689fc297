//! Decoding ahead of the computation: worker threads, bounded memory, unchanged order.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use ::image::{GrayImage, RgbImage};
use serde::{Deserialize, Serialize};

use super::geometry::Geometry;
use super::normalise::Normalisation;
use super::placement::Placement;
use super::sample::{MaskSource, Sample};
use crate::error::{Error, Result};

/// Images that one worker may finish before they are asked for.
const AHEAD: usize = 4;

/// More threads than this only cost memory.
const MAX_WORKERS: usize = 256;

/// Everything between a picture and the input of a backbone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocess {
    /// To a square.
    pub geometry: Geometry,
    /// To the numbers the backbone knows.
    pub normalisation: Normalisation,
}

impl Preprocess {
    /// Reads, places and normalises one sample; `index` is passed through.
    ///
    /// # Errors
    /// When the image or its mask cannot be read, or they differ in size.
    pub fn load(&self, index: usize, sample: &Sample) -> Result<Loaded> {
        self.geometry.check()?;
        self.normalisation.check()?;
        let image = sample.image.read()?;
        let mask = match &sample.mask {
            None => None,
            Some(source) => {
                let mask = source.read().map_err(|error| {
                    error.context(format!("reading the mask of {}", sample.image.name()))
                })?;
                agree(&image, &mask, sample, source)?;
                Some(self.geometry.apply_mask(&mask))
            }
        };
        let (input, placement) = self.geometry.apply(&image);
        Ok(Loaded {
            index,
            pixels: self.normalisation.apply(&input),
            mask,
            placement,
        })
    }
}

/// One sample, ready for a backbone.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Position in the slice of samples.
    pub index: usize,
    /// Normalised pixels, `[3, size, size]`.
    pub pixels: Vec<f32>,
    /// Anomalous pixels of the input, `size * size`, where the sample has a mask.
    pub mask: Option<Vec<bool>>,
    /// Where the picture lies in the input.
    pub placement: Placement,
}

/// Loads samples on worker threads while the caller computes.
#[derive(Clone, Debug)]
pub struct Loader {
    preprocess: Preprocess,
    workers: usize,
}

impl Loader {
    /// One worker for each available core.
    pub fn new(preprocess: Preprocess) -> Self {
        Self {
            preprocess,
            workers: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    /// Sets the number of worker threads; with 0 the caller's thread does the work.
    #[must_use]
    pub fn with_workers(mut self, workers: usize) -> Self {
        self.workers = workers.min(MAX_WORKERS);
        self
    }

    /// What happens to each image.
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// Loads all samples in the order given, each with its position.
    ///
    /// An unreadable sample is an `Err` in its place; the others follow. The workers are at most
    /// four images each ahead of the caller. Dropping the iterator ends them.
    pub fn stream(&self, samples: &[Sample]) -> Stream {
        let job = Arc::new(Job {
            preprocess: self.preprocess.clone(),
            samples: samples.to_vec(),
        });
        let workers = self.workers.min(samples.len());
        let (mut receivers, mut threads) = (Vec::new(), Vec::new());
        for worker in 0..workers {
            let (sender, receiver) = sync_channel(AHEAD);
            receivers.push(receiver);
            let job = Arc::clone(&job);
            let thread = std::thread::Builder::new()
                .name(format!("burn-ad-loader-{worker}"))
                .spawn(move || job.run(worker, workers, &sender));
            // Without the thread its channel is closed, and `next` does the work itself.
            threads.extend(thread.ok());
        }
        Stream {
            job,
            receivers,
            threads,
            next: 0,
        }
    }
}

struct Job {
    preprocess: Preprocess,
    samples: Vec<Sample>,
}

impl Job {
    fn load(&self, index: usize) -> Result<Loaded> {
        self.preprocess.load(index, &self.samples[index])
    }

    /// Worker `worker` of `workers` takes every `workers`-th sample, so that its channel alone
    /// keeps the order.
    fn run(&self, worker: usize, workers: usize, sender: &SyncSender<Result<Loaded>>) {
        for index in (worker..self.samples.len()).step_by(workers) {
            if sender.send(self.load(index)).is_err() {
                return;
            }
        }
    }
}

/// The samples of [`Loader::stream`], in order.
pub struct Stream {
    job: Arc<Job>,
    receivers: Vec<Receiver<Result<Loaded>>>,
    threads: Vec<JoinHandle<()>>,
    next: usize,
}

impl Iterator for Stream {
    type Item = (usize, Result<Loaded>);

    fn next(&mut self) -> Option<Self::Item> {
        let index = self.next;
        if index >= self.job.samples.len() {
            return None;
        }
        self.next += 1;
        let ready = match self.receivers.len() {
            0 => None,
            workers => self.receivers[index % workers].recv().ok(),
        };
        Some((index, ready.unwrap_or_else(|| self.job.load(index))))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.job.samples.len() - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Stream {}

impl Drop for Stream {
    fn drop(&mut self) {
        // A worker blocked on a full channel wakes up when its receiver goes.
        self.receivers.clear();
        for thread in self.threads.drain(..) {
            // A panic in a worker has already been reported by its thread.
            let _ = thread.join();
        }
    }
}

fn agree(image: &RgbImage, mask: &GrayImage, sample: &Sample, source: &MaskSource) -> Result<()> {
    if image.dimensions() == mask.dimensions() {
        return Ok(());
    }
    let mask_name = match source {
        MaskSource::File(path) => format!("its mask {}", path.display()),
        MaskSource::Memory(_) => "its mask in memory".to_owned(),
    };
    Err(Error::data(format!(
        "the image has {} x {} pixels, but {mask_name} has {} x {}",
        image.width(),
        image.height(),
        mask.width(),
        mask.height()
    ))
    .path(sample.image.name().as_ref())
    .help("a mask marks pixels of its image: save both with the same size"))
}
