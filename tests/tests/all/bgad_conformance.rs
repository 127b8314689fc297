//! What NFAD, BGAD and BGAD-dagger must do, on the procedural product and a random ResNet-18.
#![allow(clippy::unwrap_used)]

use std::ops::ControlFlow;

use burn_ad::Result;
use burn_ad::data::{Dataset, Fit, Sample};
use burn_ad::method::bgad::{BgadConfig, Boundary};
use burn_ad::method::{MethodConfig, Model, TrainingImages};
use burn_ad::metrics::auroc;
use burn_ad::train::{Checkpoints, Observer, Quiet, Run, Step};
use burn_flex::Flex;

use crate::world::{
    Cpu, SEED, assert_same, loader, no_weights, oblong, options, planted, product, resnet18,
    scores, train_on,
};

/// A preset made small enough for a test: 2 taps, 2 blocks, a few hundred steps.
fn small(name: &str) -> BgadConfig {
    let MethodConfig::Bgad(mut config) = MethodConfig::preset(name).unwrap() else {
        panic!("{name} is no preset of BGAD")
    };
    config.taps = vec![8, 16];
    config.flow.blocks = 2;
    config.flow.position_channels = 16;
    config.schedule.meta_epochs = 3;
    config.schedule.sub_epochs = 2;
    config.schedule.batch = 6;
    config.schedule.chunk = 64;
    config.schedule.learning_rate = 2e-3;
    config.schedule.versions = 2;
    config
}

/// Test images that are known, and the others.
fn known(data: &Dataset) -> (Vec<Sample>, Vec<Sample>) {
    let mut known: Vec<Sample> = Vec::new();
    let (mut kinds, mut rest) = (Vec::new(), Vec::new());
    for sample in &data.test {
        if sample.label.is_anomalous() && !kinds.contains(&sample.kind) {
            kinds.push(sample.kind.clone());
            known.push(sample.clone());
        } else {
            rest.push(sample.clone());
        }
    }
    (known, rest)
}

/// Everything a run is made from; each field may be varied.
struct Training<'a> {
    config: BgadConfig,
    normal: &'a [Sample],
    anomalous: &'a [Sample],
    checkpoints: Option<Checkpoints>,
    workers: usize,
    memory: u64,
}

impl<'a> Training<'a> {
    fn new(config: BgadConfig, normal: &'a [Sample], anomalous: &'a [Sample]) -> Self {
        Self {
            config,
            normal,
            anomalous,
            checkpoints: None,
            workers: 1,
            memory: 1 << 30,
        }
    }

    fn run(&self, observer: &mut dyn Observer) -> Result<Model<Flex>> {
        let mut run = Run::<Cpu>::new(Default::default(), SEED, observer)
            .with_checkpoints(self.checkpoints.clone())
            .with_feature_memory(self.memory);
        let images = TrainingImages {
            anomalous: self.anomalous,
            ..TrainingImages::of_normal(self.normal)
        };
        Model::train(
            &MethodConfig::Bgad(self.config.clone()),
            resnet18().random(SEED, &Default::default()),
            &images,
            &loader(Fit::Letterbox).with_workers(self.workers),
            &options(),
            &mut run,
        )
    }
}

fn tensors(model: &Model<Flex>) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    model.save(&path, false).unwrap();
    std::fs::read(path.join("model.safetensors")).unwrap()
}

#[test]
fn planted_defects_score_above_normals_and_models_survive_saving() {
    let data = product();
    let (known, test) = known(&data);
    for preset in ["nfad", "bgad", "bgad-dagger"] {
        let model = Training::new(small(preset), &data.train, &known)
            .run(&mut Quiet)
            .unwrap();
        let good: Vec<Sample> = test
            .iter()
            .filter(|sample| !sample.label.is_anomalous())
            .cloned()
            .collect();
        let all = [good.clone(), planted(&good)].concat();
        let found = scores(&model, &all, 8);
        let values: Vec<f32> = found.iter().map(|image| image.score).collect();
        let labels: Vec<bool> = (0..all.len()).map(|index| index >= good.len()).collect();
        let quality = auroc(&values, &labels).unwrap().unwrap();
        assert!(quality > 0.95, "{preset}: image AUROC {quality}");

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        model.save(&path, true).unwrap();
        let loaded = Model::<Flex>::load(&path, &Default::default(), no_weights).unwrap();
        assert_same(&found, &scores(&loaded, &all, 8), 0.0);
    }
}

#[test]
fn neither_threads_nor_where_features_are_kept_change_a_model() {
    let data = product();
    let (known, _) = known(&data);
    let mut training = Training::new(small("bgad"), &data.train, &known);
    let first = tensors(&training.run(&mut Quiet).unwrap());
    training.workers = 3;
    training.memory = 10_000;
    assert_eq!(first, tensors(&training.run(&mut Quiet).unwrap()));
    training.config.loss.beta = 0.3;
    assert_ne!(first, tensors(&training.run(&mut Quiet).unwrap()));
}

/// Stops a run after some steps of training, and keeps what was logged.
#[derive(Default)]
struct Interrupter {
    stop_after: Option<u64>,
    log: Vec<serde_json::Value>,
    warnings: Vec<String>,
}

impl Observer for Interrupter {
    fn step(&mut self, step: &Step<'_>) -> ControlFlow<()> {
        if step.phase == "training" && Some(step.done) == self.stop_after {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn warn(&mut self, message: &str) {
        self.warnings.push(message.to_owned());
    }

    fn record(&mut self, figures: &serde_json::Value) {
        self.log.push(figures.clone());
    }
}

fn losses(log: &[serde_json::Value]) -> Vec<f64> {
    log.iter()
        .map(|line| line["loss"].as_f64().unwrap())
        .collect()
}

#[test]
fn an_interrupted_run_goes_on_as_if_nothing_had_happened() {
    let data = product();
    let (known, _) = known(&data);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.checkpoint");
    let mut training = Training::new(small("bgad"), &data.train, &known);
    let mut whole = Interrupter::default();
    let expected = tensors(&training.run(&mut whole).unwrap());
    assert_eq!(whole.log.len(), 6);
    assert!(losses(&whole.log)[5] < losses(&whole.log)[0]);

    let mut log = Vec::new();
    // In the middle of a pass, at the end of one, and in the last.
    for (resume, stop_after) in [
        (false, Some(2)),
        (true, Some(10)),
        (true, Some(21)),
        (true, None),
    ] {
        training.checkpoints = Some(Checkpoints {
            path: path.clone(),
            resume,
        });
        let mut observer = Interrupter {
            stop_after,
            ..Interrupter::default()
        };
        let result = training.run(&mut observer);
        log.extend(losses(&observer.log));
        if stop_after.is_some() {
            assert!(result.unwrap_err().is_interrupted());
            assert!(path.exists());
        } else {
            assert_eq!(tensors(&result.unwrap()), expected);
            assert!(path.exists(), "it stays until the model is saved");
        }
    }
    assert_eq!(log, losses(&whole.log));
}

#[test]
fn a_checkpoint_of_another_run_is_refused() {
    let data = product();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.checkpoint");
    let mut training = Training::new(small("nfad"), &data.train, &[]);
    training.checkpoints = Some(Checkpoints {
        path: path.clone(),
        resume: false,
    });
    let mut observer = Interrupter {
        stop_after: Some(1),
        ..Interrupter::default()
    };
    training.run(&mut observer).unwrap_err();
    training.checkpoints.as_mut().unwrap().resume = true;
    training.config.schedule.learning_rate *= 2.0;
    let error = training.run(&mut Quiet).unwrap_err();
    assert!(
        error.is_usage() && error.to_string().contains("run.checkpoint"),
        "{error}"
    );
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_names_the_checkpoint() {
    let data = product();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.checkpoint");
    let mut training = Training::new(small("nfad"), &data.train, &[]);
    training.config.schedule.learning_rate = 1e30;
    training.config.schedule.sub_epochs = 1;
    training.checkpoints = Some(Checkpoints {
        path: path.clone(),
        resume: false,
    });
    let error = training.run(&mut Quiet).unwrap_err().to_string();
    for part in ["not finite", "meta epoch", "stride", "learning_rate"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_score_ignores_its_batch_mates_and_padding() {
    let data = product();
    let (train, test) = (oblong(&data.train), oblong(&data.test));
    let model = Training::new(small("nfad"), &train, &[])
        .run(&mut Quiet)
        .unwrap();
    let alone = scores(&model, &test, 1);
    assert_same(&alone, &scores(&model, &test, 5), 1e-4);
    for scored in alone {
        let shown = scored.placement.shown();
        let inside = scored.map.iter().zip(&shown).filter(|(_, s)| **s);
        let largest = inside.map(|(v, _)| *v).fold(f32::NEG_INFINITY, f32::max);
        assert_eq!(scored.score, largest);
    }
}

#[test]
fn the_papers_protocol_only_shifts_scores_of_one_test_set() {
    let data = product();
    let (_, test) = known(&data);
    let mut model = Training::new(small("nfad"), &data.train, &[])
        .run(&mut Quiet)
        .unwrap();
    let before = scores(&model, &test, 8);
    let mut quiet = Quiet;
    let mut run = Run::<Flex>::new(Default::default(), SEED, &mut quiet);
    model
        .adopt_test_statistics(&test, &loader(Fit::Letterbox), &mut run)
        .unwrap();
    let after = scores(&model, &test, 8);
    // The largest sum over the test set is the zero of its maps, inside the pictures.
    let smallest = after
        .iter()
        .flat_map(|image| {
            let shown = image.placement.shown();
            let inside: Vec<f32> = image
                .map
                .iter()
                .zip(shown)
                .filter(|(_, shown)| *shown)
                .map(|(value, _)| *value)
                .collect();
            inside
        })
        .fold(f32::INFINITY, f32::min);
    assert!(smallest.abs() < 1e-5, "{smallest}");
    assert!(before.iter().zip(&after).any(|(a, b)| a.score != b.score));
}

#[test]
fn odd_training_sets_give_numbers_or_words() {
    let data = product();
    let (known, test) = known(&data);
    let finite = |model: &Model<Flex>| {
        let found = scores(model, &test[..2], 2);
        assert!(found.iter().all(|image| image.score.is_finite()));
    };
    // Nothing known, one image, more anomalies than normal images.
    let mut observer = Interrupter::default();
    finite(
        &Training::new(small("bgad"), &data.train, &[])
            .run(&mut observer)
            .unwrap(),
    );
    assert!(
        observer
            .warnings
            .iter()
            .any(|w| w.contains("no known anomaly"))
    );
    finite(
        &Training::new(small("bgad"), &data.train[..1], &known)
            .run(&mut Quiet)
            .unwrap(),
    );
    let mut config = small("bgad");
    config.loss.boundary = Boundary::Always;
    config.schedule.vector_share = 0.3;
    finite(
        &Training::new(config, &data.train[..4], &[])
            .run(&mut Quiet)
            .unwrap(),
    );

    // An anomaly without a mask, and one that cannot be read, are left out and named.
    let mut without = known.clone();
    without[0].mask = None;
    without[1].image = burn_ad::data::ImageSource::File("no such image.png".into());
    let mut observer = Interrupter::default();
    finite(
        &Training::new(small("bgad"), &data.train, &without)
            .run(&mut observer)
            .unwrap(),
    );
    for part in ["needs a mask", "no such image.png"] {
        let named = observer
            .warnings
            .iter()
            .filter(|w| w.contains(part))
            .count();
        assert_eq!(named, 1, "{:?}", observer.warnings);
    }
}

#[test]
fn an_unreachable_tap_is_a_usage_error() {
    let data = product();
    let mut config = small("nfad");
    config.taps = vec![8, 12];
    let error = train_on(
        &MethodConfig::Bgad(config),
        &data.train,
        &loader(Fit::Squash),
    );
    assert!(error.unwrap_err().is_usage());
}
