//! What HGAD must do, on two procedural products and a random ResNet-18.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use rand::RngExt;

use super::scales::Scales;
use super::{Evidence, HgadConfig, Level, Mixture};
use crate::Result;
use crate::backbone::BackboneConfig;
use crate::data::synthetic::{Product, SyntheticConfig, in_memory};
use crate::data::{Filter, Fit, Geometry, ImageSource, Loader, Normalisation, Preprocess, Sample};
use crate::error::Error;
use crate::flow::MapFlow;
use crate::method::{
    MethodConfig, Model, ScoredImage, StoredModel, TrainOptions, TrainingImages, score_samples,
};
use crate::metrics::auroc;
use crate::train::testing::Watcher;
use crate::train::{Checkpoints, Observer, Quiet, Run, stream_rng};

type Cpu = Autodiff<Flex>;

const SEED: u64 = 3;
const SIZE: usize = 64;

/// Normal images of plates and of cloths, for training and for testing.
fn products(train: usize, test: usize) -> (Vec<Sample>, Vec<Sample>) {
    let (mut all_train, mut all_test) = (Vec::new(), Vec::new());
    for (class, product) in [("plate", Product::MetalPlate), ("cloth", Product::Fabric)] {
        let config = SyntheticConfig {
            train,
            test_normal: test,
            per_kind: 1,
            ..SyntheticConfig::mini(product)
        };
        let dataset = in_memory(&config).unwrap();
        let named = |mut sample: Sample| {
            sample.kind = format!("{class}/{}", sample.kind);
            sample
        };
        all_train.extend(dataset.train.into_iter().map(named));
        let normal = dataset.test.into_iter().filter(|s| !s.label.is_anomalous());
        all_test.extend(normal.map(named));
    }
    (all_train, all_test)
}

/// The same products with a red patch.
fn planted(samples: &[Sample]) -> Vec<Sample> {
    let mut samples = samples.to_vec();
    for sample in &mut samples {
        if let ImageSource::Memory { image, .. } = &mut sample.image {
            let mut spoilt = (**image).clone();
            for (x, y) in (18..36).flat_map(|x| (22..40).map(move |y| (x, y))) {
                spoilt.put_pixel(x, y, image::Rgb([230, 20, 30]));
            }
            *image = Arc::new(spoilt);
        }
    }
    samples
}

fn small() -> HgadConfig {
    let mut config = HgadConfig {
        stride: 8,
        scales: vec![1, 2],
        centres: 3,
        ..HgadConfig::hgad()
    };
    config.flow.blocks = 2;
    config.flow.position_channels = 16;
    config.schedule.meta_epochs = 4;
    config.schedule.sub_epochs = 2;
    config.schedule.batch = 4;
    config.schedule.learning_rate = 2e-3;
    config
}

fn loader() -> Loader {
    Loader::new(Preprocess {
        geometry: Geometry {
            fit: Fit::Letterbox,
            size: SIZE,
            filter: Filter::Bilinear,
        },
        normalisation: Normalisation::IMAGENET,
    })
    .with_workers(1)
}

fn train(
    config: &HgadConfig,
    samples: &[Sample],
    checkpoints: Option<Checkpoints>,
    observer: &mut dyn Observer,
) -> Result<Model<Flex>> {
    let images = TrainingImages::of_normal(samples);
    train_on(config, &images, checkpoints, observer)
}

fn train_on(
    config: &HgadConfig,
    images: &TrainingImages<'_>,
    checkpoints: Option<Checkpoints>,
    observer: &mut dyn Observer,
) -> Result<Model<Flex>> {
    let options = TrainOptions {
        dataset: "products".into(),
        backend: "flex".into(),
        weights_source: "random".into(),
        random_seed: Some(SEED),
        known_anomalies: Vec::new(),
        contamination: Vec::new(),
        calibration_share: 0.2,
        target_fpr: 0.05,
    };
    let mut run = Run::<Cpu>::new(Default::default(), SEED, observer).with_checkpoints(checkpoints);
    let backbone: BackboneConfig = "resnet18".parse().unwrap();
    Model::train(
        &MethodConfig::Hgad(config.clone()),
        backbone.random(SEED, &Default::default()),
        images,
        &loader(),
        &options,
        &mut run,
    )
}

fn scores(model: &Model<Flex>, samples: &[Sample], batch: usize) -> Vec<ScoredImage> {
    let mut quiet = Quiet;
    let mut run = Run::<Flex>::new(Default::default(), SEED, &mut quiet).with_batch_size(batch);
    let mut all = Vec::new();
    let sink = &mut |_, scored: Result<ScoredImage>| {
        all.push(scored?);
        Ok(())
    };
    score_samples(model, samples, &loader(), "scoring", &mut run, sink).unwrap();
    all
}

fn assert_same(left: &[ScoredImage], right: &[ScoredImage], tolerance: f32) {
    assert_eq!(left.len(), right.len());
    let largest = |images: &[ScoredImage]| images.iter().map(|i| i.score).fold(0.0, f32::max);
    let scale = largest(left);
    assert!(scale > 0.0);
    for (left, right) in left.iter().zip(right) {
        assert_eq!(left.found_class, right.found_class);
        for (a, b) in left.map.iter().zip(&right.map) {
            assert!((a - b).abs() <= tolerance * scale, "{a} is not {b}");
        }
    }
}

fn tensors(model: &Model<Flex>) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    model.save(&path, false).unwrap();
    std::fs::read(path.join("model.safetensors")).unwrap()
}

fn image_auroc(model: &Model<Flex>, normal: &[Sample]) -> f64 {
    let all = [normal.to_vec(), planted(normal)].concat();
    let values: Vec<f32> = scores(model, &all, 8).iter().map(|i| i.score).collect();
    let labels: Vec<bool> = (0..all.len()).map(|index| index >= normal.len()).collect();
    auroc(&values, &labels).unwrap().unwrap()
}

#[test]
fn planted_defects_of_two_products_score_above_normals_and_models_survive_saving() {
    let (normal, test) = products(12, 5);
    let mut watcher = Watcher::default();
    let mut model = train(&small(), &normal, None, &mut watcher).unwrap();
    assert_eq!(model.classes(), ["cloth", "plate"]);
    let quality = image_auroc(&model, &test);
    assert!(quality > 0.9, "image AUROC {quality}");

    // The classes are told apart, and the log says so.
    let found = scores(&model, &test, 8);
    for (image, sample) in found.iter().zip(&test) {
        assert_eq!(image.found_class.as_deref(), sample.class());
    }
    let (first, last) = (&watcher.log[0], watcher.log.last().unwrap());
    for figure in ["vector_class_accuracy", "mutual_information"] {
        let of = |line: &serde_json::Value| line[figure].as_f64().unwrap();
        assert!(of(last) > of(first), "{figure}: {first}, {last}");
    }
    assert!(last["loss_intra"].as_f64().unwrap() != 0.0);
    assert_eq!(first["loss_intra"].as_f64(), Some(0.0));
    assert_eq!(watcher.log.len(), 8);

    // Alone, in a batch, saved and loaded: the same.
    assert_same(&found, &scores(&model, &test, 1), 1e-4);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    model.save(&path, true).unwrap();
    let no_weights = |_: &crate::method::BackboneRecord| Err(Error::weights("none"));
    let loaded = Model::<Flex>::load(&path, &Default::default(), no_weights).unwrap();
    assert_same(&found, &scores(&loaded, &test, 8), 0.0);
    assert_eq!(loaded.classes(), model.classes());

    // Classes that are not known are inferred: the same, as they are inferred rightly.
    let nameless: Vec<Sample> = test
        .iter()
        .map(|sample| Sample {
            kind: "good".into(),
            ..sample.clone()
        })
        .collect();
    assert_same(&found, &scores(&model, &nameless, 8), 0.0);
    // An image under the wrong class is anomalous, unless classes are inferred.
    let swapped: Vec<Sample> = test
        .iter()
        .map(|sample| Sample {
            kind: if sample.class() == Some("plate") {
                "cloth/good"
            } else {
                "plate/good"
            }
            .into(),
            ..sample.clone()
        })
        .collect();
    let wrong = scores(&model, &swapped, 8);
    let sum = |images: &[ScoredImage]| images.iter().map(|image| image.score).sum::<f32>();
    assert!(sum(&wrong) > sum(&found));
    // A class the model has never seen is inferred too.
    let unknown: Vec<Sample> = test
        .iter()
        .map(|sample| Sample {
            kind: "bottle/good".into(),
            ..sample.clone()
        })
        .collect();
    assert_same(&found, &scores(&model, &unknown, 8), 0.0);
    model.infer_classes();
    assert_same(&found, &scores(&model, &swapped, 8), 0.0);
}

/// Backends without kernels look at vectors through tensor operations.
#[test]
fn kernels_and_tensor_operations_see_the_same() {
    let (config, device) = (small(), Default::default());
    let backbone: BackboneConfig = "resnet18".parse().unwrap();
    let scales = Scales::new(&config, &backbone, SIZE).unwrap();
    let map = scales.maps[0];
    let mut rng = stream_rng(1, "level");
    let flow = config.flow.init(map.channels, &mut rng, &device);
    let mixture = Mixture::init(3, 4, map.channels, &mut rng);
    let operations = MapFlow::<Flex>::without_kernels(flow.clone(), map.grid, &device);
    let kernels = MapFlow::<Flex>::new(flow, map.grid, &device);
    assert!(kernels.has_kernels() && !operations.has_kernels());
    let operations = Level::new(map, operations, mixture.clone());
    let kernels = Level::new(map, kernels, mixture);
    let values: Vec<f32> = (0..3 * map.positions() * map.channels)
        .map(|_| rng.random_range(-2.0..2.0))
        .collect();
    let shape = [3, map.positions(), map.channels];
    let vectors = Tensor::<Flex, 3>::from_data(TensorData::new(values, shape), &device);
    let (a, b) = (kernels.votes(vectors.clone()), operations.votes(vectors));
    assert_eq!(a.entropies.len(), 3 * map.positions());
    let pairs = |a: &[f32], b: &[f32]| {
        assert_eq!(a.len(), b.len());
        for (a, b) in a.iter().zip(b) {
            assert!((a - b).abs() < 1e-4 * b.abs().max(0.1), "{a} and {b}");
        }
    };
    pairs(&a.likelihoods, &b.likelihoods);
    pairs(&a.entropies, &b.entropies);
}

#[test]
fn an_interrupted_run_goes_on_as_if_nothing_had_happened() {
    let (normal, _) = products(6, 1);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.checkpoint");
    let config = small();
    let mut whole = Watcher::default();
    let expected = tensors(&train(&config, &normal, None, &mut whole).unwrap());
    let losses = |log: &[serde_json::Value]| -> Vec<f64> {
        log.iter()
            .map(|line| line["loss"].as_f64().unwrap())
            .collect()
    };
    let mut log = Vec::new();
    // In the middle of a pass, at the end of one, and among the passes with centres within classes.
    for (resume, stop_after) in [
        (false, Some(2)),
        (true, Some(6)),
        (true, Some(20)),
        (true, None),
    ] {
        let checkpoints = Some(Checkpoints {
            path: path.clone(),
            resume,
        });
        let mut watcher = Watcher {
            stop_after,
            ..Watcher::default()
        };
        let result = train(&config, &normal, checkpoints, &mut watcher);
        log.extend(losses(&watcher.log));
        if stop_after.is_some() {
            assert!(result.unwrap_err().is_interrupted());
            assert!(path.exists());
        } else {
            assert_eq!(tensors(&result.unwrap()), expected);
            assert!(path.exists(), "it stays until the model is saved");
        }
    }
    assert_eq!(log, losses(&whole.log));

    // Other settings are another run.
    let checkpoints = |resume: bool| {
        Some(Checkpoints {
            path: path.clone(),
            resume,
        })
    };
    let mut watcher = Watcher {
        stop_after: Some(1),
        ..Watcher::default()
    };
    train(&config, &normal, checkpoints(false), &mut watcher).unwrap_err();
    let mut other = config.clone();
    other.schedule.center_lr_scale = 3.0;
    let error = train(&other, &normal, checkpoints(true), &mut Quiet).unwrap_err();
    assert!(
        error.is_usage() && error.to_string().contains("run.checkpoint"),
        "{error}"
    );
    assert_ne!(
        tensors(&train(&other, &normal, None, &mut Quiet).unwrap()),
        expected
    );
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run() {
    let (normal, _) = products(4, 1);
    let mut config = small();
    config.schedule.learning_rate = 1e30;
    let error = train(&config, &normal, None, &mut Quiet)
        .unwrap_err()
        .to_string();
    for part in ["not finite", "meta epoch", "scale 1/", "learning_rate"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn ablations_and_kinds_of_evidence_give_numbers() {
    let (normal, test) = products(6, 2);
    let mut config = small();
    config.schedule.meta_epochs = 3;
    config.schedule.sub_epochs = 1;
    let variants: [fn(&mut HgadConfig); 6] = [
        |config| {
            config.one_class = true;
            config.loss.intra = false;
        },
        |config| {
            config.loss.lambda_information = 0.0;
            config.loss.lambda_entropy = 0.0;
            config.loss.intra = false;
        },
        |config| {
            config.loss.lambda_entropy = 0.0;
            config.loss.intra = false;
        },
        |config| config.loss.intra = false,
        |config| config.evidence = Evidence::Likelihood,
        |config| config.evidence = Evidence::Entropy,
    ];
    for (index, change) in variants.into_iter().enumerate() {
        let mut config = config.clone();
        change(&mut config);
        let model = train(&config, &normal, None, &mut Quiet).unwrap();
        assert_eq!(model.classes().len(), if config.one_class { 1 } else { 2 });
        let found = scores(&model, &test, 4);
        assert!(
            found.iter().all(|image| image.score.is_finite()),
            "variant {index}"
        );
        let MethodConfig::Hgad(trained) = &model.header().method else {
            panic!("another method")
        };
        assert_eq!(trained.loss, config.loss);
    }
}

#[test]
fn odd_classes_give_numbers_or_words() {
    let (normal, test) = products(6, 2);
    let mut config = small();
    config.schedule.meta_epochs = 1;
    config.schedule.sub_epochs = 1;
    let finite = |model: &Model<Flex>| {
        assert!(
            scores(model, &test, 4)
                .iter()
                .all(|image| image.score.is_finite())
        );
    };
    // One product alone: a plain mixture flow, and nothing to be uncertain about.
    let plates: Vec<Sample> = normal
        .iter()
        .filter(|sample| sample.class() == Some("plate"))
        .cloned()
        .collect();
    let mut watcher = Watcher::default();
    let model = train(&config, &plates, None, &mut watcher).unwrap();
    finite(&model);
    assert!(
        watcher
            .warnings
            .iter()
            .all(|warning| !warning.contains("shows"))
    );

    // A class with one image is learnt from that image, and named.
    let one: Vec<Sample> = normal
        .iter()
        .filter(|sample| sample.class() == Some("plate"))
        .chain(normal.iter().find(|sample| sample.class() == Some("cloth")))
        .cloned()
        .collect();
    let mut watcher = Watcher::default();
    finite(&train(&config, &one, None, &mut watcher).unwrap());
    let warned = |watcher: &Watcher, parts: [&str; 2]| {
        let has = |warning: &&String| parts.iter().all(|part| warning.contains(part));
        watcher.warnings.iter().filter(has).count() == 1
    };
    assert!(
        warned(&watcher, ["one training image", "'cloth'"]),
        "{:?}",
        watcher.warnings
    );

    // A class without images is named; an image of no class is an error.
    config.classes = ["bottle", "cloth", "plate"].map(str::to_owned).to_vec();
    let mut watcher = Watcher::default();
    let model = train(&config, &normal, None, &mut watcher).unwrap();
    assert_eq!(model.classes(), config.classes);
    finite(&model);
    assert!(
        warned(&watcher, ["no training image", "'bottle'"]),
        "{:?}",
        watcher.warnings
    );
    config.classes.pop();
    let error = train(&config, &normal, None, &mut Quiet).unwrap_err();
    assert!(
        error.is_usage() && error.to_string().contains("'plate'"),
        "{error}"
    );
}

/// The model as training can begin with it.
fn stored(model: &Model<Flex>) -> StoredModel {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    model.save(&path, false).unwrap();
    StoredModel::read(&path).unwrap()
}

fn mixtures(model: &StoredModel) -> Vec<(Vec<f32>, Vec<f32>)> {
    let mut tensors = model.tensors.clone();
    let mut take = |name: String| tensors.take(&name, &[None, None]).unwrap().values;
    let maps = ["1", "2"].iter();
    maps.map(|scale| {
        let name = |part: &str| format!("mixture.{scale}.{part}");
        (take(name("mu")), take(name("intra")))
    })
    .collect()
}

#[test]
fn a_model_learns_more_products() {
    let (normal, test) = products(12, 4);
    let of = |samples: &[Sample], class: &str| -> Vec<Sample> {
        let samples = samples
            .iter()
            .filter(|sample| sample.class() == Some(class));
        samples.cloned().collect()
    };
    let old = train(&small(), &of(&normal, "plate"), None, &mut Quiet).unwrap();
    let old = stored(&old);
    let images = TrainingImages {
        initial_model: Some(&old),
        ..TrainingImages::of_normal(&normal)
    };

    // Before the first step: the old product as it was, in its place, and a centre for the new one.
    let mut config = small();
    config.schedule.meta_epochs = 0;
    let model = train_on(&config, &images, None, &mut Quiet).unwrap();
    assert_eq!(model.classes(), ["plate", "cloth"]);
    for ((mu, intra), (old_mu, old_intra)) in mixtures(&stored(&model)).iter().zip(mixtures(&old)) {
        assert_eq!(
            (mu.len(), intra.len()),
            (2 * old_mu.len(), 2 * old_intra.len())
        );
        assert_eq!(mu[..old_mu.len()], old_mu);
        assert_eq!(intra[..old_intra.len()], old_intra);
        assert!(mu[old_mu.len()..].iter().any(|&value| value != 0.0));
    }

    // After learning: both are told apart and judged.
    let model = train_on(&small(), &images, None, &mut Quiet).unwrap();
    for (image, sample) in scores(&model, &test, 8).iter().zip(&test) {
        assert_eq!(image.found_class.as_deref(), sample.class());
    }
    let quality = image_auroc(&model, &test);
    assert!(quality > 0.9, "image AUROC {quality}");

    // An interrupted addition goes on from where it was, and begins with this model alone.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.checkpoint");
    let checkpoints = |resume: bool| {
        Some(Checkpoints {
            path: path.clone(),
            resume,
        })
    };
    let mut watcher = Watcher {
        stop_after: Some(7),
        ..Watcher::default()
    };
    train_on(&small(), &images, checkpoints(false), &mut watcher).unwrap_err();
    let again = train_on(&small(), &images, checkpoints(true), &mut Quiet).unwrap();
    assert_eq!(tensors(&again), tensors(&model));
    let afresh = TrainingImages {
        initial_model: None,
        ..images
    };
    let error = train_on(&small(), &afresh, checkpoints(true), &mut Quiet).unwrap_err();
    assert!(error.is_usage(), "{error}");

    // Without images of the old product it is named.
    let new_alone = of(&normal, "cloth");
    let mut watcher = Watcher::default();
    let images = TrainingImages {
        normal: &new_alone,
        ..images
    };
    let model = train_on(&small(), &images, None, &mut watcher).unwrap();
    assert_eq!(model.classes(), ["plate", "cloth"]);
    // What is not learnt from changes with the flows alone.
    config.evidence = Evidence::Likelihood;
    let untouched = train_on(&config, &images, None, &mut Quiet).unwrap();
    let plates = of(&test, "plate");
    config.schedule.meta_epochs = small().schedule.meta_epochs;
    let before = train(&config, &of(&normal, "plate"), None, &mut Quiet).unwrap();
    let (before, untouched) = (scores(&before, &plates, 8), scores(&untouched, &plates, 8));
    for (a, b) in before.iter().zip(&untouched) {
        assert!(a.score > 0.0 && (a.score - b.score).abs() <= 1e-5 * a.score);
    }
    let said = |warning: &String| warning.contains("'plate'") && warning.contains("less well");
    assert!(watcher.warnings.iter().any(said), "{:?}", watcher.warnings);

    // What does not fit is named.
    let refused = |config: &HgadConfig, part: &str| {
        let error = train_on(config, &images, None, &mut Quiet).unwrap_err();
        assert!(
            error.is_usage() && error.to_string().contains(part),
            "{error}"
        );
    };
    let mut other = small();
    other.flow.blocks = 3;
    refused(&other, "method.flow");
    refused(
        &HgadConfig {
            centres: 5,
            ..small()
        },
        "centres",
    );
    let npad = MethodConfig::preset("npad").unwrap();
    let run = &mut Quiet;
    let mut run = Run::<Cpu>::new(Default::default(), SEED, run);
    let backbone = |seed: u64| {
        "resnet18"
            .parse::<BackboneConfig>()
            .unwrap()
            .random(seed, &Default::default())
    };
    let options = TrainOptions {
        dataset: String::new(),
        backend: String::new(),
        weights_source: "random".into(),
        random_seed: Some(SEED),
        known_anomalies: Vec::new(),
        contamination: Vec::new(),
        calibration_share: 0.2,
        target_fpr: 0.05,
    };
    let hgad = MethodConfig::Hgad(small());
    for (method, seed, part) in [
        (&npad, SEED, "choose hgad"),
        (&hgad, SEED + 1, "same weights"),
    ] {
        let error = Model::train(
            method,
            backbone(seed),
            &images,
            &loader(),
            &options,
            &mut run,
        );
        let error = error.unwrap_err();
        assert!(
            error.is_usage() && error.to_string().contains(part),
            "{error}"
        );
    }
}

#[test]
fn a_hundred_classes_work() {
    let (normal, _) = products(50, 1);
    let many: Vec<Sample> = (0..100)
        .map(|index| Sample {
            kind: format!("{index:03}/good"),
            ..normal[index].clone()
        })
        .collect();
    let mut config = small();
    config.scales = vec![2];
    config.schedule.meta_epochs = 3;
    config.schedule.sub_epochs = 1;
    let model = train(&config, &many, None, &mut Quiet).unwrap();
    assert_eq!(model.classes().len(), 100);
    let found = scores(&model, &many[..3], 3);
    assert!(found.iter().all(|image| image.score.is_finite()));
}

#[test]
fn the_papers_protocol_takes_its_extremes_from_the_test_set() {
    let (normal, test) = products(6, 3);
    let mut config = small();
    config.evidence = Evidence::Likelihood;
    config.sigma = 0.0;
    let mut model = train(&config, &normal, None, &mut Quiet).unwrap();
    let before = scores(&model, &test, 4);
    let mut quiet = Quiet;
    let mut run = Run::<Flex>::new(Default::default(), SEED, &mut quiet);
    model
        .adopt_test_statistics(&test, &loader(), &mut run)
        .unwrap();
    let after = scores(&model, &test, 4);
    let smallest = after
        .iter()
        .flat_map(|i| i.map.clone())
        .fold(f32::INFINITY, f32::min);
    let zeros = after
        .iter()
        .flat_map(|i| i.map.clone())
        .filter(|v| *v == smallest)
        .count();
    assert!(smallest.abs() < 1e-6, "{smallest}");
    assert!(
        zeros < SIZE * SIZE,
        "{zeros} pixels are the most normal one"
    );
    assert!(before.iter().zip(&after).any(|(a, b)| a.score != b.score));
}

#[test]
fn scales_that_are_too_small_are_a_usage_error() {
    let (normal, _) = products(3, 1);
    let config = HgadConfig {
        scales: vec![1, 16],
        ..small()
    };
    let error = train(&config, &normal, None, &mut Quiet).unwrap_err();
    assert!(
        error.is_usage() && error.to_string().contains("scales"),
        "{error}"
    );
}
