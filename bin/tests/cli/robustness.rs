//! Less data and worse data: `--train-limit 20%` and `--contamination 10%`, from training to evaluation.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::world::{DONE, QUICK, Ran, USAGE, bgad_args, draw_kinds, json, predictions, run};

/// A folder with a product `plate`: 8 training images, 3 good test images, two kinds of defect with 4 images each.
fn world() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    draw_kinds(dir.path(), "plate");
    dir
}

fn train(dir: &Path, data: &str, args: &[&str]) -> Ran {
    let plain = ["train", data, "-o", "new"].into_iter().chain(QUICK);
    run(dir, plain.chain(args.iter().copied()))
}

/// What the model's record says of its training images.
fn record(dir: &Path) -> Value {
    json(&dir.join("new/model.json"))["training"].clone()
}

fn listed(record: &Value, field: &str) -> BTreeSet<String> {
    let names = record[field].as_array().unwrap();
    names
        .iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

/// Normal and anomalous images that were tested, and all their names below the dataset's folder.
fn tested(dir: &Path, data: &str) -> ([u64; 2], BTreeSet<String>) {
    let metrics = json(&dir.join("out/metrics.json"));
    let count = |name: &str| metrics["counts"][name].as_u64().unwrap();
    let below = format!("{data}/");
    let names = predictions(&dir.join("out/predictions.csv"))
        .into_iter()
        .map(|(path, ..)| path.strip_prefix(&below).unwrap_or(&path).to_owned())
        .collect();
    ([count("test_normal"), count("test_anomalous")], names)
}

#[test]
fn a_share_of_the_training_images_is_learnt_from() {
    let dir = world();
    let dir = dir.path();
    // 56% of 8 are 4.48, 57% are 4.56.
    for (limit, images) in [("56%", 4), ("57%", 5), ("100%", 8), ("6", 6)] {
        let args = ["--train-limit", limit, "--overwrite"];
        train(dir, "plate", &args).ends_with(DONE);
        assert_eq!(record(dir)["images"], images, "{limit}");
    }
    train(
        dir,
        "plate",
        &["--set", "data.train_limit=50%", "--overwrite"],
    )
    .ends_with(DONE);
    let config = json(&dir.join("new/config.json"));
    assert_eq!(config["data"]["train_limit"], "50%");
    // The settings that were written make the same model.
    let before = std::fs::read(dir.join("new/model.safetensors")).unwrap();
    let again = [
        "train",
        "plate",
        "-o",
        "again",
        "--config",
        "new/config.json",
    ];
    run(dir, again).ends_with(DONE);
    assert!(std::fs::read(dir.join("again/model.safetensors")).unwrap() == before);
    // Test images stay.
    run(dir, ["eval", "new", "plate", "-o", "out"]).ends_with(DONE);
    assert_eq!(tested(dir, "plate").0, [3, 8]);
}

#[test]
fn anomalous_images_train_as_normal_ones_and_are_left_out_of_the_test() {
    let dir = world();
    let dir = dir.path();
    let ran = train(dir, "plate", &["--contamination", "25%"])
        .ends_with(DONE)
        .says(&["contamination: 2 anomalous images"]);
    assert!(
        ran.stdout.contains("2 anomalous images among them"),
        "{}",
        ran.stdout
    );
    let contamination = listed(&record(dir), "contamination");
    assert_eq!(
        (contamination.len(), record(dir)["images"].as_u64()),
        (2, Some(10))
    );
    for name in &contamination {
        assert!(dir.join("plate").join(name).is_file(), "{name}");
        assert!(
            !name.starts_with("test/good/") && name.starts_with("test/"),
            "{name}"
        );
    }
    assert_eq!(
        json(&dir.join("new/config.json"))["data"]["contamination"],
        0.25
    );

    run(dir, ["eval", "new", "plate", "-o", "out"])
        .ends_with(DONE)
        .says(&["2 of the 2 anomalous images that the model has learnt as normal"]);
    let (counts, names) = tested(dir, "plate");
    assert_eq!(counts, [3, 6]);
    assert!(names.is_disjoint(&contamination));
    // Also where the dataset lies elsewhere by now.
    std::fs::rename(dir.join("plate"), dir.join("moved")).unwrap();
    run(dir, ["eval", "new", "moved", "-o", "out"]).ends_with(DONE);
    assert_eq!(tested(dir, "moved"), (counts, names));
}

#[test]
fn known_anomalies_and_contamination_are_different_images() {
    let dir = world();
    let dir = dir.path();
    let args = bgad_args("new");
    let more = ["--anomalies", "3", "--contamination", "0.25"];
    run(dir, args.iter().map(String::as_str).chain(more))
        .ends_with(DONE)
        .says(&["3 known anomalies", "contamination: 2"]);
    let known = listed(&record(dir), "known_anomalies");
    let contamination = listed(&record(dir), "contamination");
    assert_eq!((known.len(), contamination.len()), (3, 2));
    assert!(known.is_disjoint(&contamination));
    run(dir, ["eval", "new", "plate", "-o", "out"]).ends_with(DONE);
    let (counts, names) = tested(dir, "plate");
    assert_eq!(counts, [3, 3]);
    assert!(names.is_disjoint(&known) && names.is_disjoint(&contamination));
}

#[test]
fn a_dataset_with_a_pool_is_contaminated_by_test_images() {
    let dir = crate::classes::world();
    let dir = dir.path();
    // 6 anomalous test images.
    let args = ["--normal-class", "1", "--contamination", "40%"];
    train(dir, "digits", &args).ends_with(DONE);
    let contamination = listed(&record(dir), "contamination");
    assert_eq!(contamination.len(), 2);
    assert!(
        contamination.iter().all(|name| name.starts_with("test/")),
        "{contamination:?}"
    );
    run(dir, ["eval", "new", "digits", "-o", "out"]).ends_with(DONE);
    let (counts, names) = tested(dir, "digits");
    assert_eq!(counts, [3, 4]);
    assert!(names.is_disjoint(&contamination));
}

#[test]
fn shares_are_rows_of_an_experiment() {
    let dir = world();
    let dir = dir.path();
    let experiment = |args: &[&str]| {
        let plain = ["experiment", "plate", "-o", "out", "--seeds", "1"];
        let plain = plain.into_iter().chain(QUICK);
        run(dir, plain.chain(args.iter().copied()))
    };
    let runs = || -> Vec<Value> {
        let text = std::fs::read_to_string(dir.join("out/runs.jsonl")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.collect()
    };
    let ran = experiment(&["--vary", "data.contamination=1%,13%,50%"]).ends_with(DONE);
    for part in ["contamination", "13%", "50%"] {
        assert!(
            ran.stdout.contains(part),
            "{part:?} is not in\n{}",
            ran.stdout
        );
    }
    let found: Vec<[u64; 2]> = runs()
        .iter()
        .map(|run| ["contamination", "test_anomalous"].map(|name| run[name].as_u64().unwrap()))
        .collect();
    assert_eq!(found, [[0, 8], [1, 7], [4, 4]]);

    let limits = ["--vary", "data.train_limit=50%,100%", "--overwrite"];
    experiment(&limits).ends_with(DONE);
    let found: Vec<u64> = runs()
        .iter()
        .map(|run| {
            let report = dir.join("out").join(run["results"].as_str().unwrap());
            let metrics = json(&report.join("metrics.json"));
            metrics["counts"]["train"].as_u64().unwrap()
        })
        .collect();
    assert_eq!(found, [4, 8]);
}

#[test]
fn shares_that_are_not_possible_are_usage_errors() {
    let dir = world();
    for (args, parts) in [
        (["--train-limit", "0"], ["train limit", "at least 1"]),
        (["--train-limit", "0%"], ["train limit of 0%", "20%"]),
        (["--train-limit", "0.2"], ["0.2", "20%"]),
        (["--contamination", "100%"], ["contamination", "[0, 1)"]),
        (["--contamination", "10"], ["contamination", "10%"]),
        (["--contamination", "ten"], ["--contamination", "10%"]),
    ] {
        train(dir.path(), "plate", &args)
            .ends_with(USAGE)
            .says(&parts);
    }
    assert!(!dir.path().join("new").exists());
}
