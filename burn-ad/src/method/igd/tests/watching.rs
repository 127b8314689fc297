//! Images that are only watched.

use super::*;

/// The AUROC after each epoch, where there is one, and what is learnt.
fn watched(training: &Training<'_>) -> (Vec<Option<f64>>, TensorSet) {
    let (tensors, watcher) = training.learnt();
    let lines = watcher.log.iter();
    let found = lines.map(|line| {
        line.get("watched_auroc")
            .map(|auroc| auroc.as_f64().unwrap())
    });
    (found.collect(), tensors)
}

#[test]
fn watched_images_change_nothing_and_appear_in_the_log_when_it_is_their_turn() {
    let (normal, test) = product(9, 4);
    let images = [test.clone(), planted(&test)].concat();
    for config in [scratch(Strategy::Igd), both()] {
        let models = config.scales.iter().count();
        let mut training = Training::new(config, &normal);
        training.config.schedule.epochs = 5;
        let (found, expected) = watched(&training);
        assert_eq!(found, vec![None; 5 * models]);
        for (every, turns) in [
            (1, [true; 5]),
            (2, [false, true, false, true, true]),
            (9, [false, false, false, false, true]),
        ] {
            training.watched = Watched {
                samples: &images,
                every,
            };
            let (found, tensors) = watched(&training);
            assert!(tensors == expected, "watching changes what is learnt");
            let seen: Vec<bool> = found.iter().map(Option::is_some).collect();
            assert_eq!(seen, turns.repeat(models));
            let aurocs = found.into_iter().flatten();
            assert!(aurocs.into_iter().all(|auroc| (0.0..=1.0).contains(&auroc)));
        }
    }
}

#[test]
fn what_is_watched_is_what_the_model_says_in_the_end() {
    let (normal, test) = product(9, 5);
    let images = [test.clone(), planted(&test)].concat();
    let mut training = Training::new(scratch(Strategy::Igd), &normal);
    training.config.schedule.epochs = 4;
    training.watched = Watched {
        samples: &images,
        every: 1,
    };
    let mut watcher = Watcher::default();
    let model = training.run(&mut watcher).unwrap();
    let found = scores(&model, &images, 4);
    let found: Vec<f32> = found.iter().map(|image| image.score).collect();
    let labels: Vec<bool> = images
        .iter()
        .map(|image| image.label.is_anomalous())
        .collect();
    let expected = auroc(&found, &labels).unwrap().unwrap();
    assert_eq!(watcher.log[3]["watched_auroc"], expected);
}

#[test]
fn normal_images_alone_are_watched_without_a_verdict() {
    let (normal, test) = product(6, 3);
    let mut training = Training::new(scratch(Strategy::Igd), &normal);
    training.watched = Watched {
        samples: &test,
        every: 1,
    };
    assert_eq!(watched(&training).0, [None, None]);
}
