//! `burn-ad eval`.

use serde_json::Value;

use crate::world::{DONE, FAILURE, USAGE, copy, files, predictions, run};

#[test]
fn eval_writes_metrics_predictions_heatmaps_and_a_report() {
    let dir = copy();
    let args = [
        "eval",
        "model",
        "plate",
        "-o",
        "out",
        "--original-resolution",
    ];
    let ran = run(dir.path(), args).ends_with(DONE);
    for part in [
        "image AUROC",
        "AUPRO",
        "missing-hole",
        "reported",
        "own resolution",
    ] {
        assert!(
            ran.stdout.contains(part),
            "{part:?} is not in\n{}",
            ran.stdout
        );
    }
    let out = dir.path().join("out");
    let metrics: Value =
        serde_json::from_slice(&std::fs::read(out.join("metrics.json")).unwrap()).unwrap();
    assert_eq!(metrics["counts"]["test_normal"], 3);
    assert_eq!(metrics["counts"]["test_anomalous"], 2);
    assert!(metrics["image"]["auroc"].is_number());
    assert!(metrics["pixel"]["aupro"].is_number());
    assert!(metrics["timings"]["image_median_ms"].as_f64().unwrap() > 0.0);
    // Pictures are as large as the network's input: both resolutions are the same.
    assert_eq!(
        metrics["pixel_at_original_resolution"]["aupro"],
        metrics["pixel"]["aupro"]
    );
    assert_eq!(
        files(&out),
        [
            "burn-ad-run.json",
            "heatmaps/good/000.png",
            "heatmaps/good/001.png",
            "heatmaps/good/002.png",
            "heatmaps/missing-hole/000.png",
            "heatmaps/stain/000.png",
            "metrics.json",
            "predictions.csv",
            "predictions.jsonl",
            "report.html",
        ]
    );
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("heatmaps/stain/000.png"));
    assert_eq!(predictions(&out.join("predictions.csv")).len(), 5);

    // A second run replaces the first, and leaves nothing of it behind.
    run(
        dir.path(),
        ["eval", "model", "plate", "-o", "out", "--heatmaps", "1"],
    )
    .ends_with(DONE);
    let heatmaps = files(&out)
        .iter()
        .filter(|name| name.starts_with("heatmaps"))
        .count();
    assert_eq!(heatmaps, 1);
}

#[test]
fn a_corrupt_image_is_reported_and_the_others_count() {
    let dir = copy();
    std::fs::write(dir.path().join("plate/test/stain/0bad.png"), "no image").unwrap();
    let args = ["eval", "model", "plate", "-o", "out", "--heatmaps", "none"];
    let ran = run(dir.path(), args)
        .ends_with(DONE)
        .says(&["warning:", "0bad.png"]);
    assert!(ran.stdout.contains("1 unreadable"), "{}", ran.stdout);
    let rows = predictions(&dir.path().join("out/predictions.csv"));
    assert_eq!(rows.len(), 6);
    let (bad, good): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.0.ends_with("0bad.png"));
    assert!(bad[0].1.is_empty() && !bad[0].3.is_empty(), "{bad:?}");
    assert!(
        good.iter().all(|row| !row.1.is_empty() && row.3.is_empty()),
        "{good:?}"
    );
    run(dir.path(), args.iter().chain(&["--strict"]))
        .ends_with(FAILURE)
        .says(&["1 image"]);
    assert_eq!(predictions(&dir.path().join("out/predictions.csv")), rows);
}

#[test]
fn the_paper_protocol_says_so_and_decides_on_the_test_set() {
    let dir = copy();
    let args = ["eval", "model", "plate", "-o", "out", "--protocol", "paper"];
    let ran = run(dir.path(), args)
        .ends_with(DONE)
        .says(&["warning: protocol 'paper'"]);
    assert!(
        ran.stdout.contains("NOTE: protocol 'paper'"),
        "{}",
        ran.stdout
    );
    let metrics: Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("out/metrics.json")).unwrap())
            .unwrap();
    assert_eq!(metrics["protocol"], "paper");
    assert_eq!(metrics["threshold"], metrics["image"]["best_f1_threshold"]);
    let lines = std::fs::read_to_string(dir.path().join("out/predictions.jsonl")).unwrap();
    let normalised: Vec<f64> = lines
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["normalised_score"]
                .as_f64()
                .unwrap()
        })
        .collect();
    let (low, high) = normalised
        .iter()
        .fold((9.0f64, -9.0f64), |(l, h), &v| (l.min(v), h.max(v)));
    assert_eq!((low, high), (0.0, 1.0));
}

#[test]
fn a_foreign_folder_of_results_is_refused() {
    let dir = copy();
    let args = ["eval", "model", "plate", "-o", "plate"];
    run(dir.path(), args)
        .ends_with(USAGE)
        .says(&["--overwrite"]);
    run(
        dir.path(),
        ["eval", "model", "plate", "-o", "model/model.json"],
    )
    .ends_with(USAGE);
}

#[test]
fn damaged_foreign_and_newer_models_are_clear_errors() {
    let dir = copy();
    let tensors = dir.path().join("model/model.safetensors");
    let header = dir.path().join("model/model.json");
    let eval = ["eval", "model", "plate", "-o", "out"];
    run(dir.path(), ["eval", "plate", "plate", "-o", "out"])
        .ends_with(FAILURE)
        .says(&["not a model directory", "burn-ad train"]);

    let whole = std::fs::read(&tensors).unwrap();
    std::fs::write(&tensors, &whole[..whole.len() / 2]).unwrap();
    run(dir.path(), eval)
        .ends_with(FAILURE)
        .says(&["damaged, truncated"]);
    std::fs::remove_file(&tensors).unwrap();
    run(dir.path(), eval)
        .ends_with(FAILURE)
        .says(&["model.safetensors"]);
    std::fs::write(&tensors, &whole).unwrap();

    let text = std::fs::read_to_string(&header).unwrap();
    let newer = text.replacen("\"format_version\": 1", "\"format_version\": 999", 1);
    assert_ne!(text, newer);
    std::fs::write(&header, newer).unwrap();
    run(dir.path(), eval)
        .ends_with(FAILURE)
        .says(&["format 999", "newer"]);
    std::fs::write(&header, &text[..text.len() / 2]).unwrap();
    run(dir.path(), eval)
        .ends_with(FAILURE)
        .says(&["not a burn-ad model"]);
    std::fs::write(&header, "{}").unwrap();
    run(dir.path(), eval)
        .ends_with(FAILURE)
        .says(&["not a burn-ad model"]);
}
