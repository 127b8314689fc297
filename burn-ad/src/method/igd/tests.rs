//! What IGD must do, on a procedural product.
#![allow(clippy::unwrap_used)]

mod fixtures;
mod images;
mod resume;
mod strategies;
mod watching;

use std::sync::Arc;

use burn_autodiff::Autodiff;
use burn_flex::Flex;
use serde_json::Value;

use super::{EncoderSource, Igd, IgdConfig, Scales, Strategy};
use crate::Result;
use crate::backbone::{Backbone, BackboneConfig};
use crate::data::synthetic::{Product, SyntheticConfig, in_memory};
use crate::data::{Filter, Fit, Geometry, ImageSource, Loader, Normalisation, Preprocess, Sample};
use crate::error::Error;
use crate::method::{
    Fit as _, MethodConfig, Model, ScoredImage, TrainOptions, TrainingData, TrainingImages,
    Watched, score_samples,
};
use crate::metrics::auroc;
use crate::tensors::TensorSet;
use crate::train::testing::Watcher;
use crate::train::{Checkpoints, Observer, Quiet, Run};

pub(super) type Cpu = Autodiff<Flex>;

pub(super) const SEED: u64 = 3;

/// Normal images of a product, to train on and to test on.
pub(super) fn product(train: usize, test_normal: usize) -> (Vec<Sample>, Vec<Sample>) {
    let config = SyntheticConfig {
        train,
        test_normal,
        per_kind: 1,
        ..SyntheticConfig::mini(Product::MetalPlate)
    };
    let dataset = in_memory(&config).unwrap();
    let mut test = dataset.test;
    test.retain(|sample| !sample.label.is_anomalous());
    (dataset.train, test)
}

/// The same products with a red patch of 20 of their 64 pixels, known as anomalies.
fn planted(samples: &[Sample]) -> Vec<Sample> {
    let mut samples = samples.to_vec();
    for sample in &mut samples {
        sample.label = crate::data::Label::Anomalous;
        if let ImageSource::Memory { image, .. } = &mut sample.image {
            let mut spoilt = (**image).clone();
            for (x, y) in (20..40).flat_map(|x| (24..44).map(move |y| (x, y))) {
                spoilt.put_pixel(x, y, image::Rgb([230, 20, 30]));
            }
            *image = Arc::new(spoilt);
        }
    }
    samples
}

/// Of few channels and epochs, from scratch.
fn small(config: IgdConfig) -> IgdConfig {
    let mut config = IgdConfig {
        latent: 8,
        ..config
    };
    for scale in [&mut config.global, &mut config.local] {
        (scale.width, scale.decoder_width) = (4, 4);
        (scale.window, scale.batch) = (3, 3);
        scale.encoder = EncoderSource::Scratch;
    }
    config.schedule.epochs = 2;
    config.schedule.learning_rate = 1e-3;
    config
}

/// One model of images of 32 pixels.
pub(super) fn scratch(strategy: Strategy) -> IgdConfig {
    IgdConfig {
        strategy,
        ..small(IgdConfig::scratch())
    }
}

/// A model of images of 64 pixels and one of two of their patches at a time.
pub(super) fn both() -> IgdConfig {
    let mut config = small(IgdConfig::products());
    config.patches.drawn = 2;
    config
}

/// One model of images of 64 pixels, behind a frozen backbone.
pub(super) fn frozen() -> IgdConfig {
    let mut config = small(IgdConfig::products());
    config.scales = Scales::Global;
    config.global.encoder = EncoderSource::Backbone;
    config
}

/// A training; each field may be varied.
#[derive(Clone)]
pub(super) struct Training<'a> {
    pub(super) config: IgdConfig,
    pub(super) backbone: &'static str,
    pub(super) normal: &'a [Sample],
    pub(super) watched: Watched<'a>,
    pub(super) checkpoints: Option<Checkpoints>,
    pub(super) seed: u64,
    pub(super) workers: usize,
    pub(super) memory: u64,
}

impl<'a> Training<'a> {
    pub(super) fn new(config: IgdConfig, normal: &'a [Sample]) -> Self {
        let backbone = if config.needs_backbone() {
            "resnet18"
        } else {
            "none"
        };
        Self {
            config,
            backbone,
            normal,
            watched: Watched::default(),
            checkpoints: None,
            seed: SEED,
            workers: 1,
            memory: 1 << 30,
        }
    }

    fn size(&self) -> usize {
        match self.config.scales {
            Scales::Local => 32,
            Scales::Both | Scales::Global => 64,
        }
    }

    fn loader(&self) -> Loader {
        let geometry = Geometry {
            fit: Fit::Letterbox,
            size: self.size(),
            filter: Filter::Bilinear,
        };
        let normalisation = Normalisation::IMAGENET;
        Loader::new(Preprocess {
            geometry,
            normalisation,
        })
        .with_workers(self.workers)
    }

    /// The same whatever the seed of the training.
    pub(super) fn backbone(&self) -> Backbone<Flex> {
        let backbone: BackboneConfig = self.backbone.parse().unwrap();
        backbone.random(SEED, &Default::default())
    }

    /// Hands over all normal images as training has them.
    pub(super) fn with_data<R>(
        &self,
        work: impl FnOnce(&TrainingData<'_>, &mut Run<'_, Cpu>) -> R,
    ) -> R {
        let loader = self.loader();
        let data = TrainingData {
            fit: self.normal,
            calibration: self.normal,
            anomalous: &[],
            initial_flows: &[],
            initial_model: None,
            watched: self.watched,
            loader: &loader,
        };
        let mut quiet = Quiet;
        work(
            &data,
            &mut Run::new(Default::default(), self.seed, &mut quiet),
        )
    }

    /// The trained detector itself.
    fn detector(&self) -> Igd<Flex> {
        self.with_data(|data, run| self.config.fit(self.backbone(), data, run).unwrap())
    }

    fn run(&self, observer: &mut dyn Observer) -> Result<Model<Flex>> {
        let options = TrainOptions {
            dataset: "plate".into(),
            backend: "flex".into(),
            weights_source: "random".into(),
            random_seed: Some(SEED),
            known_anomalies: Vec::new(),
            contamination: Vec::new(),
            calibration_share: 0.2,
            target_fpr: 0.05,
        };
        let images = TrainingImages {
            watched: self.watched,
            ..TrainingImages::of_normal(self.normal)
        };
        let mut run = Run::<Cpu>::new(Default::default(), self.seed, observer)
            .with_checkpoints(self.checkpoints.clone())
            .with_feature_memory(self.memory);
        Model::train(
            &MethodConfig::Igd(self.config.clone()),
            self.backbone(),
            &images,
            &self.loader(),
            &options,
            &mut run,
        )
    }

    /// What is learnt.
    fn tensors(&self) -> Vec<u8> {
        tensors(&self.run(&mut Quiet).unwrap())
    }

    /// The same by name, and the records of the epochs.
    fn learnt(&self) -> (TensorSet, Watcher) {
        let mut watcher = Watcher::default();
        let model = self.run(&mut watcher).unwrap();
        (TensorSet::from_bytes(&tensors(&model)).unwrap(), watcher)
    }
}

fn tensors(model: &Model<Flex>) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    model.save(&path, false).unwrap();
    std::fs::read(path.join("model.safetensors")).unwrap()
}

fn scores(model: &Model<Flex>, samples: &[Sample], batch: usize) -> Vec<ScoredImage> {
    let loader = Loader::new(model.header().preprocess.clone()).with_workers(1);
    let mut quiet = Quiet;
    let mut run = Run::<Flex>::new(Default::default(), SEED, &mut quiet).with_batch_size(batch);
    let mut all = Vec::new();
    let sink = &mut |_, scored: Result<ScoredImage>| {
        all.push(scored?);
        Ok(())
    };
    score_samples(model, samples, &loader, "scoring", &mut run, sink).unwrap();
    all
}

fn assert_same(left: &[ScoredImage], right: &[ScoredImage], tolerance: f32) {
    assert_eq!(left.len(), right.len());
    for (left, right) in left.iter().zip(right) {
        assert!(left.score > 0.0 && left.score.is_finite());
        let pairs = left.map.iter().zip(&right.map);
        for (a, b) in pairs.chain([(&left.score, &right.score)]) {
            assert!((a - b).abs() <= tolerance * left.score, "{a} is not {b}");
        }
    }
}

#[test]
fn planted_defects_score_above_normals_and_models_survive_saving() {
    let (normal, test) = product(16, 6);
    let all = [test.clone(), planted(&test)].concat();
    let labels: Vec<bool> = all.iter().map(|image| image.label.is_anomalous()).collect();
    // With some seeds eight epochs are too few, and which these are changes with the order of a sum.
    for (name, config, seed) in [
        ("scratch", scratch(Strategy::Igd), 4),
        ("both", both(), 3),
        ("frozen", frozen(), 3),
    ] {
        let mut training = Training::new(config, &normal);
        training.config.schedule.epochs = 8;
        training.seed = seed;
        let mut watcher = Watcher::default();
        let model = training.run(&mut watcher).unwrap();
        let found = scores(&model, &all, 8);
        let values: Vec<f32> = found.iter().map(|image| image.score).collect();
        let quality = auroc(&values, &labels).unwrap().unwrap();
        assert!(quality > 0.9, "{name}: image AUROC {quality}");
        let loss = |line: &Value| line["loss_rec"].as_f64().unwrap();
        for model in watcher.log.chunks(8) {
            assert!(loss(&model[7]) < 0.9 * loss(&model[0]), "{name}: {model:?}");
        }

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        model.save(&path, true).unwrap();
        let no_weights = |_: &crate::method::BackboneRecord| Err(Error::weights("none"));
        let loaded = Model::<Flex>::load(&path, &Default::default(), no_weights).unwrap();
        assert_same(&found, &scores(&loaded, &all, 8), 0.0);
    }
}

#[test]
fn a_seed_gives_one_model_whatever_the_threads_and_where_images_are_kept() {
    let (normal, _) = product(6, 1);
    for config in [scratch(Strategy::Igd), both(), frozen()] {
        let mut training = Training::new(config, &normal);
        training.config.schedule.epochs = 1;
        let first = training.tensors();
        let varied = Training {
            workers: 3,
            memory: 10_000,
            ..training.clone()
        };
        assert!(varied.tensors() == first);
        training.seed += 1;
        assert!(training.tensors() != first, "the seed changes nothing");
    }
}

#[test]
fn a_model_that_looks_through_a_backbone_says_when_there_is_none() {
    let (normal, _) = product(4, 1);
    let mut training = Training::new(frozen(), &normal);
    training.backbone = "none";
    let error = training.run(&mut Quiet).unwrap_err();
    assert!(error.is_usage(), "{error}");
    for part in ["--backbone", "method.global.encoder"] {
        assert!(error.to_string().contains(part), "{error}");
    }
}
