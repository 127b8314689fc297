//! `burn-ad weights`, without a network.

use burn_ad::backbone::{BackboneConfig, WeightsFile};
use serde_json::Value;

use crate::world::{DONE, FAILURE, USAGE, copy, run};

#[test]
fn list_knows_the_default_backbone() {
    let dir = tempfile::tempdir().unwrap();
    let ran = run(dir.path(), ["weights", "list"]).ends_with(DONE);
    assert!(
        ran.stdout.contains("tf_efficientnet_lite0"),
        "{}",
        ran.stdout
    );
    let ran = run(dir.path(), ["weights", "list", "--json"]).ends_with(DONE);
    let entries: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert!(
        entries
            .as_array()
            .unwrap()
            .iter()
            .any(|entry| entry["arch"] == "resnet18")
    );
}

#[test]
fn what_is_no_checkpoint_is_refused_by_info_import_and_train() {
    let dir = copy();
    std::fs::write(dir.path().join("bad.pth"), "hello").unwrap();
    run(dir.path(), ["weights", "info", "bad.pth"])
        .ends_with(FAILURE)
        .says(&["bad.pth"]);
    run(
        dir.path(),
        ["weights", "import", "bad.pth", "-o", "out.safetensors"],
    )
    .ends_with(FAILURE)
    .says(&["bad.pth"]);
    assert!(!dir.path().join("out.safetensors").exists());
    run(
        dir.path(),
        ["train", "plate", "-o", "new", "--weights", "bad.pth"],
    )
    .ends_with(FAILURE)
    .says(&["bad.pth"]);
    run(
        dir.path(),
        ["weights", "import", "bad.pth", "-o", "bad.pth"],
    )
    .ends_with(USAGE)
    .says(&["--overwrite"]);
}

#[test]
fn a_weights_file_of_ours_is_described_used_and_found_again_in_the_cache() {
    let dir = copy();
    let quick = "--random-weights --backbone resnet18 --size 64 --with-backbone";
    let quick: Vec<&str> = quick.split(' ').collect();
    let train = |args: &[&str]| run(dir.path(), ["train", "plate", "-o"].iter().chain(args));
    train(&[&["first"], quick.as_slice()].concat()).ends_with(DONE);
    let weights = "first/backbone.safetensors";
    let ran = run(dir.path(), ["weights", "info", weights]).ends_with(DONE);
    assert!(ran.stdout.contains("resnet18"), "{}", ran.stdout);

    // The architecture is the file's own; another one is refused.
    train(&["second", "--weights", weights, "--size", "64"]).ends_with(DONE);
    let other = ["third", "--weights", weights, "--backbone", "resnet34"];
    train(&other)
        .ends_with(USAGE)
        .says(&["weights of resnet18"]);

    // The second model names its weights and does not hold them.
    let predict = [
        "predict",
        "second",
        "plate/test/good",
        "-o",
        "out",
        "--no-overlays",
    ];
    run(dir.path(), predict)
        .ends_with(FAILURE)
        .says(&["--weights FILE"]);
    run(dir.path(), predict.iter().chain(&["--weights", weights])).ends_with(DONE);
    std::fs::create_dir(dir.path().join(".cache")).unwrap();
    std::fs::copy(
        dir.path().join(weights),
        dir.path().join(".cache/mine.safetensors"),
    )
    .unwrap();
    run(dir.path(), predict).ends_with(DONE);
}

#[test]
fn weights_that_burn_ad_made_say_how() {
    let dir = tempfile::tempdir().unwrap();
    let arch: BackboneConfig = "igd-encoder-32".parse().unwrap();
    let recipe = serde_json::json!({ "task": "kd", "teacher": { "name": "resnet18" }, "steps": 7 });
    let file = WeightsFile {
        arch,
        pixels: arch.pixels(),
        source: "burn-ad pretrain kd".into(),
        source_sha256: String::new(),
        recipe: Some(recipe.clone()),
        units: arch
            .random_units(0)
            .into_iter()
            .map(|(_, unit)| unit)
            .collect(),
    };
    file.write(&dir.path().join("e.safetensors")).unwrap();
    let ran = run(dir.path(), ["weights", "info", "e.safetensors"]).ends_with(DONE);
    for part in [
        "igd-encoder-32",
        "made from",
        "recipe: task",
        "recipe: teacher name",
        "resnet18",
        "recipe: steps",
    ] {
        assert!(
            ran.stdout.contains(part),
            "{part:?} is not in\n{}",
            ran.stdout
        );
    }
    let ran = run(dir.path(), ["weights", "info", "e.safetensors", "--json"]).ends_with(DONE);
    let info: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(info["imported"]["recipe"], recipe);
}

#[test]
fn without_a_backbone_a_method_of_features_says_so() {
    let dir = copy();
    let train = "train plate -o new --size 64 --backbone none";
    run(dir.path(), train.split(' '))
        .ends_with(USAGE)
        .says(&["no features", "--backbone"]);
    let train = "train plate -o new --size 64 --backbone igd-encoder-64";
    run(dir.path(), train.split(' ')).ends_with(USAGE).says(&[
        "no weights for igd-encoder-64",
        "burn-ad pretrain",
        "--weights FILE",
    ]);
    assert!(!dir.path().join("new").exists());
}
