//! Learning from known anomalies: `burn-ad train --method bgad` and `burn-ad eval`.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::world::{DONE, Ran, USAGE, bgad_args, draw_kinds, files, json, predictions, run};

/// A folder with a product `plate` of two kinds of defect, 4 images each.
fn world() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    draw_kinds(dir.path(), "plate");
    dir
}

fn train(dir: &Path, args: &[&str]) -> Ran {
    run(
        dir,
        bgad_args("new")
            .iter()
            .map(String::as_str)
            .chain(args.iter().copied()),
    )
}

fn known(dir: &Path) -> BTreeSet<String> {
    let header = json(&dir.join("new/model.json"));
    let names = header["training"]["known_anomalies"].as_array().unwrap();
    names
        .iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn known_anomalies_are_learnt_from_and_left_out_of_the_test() {
    let dir = world();
    let dir = dir.path();
    let ran = train(dir, &["--anomalies", "3"])
        .ends_with(DONE)
        .says(&["3 known anomalies"]);
    for part in ["trainable parameters", "fixed rotations", "known anomalies"] {
        assert!(
            ran.stdout.contains(part),
            "{part:?} is not in\n{}",
            ran.stdout
        );
    }
    let known = known(dir);
    assert_eq!(known.len(), 3);
    assert!(
        known
            .iter()
            .all(|name| dir.join("plate").join(name).is_file()),
        "{known:?}"
    );
    assert_eq!(
        files(&dir.join("new")),
        [
            "config.json",
            "model.json",
            "model.safetensors",
            "train.jsonl"
        ]
    );
    let log = std::fs::read_to_string(dir.join("new/train.jsonl")).unwrap();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 4);
    assert!(
        lines
            .iter()
            .all(|line| line["loss"].is_number() && line["learning_rate"].is_number())
    );
    for left in ["checkpoint", "train.jsonl", "config.json"] {
        assert!(!dir.join(format!("new.{left}")).exists(), "{left}");
    }

    run(dir, ["eval", "new", "plate", "-o", "out"])
        .ends_with(DONE)
        .says(&["3 of the model's 3 known anomalies"]);
    let metrics = json(&dir.join("out/metrics.json"));
    assert_eq!(
        (
            &metrics["counts"]["test_normal"],
            &metrics["counts"]["test_anomalous"]
        ),
        (&3.into(), &5.into())
    );
    let tested = predictions(&dir.join("out/predictions.csv"));
    let below = |path: &str| path.strip_prefix("plate/").unwrap().to_owned();
    assert!(
        tested
            .iter()
            .all(|(path, ..)| !known.contains(&below(path)))
    );

    // Kinds of anomaly are chosen beside that.
    let stains = known.iter().filter(|name| name.contains("stain")).count();
    for args in [["--kinds", "stain"], ["--exclude-kinds", "missing-hole"]] {
        let eval = ["eval", "new", "plate", "-o", "out", "--protocol", "paper"];
        run(dir, eval.into_iter().chain(args)).ends_with(DONE);
        let metrics = json(&dir.join("out/metrics.json"));
        assert_eq!(metrics["counts"]["test_anomalous"], 4 - stains);
    }
    run(
        dir,
        ["eval", "new", "plate", "-o", "out", "--kinds", "stian"],
    )
    .ends_with(USAGE)
    .says(&["stian", "missing-hole, stain"]);
}

#[test]
fn a_method_without_use_for_anomalies_keeps_them_out_of_the_test() {
    let dir = world();
    train(
        dir.path(),
        &[
            "--method",
            "nfad",
            "--anomalies-per-kind",
            "2",
            "--anomaly-kinds",
            "stain",
        ],
    )
    .ends_with(DONE)
    .says(&["kept out of the test set"]);
    let known = known(dir.path());
    assert_eq!(known.len(), 2);
    assert!(
        known.iter().all(|name| name.starts_with("test/stain/")),
        "{known:?}"
    );
    run(dir.path(), ["eval", "new", "plate", "-o", "out"]).ends_with(DONE);
    let metrics = json(&dir.path().join("out/metrics.json"));
    assert_eq!(metrics["counts"]["test_anomalous"], 6);
}

#[test]
fn what_does_not_fit_together_is_a_usage_error() {
    let dir = world();
    for (args, parts) in [
        ("", ["known anomalies", "--anomalies 10"]),
        (
            "--method padim --anomalies 3",
            ["normal images alone", "bgad, bgad-dagger"],
        ),
        ("--anomalies 9", ["there are 8", "not 9"]),
        (
            "--anomalies-per-kind 5",
            ["missing-hole has 4", "stain has 4"],
        ),
        (
            "--anomalies 2 --anomaly-kinds stian",
            ["stian", "missing-hole, stain"],
        ),
        (
            "--anomalies 2 --anomalies-per-kind 2",
            ["--anomalies", "cannot be used"],
        ),
        (
            "--anomalies 2 --resume",
            ["there is no checkpoint", "--resume"],
        ),
        (
            "--set anomalies.count={ all = 3 }",
            ["anomalies.count", "per-kind"],
        ),
    ] {
        // A value with spaces is one word.
        let words: Vec<&str> = match args.split_once(' ') {
            Some(("--set", value)) => vec!["--set", value],
            _ => args.split_whitespace().collect(),
        };
        let mut command: Vec<String> = bgad_args("new");
        if args.contains("--method") {
            // Settings of another method would be the first thing that is wrong.
            let plain = "train plate -o new --random-weights --backbone resnet18 --size 64";
            command = plain.split(' ').map(str::to_owned).collect();
        }
        let command = command.iter().map(String::as_str).chain(words);
        run(dir.path(), command).ends_with(USAGE).says(&parts);
    }
    let plain = "train plate -o new --random-weights --backbone resnet18 --size 64 --resume";
    run(dir.path(), plain.split(' '))
        .ends_with(USAGE)
        .says(&["keeps no checkpoint"]);
    assert!(!dir.path().join("new").exists());
}
