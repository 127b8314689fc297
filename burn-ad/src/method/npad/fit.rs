//! Fitting: one pass over the images, then statistics.

use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Int, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;

use super::bank::{self, Vectors};
use super::config::NpadConfig;
use super::embed::Embedder;
use super::mahalanobis::Gaussians;
use super::statistics::MomentStream;
use super::{Bank, Npad, Scale};
use crate::backbone::Backbone;
use crate::data::{Batch, Region, Sample, for_each_batch};
use crate::error::{Error, Result};
use crate::method::TrainingData;
use crate::method::padding::valid_cells;
use crate::method::reading::nothing_readable;
use crate::ops::Neighbours;
use crate::tensors::to_vec;
use crate::train::{Run, Step};

pub(super) fn fit<AB: AutodiffBackend>(
    config: &NpadConfig,
    backbone: Backbone<AB::InnerBackend>,
    data: &TrainingData<'_>,
    run: &mut Run<'_, AB>,
) -> Result<Npad<AB::InnerBackend>> {
    config.validate()?;
    if data.fit.is_empty() {
        return Err(Error::data("there are no training images"));
    }
    let size = data.loader.preprocess().geometry.size;
    let device = run.device.clone();
    let embedder = Embedder::new(config, &backbone, size, &mut run.rng("reduction"), &device)?;
    let mut npad = Npad {
        config: config.clone(),
        backbone,
        size,
        embedder,
        gaussians: None,
        bank: None,
        scale: Scale {
            gaussian: [0.0, 1.0],
            bank: [0.0, 1.0],
        },
    };
    let collected = collect(&npad, data, run)?;

    if let Some(moments) = collected.moments.and_then(MomentStream::finish) {
        report(run, "estimating Gaussians", 0, 1, "steps")?;
        let gaussian = &config.gaussian;
        let whitening = moments.whiten(gaussian.radius, gaussian.epsilon)?;
        let width = npad.embedder.width;
        npad.gaussians = Some(Gaussians::new(whitening, width, &device));
        report(run, "estimating Gaussians", 1, 1, "steps")?;
    }
    if config.combination.uses_bank() {
        let mut candidates = collected.candidates;
        let centre = subtract_mean(&mut candidates);
        let count = bank::member_count(&config.bank, collected.vectors, candidates.count());
        let mut rng = run.rng("bank");
        let members = bank::build::<AB::InnerBackend>(
            &config.bank,
            &candidates,
            count,
            &mut rng,
            &device,
            &mut |done, total| report(run, "choosing representatives", done, total, "steps"),
        )?;
        let shape = [members.count(), members.width];
        npad.bank = Some(Bank {
            centre: Tensor::from_data(TensorData::new(centre, [1, members.width]), &device),
            members: Neighbours::new(Tensor::from_data(
                TensorData::new(members.values, shape),
                &device,
            )),
        });
    }
    npad.scale = scale(&npad, data, run)?;
    Ok(npad)
}

/// What one pass over the training images gives.
struct Collected<B: Backend> {
    moments: Option<MomentStream<B>>,
    candidates: Vectors,
    /// Valid feature vectors seen.
    vectors: usize,
}

fn collect<AB: AutodiffBackend>(
    npad: &Npad<AB::InnerBackend>,
    data: &TrainingData<'_>,
    run: &mut Run<'_, AB>,
) -> Result<Collected<AB::InnerBackend>> {
    let (config, embedder) = (&npad.config, &npad.embedder);
    let mut moments = config
        .combination
        .uses_gaussian()
        .then(|| MomentStream::new(embedder.grid, embedder.width, &run.device));
    let views = if config.flips { 4 } else { 1 };
    let quota = config.bank.max_candidates.div_ceil(data.fit.len() * views);
    let mut rng = run.rng("candidates");
    let mut candidates = Vectors {
        width: embedder.width,
        values: Vec::new(),
    };
    let mut vectors = 0;
    let skipped = for_each_embedding(
        npad,
        data.fit,
        data,
        run,
        "learning from images",
        views,
        &mut |features, valid| {
            vectors += valid.iter().filter(|&&valid| valid).count();
            if config.combination.uses_bank() {
                draw(&features, &valid, quota, &mut rng, &mut candidates);
            }
            if let Some(moments) = &mut moments {
                moments.add(features, valid);
            }
        },
    )?;
    for error in skipped {
        run.warn(&format!("left out of training: {error}"));
    }
    if vectors == 0 {
        return Err(nothing_readable());
    }
    Ok(Collected {
        moments,
        candidates,
        vectors,
    })
}

/// Features of every readable image in `views` orientations, with the validity of each position.
/// Returns why images were left out.
fn for_each_embedding<AB: AutodiffBackend>(
    npad: &Npad<AB::InnerBackend>,
    samples: &[Sample],
    data: &TrainingData<'_>,
    run: &mut Run<'_, AB>,
    phase: &str,
    views: usize,
    use_features: &mut dyn FnMut(Tensor<AB::InnerBackend, 3>, Vec<bool>),
) -> Result<Vec<Error>> {
    let (device, batch_size) = (run.device.clone(), run.batch_size);
    let mut skipped: Vec<Error> = Vec::new();
    let mut done = 0;
    for_each_batch::<AB::InnerBackend>(
        data.loader,
        samples,
        batch_size,
        &device,
        &mut |_, error| {
            skipped.push(error);
            Ok(())
        },
        &mut |batch, items| {
            let indices: Vec<usize> = items.iter().map(|item| item.index).collect();
            for view in 0..views {
                let (images, regions) = flip(&batch, view, npad.size);
                let features = npad.embedder.embed(&npad.backbone, images);
                refuse_not_finite(&features, samples, &indices)?;
                let valid = regions
                    .iter()
                    .flat_map(|region| valid_cells(npad.embedder.grid, region, npad.size))
                    .collect();
                use_features(features, valid);
            }
            done += items.len();
            report(run, phase, done, samples.len(), "images")
        },
    )?;
    Ok(skipped)
}

/// View 0 is the image itself; 1, 2 and 3 mirror it left-right, up-down and both.
fn flip<B: Backend>(batch: &Batch<B>, view: usize, size: usize) -> (Tensor<B, 4>, Vec<Region>) {
    let mut images = batch.images.clone();
    let mut regions = batch.valid.clone();
    if view & 1 != 0 {
        images = images.flip([3]);
        for region in &mut regions {
            region.left = size - region.left - region.width;
        }
    }
    if view & 2 != 0 {
        images = images.flip([2]);
        for region in &mut regions {
            region.top = size - region.top - region.height;
        }
    }
    (images, regions)
}

fn refuse_not_finite<B: Backend>(
    features: &Tensor<B, 3>,
    samples: &[Sample],
    indices: &[usize],
) -> Result<()> {
    let sums = to_vec(features.clone().sum_dim(2).sum_dim(1));
    match sums.iter().position(|sum| !sum.is_finite()) {
        None => Ok(()),
        Some(at) => Err(
            Error::numeric("the backbone gives features that are not finite")
                .path(samples[indices[at]].image.name().as_ref())
                .help("the weights are damaged or do not fit the backbone: import them again"),
        ),
    }
}

/// Adds `quota` random valid rows of each image to the candidates.
fn draw<B: Backend>(
    features: &Tensor<B, 3>,
    valid: &[bool],
    quota: usize,
    rng: &mut ChaCha8Rng,
    candidates: &mut Vectors,
) {
    let [batch, positions, width] = features.dims();
    let mut rows: Vec<i32> = Vec::new();
    for image in 0..batch {
        let own: Vec<usize> = (0..positions)
            .filter(|&p| valid[image * positions + p])
            .collect();
        let count = quota.min(own.len());
        let mut drawn = rand::seq::index::sample(rng, own.len(), count).into_vec();
        drawn.sort_unstable();
        rows.extend(
            drawn
                .into_iter()
                .map(|at| (image * positions + own[at]) as i32),
        );
    }
    if rows.is_empty() {
        return;
    }
    let count = rows.len();
    let rows = Tensor::<B, 1, Int>::from_data(TensorData::new(rows, [count]), &features.device());
    let flat = features.clone().reshape([batch * positions, width]);
    candidates.values.extend(to_vec(flat.select(0, rows)));
}

/// Centres the candidates; returns what was subtracted.
fn subtract_mean(candidates: &mut Vectors) -> Vec<f32> {
    let width = candidates.width;
    let mut mean = vec![0.0f64; width];
    for row in candidates.values.chunks_exact(width) {
        mean.iter_mut()
            .zip(row)
            .for_each(|(sum, &value)| *sum += f64::from(value));
    }
    let count = candidates.count() as f64;
    let mean: Vec<f32> = mean.iter().map(|sum| (sum / count) as f32).collect();
    for row in candidates.values.chunks_exact_mut(width) {
        row.iter_mut()
            .zip(&mean)
            .for_each(|(value, &mean)| *value -= mean);
    }
    mean
}

/// Mean and standard deviation of both distances over the calibration images.
fn scale<AB: AutodiffBackend>(
    npad: &Npad<AB::InnerBackend>,
    data: &TrainingData<'_>,
    run: &mut Run<'_, AB>,
) -> Result<Scale> {
    let mut gaussian = Accumulator::default();
    let mut bank = Accumulator::default();
    if npad.gaussians.is_some() && npad.bank.is_some() {
        // Calibrating the threshold visits the same images again and reports the unreadable ones.
        for_each_embedding(
            npad,
            data.calibration,
            data,
            run,
            "scaling distances",
            1,
            &mut |features, valid| {
                let distances = npad.distances(&features);
                if let Some(values) = distances.gaussian {
                    gaussian.add(&to_vec(values), &valid);
                }
                if let Some((values, _)) = distances.bank {
                    bank.add(&to_vec(values), &valid);
                }
            },
        )?;
    }
    Ok(Scale {
        gaussian: gaussian.finish(),
        bank: bank.finish(),
    })
}

/// Streaming mean and variance (Welford).
#[derive(Default)]
struct Accumulator {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Accumulator {
    fn add(&mut self, values: &[f32], valid: &[bool]) {
        for (&value, _) in values.iter().zip(valid).filter(|&(_, &valid)| valid) {
            self.count += 1.0;
            let delta = f64::from(value) - self.mean;
            self.mean += delta / self.count;
            self.squares += delta * (f64::from(value) - self.mean);
        }
    }

    /// Mean and standard deviation; 0 and 1 without values, and never a deviation of 0.
    fn finish(self) -> [f32; 2] {
        if self.count < 1.0 {
            return [0.0, 1.0];
        }
        let deviation = (self.squares / self.count).sqrt();
        [
            self.mean as f32,
            deviation.max(1e-6 * self.mean.abs().max(1e-6)) as f32,
        ]
    }
}

fn report<B: Backend>(
    run: &mut Run<'_, B>,
    phase: &str,
    done: usize,
    total: usize,
    unit: &str,
) -> Result<()> {
    run.step(&Step {
        phase,
        done: done as u64,
        total: total as u64,
        unit,
        values: &[],
    })
}
