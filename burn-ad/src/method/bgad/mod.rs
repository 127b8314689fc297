//! BGAD: conditional flows that learn a boundary from a few known anomalies; with its baseline NFAD
//! (normal images alone) and its ablation BGAD-dagger.
//!
//! Source: Yao, Li, Zhang, Sun, Zhang, "Explicit Boundary Guided Semi-Push-Pull Contrastive Learning
//! for Supervised Anomaly Detection", CVPR 2023, appendix and published code.
//!
//! A flow a backbone tap gives every vector a log-likelihood a dimension `l`. The likelihood of
//! normal vectors is maximised; with anomalies at hand, normal vectors below a boundary are pulled up
//! to it and anomalous ones above a second boundary are pushed below it ([`LossConfig`]).

mod config;
mod loss;
#[cfg(test)]
mod parity;
mod plan;
mod pool;
mod scale;
mod train;

use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};

pub use super::flow_learner::FlowLearner;
pub use config::{BgadConfig, ScheduleConfig};
pub use loss::{Boundary, BoundaryReduction, ChunkLoss, LossConfig, WeightConfig};

use self::pool::Pool;
use self::scale::{Scale, ScaleFit};
use super::fingerprint::{fingerprint, names};
use super::taps::{TapMap, Taps};
use super::{Detector, Examination, Fit, Prediction, TrainingData, padding};
use crate::backbone::{Backbone, BackboneConfig};
use crate::data::{Batch, Loader, Region, Sample, for_each_batch};
use crate::error::{Error, Result};
use crate::flow::{ConditionalFlow, MapFlow};
use crate::ops;
use crate::tensors::{HostTensor, TensorSet};
use crate::train::{Run, Step};

/// A trained NFAD, BGAD or BGAD-dagger.
#[derive(Clone, Debug)]
pub struct Bgad<B: Backend> {
    config: BgadConfig,
    backbone: Backbone<B>,
    size: usize,
    taps: Taps,
    levels: Vec<Level<B>>,
    scale: Scale,
}

/// The flow of one tap.
#[derive(Clone, Debug)]
struct Level<B: Backend> {
    map: TapMap,
    flow: MapFlow<B>,
}

impl<B: Backend> Bgad<B> {
    fn new(
        config: &BgadConfig,
        backbone: Backbone<B>,
        taps: Taps,
        flows: Vec<ConditionalFlow<B>>,
        size: usize,
        device: &B::Device,
    ) -> Self {
        let level = |(flow, &map): (ConditionalFlow<B>, &TapMap)| Level {
            map,
            flow: MapFlow::new(flow, map.grid, device),
        };
        Self {
            config: config.clone(),
            backbone,
            size,
            levels: flows.into_iter().zip(&taps.maps).map(level).collect(),
            scale: Scale::unset(taps.maps.len()),
            taps,
        }
    }

    /// The settings it was trained with.
    pub fn config(&self) -> &BgadConfig {
        &self.config
    }

    /// One map of log-likelihoods a tap; padding repeats its nearest valid cell.
    fn likelihood_maps(&self, rows: Vec<Tensor<B, 3>>, valid: &[Region]) -> Vec<Tensor<B, 3>> {
        rows.into_iter()
            .zip(&self.levels)
            .map(|(rows, level)| {
                padding::extend_over_padding(level.flow.likelihoods(rows), valid, self.size)
            })
            .collect()
    }

    /// The sum over taps of upsampled relative likelihoods, `[batch, size, size]`: high where an
    /// image looks normal.
    fn normality(&self, likelihoods: Vec<Tensor<B, 3>>) -> Tensor<B, 3> {
        let maps = likelihoods
            .into_iter()
            .zip(&self.scale.likelihood_maxima)
            .map(|(map, &largest)| {
                let relative = (map - largest).exp().unsqueeze_dim::<4>(1);
                ops::resize_bilinear(relative, [self.size; 2], true).squeeze_dim::<3>(1)
            });
        maps.reduce(|sum, map| sum + map)
            .expect("validate() leaves at least one tap")
    }
}

impl<B: Backend> Detector<B> for Bgad<B> {
    fn predict(&self, batch: &Batch<B>) -> Prediction<B> {
        self.examine(batch).prediction
    }

    fn examine(&self, batch: &Batch<B>) -> Examination<B> {
        let rows = self.taps.rows(&self.backbone, batch.images.clone());
        let likelihoods = self.likelihood_maps(rows, &batch.valid);
        let normality = self.normality(likelihoods.clone());
        let anomaly_maps = normality.neg() + self.scale.normality_maximum;
        Examination {
            prediction: Prediction {
                image_scores: padding::max_inside(&anomaly_maps, &batch.valid),
                anomaly_maps,
            },
            classes: Vec::new(),
            likelihoods,
        }
    }

    fn backbone(&self) -> &Backbone<B> {
        &self.backbone
    }

    fn tensors(&self) -> TensorSet {
        let mut tensors = TensorSet::default();
        for level in &self.levels {
            level.flow.flow().save(&prefix(&level.map), &mut tensors);
        }
        let Scale {
            likelihood_maxima,
            normality_maximum,
        } = &self.scale;
        let maxima = HostTensor::new([likelihood_maxima.len()], likelihood_maxima.clone());
        tensors.insert("scale.likelihood", maxima);
        tensors.insert(
            "scale.normality",
            HostTensor::new([1], vec![*normality_maximum]),
        );
        tensors
    }

    fn adopt_statistics(
        &mut self,
        samples: &[Sample],
        loader: &Loader,
        run: &mut Run<'_, B>,
    ) -> Result<()> {
        let (device, batch_size, total) = (run.device.clone(), run.batch_size, samples.len());
        let mut fit = ScaleFit::new(self.levels.len());
        let mut done = 0;
        for_each_batch::<B>(
            loader,
            samples,
            batch_size,
            &device,
            // Scoring reports them.
            &mut |_, _| Ok(()),
            &mut |batch, _| {
                let rows = self.taps.rows(&self.backbone, batch.images);
                fit.add(self.likelihood_maps(rows, &batch.valid), &batch.valid);
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
        self.scale = fit.finish(self, &device);
        Ok(())
    }
}

impl Fit for BgadConfig {
    type Detector<B: Backend> = Bgad<B>;

    fn fit<AB: AutodiffBackend>(
        &self,
        backbone: Backbone<AB::InnerBackend>,
        data: &TrainingData<'_>,
        run: &mut Run<'_, AB>,
    ) -> Result<Bgad<AB::InnerBackend>> {
        self.validate()?;
        if self.uses_anomalies()
            && data.anomalous.is_empty()
            && self.loss.boundary != Boundary::Always
        {
            run.warn(
                "no known anomaly was given: there is no boundary to learn, and what is trained is \
                 NFAD (with weights, where they are on)",
            );
        }
        let size = data.loader.preprocess().geometry.size;
        let taps = Taps::new(&backbone.config(), &self.taps, size)?;
        if let Some(map) = taps.maps.iter().find(|map| map.channels < 2) {
            return Err(Error::usage(format!(
                "the tap of stride {} has {} channel; a flow needs at least 2",
                map.stride, map.channels
            )));
        }
        let flows = initial_flows::<AB>(self, &taps, data, run)?;
        let images = (names(data.fit), names(data.anomalous));
        let fingerprint = fingerprint(self, &backbone, data, images, run)?;
        let mut pool = Pool::fill(self, &backbone, &taps, data, run)?;
        let flows = train::train(self, flows, &taps, &mut pool, &fingerprint, run)?;
        let mut bgad = Bgad::new(
            self,
            backbone.clone(),
            taps.clone(),
            flows,
            size,
            &run.device,
        );
        bgad.scale = scale_of_training(&bgad, &mut pool, run)?;
        Ok(bgad)
    }

    fn load<B: Backend>(
        &self,
        backbone: Backbone<B>,
        size: usize,
        mut tensors: TensorSet,
        device: &B::Device,
    ) -> Result<Bgad<B>> {
        self.validate()?;
        let taps = Taps::new(&backbone.config(), &self.taps, size)?;
        let load = |map: &TapMap| {
            let prefix = prefix(map);
            ConditionalFlow::load(&self.flow, map.channels, &prefix, &mut tensors, device)
        };
        let flows = taps.maps.iter().map(load).collect::<Result<_>>()?;
        let scale = Scale {
            likelihood_maxima: tensors
                .take("scale.likelihood", &[Some(taps.maps.len())])?
                .values,
            normality_maximum: tensors.take("scale.normality", &[Some(1)])?.values[0],
        };
        tensors.finish()?;
        let bgad = Bgad::new(self, backbone, taps, flows, size, device);
        Ok(Bgad { scale, ..bgad })
    }
}

impl BgadConfig {
    /// Parameters that training changes, and all of them with the fixed rotations as FrEIA counts
    /// these (each and its inverse).
    ///
    /// # Errors
    /// When the backbone has no tap at one of the strides.
    pub fn parameters(&self, backbone: &BackboneConfig) -> Result<[usize; 2]> {
        let info = backbone.feature_info();
        let levels = backbone.levels_at_strides(&self.taps)?;
        let channels = levels.iter().map(|&level| info[level].channels);
        let sum = |count: &dyn Fn(usize) -> usize| channels.clone().map(count).sum::<usize>();
        let trainable = sum(&|channels| self.flow.trainable_parameters(channels));
        let fixed = sum(&|channels| self.flow.fixed_parameters(channels));
        Ok([trainable, trainable + fixed])
    }
}

/// Names of a tap's tensors begin with this.
fn prefix(map: &TapMap) -> String {
    format!("flow.{}", map.stride)
}

/// Flows drawn from the seed, or the ones given.
fn initial_flows<AB: AutodiffBackend>(
    config: &BgadConfig,
    taps: &Taps,
    data: &TrainingData<'_>,
    run: &Run<'_, AB>,
) -> Result<Vec<ConditionalFlow<AB>>> {
    if data.initial_flows.is_empty() {
        return Ok(taps
            .maps
            .iter()
            .map(|map| {
                let mut rng = run.rng(&prefix(map));
                config.flow.init(map.channels, &mut rng, &run.device)
            })
            .collect());
    }
    if data.initial_flows.len() != taps.maps.len() {
        return Err(Error::usage(format!(
            "the checkpoint has flows for {} taps, the configuration names {}",
            data.initial_flows.len(),
            taps.maps.len()
        ))
        .help("set method.taps to the strides it was trained on, smallest first"));
    }
    data.initial_flows
        .iter()
        .zip(&taps.maps)
        .map(|(blocks, map)| {
            ConditionalFlow::from_freia(&config.flow, map.channels, blocks, &run.device)
                .map_err(|error| error.context(format!("the flow of stride {}", map.stride)))
        })
        .collect()
}

/// The scale of scores, from the normal images that were learnt from.
fn scale_of_training<AB: AutodiffBackend>(
    bgad: &Bgad<AB::InnerBackend>,
    pool: &mut Pool<'_, AB::InnerBackend>,
    run: &mut Run<'_, AB>,
) -> Result<Scale> {
    let mut fit = ScaleFit::new(bgad.levels.len());
    let count = pool.normals.len();
    for image in 0..count {
        let features = pool.normal(image)?.features;
        let rows = features.iter().zip(&bgad.taps.maps).map(|(level, map)| {
            let data = TensorData::new(level.clone(), [1, map.positions(), map.channels]);
            Tensor::from_data(data, &run.device)
        });
        let valid = [pool.region(image)];
        fit.add(bgad.likelihood_maps(rows.collect(), &valid), &valid);
        run.step(&Step {
            phase: "scaling scores",
            done: image as u64 + 1,
            total: count as u64,
            unit: "images",
            values: &[],
        })?;
    }
    Ok(fit.finish(bgad, &run.device))
}
