//! Datasets with classes: one of them is normal, and anomalies lie on the training side too.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::world::{DONE, QUICK, Ran, USAGE, draw_kinds, json, predictions, run, runs};

const SIDE: u32 = 16;

/// `digits`: 8 training and 3 test images each of the classes 0, 1 and 2, in IDX files.
pub(crate) fn world() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("digits");
    std::fs::create_dir(&root).unwrap();
    let write = |name: &str, magic: u32, shape: &[u32], bytes: Vec<u8>| {
        let numbers = std::iter::once(&magic).chain(shape);
        let head = numbers.flat_map(|number| number.to_be_bytes());
        std::fs::write(root.join(name), head.chain(bytes).collect::<Vec<u8>>()).unwrap();
    };
    for (part, each) in [("train", 8u32), ("t10k", 3)] {
        let count = 3 * each;
        let labels = (0..count).map(|index| (index % 3) as u8).collect();
        // Stripes across, stripes down, or a chequerboard; a little different in each image.
        let pixels = (0..count).flat_map(|index| {
            (0..SIDE * SIDE).map(move |at| {
                let (x, y) = (at % SIDE / 4, at / SIDE / 4);
                let on = [y, x, x + y][index as usize % 3] % 2;
                // No image of one side is one of the other.
                (200 * on + (at * 7 + (index + each) * 13) % 55) as u8
            })
        });
        let shape = [count, SIDE, SIDE];
        write(
            &format!("{part}-images-idx3-ubyte"),
            0x803,
            &shape,
            pixels.collect(),
        );
        write(
            &format!("{part}-labels-idx1-ubyte"),
            0x801,
            &[count],
            labels,
        );
    }
    dir
}

fn words<'a>(text: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    text.split_whitespace()
        .chain(more.iter().copied())
        .collect()
}

#[test]
fn one_class_is_learnt_and_all_are_tested() {
    let dir = world();
    let dir = dir.path();
    let info = run(dir, ["data", "info", "digits", "--normal-class", "1"]).ends_with(DONE);
    for line in [
        "(training) 8",
        "(training) 0 8",
        "(training) 2 8",
        "good 3",
        "0 3",
    ] {
        let found = info.stdout.lines().any(|row| {
            let row: Vec<&str> = row.split_whitespace().collect();
            row.join(" ").starts_with(line)
        });
        assert!(found, "{line:?} is not in\n{}", info.stdout);
    }
    run(dir, ["data", "check", "digits", "--normal-class", "1"]).ends_with(DONE);

    let train = "train digits -o model --normal-class 1 --test-limit 2 --train-limit 6";
    run(dir, words(train, &QUICK)).ends_with(DONE);
    let config = json(&dir.join("model/config.json"));
    assert_eq!(
        [
            &config["data"]["normal_class"],
            &config["data"]["train_limit"],
            &config["data"]["test_limit"]
        ],
        [&Value::from("1"), &6.into(), &2.into()]
    );
    let counts = || {
        let metrics = json(&dir.join("out/metrics.json"));
        let counts = &metrics["counts"];
        ["train", "test_normal", "test_anomalous"].map(|name| counts[name].as_u64().unwrap())
    };
    // What the model learnt from is no part of what is tested, as in training.
    let ran = run(dir, words("eval model digits -o out", &[])).ends_with(DONE);
    assert_eq!(counts()[1..], [2, 4]);
    let tested = predictions(&dir.join("out/predictions.csv"));
    assert!(tested.iter().all(|(name, ..)| name.starts_with("test/")));
    for part in ["best F1", "accuracy at best F1 (test-set threshold)"] {
        assert!(
            ran.stdout.contains(part),
            "{part:?} is not in\n{}",
            ran.stdout
        );
    }
    let other = "eval model digits -o out --normal-class 2 --test-limit 3";
    run(dir, words(other, &[])).ends_with(DONE);
    assert_eq!(counts()[1..], [3, 6]);
}

#[test]
fn a_class_must_be_named_and_exist() {
    let dir = world();
    for (args, parts) in [
        ("", ["--normal-class", "0, 1, 2"]),
        ("--normal-class boot", ["boot", "0, 1, 2"]),
        (
            "--normal-class 1 --train-limit 0",
            ["train limit", "at least 1"],
        ),
        (
            "--normal-class 1 --layout mvtec-ad",
            ["--normal-class", "mvtec-ad"],
        ),
        // Whoever needs masks finds none here.
        (
            "--normal-class 1 --method bgad --anomaly-ratio 0.2",
            [
                "0 anomalous images with a mask, not 2",
                "16 more have no mask",
            ],
        ),
        (
            "--normal-class 1 --method bgad --anomaly-ratio 1",
            ["share of 1", "0.05"],
        ),
        (
            "--normal-class 1 --method bgad --anomaly-ratio 0.1 --anomalies 2",
            ["--anomaly-ratio", "cannot be used"],
        ),
        (
            "--normal-class 1 --method bgad --anomalies 2 --anomaly-classes 0",
            ["0 kinds", "at least 1"],
        ),
    ] {
        let plain = "train digits -o new --random-weights --backbone resnet18 --size 64";
        let args: Vec<&str> = args.split_whitespace().collect();
        let ran = run(dir.path(), words(plain, &args)).ends_with(USAGE);
        ran.says(&parts);
    }
    assert!(!dir.path().join("new").exists());
}

fn experiment(dir: &Path, data: &str, args: &[&str]) -> Ran {
    let plain = ["experiment", data, "-o", "out"];
    run(dir, plain.into_iter().chain(args.iter().copied()))
}

#[test]
fn normal_classes_are_rows_and_have_a_mean() {
    let dir = world();
    let dir = dir.path();
    let grid = ["--vary", "data.normal_class=0,2", "--seeds", "1"];
    let small = [&grid[..], &QUICK].concat();
    let ran = experiment(dir, "digits", &small).ends_with(DONE);
    for part in ["normal_class", "(mean)", "accuracy at best F1"] {
        assert!(
            ran.stdout.contains(part),
            "{part:?} is not in\n{}",
            ran.stdout
        );
    }
    // There are no masks.
    assert!(!ran.stdout.contains("pixel AUROC"), "{}", ran.stdout);
    for (run, other) in runs(dir).iter().zip(["2", "0"]) {
        assert_eq!(
            (&run["test_normal"], &run["test_anomalous"]),
            (&3.into(), &6.into())
        );
        let report = dir.join("out").join(run["results"].as_str().unwrap());
        let kinds = json(&report.join("metrics.json"))["kinds"].clone();
        let kinds: Vec<&str> = kinds
            .as_array()
            .unwrap()
            .iter()
            .map(|kind| kind["kind"].as_str().unwrap())
            .collect();
        assert!(kinds.contains(&other) && kinds.contains(&"1"), "{kinds:?}");
    }
    // Another first value is the same dataset, and nothing is done again.
    let more = ["--vary", "data.normal_class=2,0", "--seeds", "1"];
    let ran = experiment(dir, "digits", &[&more[..], &QUICK].concat()).ends_with(DONE);
    assert!(!ran.stderr.contains("run 1 of 2"), "{}", ran.stderr);
}

#[test]
fn each_kind_is_learnt_in_turn_and_all_are_tested() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    draw_kinds(dir, "plate");
    let sets = crate::world::QUICK_BGAD;
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let plain = ["--random-weights", "--backbone", "resnet18", "--size", "64"];
    let plain = [&plain[..], &sets, &["--seeds", "1"]].concat();
    let with = |args: &[&'static str]| [&plain[..], args].concat();
    let args = with(&["--split", "each-kind", "--anomaly-ratio", "0.2"]);
    let ran = experiment(dir, "plate", &args).ends_with(DONE);
    for part in ["learnt kind", "(mean)", "ratio 0.2", "PRO per image"] {
        assert!(
            ran.stdout.contains(part),
            "{part:?} is not in\n{}",
            ran.stdout
        );
    }
    for run in runs(dir) {
        assert_eq!(
            (&run["known_anomalies"], &run["test_anomalous"]),
            (&2.into(), &6.into())
        );
        let report = dir.join("out").join(run["results"].as_str().unwrap());
        let report = json(&report.join("metrics.json"));
        assert_eq!(report["kinds"].as_array().unwrap().len(), 3);
        assert!(report["pixel"]["pro_per_image"].is_number());
    }
    let args = with(&[
        "--anomalies",
        "2",
        "--anomaly-classes",
        "1,2",
        "--overwrite",
    ]);
    experiment(dir, "plate", &args).ends_with(DONE);
    let left: Vec<usize> = runs(dir)
        .iter()
        .map(|run| {
            let report = dir.join("out").join(run["results"].as_str().unwrap());
            let report = json(&report.join("metrics.json"));
            let kinds = report["kinds"].as_array().unwrap().clone();
            let whole = |kind: &&Value| kind["images"] == 4;
            kinds.iter().filter(whole).count()
        })
        .collect();
    // From one kind both are taken, from two kinds one each.
    assert_eq!(left, [1, 0]);
    for (args, part) in [
        (
            &["--anomalies", "2", "--anomaly-classes", "3"][..],
            "2 kinds of anomaly to draw from, not 3",
        ),
        (
            &[
                "--split",
                "each-kind",
                "--anomalies",
                "2",
                "--anomaly-classes",
                "1",
            ],
            "one in turn",
        ),
    ] {
        let args = with(&[args, &["--overwrite"]].concat());
        experiment(dir, "plate", &args)
            .ends_with(USAGE)
            .says(&[part]);
    }
}
