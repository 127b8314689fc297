//! Reconstruction that coarse knowledge of anomalies keeps from reconstructing those.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::classes;
use crate::world::{DONE, Ran, USAGE, draw_kinds, files, json, lines, predictions, run, runs};

/// Settings of a CKAAD that learns in a second; methods are told apart by `--method`.
pub(crate) const QUICK_CKAAD: [&str; 3] = [
    "method.taps=[4,8]",
    "method.schedule.epochs=3",
    "method.schedule.batch=4",
];

/// A command with quick settings, and with images of 64 pixels unless `more` has another size.
pub(crate) fn words<'a>(command: &'a str, more: &'a str) -> Vec<&'a str> {
    let plain = match more.contains("--size") {
        true => "--random-weights --backbone tf_efficientnet_lite0",
        false => "--random-weights --backbone tf_efficientnet_lite0 --size 64",
    };
    let sets = QUICK_CKAAD.iter().flat_map(|set| ["--set", set]);
    let words = command.split_whitespace().chain(plain.split(' '));
    words.chain(sets).chain(more.split_whitespace()).collect()
}

fn train(dir: &Path, data: &str, more: &str) -> Ran {
    run(dir, words(&format!("train {data} -o new"), more))
}

/// Names of the known anomalies of the model `new`.
fn known(dir: &Path) -> BTreeSet<String> {
    let header = json(&dir.join("new/model.json"));
    let names = header["training"]["known_anomalies"].as_array().unwrap();
    let names = names.iter().map(|name| name.as_str().unwrap().to_owned());
    names.collect()
}

#[test]
fn known_anomalies_need_no_masks() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    draw_kinds(dir, "plate");
    std::fs::remove_dir_all(dir.join("plate/ground_truth")).unwrap();
    let ran = train(dir, "plate", "--method ckaad-medical --anomalies 3").ends_with(DONE);
    for part in ["trainable parameters", "known anomalies"] {
        assert!(
            ran.stdout.contains(part),
            "{part:?} is not in\n{}",
            ran.stdout
        );
    }
    assert!(!ran.stderr.contains("no mask"), "{}", ran.stderr);
    assert_eq!(known(dir).len(), 3);
    let written = [
        "config.json",
        "model.json",
        "model.safetensors",
        "train.jsonl",
        "train.svg",
    ];
    assert_eq!(files(&dir.join("new")), written);
    let log = lines(&dir.join("new/train.jsonl"));
    assert_eq!(log.len(), 3);
    for line in &log {
        for figure in ["loss_rec", "loss_d", "loss_g", "energy_anomalous"] {
            assert!(line[figure].is_number(), "{figure}: {line}");
        }
    }
    let svg = std::fs::read_to_string(dir.join("new/train.svg")).unwrap();
    for part in ["<svg", "loss_rec", "adversarial losses", "energy_generated"] {
        assert!(svg.contains(part), "{part:?} is not in\n{svg}");
    }

    run(dir, ["eval", "new", "plate", "-o", "out"])
        .ends_with(DONE)
        .says(&["3 of the model's 3 known anomalies"]);
    let metrics = json(&dir.join("out/metrics.json"));
    let counts = &metrics["counts"];
    let tested = [&counts["test_normal"], &counts["test_anomalous"]];
    assert_eq!(tested, [3, 5]);
    assert!(metrics["image"]["auroc"].is_number(), "{metrics}");
    assert!(metrics["pixel"].is_null(), "{metrics}");
    let predict = ["predict", "new", "plate/test", "-o", "seen"];
    run(dir, predict).ends_with(DONE);
    let rows = predictions(&dir.join("seen/predictions.csv"));
    assert_eq!(rows.len(), 11);
    for (path, score, _, error) in rows {
        let score: f64 = score.parse().unwrap();
        assert!(score > 0.0 && score.is_finite(), "{path}: {score}");
        assert_eq!(error, "");
    }

    // A fifth of 8 normal images and 2 anomalies.
    let ratio = "--method ckaad-medical --anomaly-ratio 0.2 --overwrite";
    train(dir, "plate", ratio).ends_with(DONE);
    assert_eq!(known(dir).len(), 2);
    // Without any it is said what becomes of the training.
    let none = "--method ckaad-medical --overwrite";
    train(dir, "plate", none)
        .ends_with(DONE)
        .says(&["no known anomaly"]);
    let log = lines(&dir.join("new/train.jsonl"));
    assert!(log[0]["loss_rec"].is_number() && log[0]["loss_d"].is_null());
}

#[test]
fn normal_images_alone_are_enough_for_ckaad_of_products() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    draw_kinds(dir, "plate");
    train(dir, "plate", "--method ckaad").ends_with(DONE);
    let log = lines(&dir.join("new/train.jsonl"));
    // New distortions in each epoch: the backbone runs again.
    let misses = |line: &Value| line["cache"]["misses"].as_u64().unwrap();
    assert!(misses(&log[2]) > misses(&log[1]) && log[2]["loss_d"].is_number());
    run(dir, ["eval", "new", "plate", "-o", "out"]).ends_with(DONE);
    let metrics = json(&dir.join("out/metrics.json"));
    assert!(metrics["pixel"]["auroc"].is_number(), "{metrics}");
    assert_eq!(metrics["counts"]["test_anomalous"], 8);
}

#[test]
fn what_does_not_fit_together_is_a_usage_error() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    draw_kinds(dir, "plate");
    for (args, parts) in [
        (
            "--method ckaad --anomalies 3",
            ["from normal images", "ckaad-medical"],
        ),
        (
            "--method ckaad --size 100",
            ["100 pixels", "a multiple of 16 and at least 32"],
        ),
        (
            "--method ckaad-medical --set method.taps=[8,16] --size 100",
            ["stride 16", "a multiple of 32 and at least 64"],
        ),
        (
            "--method ckaad-medical --anomaly-ratio 0.9",
            ["there are 8", "not 72"],
        ),
        (
            "--method ckaad-medical --set method.taps=[8,12]",
            ["12", "stride"],
        ),
        (
            "--method ckaad-medical --set method.strategy=\"cka\"",
            ["method.strategy", "cka-patch"],
        ),
    ] {
        train(dir, "plate", args).ends_with(USAGE).says(&parts);
    }
    assert!(!dir.join("new").exists());
}

#[test]
fn anomalies_of_the_training_side_come_from_as_many_classes_as_asked_for() {
    let dir = classes::world();
    let dir = dir.path();
    for (classes, ratio, count) in [("1", "0.2", 2), ("2", "0.2", 2), ("2", "0.4", 5)] {
        let args = format!(
            "--normal-class 1 --method ckaad-medical --anomaly-ratio {ratio} --anomaly-classes {classes} --overwrite"
        );
        train(dir, "digits", &args).ends_with(DONE);
        let known = known(dir);
        assert_eq!(known.len(), count, "{known:?}");
        // The classes take turns in this dataset.
        let class = |name: &String| {
            let index: usize = name.strip_prefix("train/").unwrap().parse().unwrap();
            index % 3
        };
        let found: BTreeSet<usize> = known.iter().map(class).collect();
        assert_eq!(found.len().to_string(), classes, "{known:?}");
        assert!(!found.contains(&1), "{known:?}");
    }
    // All test images are tested.
    run(dir, ["eval", "new", "digits", "-o", "out"]).ends_with(DONE);
    let metrics = json(&dir.join("out/metrics.json"));
    let counts = &metrics["counts"];
    let tested = [&counts["test_normal"], &counts["test_anomalous"]];
    assert_eq!(tested, [3, 6]);
}

#[test]
fn uses_of_anomalies_are_compared_on_the_same_images() {
    let dir = classes::world();
    let dir = dir.path();
    let grid =
        "--normal-class 1 --method ckaad-medical --anomaly-ratio 0.2 --anomaly-classes 1 --seeds 2";
    let mut args = words("experiment digits -o out", grid);
    let variants = ["Recon: method.strategy=recon", "CKAPatch"];
    args.extend(variants.iter().flat_map(|variant| ["--variant", variant]));
    let ran = run(dir, args).ends_with(DONE);
    for part in [
        "Recon",
        "CKAPatch",
        "ratio 0.2",
        "image AUROC",
        "accuracy at best F1",
    ] {
        assert!(
            ran.stdout.contains(part),
            "{part:?} is not in\n{}",
            ran.stdout
        );
    }
    let runs = runs(dir);
    assert_eq!(runs.len(), 4);
    let tested = |run: &Value| {
        let results = dir.join("out").join(run["results"].as_str().unwrap());
        let rows = predictions(&results.join("predictions.csv"));
        let (names, scores): (Vec<String>, Vec<String>) = rows
            .into_iter()
            .map(|(name, score, ..)| (name, score))
            .unzip();
        (names, scores)
    };
    for seed in [0, 1] {
        let of_seed: Vec<&Value> = runs.iter().filter(|run| run["seed"] == seed).collect();
        assert_eq!(of_seed.len(), 2);
        for run in &of_seed {
            let counts = [&run["known_anomalies"], &run["test_anomalous"]];
            assert_eq!(counts, [2, 6]);
        }
        let [(names, scores), (others, other_scores)] = [0, 1].map(|index| tested(of_seed[index]));
        assert_eq!(names, others);
        assert_eq!(names.len(), 9);
        assert_ne!(scores, other_scores, "the strategies are the same");
    }
}
