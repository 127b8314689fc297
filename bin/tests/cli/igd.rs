//! Expectation maximisation on whole images and on patches.

use std::path::Path;

use serde_json::Value;

use crate::classes;
use crate::world::{DONE, Ran, USAGE, draw_kinds, files, json, lines, predictions, run, runs};

/// Settings of an IGD that learns in a second or two.
const QUICK_IGD: [&str; 8] = [
    "method.schedule.epochs=2",
    "method.local.width=2",
    "method.local.decoder_width=2",
    "method.global.width=2",
    "method.global.decoder_width=2",
    "method.global.window=3",
    "method.global.batch=4",
    "method.patches.drawn=2",
];

fn words<'a>(command: &'a str, more: &'a str) -> Vec<&'a str> {
    let sets = QUICK_IGD.iter().flat_map(|set| ["--set", set]);
    let words = command.split_whitespace().chain(sets);
    words.chain(more.split_whitespace()).collect()
}

fn train(dir: &Path, data: &str, more: &str) -> Ran {
    run(dir, words(&format!("train {data} -o new"), more))
}

#[test]
fn two_models_look_at_products_and_say_where_defects_are() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    draw_kinds(dir, "plate");
    let args = "--method igd --size 64 --backbone tf_efficientnet_lite0 --random-weights";
    let ran = train(dir, "plate", args).ends_with(DONE);
    assert!(
        ran.stdout.contains("trainable parameters"),
        "{}",
        ran.stdout
    );
    for part in ["global model", "local model"] {
        assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
    }
    let written = [
        "config.json",
        "model.json",
        "model.safetensors",
        "train.jsonl",
        "train.svg",
    ];
    assert_eq!(files(&dir.join("new")), written);
    let log = lines(&dir.join("new/train.jsonl"));
    let places: Vec<(u64, &str)> = log
        .iter()
        .map(|line| {
            (
                line["epoch"].as_u64().unwrap(),
                line["model"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        places,
        [(0, "global"), (1, "global"), (2, "local"), (3, "local")]
    );
    for figure in [
        "loss_rec",
        "loss_gac",
        "loss_critic",
        "loss_fool",
        "distance",
        "scale",
    ] {
        assert!(log.iter().all(|line| line[figure].is_number()), "{figure}");
    }

    run(dir, ["eval", "new", "plate", "-o", "out"]).ends_with(DONE);
    let metrics = json(&dir.join("out/metrics.json"));
    assert!(metrics["pixel"]["auroc"].is_number(), "{metrics}");
    run(dir, ["predict", "new", "plate/test", "-o", "seen"]).ends_with(DONE);
    for (path, score, _, error) in predictions(&dir.join("seen/predictions.csv")) {
        assert!(score.parse::<f64>().unwrap().is_finite(), "{path}");
        assert_eq!(error, "");
    }
}

#[test]
fn small_images_need_no_backbone_and_test_images_may_watch() {
    let dir = classes::world();
    let dir = dir.path();
    let args = "--method igd-scratch --normal-class 1";
    let ran = train(dir, "digits", args).ends_with(DONE);
    assert!(ran.stdout.contains("pixels alone"), "{}", ran.stdout);
    let header = json(&dir.join("new/model.json"));
    assert_eq!(header["preprocess"]["geometry"]["size"], 32);
    assert_eq!(header["backbone"]["arch"], "none");
    let plain = std::fs::read(dir.join("new/model.safetensors")).unwrap();
    run(dir, ["eval", "new", "digits", "-o", "out"]).ends_with(DONE);

    let watching = format!("{args} --set train.watch_every=2 --overwrite");
    train(dir, "digits", &watching).ends_with(DONE);
    let log = lines(&dir.join("new/train.jsonl"));
    let watched: Vec<bool> = log
        .iter()
        .map(|line| line["watched_auroc"].is_number())
        .collect();
    assert_eq!(watched, [false, true]);
    let again = std::fs::read(dir.join("new/model.safetensors")).unwrap();
    assert_eq!(plain, again, "watching changed the model");
}

#[test]
fn strategies_are_compared_with_and_without_contamination() {
    let dir = classes::world();
    let dir = dir.path();
    let grid = "--method igd-scratch --normal-class 1 --seeds 1 --vary data.contamination=0%,20%";
    let mut args = words("experiment digits -o out", grid);
    let variants = [
        "MSE: method.strategy=mse",
        "DSVDD: method.strategy=dsvdd",
        "IGD",
    ];
    args.extend(variants.iter().flat_map(|variant| ["--variant", variant]));
    let ran = run(dir, args).ends_with(DONE);
    for part in ["MSE", "DSVDD", "IGD", "image AUROC"] {
        assert!(
            ran.stdout.contains(part),
            "{part:?} is not in\n{}",
            ran.stdout
        );
    }
    let tested: Vec<Value> = runs(dir)
        .into_iter()
        .map(|run| run["test_anomalous"].clone())
        .collect();
    assert_eq!(tested.len(), 6);
    // A fifth of six, rounded.
    let clean = tested.iter().filter(|count| **count == 6).count();
    let contaminated = tested.iter().filter(|count| **count == 5).count();
    assert_eq!([clean, contaminated], [3, 3]);
}

#[test]
fn what_does_not_fit_together_is_a_usage_error() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    draw_kinds(dir, "plate");
    for (args, parts) in [
        (
            "--method igd --size 100",
            ["100 pixels", "32, 64, 128 or 256"],
        ),
        (
            "--method igd --size 64 --set method.global.window=11",
            ["too small for MS-SSIM", "method.global.window"],
        ),
        (
            "--method igd-scratch --size 40",
            ["40 pixels", "a multiple of 16"],
        ),
        (
            "--method igd --size 64 --backbone none",
            [
                "global model looks through a backbone",
                "method.global.encoder=scratch",
            ],
        ),
        (
            "--method igd-scratch --anomalies 3",
            ["normal images alone", "bgad"],
        ),
        (
            "--method igd-scratch --set method.strategy=\"gac\"",
            ["method.strategy", "rec-gac"],
        ),
        (
            "--method padim --set train.watch_every=1",
            ["cannot watch", "train.watch_every"],
        ),
    ] {
        let args = format!("train plate -o new {args}");
        let ran = match args.contains("padim") {
            true => run(dir, args.split_whitespace()),
            false => train(dir, "plate", args.trim_start_matches("train plate -o new ")),
        };
        ran.ends_with(USAGE).says(&parts);
    }
    assert!(!dir.join("new").exists());
}
