//! HGAD: one flow model for all product classes, with a hierarchical Gaussian mixture behind it.
//!
//! Source: Yao, Li, Qian, Wang, Zhang, "Hierarchical Gaussian Mixture Normalizing Flow Modeling for
//! Unified Anomaly Detection", ECCV 2024, supplementary and published code.
//!
//! One Gaussian for many products makes a flow send everything to it, anomalies included. Here each
//! class has a centre of its own in the latent space, which the flow and the centres find together
//! ([`LossConfig`]), and further centres around it. A vector is anomalous when it is unlikely under
//! its class, or when its class is uncertain.

mod classes;
mod config;
mod evidence;
mod learner;
mod loss;
mod mixture;
#[cfg(test)]
mod parity;
mod pool;
mod scale;
mod scales;
mod start;
#[cfg(test)]
mod tests;
mod train;

use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};

pub use config::{Evidence, HgadConfig, ScheduleConfig};
pub use loss::{BatchLoss, LossConfig, Terms, Workspace};
pub use mixture::Mixture;

use self::classes::Classes;
use self::evidence::{Posterior, Votes};
use self::learner::ScaleLearner;
use self::pool::{Pool, Vectors};
use self::scale::{Extremes, Levels, Scale, ScaleFit};
use self::scales::{ScaleMap, Scales};
use self::start::Start;
use super::fingerprint::{fingerprint, names};
use super::{Detector, Examination, Fit, Prediction, TrainingData, padding};
use crate::backbone::Backbone;
use crate::data::{Batch, Loader, Region, Sample, for_each_batch};
use crate::error::{Error, Result};
use crate::flow::{ConditionalFlow, MapFlow};
use crate::ops;
use crate::report::likelihoods::CentreDistances;
use crate::tensors::TensorSet;
use crate::train::{Run, Step};

/// Images whose scores are looked at together after training.
const IMAGES_AT_ONCE: usize = 8;

/// A trained HGAD.
#[derive(Clone, Debug)]
pub struct Hgad<B: Backend> {
    config: HgadConfig,
    backbone: Backbone<B>,
    size: usize,
    scales: Scales,
    classes: Classes,
    levels: Vec<Level<B>>,
    extremes: Extremes,
    /// Whether known classes are not looked at.
    infers_classes: bool,
}

/// Flow and mixture of one scale.
#[derive(Clone, Debug)]
struct Level<B: Backend> {
    map: ScaleMap,
    flow: MapFlow<B>,
    mixture: Mixture,
    posterior: Posterior,
}

impl<B: Backend> Level<B> {
    fn new(map: ScaleMap, flow: MapFlow<B>, mixture: Mixture) -> Self {
        Self {
            map,
            flow,
            posterior: Posterior::new(&mixture),
            mixture,
        }
    }

    /// What vectors `[batch, positions, channels]` say, row by row.
    fn votes(&self, vectors: Tensor<B, 3>) -> Votes {
        let mut votes = Votes::default();
        self.flow.outputs(vectors, |z, log_det| {
            let part = self.posterior.votes(z, log_det);
            votes.likelihoods.extend(part.likelihoods);
            votes.entropies.extend(part.entropies);
        });
        votes
    }
}

/// What a batch says, before it is compared with anything.
struct Seen<B: Backend> {
    /// Log-likelihoods under each image's class.
    likelihoods: Levels<B>,
    /// Negative entropies.
    certainties: Levels<B>,
    /// The class each image looks most like.
    found: Vec<usize>,
    /// The class each image is compared with: its own where that is known.
    chosen: Vec<usize>,
}

impl<B: Backend> Hgad<B> {
    fn new(
        config: &HgadConfig,
        backbone: Backbone<B>,
        scales: Scales,
        classes: Classes,
        learnt: Vec<(ConditionalFlow<B>, Mixture)>,
        size: usize,
        device: &B::Device,
    ) -> Self {
        let maps = learnt.into_iter().zip(&scales.maps);
        let levels = maps.map(|((flow, mixture), &map)| {
            Level::new(map, MapFlow::new(flow, map.grid, device), mixture)
        });
        let extremes = Extremes::unset(classes.count(), scales.maps.len());
        Self {
            config: HgadConfig {
                classes: classes.names().to_vec(),
                ..config.clone()
            },
            backbone,
            size,
            classes,
            levels: levels.collect(),
            scales,
            extremes,
            infers_classes: false,
        }
    }

    /// The settings it was trained with, and the classes it learnt.
    pub fn config(&self) -> &HgadConfig {
        &self.config
    }

    /// The mixture of each scale, with what the image's side is divided by there.
    pub fn mixtures(&self) -> impl Iterator<Item = (usize, &Mixture)> {
        self.levels
            .iter()
            .map(|level| (level.map.divisor, &level.mixture))
    }

    /// Looks at feature vectors, one tensor `[batch, positions, channels]` a scale; `known` is the
    /// class of each image, where that is known.
    fn see(&self, rows: Vec<Tensor<B, 3>>, valid: &[Region], known: &[Option<usize>]) -> Seen<B> {
        let count = self.classes.count();
        let device = rows[0].device();
        let votes: Vec<Votes> = rows
            .into_iter()
            .zip(&self.levels)
            .map(|(rows, level)| level.votes(rows))
            .collect();
        let found: Vec<usize> = (0..valid.len())
            .map(|image| self.likeliest(&votes, image, &valid[image]))
            .collect();
        let chosen: Vec<usize> = found
            .iter()
            .zip(known)
            .map(|(&found, known)| known.filter(|_| !self.infers_classes).unwrap_or(found))
            .collect();
        let (mut likelihoods, mut certainties) = (Vec::new(), Vec::new());
        for (votes, level) in votes.iter().zip(&self.levels) {
            let [rows, columns] = level.map.grid;
            let map = |values: Vec<f32>| {
                let data = TensorData::new(values, [valid.len(), rows, columns]);
                let map = Tensor::from_data(data, &device);
                padding::extend_over_padding(map, valid, self.size)
            };
            let images = votes.likelihoods.chunks_exact(rows * columns * count);
            let of_class = images
                .zip(&chosen)
                .flat_map(|(image, &class)| image.iter().skip(class).step_by(count).copied());
            likelihoods.push(map(of_class.collect()));
            certainties.push(map(votes
                .entropies
                .iter()
                .map(|entropy| -entropy)
                .collect()));
        }
        Seen {
            likelihoods,
            certainties,
            found,
            chosen,
        }
    }

    /// The class under which an image is most likely: the largest sum over scales of the mean
    /// log-likelihood over positions.
    fn likeliest(&self, votes: &[Votes], image: usize, region: &Region) -> usize {
        let count = self.classes.count();
        let mut sums = vec![0.0f64; count];
        for (votes, level) in votes.iter().zip(&self.levels) {
            let positions = level.map.positions();
            let rows = votes.likelihoods[image * positions * count..][..positions * count]
                .chunks_exact(count);
            let valid = padding::valid_cells(level.map.grid, region, self.size);
            let inside = valid.iter().filter(|valid| **valid).count().max(1) as f64;
            for (row, _) in rows.zip(valid).filter(|(_, valid)| *valid) {
                for (sum, &likelihood) in sums.iter_mut().zip(row) {
                    *sum += f64::from(likelihood) / inside;
                }
            }
        }
        let likelier = |best: usize, class: usize| {
            if sums[class] > sums[best] {
                class
            } else {
                best
            }
        };
        (1..count).fold(0, likelier)
    }

    /// Raw anomaly maps `[batch, size, size]`.
    fn anomaly_maps(&self, seen: &Seen<B>) -> Tensor<B, 3> {
        let smooth = |maps| ops::gaussian_blur(maps, self.config.sigma);
        let likelihood = || {
            let classes = seen.chosen.iter();
            let scales: Vec<&Scale> = classes
                .map(|&class| &self.extremes.likelihood[class])
                .collect();
            smooth(scale::anomaly(&scales, &seen.likelihoods, self.size))
        };
        let entropy = || {
            // Entropy does not ask which class was named; compared with a wrong one it could pass
            // for certainty.
            let classes = seen.found.iter();
            let scales: Vec<&Scale> = classes
                .map(|&class| &self.extremes.entropy[class])
                .collect();
            smooth(scale::anomaly(&scales, &seen.certainties, self.size))
        };
        match self.config.evidence {
            // One class is always certain.
            _ if self.classes.count() == 1 => likelihood(),
            Evidence::Likelihood => likelihood(),
            Evidence::Entropy => entropy(),
            Evidence::Product => likelihood() * entropy(),
        }
    }

    fn known(&self, batch: &Batch<B>) -> Vec<Option<usize>> {
        let names = batch.classes.iter();
        names
            .map(|name| self.classes.index(name.as_deref()))
            .collect()
    }
}

impl<B: Backend> Detector<B> for Hgad<B> {
    fn predict(&self, batch: &Batch<B>) -> Prediction<B> {
        self.examine(batch).prediction
    }

    fn examine(&self, batch: &Batch<B>) -> Examination<B> {
        let rows = self.scales.rows(&self.backbone, batch.images.clone());
        let seen = self.see(rows, &batch.valid, &self.known(batch));
        let anomaly_maps = self.anomaly_maps(&seen);
        let names = match self.classes.names() {
            // Nothing is said by what all images are.
            [_] => &[][..],
            names => names,
        };
        let found = seen.found.iter();
        let found = found.filter_map(|&class| names.get(class).cloned());
        Examination {
            prediction: Prediction {
                image_scores: padding::max_inside(&anomaly_maps, &batch.valid),
                anomaly_maps,
            },
            classes: found.collect(),
            likelihoods: seen.likelihoods,
        }
    }

    fn centre_distances(&self) -> Vec<CentreDistances> {
        let levels = self.levels.iter();
        levels
            .map(|level| CentreDistances {
                grid: level.map.grid,
                classes: self.classes.names().to_vec(),
                distances: level.mixture.distances(),
            })
            .collect()
    }

    fn backbone(&self) -> &Backbone<B> {
        &self.backbone
    }

    fn classes(&self) -> &[String] {
        self.classes.names()
    }

    fn infer_classes(&mut self) {
        self.infers_classes = true;
    }

    fn tensors(&self) -> TensorSet {
        let mut tensors = TensorSet::default();
        for level in &self.levels {
            level
                .flow
                .flow()
                .save(&level.map.name("flow"), &mut tensors);
            level.mixture.save(&level.map.name("mixture"), &mut tensors);
        }
        self.extremes.save(&mut tensors);
        tensors
    }

    fn adopt_statistics(
        &mut self,
        samples: &[Sample],
        loader: &Loader,
        run: &mut Run<'_, B>,
    ) -> Result<()> {
        let (device, batch_size, total) = (run.device.clone(), run.batch_size, samples.len());
        let mut fits = Fits::new(self.classes.count(), self.levels.len());
        let mut done = 0;
        for_each_batch::<B>(
            loader,
            samples,
            batch_size,
            &device,
            // Scoring reports them.
            &mut |_, _| Ok(()),
            &mut |batch, _| {
                let rows = self.scales.rows(&self.backbone, batch.images.clone());
                let seen = self.see(rows, &batch.valid, &self.known(&batch));
                fits.add(&seen, &batch.valid);
                done += batch.valid.len();
                run.step(&Step {
                    phase: "statistics of the test set",
                    done: done as u64,
                    total: total as u64,
                    unit: "images",
                    values: &[],
                })
            },
        )?;
        let old = self.extremes.clone();
        fits.finish(self, &old, &device);
        Ok(())
    }
}

/// Extremes of both kinds of maps.
struct Fits {
    likelihoods: ScaleFit,
    certainties: ScaleFit,
}

impl Fits {
    fn new(classes: usize, scales: usize) -> Self {
        Self {
            likelihoods: ScaleFit::new(classes, scales),
            certainties: ScaleFit::new(classes, scales),
        }
    }

    fn add<B: Backend>(&mut self, seen: &Seen<B>, valid: &[Region]) {
        self.likelihoods.add(&seen.likelihoods, valid, &seen.chosen);
        self.certainties.add(&seen.certainties, valid, &seen.found);
    }

    /// Classes without images keep what `old` says of them.
    fn finish<B: Backend>(self, hgad: &mut Hgad<B>, old: &Extremes, device: &B::Device) {
        let likelihoods = self.likelihoods;
        hgad.extremes = Extremes {
            likelihood: likelihoods.finish::<B>(&old.likelihood, hgad.size, device),
            entropy: self
                .certainties
                .finish::<B>(&old.entropy, hgad.size, device),
        };
    }
}

impl Fit for HgadConfig {
    type Detector<B: Backend> = Hgad<B>;

    fn fit<AB: AutodiffBackend>(
        &self,
        backbone: Backbone<AB::InnerBackend>,
        data: &TrainingData<'_>,
        run: &mut Run<'_, AB>,
    ) -> Result<Hgad<AB::InnerBackend>> {
        self.validate()?;
        if !data.initial_flows.is_empty() {
            return Err(Error::usage(
                "hgad cannot begin with flows of a checkpoint: their centres are not in it",
            ));
        }
        let size = data.loader.preprocess().geometry.size;
        let scales = Scales::new(self, &backbone.config(), size)?;
        let start = Start::<AB>::of(self, &scales, data, &run.device)?;
        let old = start.classes();
        let (classes, old) = (Classes::of_training(self, old, data.fit)?, old.len());
        let extremes = start.extremes();
        let learners = start.learners(self, &scales, classes.count(), run);
        let of_images = data.fit.iter().map(Sample::class);
        let images: Vec<_> = names(data.fit).into_iter().zip(of_images).collect();
        let model = data.initial_model;
        let model = model.map(|model| &model.header().tensors_sha256);
        let fingerprint = fingerprint(self, &backbone, data, (images, model), run)?;
        let mut pool = Pool::fill(&backbone, &scales, &classes, data, run)?;
        classes.warn_of_small(old, &pool.labels(), &mut |message| run.warn(message));
        let learners = train::train(self, learners, &mut pool, &fingerprint, run)?;
        let learnt = learners.into_iter().map(ScaleLearner::finish).collect();
        let mut hgad = Hgad::new(
            self,
            backbone.clone(),
            scales,
            classes,
            learnt,
            size,
            &run.device,
        );
        scale_to_training(&mut hgad, &mut pool, &extremes, run)?;
        Ok(hgad)
    }

    fn load<B: Backend>(
        &self,
        backbone: Backbone<B>,
        size: usize,
        mut tensors: TensorSet,
        device: &B::Device,
    ) -> Result<Hgad<B>> {
        self.validate()?;
        let scales = Scales::new(self, &backbone.config(), size)?;
        let classes = Classes::of_model(self)?;
        let learnt = learnt(self, &scales, classes.count(), &mut tensors, device)?;
        let extremes = Extremes::load(classes.count(), scales.maps.len(), &mut tensors)?;
        tensors.finish()?;
        let hgad = Hgad::new(self, backbone, scales, classes, learnt, size, device);
        Ok(Hgad { extremes, ..hgad })
    }
}

/// Takes flow and mixture of every scale out of a model's tensors.
fn learnt<B: Backend>(
    config: &HgadConfig,
    scales: &Scales,
    classes: usize,
    tensors: &mut TensorSet,
    device: &B::Device,
) -> Result<Vec<(ConditionalFlow<B>, Mixture)>> {
    let load = |map: &ScaleMap| {
        let (channels, name) = (map.channels, map.name("flow"));
        let flow = ConditionalFlow::load(&config.flow, channels, &name, tensors, device)?;
        let (centres, name) = (config.centres_used(), map.name("mixture"));
        let mixture = Mixture::load(classes, centres, channels, &name, tensors)?;
        Ok((flow, mixture))
    };
    scales.maps.iter().map(load).collect()
}

/// The scale of scores, from the normal images that were learnt from.
fn scale_to_training<AB: AutodiffBackend>(
    hgad: &mut Hgad<AB::InnerBackend>,
    pool: &mut Pool,
    old: &Extremes,
    run: &mut Run<'_, AB>,
) -> Result<()> {
    let mut fits = Fits::new(hgad.classes.count(), hgad.levels.len());
    let count = pool.count();
    for first in (0..count).step_by(IMAGES_AT_ONCE) {
        let last = (first + IMAGES_AT_ONCE).min(count);
        let images: Vec<Vectors> = (first..last)
            .map(|index| pool.image(index))
            .collect::<Result<_>>()?;
        let rows = hgad.scales.maps.iter().enumerate().map(|(scale, map)| {
            let values = images.iter().flat_map(|image| &image.features[scale]);
            let shape = [images.len(), map.positions(), map.channels];
            let data = TensorData::new(values.copied().collect::<Vec<f32>>(), shape);
            Tensor::from_data(data, &run.device)
        });
        let rows = rows.collect();
        let valid: Vec<Region> = images.iter().map(|image| image.region).collect();
        let known: Vec<Option<usize>> = images.iter().map(|image| Some(image.label)).collect();
        let seen = hgad.see(rows, &valid, &known);
        fits.add(&seen, &valid);
        run.step(&Step {
            phase: "scaling scores",
            done: last as u64,
            total: count as u64,
            unit: "images",
            values: &[],
        })?;
    }
    fits.finish(hgad, old, &run.device);
    Ok(())
}
