//! What the strategies learn, and what they say of it.

use super::*;
use crate::network::NormMode;

const ALL: [Strategy; 6] = [
    Strategy::Mse,
    Strategy::Rec,
    Strategy::RecGac,
    Strategy::Igd,
    Strategy::Dsvdd,
    Strategy::DsvddRec,
];

/// The values of all tensors whose names have these parts.
fn values(tensors: &mut TensorSet, parts: &[&str]) -> Vec<f32> {
    let named = tensors.iter_mut();
    let found: Vec<f32> = named
        .filter(|(name, _)| parts.iter().all(|part| name.contains(part)))
        .flat_map(|(_, tensor)| tensor.values.clone())
        .collect();
    assert!(!found.is_empty(), "{parts:?}");
    found
}

#[test]
fn each_epoch_records_the_figures_that_its_strategy_has() {
    let (normal, _) = product(6, 1);
    for strategy in ALL {
        let training = Training::new(scratch(strategy), &normal);
        let (_, watcher) = training.learnt();
        assert_eq!(watcher.log.len(), 2);
        for (epoch, line) in watcher.log.iter().enumerate() {
            let finite = |name: &str| line[name].as_f64().is_some_and(f64::is_finite);
            assert_eq!(
                (&line["epoch"], &line["model"]),
                (&epoch.into(), &"local".into())
            );
            assert!(finite("distance") && finite("scale") && finite("seconds"));
            assert_eq!(finite("loss_rec"), strategy.reconstructs(), "{line}");
            let similar = strategy.reconstructs() && strategy != Strategy::Mse;
            assert_eq!(finite("ms_ssim"), similar, "{line}");
            let classifies = strategy.classifies() || strategy.is_svdd();
            assert_eq!(finite("loss_gac"), classifies, "{line}");
            for name in ["loss_fool", "loss_critic"] {
                assert_eq!(finite(name), strategy.interpolates(), "{line}");
            }
            assert!(line.get("watched_auroc").is_none());
        }
    }
}

#[test]
fn every_strategy_learns_something_else() {
    let (normal, _) = product(6, 1);
    let learnt = ALL.map(|strategy| Training::new(scratch(strategy), &normal).tensors());
    for (index, tensors) in learnt.iter().enumerate() {
        assert!(!learnt[..index].contains(tensors), "{:?}", ALL[index]);
    }
}

#[test]
fn encoders_of_deep_svdd_never_have_an_offset() {
    let (normal, _) = product(6, 1);
    for strategy in [Strategy::Dsvdd, Strategy::DsvddRec, Strategy::Igd] {
        let (mut tensors, _) = Training::new(scratch(strategy), &normal).learnt();
        for part in ["generator.encoder.", "generator.head."] {
            let offsets = values(&mut tensors, &[part, ".bias"]);
            let zero = offsets.iter().all(|&value| value == 0.0);
            assert_eq!(zero, strategy.is_svdd(), "{strategy:?}, {part}");
            let weights = values(&mut tensors, &[part, ".weight"]);
            assert!(weights.iter().any(|&value| value != 0.0));
        }
        if strategy.reconstructs() {
            let offsets = values(&mut tensors, &["decoder.", ".bias"]);
            assert!(offsets.iter().any(|&value| value != 0.0));
        }
    }
}

#[test]
fn a_loaded_encoder_of_deep_svdd_goes_on_without_offsets() {
    let (normal, test) = product(6, 2);
    let model = Training::new(scratch(Strategy::Dsvdd), &normal)
        .run(&mut Quiet)
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    model.save(&path, false).unwrap();
    let none = |_: &crate::method::BackboneRecord| -> Result<Backbone<Flex>> {
        Ok(BackboneConfig::None.random(SEED, &Default::default()))
    };
    let loaded = Model::<Flex>::load(&path, &Default::default(), none).unwrap();
    assert_same(&scores(&model, &test, 2), &scores(&loaded, &test, 2), 0.0);
    assert!(tensors(&model) == tensors(&loaded));
}

#[test]
fn under_norm_mode_eval_training_leaves_running_statistics_alone() {
    let (normal, _) = product(9, 1);
    let mut training = Training::new(scratch(Strategy::Igd), &normal);
    training.config.schedule.epochs = 6;
    let (mut followed, _) = training.learnt();
    let means = values(&mut followed, &["running.mean"]);
    assert!(means.iter().any(|&value| value != 0.0));

    training.config.norm_mode = NormMode::Eval;
    let (mut left, watcher) = training.learnt();
    let mut all = |part: &str, expected: f32| {
        let values = values(&mut left, &[part]);
        values.iter().all(|&value| value == expected)
    };
    assert!(all("running.mean", 0.0) && all("running.variance", 1.0));
    assert!(!all("norm.weight", 1.0) && !all("norm1.bias", 0.0));
    let part = |epoch: usize, name: &str| watcher.log[epoch][name].as_f64().unwrap();
    let loss = |epoch| part(epoch, "loss_rec") + part(epoch, "loss_gac");
    assert!(loss(5) < 0.8 * loss(0), "{:?}", watcher.log);
}

#[test]
fn the_centre_moves_with_every_e_step_but_that_of_deep_svdd_stays() {
    let (normal, _) = product(6, 1);
    for strategy in [Strategy::Igd, Strategy::Dsvdd] {
        let mut training = Training::new(scratch(strategy), &normal);
        training.config.schedule.e_step = 1;
        training.config.schedule.epochs = 3;
        let (_, watcher) = training.learnt();
        let scales: Vec<f64> = watcher
            .log
            .iter()
            .map(|line| line["scale"].as_f64().unwrap())
            .collect();
        assert!(scales.iter().all(|&scale| scale >= 1.0));
        let mut centres = [1, 3].map(|epochs| {
            // The rate falls by the whole schedule, so only the first E-step is the same.
            training.config.schedule.epochs = epochs;
            let (mut tensors, _) = training.learnt();
            values(&mut tensors, &["local.centre"])
        });
        assert!(centres.iter().flatten().all(|value| value.abs() >= 0.1));
        let [first, last] = &mut centres;
        assert_eq!(first == last, strategy.is_svdd(), "{strategy:?}");
    }
}

#[test]
fn a_collapse_is_said_once_and_a_sound_training_says_nothing() {
    // One image again and again, which is mapped to the centre with ease.
    let (normal, _) = product(1, 1);
    let same = vec![normal[0].clone(); 5];
    let mut training = Training::new(scratch(Strategy::Dsvdd), &same);
    training.config.norm_mode = NormMode::Eval;
    training.config.flip = false;
    training.config.schedule.epochs = 30;
    let (_, watcher) = training.learnt();
    let warned: Vec<&String> = watcher
        .warnings
        .iter()
        .filter(|warning| warning.contains("maps everything to the centre"))
        .collect();
    assert_eq!(warned.len(), 1, "{:?}", watcher.warnings);
    assert!(warned[0].starts_with("local model, epoch "));
    let said = watcher
        .log
        .iter()
        .filter(|line| line["warning"].is_string());
    assert_eq!(said.count(), 1);

    let (normal, _) = product(9, 1);
    let (_, watcher) = Training::new(scratch(Strategy::Igd), &normal).learnt();
    assert!(watcher.log.iter().all(|line| line["warning"].is_null()));
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run() {
    let (normal, _) = product(9, 1);
    for strategy in [Strategy::Igd, Strategy::Mse, Strategy::Dsvdd] {
        let mut training = Training::new(scratch(strategy), &normal);
        training.config.schedule.learning_rate = 1e30;
        let error = training.run(&mut Quiet).unwrap_err().to_string();
        for part in ["not finite", "local model, epoch 0, step ", "learning_rate"] {
            assert!(error.contains(part), "{strategy:?}: {error}");
        }
    }
}
