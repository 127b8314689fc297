#![allow(clippy::unwrap_used)]
use super::*;
use crate::data::sample::{Label, MaskSource};
use proptest::prelude::*;

fn sample(label: Label, kind: &str, index: usize, mask: bool) -> Sample {
    let path = format!("data/test/{kind}/{index:03}.png");
    Sample {
        mask: mask.then(|| MaskSource::File(format!("data/truth/{kind}/{index:03}.png").into())),
        image: ImageSource::File(path.into()),
        label,
        kind: kind.to_owned(),
    }
}

/// Three normal test images, and of kind `a`, `b`, ... as many as `counts` say, the last `bare` of each without mask.
fn dataset(counts: &[usize], bare: usize) -> Dataset {
    let mut test: Vec<Sample> = (0..3)
        .map(|index| sample(Label::Normal, "good", index, false))
        .collect();
    for (kind, &count) in ["a", "b", "c", "d"].iter().zip(counts) {
        test.extend(
            (0..count).map(|index| sample(Label::Anomalous, kind, index, index + bare < count)),
        );
    }
    Dataset {
        name: "thing".into(),
        train: vec![sample(Label::Normal, "good", 9, false)],
        test,
        ..Dataset::default()
    }
}

fn names(samples: &[Sample]) -> Vec<String> {
    samples
        .iter()
        .map(|sample| sample.image.name().into_owned())
        .collect()
}

fn of_kind(split: &KnownSplit, kind: &str) -> usize {
    split
        .known
        .iter()
        .filter(|sample| sample.kind == kind)
        .count()
}

fn ask(count: KnownCount, kinds: Kinds) -> KnownAnomalies {
    KnownAnomalies {
        count,
        kinds,
        draw: None,
    }
}

fn list(kinds: &[&str]) -> Vec<String> {
    kinds.iter().map(|&kind| kind.to_owned()).collect()
}

#[test]
fn a_total_is_shared_evenly_and_the_remainder_is_drawn() {
    let data = dataset(&[8, 8, 8, 1], 0);
    for seed in 0..5 {
        let split = ask(KnownCount::Total(10), Kinds::All)
            .choose(&data, seed, true)
            .unwrap();
        let counts = ["a", "b", "c", "d"].map(|kind| of_kind(&split, kind));
        assert_eq!(counts.iter().sum::<usize>(), 10);
        assert!(
            counts[..3].iter().all(|&count| count >= 2) && counts[3] == 1,
            "{counts:?}"
        );
    }
}

#[test]
fn fewer_than_one_of_each_kind_are_drawn_from_all() {
    let data = dataset(&[4, 4, 4, 4], 0);
    let kinds: BTreeSet<String> = (0..20)
        .map(|seed| {
            ask(KnownCount::Total(1), Kinds::All)
                .choose(&data, seed, true)
                .unwrap()
        })
        .map(|split| split.known[0].kind.clone())
        .collect();
    assert_eq!(kinds.len(), 4);
}

#[test]
fn images_without_mask_are_passed_over_and_counted() {
    let data = dataset(&[5, 5], 3);
    let split = ask(KnownCount::PerKind(2), Kinds::All)
        .choose(&data, 0, true)
        .unwrap();
    assert_eq!((split.known.len(), split.without_mask), (4, 6));
    assert!(split.known.iter().all(|sample| sample.mask.is_some()));
    let error = ask(KnownCount::PerKind(3), Kinds::All)
        .choose(&data, 0, true)
        .unwrap_err();
    assert!(error.is_usage());
    for part in ["a has 2", "b has 2", "6 more have no mask"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    let error = ask(KnownCount::Total(5), Kinds::All)
        .choose(&data, 0, true)
        .unwrap_err();
    assert!(
        error.is_usage() && error.to_string().contains("there are 4 "),
        "{error}"
    );
}

#[test]
fn an_unknown_kind_names_those_that_exist() {
    let data = dataset(&[2, 2], 0);
    for kinds in [Kinds::Only(list(&["a", "z"])), Kinds::Except(list(&["z"]))] {
        let error = ask(KnownCount::Total(0), kinds.clone())
            .choose(&data, 0, true)
            .unwrap_err();
        assert!(
            error.is_usage() && error.to_string().contains("a, b"),
            "{error}"
        );
        assert!(kinds.tested(data.clone()).is_err());
    }
}

#[test]
fn one_class_is_trained_and_the_others_are_tested() {
    let data = dataset(&[4, 3, 2], 0);
    let split = ask(KnownCount::Total(3), Kinds::Only(list(&["a"])))
        .choose(&data, 0, true)
        .unwrap();
    assert_eq!(of_kind(&split, "a"), 3);
    let tested = Kinds::Except(list(&["a"])).tested(split.dataset).unwrap();
    let kinds: Vec<&str> = tested
        .test
        .iter()
        .map(|sample| sample.kind.as_str())
        .collect();
    assert_eq!(kinds, ["good", "good", "good", "b", "b", "b", "c", "c"]);
}

#[test]
fn what_a_kind_gives_grows_with_the_count_and_ignores_other_kinds() {
    let alone = |count| {
        let split = ask(KnownCount::PerKind(count), Kinds::Only(list(&["b"])));
        names(
            &split
                .choose(&dataset(&[9, 9, 9], 0), 4, true)
                .unwrap()
                .known,
        )
    };
    let (three, five) = (alone(3), alone(5));
    assert!(three.iter().all(|name| five.contains(name)));
    let among = ask(KnownCount::PerKind(3), Kinds::All)
        .choose(&dataset(&[9, 9, 9], 0), 4, true)
        .unwrap();
    let among: Vec<String> = names(&among.known)
        .into_iter()
        .filter(|name| name.contains("/b/"))
        .collect();
    assert_eq!(among, three);
}

#[test]
fn names_below_the_folder_leave_images_out_wherever_it_lies() {
    let mut data = dataset(&[2], 0);
    assert_eq!(
        relative_name(&data.test[3], Path::new("data")),
        "test/a/000.png"
    );
    let out = leave_out(
        &mut data,
        Path::new("data"),
        &list(&["test/a/001.png", "test/b/000.png"]),
    );
    assert_eq!((out, data.test.len()), (1, 4));
}

#[test]
fn settings_read_as_they_are_documented() {
    let text = r#"{"count": {"per-kind": 5}, "kinds": {"except": ["crack"]}}"#;
    let read: KnownAnomalies = serde_json::from_str(text).unwrap();
    assert_eq!(
        read,
        ask(KnownCount::PerKind(5), Kinds::Except(list(&["crack"])))
    );
    let text = r#"{"count": {"share": 0.05}, "kinds": "all", "draw": 3}"#;
    let read: KnownAnomalies = serde_json::from_str(text).unwrap();
    assert_eq!((read.count, read.draw), (KnownCount::Share(0.05), Some(3)));
    let default = serde_json::to_value(KnownAnomalies::default()).unwrap();
    assert_eq!(
        default,
        serde_json::json!({ "count": { "total": 0 }, "kinds": "all", "draw": null })
    );
    assert!(
        serde_json::from_str::<KnownAnomalies>(
            r#"{"count": {"total": 1}, "kinds": "all", "x": 1}"#
        )
        .is_err()
    );
}

/// The same dataset with `n` normal images and a pool of kinds `a` and `z`, 6 each, without masks.
fn with_pool(n: usize) -> Dataset {
    let pooled = |kind: &str, index| {
        let mut sample = sample(Label::Anomalous, kind, index, false);
        sample.image = ImageSource::File(format!("data/train/{kind}/{index:03}.png").into());
        sample
    };
    Dataset {
        train: (0..n)
            .map(|index| sample(Label::Normal, "good", index, false))
            .collect(),
        pool: (0..12)
            .map(|index| pooled(["a", "z"][index % 2], index))
            .collect(),
        ..dataset(&[2, 2], 0)
    }
}

#[test]
fn from_a_pool_they_are_chosen_and_every_test_image_stays() {
    let data = with_pool(4);
    let ask = ask(KnownCount::PerKind(2), Kinds::All);
    let split = ask.choose(&data, 0, false).unwrap();
    assert_eq!((of_kind(&split, "a"), of_kind(&split, "z")), (2, 2));
    assert!(
        names(&split.known)
            .iter()
            .all(|name| name.contains("train/"))
    );
    assert_eq!(names(&split.dataset.test), names(&data.test));
    assert_eq!(split.dataset.pool.len(), 8);
    assert_eq!(split.without_mask, 0);
    assert_eq!(Vec::from_iter(learnable_kinds(&data)), ["a", "z"]);
    // Kinds of the pool and of the test images both exist.
    for kind in ["b", "z"] {
        Kinds::Except(list(&[kind])).check(&data).unwrap();
    }
    let error = ask.choose(&data, 0, true).unwrap_err().to_string();
    assert!(
        error.contains("with a mask") && error.contains("12 more have no mask"),
        "{error}"
    );
}

#[test]
fn a_share_is_one_of_normal_images_and_anomalies_together() {
    for (normal, share, expected) in [
        (95, 0.05, 5),
        (98, 0.02, 2),
        (10, 0.3, 4),
        (12, 0.5, 12),
        (50, 0.0, 0),
        (9, 0.01, 0),
    ] {
        let split = ask(KnownCount::Share(share), Kinds::All).choose(&with_pool(normal), 0, false);
        assert_eq!(split.unwrap().known.len(), expected, "{normal} {share}");
    }
    let error = ask(KnownCount::Share(0.9), Kinds::All).choose(&with_pool(4), 0, false);
    let error = error.unwrap_err();
    assert!(
        error.is_usage() && error.to_string().contains("12 anomalous images, not 36"),
        "{error}"
    );
    for share in [1.0, -0.1, f64::NAN, f64::INFINITY] {
        let error = ask(KnownCount::Share(share), Kinds::All)
            .validate()
            .unwrap_err();
        assert!(error.is_usage(), "{error}");
    }
}

#[test]
fn kinds_are_drawn_by_the_seed_and_fewer_are_among_more() {
    let data = dataset(&[5, 5, 5, 5], 0);
    let kinds = |draw: usize, seed: u64| -> BTreeSet<String> {
        let ask = KnownAnomalies {
            draw: Some(draw),
            ..ask(KnownCount::Total(4), Kinds::Except(list(&["d"])))
        };
        let split = ask.choose(&data, seed, true).unwrap();
        assert_eq!(split.known.len(), 4);
        split.known.into_iter().map(|sample| sample.kind).collect()
    };
    let drawn: BTreeSet<_> = (0..20).map(|seed| kinds(1, seed)).collect();
    assert_eq!(drawn.len(), 3);
    for seed in 0..5 {
        assert_eq!((kinds(1, seed).len(), kinds(2, seed).len()), (1, 2));
        assert!(kinds(1, seed).is_subset(&kinds(2, seed)));
        assert_eq!(Vec::from_iter(kinds(3, seed)), ["a", "b", "c"]);
    }
    for (draw, part) in [(0, "0 kinds"), (5, "there are 4 kinds")] {
        let ask = KnownAnomalies {
            draw: Some(draw),
            ..ask(KnownCount::Total(2), Kinds::All)
        };
        let error = ask.choose(&data, 0, true).unwrap_err();
        assert!(
            error.is_usage() && error.to_string().contains(part),
            "{error}"
        );
    }
}

proptest! {
    #[test]
    fn every_image_is_on_one_side_and_the_count_is_exact(
        counts in prop::collection::vec(0usize..6, 1..5),
        bare in 0usize..2,
        wanted in 0usize..8,
        seed in any::<u64>(),
    ) {
        let data = dataset(&counts, bare);
        let with_mask: usize = counts.iter().map(|count| count.saturating_sub(bare)).sum();
        let choice = ask(KnownCount::Total(wanted), Kinds::All).choose(&data, seed, true);
        prop_assert_eq!(choice.is_ok(), wanted <= with_mask);
        if let Ok(split) = choice {
            prop_assert_eq!(split.known.len(), wanted);
            let mut all = [names(&split.known), names(&split.dataset.test)].concat();
            all.sort();
            let mut before = names(&data.test);
            before.sort();
            prop_assert_eq!(all, before);
            prop_assert_eq!(names(&split.dataset.train), names(&data.train));
            prop_assert!(split.known.iter().all(|sample| sample.label.is_anomalous()));
        }
    }

    #[test]
    fn the_order_of_the_listing_changes_nothing(seed in any::<u64>(), turn in 0usize..15, wanted in 0usize..10) {
        let data = dataset(&[5, 4, 3], 0);
        let mut turned = data.clone();
        turned.test.rotate_left(turn);
        let choose = |data: &Dataset| names(&ask(KnownCount::Total(wanted), Kinds::All).choose(data, seed, true).unwrap().known);
        prop_assert_eq!(choose(&data), choose(&turned));
        prop_assert_eq!(choose(&data), choose(&data));
    }
}
