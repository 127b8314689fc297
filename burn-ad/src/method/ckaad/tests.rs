//! What CKAAD must do, on a procedural product and random backbones.
#![allow(clippy::unwrap_used)]

mod images;
mod resume;
mod watching;

use std::sync::Arc;

use burn_autodiff::Autodiff;
use burn_flex::Flex;
use serde_json::Value;

use super::{AnomalySource, CkaadConfig, Strategy};
use crate::Result;
use crate::backbone::BackboneConfig;
use crate::data::synthetic::{Product, SyntheticConfig, in_memory};
use crate::data::{Filter, Fit, Geometry, ImageSource, Loader, Normalisation, Preprocess, Sample};
use crate::error::Error;
use crate::method::{
    MethodConfig, Model, ScoredImage, TrainOptions, TrainingImages, score_samples,
};
use crate::metrics::auroc;
use crate::train::testing::Watcher;
use crate::train::{Checkpoints, Observer, Quiet, Run};

type Cpu = Autodiff<Flex>;

const SEED: u64 = 3;
const SIZE: usize = 64;

/// Normal images of a product, to train on and to test on.
fn product(train: usize, test_normal: usize) -> (Vec<Sample>, Vec<Sample>) {
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

/// The same products with a red patch whose corner is at `corner`.
fn planted(samples: &[Sample], corner: [u32; 2]) -> Vec<Sample> {
    let mut samples = samples.to_vec();
    for sample in &mut samples {
        if let ImageSource::Memory { image, .. } = &mut sample.image {
            let mut spoilt = (**image).clone();
            for (x, y) in (0..16).flat_map(|x| (0..16).map(move |y| (x, y))) {
                let red = image::Rgb([230, 20, 30]);
                spoilt.put_pixel(corner[0] + x, corner[1] + y, red);
            }
            *image = Arc::new(spoilt);
        }
    }
    samples
}

/// A training of a second: small taps, few steps.
fn small(strategy: Strategy) -> CkaadConfig {
    let mut config = CkaadConfig {
        taps: vec![4, 8],
        strategy,
        ..CkaadConfig::medical()
    };
    config.schedule.epochs = 2;
    config.schedule.batch = 4;
    config
}

/// A training; each field may be varied.
#[derive(Clone)]
struct Training<'a> {
    config: CkaadConfig,
    backbone: &'static str,
    normal: &'a [Sample],
    anomalous: &'a [Sample],
    checkpoints: Option<Checkpoints>,
    seed: u64,
    size: usize,
    workers: usize,
    memory: u64,
}

impl<'a> Training<'a> {
    fn new(config: CkaadConfig, normal: &'a [Sample], anomalous: &'a [Sample]) -> Self {
        Self {
            config,
            backbone: "tf_efficientnet_lite0",
            normal,
            anomalous,
            checkpoints: None,
            seed: SEED,
            size: SIZE,
            workers: 1,
            memory: 1 << 30,
        }
    }

    fn loader(&self) -> Loader {
        let geometry = Geometry {
            fit: Fit::Letterbox,
            size: self.size,
            filter: Filter::Bilinear,
        };
        let normalisation = Normalisation::IMAGENET;
        Loader::new(Preprocess {
            geometry,
            normalisation,
        })
        .with_workers(self.workers)
    }

    fn run(&self, observer: &mut dyn Observer) -> Result<Model<Flex>> {
        let options = TrainOptions {
            dataset: "plate".into(),
            backend: "flex".into(),
            weights_source: "random".into(),
            // The backbone is the same whatever the seed of the training.
            random_seed: Some(SEED),
            known_anomalies: Vec::new(),
            contamination: Vec::new(),
            calibration_share: 0.2,
            target_fpr: 0.05,
        };
        let images = TrainingImages {
            anomalous: self.anomalous,
            ..TrainingImages::of_normal(self.normal)
        };
        let mut run = Run::<Cpu>::new(Default::default(), self.seed, observer)
            .with_checkpoints(self.checkpoints.clone())
            .with_feature_memory(self.memory);
        let backbone: BackboneConfig = self.backbone.parse().unwrap();
        Model::train(
            &MethodConfig::Ckaad(self.config.clone()),
            backbone.random(SEED, &Default::default()),
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
    let known = planted(&normal[..4], [2, 40]);
    let all = [test.clone(), planted(&test, [24, 20])].concat();
    let labels: Vec<bool> = (0..all.len()).map(|index| index >= test.len()).collect();
    for strategy in [Strategy::Recon, Strategy::CkaPatch] {
        let mut training = Training::new(small(strategy), &normal, &known);
        training.backbone = "resnet18";
        training.config.schedule.epochs = 4;
        let mut watcher = Watcher::default();
        let model = training.run(&mut watcher).unwrap();
        let found = scores(&model, &all, 8);
        let values: Vec<f32> = found.iter().map(|image| image.score).collect();
        let quality = auroc(&values, &labels).unwrap().unwrap();
        assert!(quality > 0.95, "{strategy:?}: image AUROC {quality}");
        let loss = |line: &Value| line["loss_rec"].as_f64().unwrap();
        assert!(loss(&watcher.log[3]) < 0.8 * loss(&watcher.log[0]));

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        model.save(&path, true).unwrap();
        let no_weights = |_: &crate::method::BackboneRecord| Err(Error::weights("none"));
        let loaded = Model::<Flex>::load(&path, &Default::default(), no_weights).unwrap();
        assert_same(&found, &scores(&loaded, &all, 8), 0.0);
    }
}

#[test]
fn a_seed_gives_one_model_whatever_the_threads_and_where_features_are_kept() {
    let (normal, _) = product(6, 1);
    let mut training = Training::new(small(Strategy::CkaPatch), &normal, &[]);
    training.config.anomalies = AnomalySource::Elastic;
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

#[test]
fn without_known_anomalies_the_training_is_plain_reconstruction_and_says_so() {
    let (normal, test) = product(6, 2);
    let known = planted(&test, [10, 10]);
    let train = |strategy: Strategy, known: &[Sample]| {
        let mut watcher = Watcher::default();
        let training = Training::new(small(strategy), &normal, known);
        let model = training.run(&mut watcher).unwrap();
        let warned = |warning: &String| warning.contains("no known anomaly");
        (tensors(&model), watcher.warnings.iter().any(warned))
    };
    let (plain, warned) = train(Strategy::Recon, &[]);
    assert!(!warned);
    let without = [Strategy::CkaPatch, Strategy::ReconSub, Strategy::Gan];
    for strategy in without {
        let (found, warned) = train(strategy, &[]);
        assert!(found == plain && warned, "{strategy:?}");
    }
    // And with some it is another.
    for strategy in without {
        let (found, warned) = train(strategy, &known);
        assert!(found != plain && !warned, "{strategy:?}");
    }
}
