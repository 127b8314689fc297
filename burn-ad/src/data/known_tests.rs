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
    KnownAnomalies { count, kinds }
}

fn list(kinds: &[&str]) -> Vec<String> {
    kinds.iter().map(|&kind| kind.to_owned()).collect()
}

#[test]
fn a_total_is_shared_evenly_and_the_remainder_is_drawn() {
    let data = dataset(&[8, 8, 8, 1], 0);
    for seed in 0..5 {
        let split = ask(KnownCount::Total(10), Kinds::All)
            .choose(&data, seed)
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
                .choose(&data, seed)
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
        .choose(&data, 0)
        .unwrap();
    assert_eq!((split.known.len(), split.without_mask), (4, 6));
    assert!(split.known.iter().all(|sample| sample.mask.is_some()));
    let error = ask(KnownCount::PerKind(3), Kinds::All)
        .choose(&data, 0)
        .unwrap_err();
    assert!(error.is_usage());
    for part in ["a has 2", "b has 2", "6 more have no mask"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    let error = ask(KnownCount::Total(5), Kinds::All)
        .choose(&data, 0)
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
            .choose(&data, 0)
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
        .choose(&data, 0)
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
        names(&split.choose(&dataset(&[9, 9, 9], 0), 4).unwrap().known)
    };
    let (three, five) = (alone(3), alone(5));
    assert!(three.iter().all(|name| five.contains(name)));
    let among = ask(KnownCount::PerKind(3), Kinds::All)
        .choose(&dataset(&[9, 9, 9], 0), 4)
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
    let default = serde_json::to_value(KnownAnomalies::default()).unwrap();
    assert_eq!(
        default,
        serde_json::json!({ "count": { "total": 0 }, "kinds": "all" })
    );
    assert!(
        serde_json::from_str::<KnownAnomalies>(
            r#"{"count": {"total": 1}, "kinds": "all", "x": 1}"#
        )
        .is_err()
    );
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
        let choice = ask(KnownCount::Total(wanted), Kinds::All).choose(&data, seed);
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
        let choose = |data: &Dataset| names(&ask(KnownCount::Total(wanted), Kinds::All).choose(data, seed).unwrap().known);
        prop_assert_eq!(choose(&data), choose(&turned));
        prop_assert_eq!(choose(&data), choose(&data));
    }
}
