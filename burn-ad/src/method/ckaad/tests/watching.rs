//! What a training says of itself, and the epoch it keeps.

use super::*;
use crate::method::ckaad::Validation;

fn logged(training: &Training<'_>) -> (Vec<Value>, Vec<u8>) {
    let mut watcher = Watcher::default();
    let model = training.run(&mut watcher).unwrap();
    (watcher.log, tensors(&model))
}

#[test]
fn each_epoch_records_the_figures_that_its_strategy_has() {
    let (normal, test) = product(6, 2);
    let known = planted(&test, [10, 10]);
    let of_game = [
        "loss_d",
        "loss_g",
        "energy_normal",
        "energy_generated",
        "energy_anomalous",
        "gradient_d",
    ];
    for strategy in [
        Strategy::Recon,
        Strategy::ReconSub,
        Strategy::Gan,
        Strategy::CkaImg,
        Strategy::CkaPatch,
    ] {
        let (log, _) = logged(&Training::new(small(strategy), &normal, &known));
        assert_eq!(log.len(), 2);
        for (epoch, line) in log.iter().enumerate() {
            let finite = |name: &str| line[name].as_f64().is_some_and(f64::is_finite);
            assert_eq!(line["epoch"], epoch);
            assert!(finite("loss_rec") && finite("seconds"), "{line}");
            let anomalous = strategy != Strategy::Recon;
            assert_eq!(finite("loss_rec_anomalous"), anomalous, "{line}");
            for name in of_game {
                assert_eq!(finite(name), strategy.is_adversarial(), "{name}: {line}");
            }
            assert!(line.get("validation").is_none());
        }
    }
}

/// Cache misses after each epoch.
fn misses(versions: usize) -> Vec<u64> {
    let (normal, _) = product(5, 1);
    let mut training = Training::new(small(Strategy::CkaPatch), &normal, &[]);
    training.config.anomalies = AnomalySource::Elastic;
    training.config.versions = versions;
    training.config.schedule.epochs = 3;
    let (log, _) = logged(&training);
    let misses = log.iter().map(|line| line["cache"]["misses"].as_u64());
    misses.map(Option::unwrap).collect()
}

#[test]
fn twins_are_distorted_anew_in_each_epoch_or_kept() {
    // 4 of the 5 images are learnt from: each is looked at once, and so is each of its twins.
    assert_eq!(misses(0), [8, 12, 16]);
    assert_eq!(misses(1), [8, 8, 8]);
    assert_eq!(misses(2), [8, 12, 12]);
}

/// A run of 5 epochs whose images to watch cannot be told apart but by chance.
fn watched<'a>(images: &'a [Sample], validation: Validation, seed: u64) -> Training<'a> {
    let (normal, known) = images.split_at(14);
    let mut training = Training::new(small(Strategy::CkaPatch), normal, known);
    training.seed = seed;
    training.config.validation = validation;
    training.config.schedule.epochs = 5;
    training.config.schedule.learning_rate = 0.02;
    training
}

#[test]
fn the_best_epoch_is_kept_where_that_is_asked_for() {
    let (images, _) = product(26, 1);
    let aurocs = |log: &[Value]| -> Vec<f64> {
        let aurocs = log.iter().map(|line| line["validation"]["auroc"].as_f64());
        aurocs.map(Option::unwrap).collect()
    };
    let best_of = |log: &[Value]| {
        let found = aurocs(log);
        let highest = found.iter().copied().fold(0.0, f64::max);
        found.iter().position(|&auroc| auroc == highest).unwrap()
    };
    // In a run that is best at its start or its end another epoch could be kept unnoticed.
    let (seed, kept_log, kept) = (0..20)
        .find_map(|seed| {
            let (log, tensors) = logged(&watched(&images, Validation::Best, seed));
            (1..4)
                .contains(&best_of(&log))
                .then_some((seed, log, tensors))
        })
        .expect("some run is best in the middle");
    let best = best_of(&kept_log);
    assert_eq!(kept_log[4]["best_epoch"], best);

    // Watching alone changes nothing in what is learnt, and nothing depends on epochs to come.
    let (log, last) = logged(&watched(&images, Validation::Log, seed));
    assert!(log[4]["best_epoch"].is_null());
    for (line, kept) in log.iter().zip(&kept_log) {
        assert_eq!(line["validation"], kept["validation"]);
        for figure in ["of_normal", "of_anomalous"] {
            let value = line["validation"][figure].as_f64().unwrap();
            assert!(value > 0.0 && value.is_finite(), "{figure}: {value}");
        }
    }
    assert!(kept != last, "the last epoch was kept");
    let mut until_best = watched(&images, Validation::Log, seed);
    until_best.config.schedule.epochs = best + 1;
    assert!(logged(&until_best).1 == kept, "another epoch was kept");
}

#[test]
fn normal_images_alone_are_watched_without_a_verdict() {
    let (normal, _) = product(8, 1);
    let mut training = Training::new(small(Strategy::CkaPatch), &normal, &[]);
    training.config.anomalies = AnomalySource::Elastic;
    training.config.validation = Validation::Best;
    let (log, best) = logged(&training);
    for line in &log {
        let watched = &line["validation"];
        assert!(watched["auroc"].is_null() && watched["of_anomalous"].is_null());
        assert!(watched["of_normal"].is_number() && line["best_epoch"].is_null());
    }
    training.config.validation = Validation::Log;
    assert!(logged(&training).1 == best, "the last epoch is kept");
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run() {
    let (normal, test) = product(6, 2);
    let known = planted(&test, [10, 10]);
    for strategy in [Strategy::Recon, Strategy::CkaPatch] {
        let mut training = Training::new(small(strategy), &normal, &known);
        training.config.schedule.learning_rate = 1e30;
        let error = training.run(&mut Quiet).unwrap_err().to_string();
        for part in ["not finite", "epoch 0, step 1", "learning_rate"] {
            assert!(error.contains(part), "{error}");
        }
    }
}
