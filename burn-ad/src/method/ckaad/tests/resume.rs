//! Runs that are stopped, and go on.

use std::path::Path;

use super::*;
use crate::method::ckaad::Validation;
use crate::network::NormKind;
use crate::train::testing::spoilt;

fn checkpoints(dir: &Path, resume: bool) -> Option<Checkpoints> {
    let path = dir.join("run.checkpoint");
    Some(Checkpoints { path, resume })
}

/// Lines of a log without what depends on the clock, or on how often the run was started.
fn figures(log: &[Value]) -> Vec<Value> {
    let mut lines = log.to_vec();
    for line in &mut lines {
        let line = line.as_object_mut().unwrap();
        line.retain(|name, _| name != "seconds" && !name.starts_with("cache"));
        assert!(line.contains_key("loss_rec"));
    }
    lines
}

/// Whether a run of 3 epochs of 3 steps that was stopped again and again gives what one in one go
/// gives.
fn assert_goes_on(change: impl FnOnce(&mut CkaadConfig), adversarial: bool) {
    let (normal, test) = product(14, 5);
    let known = planted(&test, [30, 8]);
    let mut training = Training::new(small(Strategy::CkaPatch), &normal, &known);
    training.config.schedule.epochs = 3;
    change(&mut training.config);
    let mut whole = Watcher::default();
    let expected = tensors(&training.run(&mut whole).unwrap());
    assert_eq!(whole.log.len(), 3);
    assert_eq!(whole.log[2]["steps"], 3);
    assert_eq!(whole.log[2]["loss_d"].is_number(), adversarial);

    let dir = tempfile::tempdir().unwrap();
    let mut log = Vec::new();
    // In the middle of an epoch twice, at the last step of one, and in the last one.
    for stop_after in [Some(1), Some(2), Some(6), Some(8), None] {
        training.checkpoints = checkpoints(dir.path(), stop_after != Some(1));
        let mut watcher = Watcher {
            stop_after,
            ..Watcher::default()
        };
        let result = training.run(&mut watcher);
        log.extend(watcher.log);
        match stop_after {
            Some(_) => assert!(result.unwrap_err().is_interrupted()),
            None => assert!(tensors(&result.unwrap()) == expected, "the models differ"),
        }
    }
    assert_eq!(figures(&log), figures(&whole.log));

    // A run that was finished gives its model again.
    training.checkpoints = checkpoints(dir.path(), true);
    assert!(training.tensors() == expected);
}

#[test]
fn with_known_anomalies_a_run_goes_on_as_if_nothing_had_happened() {
    assert_goes_on(|_| (), true);
}

#[test]
fn with_a_discriminator_of_images_a_run_goes_on_as_if_nothing_had_happened() {
    assert_goes_on(|config| config.strategy = Strategy::Gan, true);
}

#[test]
fn running_statistics_go_on_as_if_nothing_had_happened() {
    let change = |config: &mut CkaadConfig| {
        config.strategy = Strategy::Recon;
        config.norm = NormKind::Batch;
    };
    assert_goes_on(change, false);
}

#[test]
fn new_twins_and_the_best_epoch_go_on_as_if_nothing_had_happened() {
    let change = |config: &mut CkaadConfig| {
        config.anomalies = AnomalySource::Elastic;
        config.strategy = Strategy::CkaImg;
    };
    assert_goes_on(change, true);
    let change = |config: &mut CkaadConfig| config.validation = Validation::Best;
    assert_goes_on(change, true);
}

#[test]
fn a_checkpoint_of_another_run_is_refused() {
    let (normal, test) = product(6, 2);
    let known = planted(&test, [30, 8]);
    let dir = tempfile::tempdir().unwrap();
    let mut training = Training::new(small(Strategy::CkaPatch), &normal, &known);
    training.checkpoints = checkpoints(dir.path(), false);
    let mut watcher = Watcher {
        stop_after: Some(1),
        ..Watcher::default()
    };
    training.run(&mut watcher).unwrap_err();
    training.checkpoints = checkpoints(dir.path(), true);
    let others: [fn(&mut Training<'_>); 5] = [
        |training| training.config.loss.gamma = 0.3,
        |training| training.config.versions = 2,
        |training| training.seed += 1,
        |training| training.anomalous = &training.anomalous[..1],
        |training| training.backbone = "resnet18",
    ];
    for (index, change) in others.into_iter().enumerate() {
        let mut other = training.clone();
        change(&mut other);
        let error = other.run(&mut Quiet).unwrap_err();
        let said = error.to_string().contains("run.checkpoint");
        assert!(error.is_usage() && said, "{index}: {error}");
    }
    training.run(&mut Quiet).unwrap();
}

#[test]
fn a_damaged_checkpoint_is_refused_by_its_name() {
    let (normal, _) = product(4, 1);
    let dir = tempfile::tempdir().unwrap();
    let mut training = Training::new(small(Strategy::CkaPatch), &normal, &[]);
    training.config.anomalies = AnomalySource::Elastic;
    training.checkpoints = checkpoints(dir.path(), false);
    let mut watcher = Watcher {
        stop_after: Some(1),
        ..Watcher::default()
    };
    training.run(&mut watcher).unwrap_err();
    training.checkpoints = checkpoints(dir.path(), true);
    let path = dir.path().join("run.checkpoint");
    let whole = std::fs::read(&path).unwrap();
    let spoilt = spoilt(&whole);
    // Both networks together, an optimiser each; and the file itself.
    assert_eq!(spoilt.len(), 2 * 3 + 1);
    for (what, bytes) in spoilt {
        std::fs::write(&path, bytes).unwrap();
        let error = training.run(&mut Quiet).unwrap_err().to_string();
        for part in ["run.checkpoint", "--overwrite"] {
            assert!(error.contains(part), "{what}: {error}");
        }
    }
    std::fs::write(&path, whole).unwrap();
    training.run(&mut Quiet).unwrap();
}
