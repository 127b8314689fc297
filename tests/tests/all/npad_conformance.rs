//! What every preset of N-pad must do, on the procedural product and a random ResNet-18.
//!
//! Everything runs on Flex; `backends` says what holds on the others.
#![allow(clippy::unwrap_used)]

use std::ops::ControlFlow;
use std::path::Path;

use burn_ad::data::{Batch, Fit, ImageSource, Sample};
use burn_ad::method::npad::{Combination, ImageScore, NpadConfig, Reduction};
use burn_ad::method::{CalibrationSource, MethodConfig, Model, TrainingImages};
use burn_ad::metrics::auroc;
use burn_ad::train::{Observer, Quiet, Run, Step};
use burn_flex::Flex;

use crate::world::{
    Cpu, SEED, SIZE, assert_same, loader, no_weights, oblong, options, planted, product, resnet18,
    scores, train_on,
};

const PRESETS: [&str; 3] = ["npad", "padim", "patchcore"];

/// A preset made small enough for a test.
fn small(name: &str) -> MethodConfig {
    let MethodConfig::Npad(mut config) = MethodConfig::preset(name).unwrap() else {
        panic!("{name} is no preset of N-pad")
    };
    config.reduction = Reduction::Projection(24);
    config.bank.max_candidates = 600;
    MethodConfig::Npad(config)
}

#[test]
fn planted_defects_score_above_normals_and_models_survive_saving() {
    let data = product();
    for preset in PRESETS {
        let model = train_on(&small(preset), &data.train, &loader(Fit::Squash)).unwrap();
        let before = scores(&model, &data.test, 8);
        let good: Vec<Sample> = data
            .test
            .iter()
            .filter(|s| !s.label.is_anomalous())
            .cloned()
            .collect();
        let all = [good.clone(), planted(&good)].concat();
        let values: Vec<f32> = scores(&model, &all, 8)
            .iter()
            .map(|image| image.score)
            .collect();
        let labels: Vec<bool> = (0..all.len()).map(|index| index >= good.len()).collect();
        let quality = auroc(&values, &labels).unwrap().unwrap();
        assert!(quality > 0.95, "{preset}: image AUROC {quality}");

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ein Modell mit Ümläuten");
        for with_backbone in [false, true] {
            model.save(&path, with_backbone).unwrap();
            let loaded = Model::<Flex>::load(&path, &Default::default(), no_weights).unwrap();
            // Bit for bit: the same numbers, the same operations, one backend.
            assert_same(&before, &scores(&loaded, &data.test, 8), 0.0);
        }
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "saving leaves nothing but the model");
    }
}

#[test]
fn same_seed_same_model_another_seed_another() {
    let data = product();
    let dir = tempfile::tempdir().unwrap();
    let save = |name: &str, seed: u64, workers: usize| {
        let mut quiet = Quiet;
        let mut run = Run::<Cpu>::new(Default::default(), seed, &mut quiet);
        let backbone = resnet18().random(SEED, &Default::default());
        let loader = loader(Fit::Squash).with_workers(workers);
        let model = Model::train(
            &small("npad"),
            backbone,
            &TrainingImages::of_normal(&data.train),
            &loader,
            &options(),
            &mut run,
        );
        let path = dir.path().join(name);
        model.unwrap().save(&path, false).unwrap();
        std::fs::read(path.join("model.safetensors")).unwrap()
    };
    let first = save("a", 1, 1);
    assert_eq!(
        first,
        save("b", 1, 2),
        "the number of workers changes nothing"
    );
    assert_ne!(first, save("c", 2, 2));
}

#[test]
fn a_score_ignores_its_batch_mates() {
    let data = product();
    for (preset, fit) in [
        ("npad", Fit::Letterbox),
        ("padim", Fit::Squash),
        ("patchcore", Fit::Letterbox),
    ] {
        let samples = oblong(&data.train);
        let test = oblong(&data.test);
        let model = train_on(&small(preset), &samples, &loader(fit)).unwrap();
        // Matrix products of another size may round differently, by a few units in the last place
        // of the largest intermediate value.
        assert_same(&scores(&model, &test, 1), &scores(&model, &test, 5), 1e-4);
    }
}

#[test]
fn letterbox_padding_neither_scores_nor_bleeds() {
    let data = product();
    let train = oblong(&data.train);
    let model = train_on(&small("padim"), &train, &loader(Fit::Letterbox)).unwrap();
    for scored in scores(&model, &oblong(&data.test), 4) {
        let shown = scored.placement.shown();
        let inside = scored
            .map
            .iter()
            .zip(&shown)
            .filter(|(_, s)| **s)
            .map(|(v, _)| *v);
        let largest = inside.fold(f32::NEG_INFINITY, f32::max);
        assert_eq!(
            scored.score, largest,
            "the score is the largest value inside the picture"
        );
    }
}

#[test]
fn few_images_are_enough_for_a_finite_answer() {
    let data = product();
    for preset in PRESETS {
        for count in [1, 2, 3] {
            let train = &data.train[..count];
            let model = train_on(&small(preset), train, &loader(Fit::Squash)).unwrap();
            let source = model.header().calibration.source;
            assert_eq!(source == CalibrationSource::Training, count < 3);
            assert!(
                scores(&model, &data.test, 4)
                    .iter()
                    .all(|image| image.score.is_finite())
            );
        }
    }
}

#[test]
fn constant_images_are_learnt_without_a_failure() {
    let grey = image::RgbImage::from_pixel(SIZE as u32, SIZE as u32, image::Rgb([90; 3]));
    let sample = Sample {
        image: ImageSource::Memory {
            name: "grey".into(),
            image: std::sync::Arc::new(grey),
        },
        label: burn_ad::data::Label::Normal,
        kind: "good".into(),
        mask: None,
    };
    for preset in PRESETS {
        let train = vec![sample.clone(); 5];
        let model = train_on(&small(preset), &train, &loader(Fit::Squash)).unwrap();
        let own = scores(&model, &train[..1], 1)[0].score;
        let other = scores(&model, &product().test[..1], 1)[0].score;
        assert!(own.is_finite() && other > own, "{preset}: {own} {other}");
    }
}

#[test]
fn an_unreadable_training_image_is_reported_and_left_out() {
    struct Warnings(Vec<String>);
    impl Observer for Warnings {
        fn step(&mut self, _: &Step<'_>) -> ControlFlow<()> {
            ControlFlow::Continue(())
        }
        fn warn(&mut self, message: &str) {
            self.0.push(message.to_owned());
        }
    }
    let mut train = product().train;
    train[4].image = ImageSource::File("no such image.png".into());
    let mut warnings = Warnings(Vec::new());
    let mut run = Run::<Cpu>::new(Default::default(), SEED, &mut warnings);
    let backbone = resnet18().random(SEED, &Default::default());
    Model::train(
        &small("npad"),
        backbone,
        &TrainingImages::of_normal(&train),
        &loader(Fit::Squash),
        &options(),
        &mut run,
    )
    .unwrap();
    assert_eq!(
        warnings
            .0
            .iter()
            .filter(|w| w.contains("no such image.png"))
            .count(),
        1
    );

    let missing: Vec<Sample> = train
        .iter()
        .cloned()
        .map(|sample| Sample {
            image: ImageSource::File("gone.png".into()),
            ..sample
        })
        .collect();
    let error = train_on(&small("npad"), &missing, &loader(Fit::Squash)).unwrap_err();
    assert!(error.to_string().contains("can be read"), "{error}");
}

#[test]
fn an_observer_can_stop_a_run() {
    struct Stop;
    impl Observer for Stop {
        fn step(&mut self, _: &Step<'_>) -> ControlFlow<()> {
            ControlFlow::Break(())
        }
        fn warn(&mut self, _: &str) {}
    }
    let (mut stop, data) = (Stop, product());
    let mut run = Run::<Cpu>::new(Default::default(), SEED, &mut stop);
    let backbone = resnet18().random(SEED, &Default::default());
    let method = small("npad");
    let loader = loader(Fit::Squash);
    let stopped = Model::train(
        &method,
        backbone,
        &TrainingImages::of_normal(&data.train),
        &loader,
        &options(),
        &mut run,
    );
    assert!(stopped.unwrap_err().is_interrupted());
}

#[test]
fn damaged_foreign_and_newer_models_are_named_as_such() {
    let data = product();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    let model = train_on(&small("padim"), &data.train[..4], &loader(Fit::Squash)).unwrap();
    let load = || Model::<Flex>::load(&path, &Default::default(), no_weights);
    let message = || load().unwrap_err().to_string();
    let rewrite = |from: &str, to: &str| {
        let header = path.join("model.json");
        let text = std::fs::read_to_string(&header).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        std::fs::write(header, text.replacen(from, to, 1)).unwrap();
    };

    assert!(
        message().contains("model.json"),
        "nothing there: {}",
        message()
    );
    model.save(&path, false).unwrap();
    let tensors = path.join("model.safetensors");
    let bytes = std::fs::read(&tensors).unwrap();
    std::fs::write(&tensors, &bytes[..bytes.len() / 2]).unwrap();
    assert!(message().contains("truncated"), "{}", message());
    std::fs::remove_file(&tensors).unwrap();
    assert!(message().contains("incomplete"), "{}", message());

    model.save(&path, false).unwrap();
    rewrite("\"format_version\": 1", "\"format_version\": 99");
    assert!(message().contains("newer"), "{}", message());
    model.save(&path, false).unwrap();
    rewrite("\"random_seed\": 3", "\"random_seed\": 4");
    assert!(message().contains("other weights"), "{}", message());
    std::fs::write(path.join("model.json"), "{}").unwrap();
    assert!(message().contains("not a burn-ad model"), "{}", message());

    let foreign = dir.path().join("holiday pictures");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("beach.jpg"), "sun").unwrap();
    assert!(model.save(&foreign, false).unwrap_err().is_usage());
    assert_eq!(std::fs::read(foreign.join("beach.jpg")).unwrap(), b"sun");
    assert!(is_file_refused(&model, &foreign.join("beach.jpg")));
}

fn is_file_refused(model: &Model<Flex>, path: &Path) -> bool {
    model.save(path, false).is_err_and(|error| error.is_usage())
}

#[test]
fn every_combination_and_image_score_runs() {
    let data = product();
    let base = || match small("npad") {
        MethodConfig::Npad(config) => config,
        other => panic!("{other} is not of N-pad's family"),
    };
    let variants: Vec<NpadConfig> = vec![
        NpadConfig {
            combination: Combination::Product,
            ..base()
        },
        NpadConfig {
            combination: Combination::Bank,
            ..base()
        },
        NpadConfig {
            image_score: ImageScore::TopShare(0.01),
            ..base()
        },
        NpadConfig {
            image_score: ImageScore::Reweighted(3),
            ..base()
        },
        NpadConfig {
            flips: true,
            sigma: 0.0,
            ..base()
        },
        NpadConfig {
            reduction: Reduction::Subset(20),
            pool: true,
            grid: 4,
            ..base()
        },
        NpadConfig {
            scaling: burn_ad::method::npad::LevelScaling::UnitNorm,
            ..base()
        },
    ];
    for config in variants {
        let method = MethodConfig::Npad(config.clone());
        let model = train_on(&method, &data.train[..8], &loader(Fit::Squash)).unwrap();
        let all = scores(&model, &data.test, 8);
        assert!(
            all.iter().all(|image| image.score.is_finite()),
            "{config:?}"
        );
        let batch = Batch::<Flex>::full(burn::tensor::Tensor::zeros(
            [1, 3, SIZE, SIZE],
            &Default::default(),
        ));
        assert_eq!(model.predict(&batch).anomaly_maps.dims(), [1, SIZE, SIZE]);
    }
}
