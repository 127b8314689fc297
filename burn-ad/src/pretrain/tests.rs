//! What pre-training must do, on a procedural product and random teachers.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use burn::module::AutodiffModule;
use burn::tensor::Tensor;
use burn_autodiff::Autodiff;
use burn_flex::Flex;

use super::distil::learn;
use super::*;
use crate::backbone::Backbone;
use crate::data::synthetic::{Product, SyntheticConfig, in_memory};
use crate::data::{Filter, Fit, Geometry, ImageSource, Loader, Normalisation as Statistics};
use crate::data::{Preprocess, Sample, for_each_batch};
use crate::network::load;
use crate::tensors::to_vec;
use crate::train::testing::Watcher;
use crate::train::{Checkpoints, Observer, Quiet, Run};

type AB = Autodiff<Flex>;

fn images() -> Vec<Sample> {
    let config = SyntheticConfig {
        train: 6,
        test_normal: 1,
        per_kind: 1,
        ..SyntheticConfig::mini(Product::MetalPlate)
    };
    in_memory(&config).unwrap().train
}

fn geometry(size: usize) -> Geometry {
    Geometry {
        fit: Fit::Letterbox,
        size,
        filter: Filter::Bilinear,
    }
}

fn network(name: &str) -> Backbone<Flex> {
    let config: BackboneConfig = name.parse().unwrap();
    config.random(5, &Default::default())
}

fn teacher(backbone: &Backbone<Flex>) -> Teacher<'_, Flex> {
    Teacher {
        backbone,
        pixels: Pixels::HALF,
        source: "random",
    }
}

fn quick() -> DistilConfig {
    DistilConfig {
        side: 32,
        steps: 5,
        batch: 4,
        log_every: 2,
        ..DistilConfig::default()
    }
}

fn quick_contrast() -> ContrastConfig {
    ContrastConfig {
        side: 32,
        epochs: 2,
        batch: 4,
        ..ContrastConfig::default()
    }
}

fn run(observer: &mut dyn Observer) -> Run<'_, AB> {
    Run::new(Default::default(), 11, observer)
}

fn in_dir(dir: &Path, resume: bool) -> Option<Checkpoints> {
    Some(Checkpoints {
        path: dir.join("run.checkpoint"),
        resume,
    })
}

#[test]
fn a_student_comes_nearer_to_its_teacher_and_is_folded_as_it_is() {
    let (samples, backbone) = (images(), network("resnet18"));
    let mut watcher = Watcher::default();
    let config = DistilConfig {
        steps: 24,
        log_every: 4,
        ..quick()
    };
    let found = learn(
        &config,
        &teacher(&backbone),
        &samples,
        geometry(32),
        &mut run(&mut watcher),
    );
    let found = found.unwrap();
    let losses: Vec<f64> = watcher
        .log
        .iter()
        .map(|l| l["loss"].as_f64().unwrap())
        .collect();
    assert_eq!(losses.len(), 6);
    assert!(losses[5] < 0.7 * losses[0], "{losses:?}");
    assert_eq!((found.loss, found.images), (losses[5], 6));
    let file = distil(
        &config,
        &teacher(&backbone),
        &samples,
        geometry(32),
        &mut run(&mut Quiet),
    );
    let file = file.unwrap();
    let recipe = file.recipe.clone().unwrap();
    assert_eq!(recipe["teacher"]["digest"], backbone.digest());
    assert_eq!(recipe["settings"]["steps"], 24);
    assert_eq!(
        (&recipe["loss"], &recipe["images"]),
        (&losses[5].into(), &6.into())
    );
    assert_eq!(file.pixels, Pixels::HALF);
    let student: Backbone<Flex> = file.backbone(&Default::default()).unwrap();
    let loader = Loader::new(Preprocess {
        geometry: geometry(32),
        normalisation: Statistics::HALF,
    });
    for_each_batch::<Flex>(
        &loader,
        &samples,
        6,
        &Default::default(),
        &mut |_, error| Err(error),
        &mut |batch, _| {
            let expected = to_vec(found.encoder.forward(batch.images.clone()));
            let folded = to_vec(student.pooled(batch.images));
            let size = expected.iter().fold(0f32, |a, b| a.max(b.abs()));
            assert!(size > 0.1, "{size}");
            for (a, b) in expected.iter().zip(&folded) {
                // Up to 8192 products in f32, in another order.
                assert!((a - b).abs() <= 2e-5 * size.max(1.0), "{a} {b}");
            }
            Ok(())
        },
    )
    .unwrap();
}

#[test]
fn teachers_of_other_widths_are_met_through_a_projection_and_crops_are_cut() {
    let (samples, backbone) = (images(), network("tf_efficientnet_b0"));
    let mut watcher = Watcher::default();
    let config = DistilConfig {
        crops: true,
        steps: 16,
        log_every: 4,
        ..quick()
    };
    let file = distil(
        &config,
        &teacher(&backbone),
        &samples,
        geometry(48),
        &mut run(&mut watcher),
    );
    let losses: Vec<f64> = watcher
        .log
        .iter()
        .map(|l| l["loss"].as_f64().unwrap())
        .collect();
    assert!(losses[3] < losses[0], "{losses:?}");
    let student = file.unwrap().backbone::<Flex>(&Default::default()).unwrap();
    let vectors = student.pooled(Tensor::zeros([1, 3, 32, 32], &Default::default()));
    assert_eq!(vectors.dims(), [1, 512]);
}

/// The weights of an uninterrupted run, and of one that was stopped after three steps.
fn interrupted(train: &dyn Fn(&mut Run<'_, AB>) -> Result<WeightsFile>) -> [WeightsFile; 2] {
    let dir = tempfile::tempdir().unwrap();
    let whole = train(&mut run(&mut Quiet)).unwrap();
    let mut watcher = Watcher {
        stop_after: Some(3),
        ..Watcher::default()
    };
    let mut first = run(&mut watcher).with_checkpoints(in_dir(dir.path(), false));
    assert!(train(&mut first).unwrap_err().is_interrupted());
    let mut second = Watcher::default();
    let mut last = run(&mut second).with_checkpoints(in_dir(dir.path(), true));
    let resumed = train(&mut last).unwrap();
    let steps = |watcher: &Watcher| -> Vec<u64> {
        watcher
            .log
            .iter()
            .map(|l| l["step"].as_u64().unwrap())
            .collect()
    };
    assert!(steps(&second)[0] > 3);
    // A finished run has nothing left to do.
    let mut quiet = Quiet;
    let mut last = run(&mut quiet).with_checkpoints(in_dir(dir.path(), true));
    assert_eq!(train(&mut last).unwrap(), whole);
    [whole, resumed]
}

#[test]
fn a_distillation_goes_on_as_if_nothing_had_happened() {
    let (samples, backbone) = (images(), network("tf_efficientnet_b0"));
    let train =
        |run: &mut Run<'_, AB>| distil(&quick(), &teacher(&backbone), &samples, geometry(32), run);
    let [whole, resumed] = interrupted(&train);
    assert_eq!(whole, resumed);
}

#[test]
fn a_contrastive_run_goes_on_as_if_nothing_had_happened() {
    let samples = images();
    let train = |run: &mut Run<'_, AB>| contrast(&quick_contrast(), &samples, geometry(40), run);
    let [whole, resumed] = interrupted(&train);
    assert_eq!(whole, resumed);
    let recipe = whole.recipe.unwrap();
    assert_eq!(
        (&recipe["kind"], &recipe["seed"]),
        (&"contrast".into(), &11.into())
    );
    assert!(recipe.get("teacher").is_none());
    assert_eq!(whole.pixels, Pixels::IMAGENET);
}

#[test]
fn views_of_an_image_come_together() {
    let samples = images();
    let mut watcher = Watcher::default();
    let config = ContrastConfig {
        epochs: 12,
        batch: 6,
        ..quick_contrast()
    };
    contrast(&config, &samples, geometry(32), &mut run(&mut watcher)).unwrap();
    let losses: Vec<f64> = watcher
        .log
        .iter()
        .map(|l| l["loss"].as_f64().unwrap())
        .collect();
    assert_eq!((losses.len(), &watcher.log[3]["epoch"]), (12, &3.into()));
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    assert!(mean(&losses[9..]) < mean(&losses[..3]), "{losses:?}");
}

#[test]
fn images_that_memory_has_no_room_for_are_read_again_and_unreadable_ones_left_out() {
    let mut samples = images();
    let train = |samples: &[Sample], memory: u64, watcher: &mut Watcher| {
        let mut run = run(watcher).with_feature_memory(memory);
        contrast(&quick_contrast(), samples, geometry(32), &mut run)
    };
    let kept = train(&samples, 1 << 20, &mut Watcher::default()).unwrap();
    let again = train(&samples, 2 * 3 * 32 * 32, &mut Watcher::default()).unwrap();
    assert_eq!(kept, again);
    let absent = ImageSource::File("absent.png".into());
    samples[2].image = absent.clone();
    let mut watcher = Watcher::default();
    let file = train(&samples, 1 << 20, &mut watcher).unwrap();
    assert_eq!(file.recipe.unwrap()["images"], 5);
    assert!(watcher.warnings[0].contains("absent.png"));
    samples.truncate(3);
    for sample in &mut samples {
        sample.image = absent.clone();
    }
    let error = train(&samples, 1 << 20, &mut Watcher::default()).unwrap_err();
    assert!(error.to_string().contains("data check"), "{error}");
}

#[test]
fn a_loss_that_is_not_finite_is_an_error_that_names_the_step() {
    let (samples, backbone) = (images(), network("tf_efficientnet_b0"));
    let config = DistilConfig {
        learning_rate: 1e30,
        ..quick()
    };
    let error = distil(
        &config,
        &teacher(&backbone),
        &samples,
        geometry(32),
        &mut run(&mut Quiet),
    );
    let error = error.unwrap_err().to_string();
    for part in ["step 1", "not finite", "learning rate"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn what_cannot_be_is_a_usage_error_with_a_remedy() {
    let (samples, backbone) = (images(), network("resnet18"));
    let nothing = network("none");
    let tried = |config: &DistilConfig, backbone: &Backbone<Flex>, size: usize| {
        let teacher = &teacher(backbone);
        let error = distil(
            config,
            teacher,
            &samples,
            geometry(size),
            &mut run(&mut Quiet),
        );
        let error = error.unwrap_err();
        assert!(error.is_usage(), "{error}");
        error.to_string()
    };
    let side = DistilConfig {
        side: 48,
        ..quick()
    };
    assert!(tried(&side, &backbone, 48).contains("64, 128"));
    assert!(tried(&quick(), &backbone, 64).contains("crops"));
    assert!(tried(&quick(), &nothing, 32).contains("teacher"));
    let crops = DistilConfig {
        crops: true,
        ..quick()
    };
    assert!(tried(&crops, &backbone, 24).contains("at least 32"));
    let idle = DistilConfig {
        steps: 0,
        ..quick()
    };
    assert!(tried(&idle, &backbone, 32).contains("steps"));
    let alone = ContrastConfig {
        batch: 1,
        ..quick_contrast()
    };
    let cold = ContrastConfig {
        temperature: 0.0,
        ..quick_contrast()
    };
    for config in [alone, cold] {
        let error = contrast(&config, &samples, geometry(32), &mut run(&mut Quiet));
        assert!(error.unwrap_err().is_usage());
    }
    let one = &samples[..1];
    let error = contrast(&quick_contrast(), one, geometry(32), &mut run(&mut Quiet));
    assert!(error.unwrap_err().to_string().contains("only one"));
}

#[test]
fn an_encoder_is_drawn_from_the_seed_alone() {
    let draw = |seed| {
        let mut tensors = TensorSet::default();
        let student = StudentConfig::Side32;
        save(
            &encoder::<AB>(student, seed, &Default::default()),
            ENCODER,
            &mut tensors,
        );
        tensors
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    let fresh = encoder::<AB>(StudentConfig::Side32, 3, &Default::default());
    let restored = load(fresh, ENCODER, &mut draw(1)).unwrap();
    let mut tensors = TensorSet::default();
    save(&restored.valid(), ENCODER, &mut tensors);
    assert_eq!(tensors, draw(1));
}
