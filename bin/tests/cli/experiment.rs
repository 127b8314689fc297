//! `burn-ad experiment`.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::world::{DONE, FAILURE, QUICK_BGAD, Ran, USAGE, draw_kinds, json, run, runs};

/// A folder with a product `plate` of two kinds of defect, 4 images each.
fn world() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    draw_kinds(dir.path(), "plate");
    dir
}

fn experiment(dir: &Path, args: &[&str]) -> Ran {
    let plain = "experiment plate -o out --random-weights --backbone resnet18 --size 64";
    let sets = QUICK_BGAD.iter().flat_map(|set| ["--set", set]);
    run(
        dir,
        plain.split(' ').chain(sets).chain(args.iter().copied()),
    )
}

#[test]
fn a_grid_is_compared_and_a_killed_experiment_goes_on() {
    let dir = world();
    let dir = dir.path();
    let grid = [
        "--variant",
        "NFAD: method.name=nfad",
        "--variant",
        "BGAD",
        "--anomalies",
        "2,3",
        "--seeds",
        "2",
    ];
    let fails = ["--variant", "too fast: method.schedule.learning_rate=1e30"];
    let all: Vec<&str> = grid.iter().chain(&fails).copied().collect();
    let ran = experiment(dir, &all)
        .ends_with(FAILURE)
        .says(&["4 of 12 runs failed"]);
    for part in [
        "variant",
        "anomalies",
        "NFAD",
        "BGAD",
        "too fast",
        " ± ",
        "image AUROC",
        "not finite",
    ] {
        assert!(
            ran.stdout.contains(part),
            "{part:?} is not in\n{}",
            ran.stdout
        );
    }
    let before = runs(dir);
    assert_eq!(before.len(), 8);
    let of = |label: &str, seed: u64| -> Vec<&Value> {
        let of = |run: &&Value| run["labels"][0][1] == label && run["seed"] == seed;
        before.iter().filter(of).collect()
    };
    // NFAD learns nothing from anomalies: one training serves both of its rows, and only the test images differ.
    let nfad = of("NFAD", 1);
    assert_eq!(nfad[0]["figures"]["seconds"], nfad[1]["figures"]["seconds"]);
    assert_eq!(
        [&nfad[0]["test_anomalous"], &nfad[1]["test_anomalous"]],
        [6, 5]
    );
    // All variants of a seed are tested on the same images.
    let tested = |run: &Value| {
        let path = dir
            .join("out")
            .join(run["results"].as_str().unwrap())
            .join("predictions.csv");
        let names = crate::world::predictions(&path);
        names.into_iter().map(|(path, ..)| path).collect::<Vec<_>>()
    };
    assert_eq!(tested(nfad[0]), tested(of("BGAD", 1)[0]));
    assert_ne!(tested(nfad[0]), tested(of("NFAD", 0)[0]));
    let results = json(&dir.join("out/results.json"));
    assert_eq!(results["cells"].as_array().unwrap().len(), 6);
    assert_eq!(results["cells"][0]["figures"]["image_auroc"]["runs"], 2);
    assert!(results["cells"][0]["figures"]["image_auroc"]["deviation"].is_number());
    assert!(
        results["cells"][4]["failures"][0]
            .as_str()
            .unwrap()
            .contains("not finite")
    );

    // As if the last run had been killed while its line was written: it alone is done again.
    let path = dir.join("out/runs.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, &text[..text.len() - 30]).unwrap();
    let again = experiment(dir, &grid).ends_with(DONE);
    assert_eq!(
        again.stderr.matches(" of 8: ").count(),
        1,
        "{}",
        again.stderr
    );
    let timeless = |mut run: Value| {
        for figure in ["seconds", "peak_memory_mib"] {
            run["figures"][figure] = Value::Null;
        }
        run.to_string()
    };
    let sorted = |runs: Vec<Value>| {
        let mut runs: Vec<String> = runs.into_iter().map(timeless).collect();
        runs.sort();
        runs
    };
    assert_eq!(sorted(runs(dir)), sorted(before));
    let table = std::fs::read_to_string(dir.join("out/results.md")).unwrap();
    assert!(table.contains("| NFAD | 2 | 2 |"), "{table}");
    let rows = std::fs::read_to_string(dir.join("out/results.csv")).unwrap();
    assert_eq!(rows.lines().count(), 5);

    experiment(
        dir,
        &[&grid[..], &["--set", "method.loss.beta=0.2"]].concat(),
    )
    .ends_with(USAGE)
    .says(&["other settings", "--overwrite"]);
}

#[test]
fn one_class_and_unseen_kinds_are_kept_apart() {
    let dir = world();
    let dir = dir.path();
    let one_class = ["--split", "one-class", "--anomalies", "2", "--seeds", "1"];
    let ran = experiment(dir, &one_class).ends_with(DONE);
    assert!(
        ran.stdout.contains("(mean)") && ran.stdout.contains("learnt kind"),
        "{}",
        ran.stdout
    );
    for run in runs(dir) {
        let learnt = run["labels"][1][1].as_str().unwrap();
        let report = json(
            &dir.join("out")
                .join(run["results"].as_str().unwrap())
                .join("metrics.json"),
        );
        let tested: Vec<&str> = report["kinds"]
            .as_array()
            .unwrap()
            .iter()
            .map(|kind| kind["kind"].as_str().unwrap())
            .collect();
        let other = if learnt == "stain" {
            "missing-hole"
        } else {
            "stain"
        };
        assert_eq!(tested, ["good", other]);
        assert_eq!(
            (&run["known_anomalies"], &run["test_anomalous"]),
            (&2.into(), &4.into())
        );
    }
    let unseen = [
        "--split",
        "unseen",
        "--unseen-kinds",
        "stain",
        "--anomalies-per-kind",
        "3",
        "--seeds",
        "1",
    ];
    experiment(dir, &unseen)
        .ends_with(USAGE)
        .says(&["other settings"]);
    experiment(
        dir,
        &[
            &unseen[..],
            &["--overwrite", "--vary", "method.loss.tau=0.1,0.2"],
        ]
        .concat(),
    )
    .ends_with(DONE);
    let runs = runs(dir);
    assert_eq!(runs.len(), 2);
    assert_eq!(runs[1]["labels"][0], serde_json::json!(["tau", "0.2"]));
    assert_eq!(
        (&runs[0]["known_anomalies"], &runs[0]["test_anomalous"]),
        (&3.into(), &4.into())
    );
}

#[test]
fn an_experiment_that_cannot_work_is_refused_before_it_starts() {
    let dir = world();
    for (args, parts) in [
        (&["--variant", "BGAD"][..], ["BGAD", "--anomalies 10"]),
        (&["--anomalies", "2,9"], ["9", "there are 8"]),
        (
            &["--anomalies", "2", "--variant", "x: method.los=3"],
            ["--variant 'x'", "method.loss"],
        ),
        (
            &["--anomalies", "2", "--variant", "x: train.seed=3"],
            ["train.seed", "--seeds"],
        ),
        (
            &["--anomalies", "2", "--variant", "a", "--variant", "a"],
            ["two rows", "different names"],
        ),
        (
            &["--anomalies", "2", "--vary", "method.loss.beta"],
            ["--vary", "KEY=VALUE,VALUE"],
        ),
        (
            &["--anomalies", "2", "--split", "unseen"],
            ["--unseen-kinds", "not learnt from"],
        ),
        (
            &["--anomalies", "2", "--unseen-kinds", "stain"],
            ["--unseen-kinds", "--split unseen"],
        ),
        (&["--anomalies", "2", "--seeds", "0"], ["--seeds", "0"]),
    ] {
        experiment(dir.path(), args).ends_with(USAGE).says(&parts);
    }
    run(dir.path(), ["experiment", "-o", "out"])
        .ends_with(USAGE)
        .says(&["DATA"]);
    assert!(!dir.path().join("out/runs.jsonl").exists());
}
