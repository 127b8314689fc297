//! Runs that are stopped, and go on.

use std::ops::ControlFlow;
use std::path::Path;

use super::*;
use crate::train::Step;
use crate::train::testing::spoilt;

/// Stops a run at a step of a phase, whose name begins as given.
struct Stopper {
    at: Option<(&'static str, u64)>,
    watcher: Watcher,
}

impl Observer for Stopper {
    fn step(&mut self, step: &Step<'_>) -> ControlFlow<()> {
        match self.at {
            Some((phase, done)) if step.phase.starts_with(phase) && step.done == done => {
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn warn(&mut self, message: &str) {
        self.watcher.warn(message);
    }

    fn record(&mut self, figures: &Value) {
        self.watcher.record(figures);
    }
}

fn stopper(at: Option<(&'static str, u64)>) -> Stopper {
    Stopper {
        at,
        watcher: Watcher::default(),
    }
}

fn checkpoints(dir: &Path, resume: bool) -> Option<Checkpoints> {
    let path = dir.join("run.checkpoint");
    Some(Checkpoints { path, resume })
}

/// Lines of a log without what depends on the clock.
fn figures(log: &[Value]) -> Vec<Value> {
    let mut lines = log.to_vec();
    for line in &mut lines {
        let line = line.as_object_mut().unwrap();
        assert!(line.remove("seconds").is_some() && line.contains_key("distance"));
    }
    lines
}

/// Whether a run of 3 epochs of 3 steps a model that was stopped again and again gives what one in one go gives.
fn assert_goes_on(config: IgdConfig, stops: &[(&'static str, u64)]) {
    let (normal, test) = product(10, 4);
    let watched = [test.clone(), planted(&test)].concat();
    let models = config.scales.iter().count();
    let mut training = Training::new(config, &normal);
    training.config.schedule.epochs = 3;
    training.config.schedule.e_step = 2;
    training.watched = Watched {
        samples: &watched,
        every: 2,
    };
    let mut whole = stopper(None);
    let expected = tensors(&training.run(&mut whole).unwrap());
    let whole = whole.watcher;
    assert_eq!(whole.log.len(), 3 * models);
    assert!(whole.log.iter().all(|line| line["steps"] == 3));

    let dir = tempfile::tempdir().unwrap();
    let mut log = Vec::new();
    for (index, &stop) in stops.iter().enumerate() {
        training.checkpoints = checkpoints(dir.path(), index > 0);
        let mut stopper = stopper(Some(stop));
        let error = training.run(&mut stopper).unwrap_err();
        assert!(error.is_interrupted(), "{stop:?}: {error}");
        log.extend(stopper.watcher.log);
    }
    training.checkpoints = checkpoints(dir.path(), true);
    let mut last = stopper(None);
    let result = training.run(&mut last).unwrap();
    log.extend(last.watcher.log);
    assert!(tensors(&result) == expected, "the models differ");
    assert_eq!(figures(&log), figures(&whole.log));

    // A run that was finished gives its model again.
    let mut again = stopper(None);
    assert!(tensors(&training.run(&mut again).unwrap()) == expected);
    assert!(again.watcher.log.is_empty());
}

#[test]
fn a_run_from_scratch_goes_on_as_if_nothing_had_happened() {
    // In an E-step, in an epoch, at its last step, in the next E-step, while watching, in the last epoch.
    let stops = [
        ("estimating", 3),
        ("training", 1),
        ("training", 2),
        ("training", 6),
        ("watching", 8),
        ("estimating", 8),
        ("training", 8),
    ];
    assert_goes_on(scratch(Strategy::Igd), &stops);
}

#[test]
fn deep_svdd_goes_on_as_if_nothing_had_happened() {
    for strategy in [Strategy::Dsvdd, Strategy::DsvddRec] {
        assert_goes_on(scratch(strategy), &[("training", 1), ("training", 7)]);
    }
}

#[test]
fn both_models_go_on_as_if_nothing_had_happened() {
    let stops = [
        ("training, global", 2),
        ("training, global", 9),
        ("estimating", 3),
        ("training, local", 1),
        ("training, local", 6),
        ("training, local", 8),
    ];
    assert_goes_on(both(), &stops);
}

#[test]
fn a_model_behind_a_backbone_goes_on_as_if_nothing_had_happened() {
    assert_goes_on(frozen(), &[("estimating", 6), ("training", 5)]);
}

#[test]
fn a_checkpoint_of_another_run_is_refused() {
    let (normal, _) = product(6, 1);
    let dir = tempfile::tempdir().unwrap();
    let mut training = Training::new(scratch(Strategy::Igd), &normal);
    training.checkpoints = checkpoints(dir.path(), false);
    training
        .run(&mut stopper(Some(("training", 1))))
        .unwrap_err();
    training.checkpoints = checkpoints(dir.path(), true);
    let others: [fn(&mut Training<'_>); 5] = [
        |training| training.config.loss.rho = 0.3,
        |training| training.config.strategy = Strategy::RecGac,
        |training| training.seed += 1,
        |training| training.normal = &training.normal[..5],
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
    let mut config = both();
    config.schedule.epochs = 1;
    let mut training = Training::new(config, &normal);
    training.checkpoints = checkpoints(dir.path(), false);
    training
        .run(&mut stopper(Some(("training, local", 1))))
        .unwrap_err();
    training.checkpoints = checkpoints(dir.path(), true);
    let path = dir.path().join("run.checkpoint");
    let whole = std::fs::read(&path).unwrap();
    let spoilt = spoilt(&whole);
    // Both networks together, an optimiser each, the model that was finished; and the file itself.
    assert_eq!(spoilt.len(), 2 * 4 + 1);
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
