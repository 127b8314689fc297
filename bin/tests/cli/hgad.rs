//! One model for several products.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::world::{DONE, USAGE, run};

/// Settings of an HGAD that learns in a few seconds.
const QUICK_HGAD: [&str; 7] = [
    "method.flow.blocks=2",
    "method.flow.position_channels=8",
    "method.scales=[1,2]",
    "method.schedule.meta_epochs=3",
    "method.schedule.sub_epochs=3",
    "method.schedule.batch=4",
    "method.schedule.learning_rate=0.002",
];

/// A plate and a cloth in `products`.
fn draw_products(dir: &Path) {
    let small = "--size 64 --train 6 --test-normal 2 --per-kind 1";
    for product in ["products/plate", "products/cloth --product fabric"] {
        let args = ["data", "synth"].into_iter().chain(product.split(' '));
        run(dir, args.chain(small.split(' '))).ends_with(DONE);
    }
}

fn train_args<'a>(data: &'a str, model: &'a str) -> Vec<&'a str> {
    let plain = "--method hgad --random-weights --backbone resnet18 --size 64";
    let mut args = vec!["train", data, "-o", model];
    args.extend(plain.split(' '));
    args.extend(QUICK_HGAD.iter().flat_map(|setting| ["--set", setting]));
    args
}

fn metrics(dir: &TempDir, out: &str) -> Value {
    let path = dir.path().join(out).join("metrics.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_folder_of_products_becomes_one_model_with_a_table_by_product() {
    let dir = tempfile::tempdir().unwrap();
    draw_products(dir.path());
    run(dir.path(), train_args("products", "model")).ends_with(DONE);
    let header: Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("model/model.json")).unwrap())
            .unwrap();
    assert_eq!(header["method"]["name"], "hgad");
    let classes = &header["method"]["settings"]["classes"];
    assert_eq!(classes, &serde_json::json!(["cloth", "plate"]));

    let eval = ["eval", "model", "products", "-o", "out"];
    let ran = run(dir.path(), eval).ends_with(DONE);
    for part in ["class accuracy", "cloth", "plate", "mean", "plate/good"] {
        assert!(
            ran.stdout.contains(part),
            "{part:?} is not in\n{}",
            ran.stdout
        );
    }
    let found = metrics(&dir, "out");
    assert_eq!(found["classes"].as_array().unwrap().len(), 2);
    assert!(found["class_accuracy"].is_number() && found["classes"][0]["image_auroc"].is_number());
    let page = std::fs::read_to_string(dir.path().join("out/report.html")).unwrap();
    assert!(page.contains("By product"));

    assert!(page.contains("Log-likelihoods") && page.contains("centres"));
    let path = dir.path().join("out/likelihoods.json");
    let likelihoods: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    // Two products at two scales.
    assert_eq!(likelihoods["histograms"].as_array().unwrap().len(), 4);
    assert_eq!(likelihoods["centres"][0]["classes"][1], "plate");
    assert!(likelihoods["centres"][1]["distances"][0][1].as_f64() > Some(0.0));

    // A model of several products looks at one of them, by the name of its folder.
    let eval = ["eval", "model", "products/plate", "-o", "plate"];
    run(dir.path(), eval).ends_with(DONE);
    let alone = metrics(&dir, "plate");
    assert_eq!(alone["classes"][0]["class"], "plate");
    assert_eq!(
        alone["classes"][0]["image_auroc"],
        found["classes"][1]["image_auroc"]
    );

    let dents = |metrics: &Value| {
        let kinds = metrics["kinds"].as_array().unwrap();
        let dents = kinds.iter().find(|kind| kind["kind"] == "plate/dent");
        dents.unwrap()["image_auroc"].clone()
    };
    assert!(dents(&found).is_number());
    assert_eq!(dents(&alone), dents(&found));

    // One kind by its own name, of one product or of all.
    for (data, out) in [("products/plate", "dents"), ("products", "all_dents")] {
        let eval = ["eval", "model", data, "-o", out, "--kinds", "dent"];
        run(dir.path(), eval).ends_with(DONE);
    }

    // A product that it has never seen is named, and scored as the one it looks most like.
    std::fs::rename(
        dir.path().join("products/cloth"),
        dir.path().join("products/felt"),
    )
    .unwrap();
    let eval = ["eval", "model", "products", "-o", "unknown"];
    run(dir.path(), eval)
        .ends_with(DONE)
        .says(&["knows no product 'felt'"]);
    let eval = [
        "eval",
        "model",
        "products",
        "-o",
        "inferred",
        "--infer-classes",
    ];
    run(dir.path(), eval).ends_with(DONE);

    let eval = ["eval", "model", "products/felt", "-o", "unknown_alone"];
    run(dir.path(), eval)
        .ends_with(DONE)
        .says(&["knows no product 'felt'"]);

    // Images of which nothing is known get the class that was found.
    let predict = ["predict", "model", "products/plate/test", "-o", "guess"];
    run(dir.path(), predict).ends_with(DONE);
    let rows = std::fs::read_to_string(dir.path().join("guess/predictions.csv")).unwrap();
    assert!(rows.lines().count() > 2);
    for row in rows.lines().skip(1) {
        assert!(row.contains(",plate,") || row.contains(",cloth,"), "{row}");
    }
}

#[test]
fn a_model_is_given_another_product() {
    let dir = tempfile::tempdir().unwrap();
    draw_products(dir.path());
    let plates = dir.path().join("plates");
    std::fs::create_dir(&plates).unwrap();
    std::fs::rename(dir.path().join("products/plate"), plates.join("plate")).unwrap();
    run(dir.path(), train_args("plates", "old")).ends_with(DONE);
    // The settings are those of the model.
    let more = ["train", "products", "-o", "new", "--init-from", "old"];
    run(dir.path(), more)
        .ends_with(DONE)
        .says(&["no training image shows 'plate'"]);
    let header = std::fs::read(dir.path().join("new/model.json")).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    let settings = &header["method"]["settings"];
    assert_eq!(settings["classes"], serde_json::json!(["plate", "cloth"]));
    assert_eq!(settings["flow"]["blocks"], 2);

    let other = ["--set", "method.flow.blocks=3"];
    let args = more.iter().chain(&other).map(|word| match *word {
        "new" => "other",
        word => word,
    });
    run(dir.path(), args)
        .ends_with(USAGE)
        .says(&["method.flow"]);
    let absent = ["train", "products", "-o", "other", "--init-from", "nowhere"];
    let ran = run(dir.path(), absent);
    assert_ne!(ran.code, DONE);
    ran.says(&["nowhere"]);
    let other_size = ["--size", "96"];
    let args = more.iter().chain(&other_size).map(|word| match *word {
        "new" => "other",
        word => word,
    });
    run(dir.path(), args).ends_with(USAGE).says(&["size"]);
}

#[test]
fn methods_without_classes_still_ask_for_one_product() {
    let dir = tempfile::tempdir().unwrap();
    draw_products(dir.path());
    let args = [
        "train",
        "products",
        "-o",
        "m",
        "--method",
        "padim",
        "--random-weights",
    ];
    let ran = run(dir.path(), args);
    assert_ne!(ran.code, DONE);
    ran.says(&["several products"]);
    let mut args = train_args("products", "m");
    args.extend(["--set", "method.loss.label_smoothing=2"]);
    run(dir.path(), args)
        .ends_with(USAGE)
        .says(&["label_smoothing"]);
}
