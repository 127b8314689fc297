//! `burn-ad train`.

use serde_json::Value;

use crate::world::{DONE, FAILURE, QUICK, USAGE, copy, draw, files, run, shared, train};

fn with<'a>(args: &[&'a str]) -> Vec<&'a str> {
    ["train", "plate", "-o", "new"]
        .iter()
        .chain(&QUICK)
        .chain(args)
        .copied()
        .collect()
}

#[test]
fn a_model_directory_has_model_tensors_and_settings() {
    let dir = shared();
    assert_eq!(
        files(&dir.join("model")),
        ["config.json", "model.json", "model.safetensors"]
    );
    assert!(!dir.join("model.config.json").exists());
    let config: Value =
        serde_json::from_slice(&std::fs::read(dir.join("model/config.json")).unwrap()).unwrap();
    assert_eq!(config["backbone"]["name"], "resnet18");
    assert_eq!(config["data"]["filter"], "bilinear");
    assert_eq!(config["method"]["reduction"]["subset"], 16);
    assert_eq!(config["method"]["gaussian"]["radius"], 1);
}

#[test]
fn the_same_seed_gives_the_same_model_whatever_the_threads() {
    let dir = copy();
    let again = with(&["--threads", "1", "--workers", "3"]);
    run(dir.path(), &again).ends_with(DONE);
    let tensors =
        |model: &str| std::fs::read(dir.path().join(model).join("model.safetensors")).unwrap();
    assert!(tensors("new") == tensors("model"), "the tensors differ");
    run(dir.path(), with(&["--seed", "1", "--overwrite"])).ends_with(DONE);
    assert!(
        tensors("new") != tensors("model"),
        "the seed changes nothing"
    );
}

#[test]
fn settings_written_with_a_model_make_it_again() {
    let dir = copy();
    let args = [
        "train",
        "plate",
        "-o",
        "new",
        "--config",
        "model/config.json",
    ];
    run(dir.path(), args).ends_with(DONE);
    let read = |path: &str| std::fs::read(dir.path().join(path)).unwrap();
    assert!(read("new/model.safetensors") == read("model/model.safetensors"));
    assert_eq!(read("new/config.json"), read("model/config.json"));
}

#[test]
fn a_model_is_replaced_only_when_told_to() {
    let dir = copy();
    train(dir.path(), "plate", "model")
        .ends_with(USAGE)
        .says(&["--overwrite"]);
    let args = ["train", "plate", "-o", "model", "--overwrite"];
    run(dir.path(), args.into_iter().chain(QUICK)).ends_with(DONE);
}

#[test]
fn a_foreign_directory_is_never_written_to() {
    let dir = copy();
    std::fs::create_dir(dir.path().join("new")).unwrap();
    std::fs::write(dir.path().join("new/thesis.txt"), "years of work").unwrap();
    run(dir.path(), with(&["--overwrite"]))
        .ends_with(USAGE)
        .says(&["not a model"]);
    assert_eq!(files(&dir.path().join("new")), ["thesis.txt"]);
    std::fs::write(dir.path().join("file"), "x").unwrap();
    train(dir.path(), "plate", "file").ends_with(USAGE);
}

#[test]
fn without_weights_the_remedies_are_named() {
    let dir = copy();
    let args = ["train", "plate", "-o", "new"];
    let remedies = [
        "weights fetch tf_efficientnet_lite0",
        "--random-weights",
        "--weights FILE",
    ];
    run(dir.path(), args).ends_with(USAGE).says(&remedies);
    assert!(!dir.path().join("new").exists());
}

#[test]
fn an_unknown_setting_names_the_nearest_and_where_it_was_given() {
    let dir = copy();
    std::fs::write(dir.path().join("my settings.toml"), "[method]\nsigm = 2\n").unwrap();
    run(dir.path(), with(&["--config", "my settings.toml"]))
        .ends_with(USAGE)
        .says(&[
            "my settings.toml",
            "method.sigm",
            "did you mean 'method.sigma'",
        ]);
    run(dir.path(), with(&["--set", "train.sed=2"]))
        .ends_with(USAGE)
        .says(&["--set train.sed=2", "did you mean 'train.seed'"]);
    run(dir.path(), with(&["--set", "method.sigma=-1"]))
        .ends_with(USAGE)
        .says(&["sigma"]);
    run(dir.path(), with(&["--calibration-share", "2"]))
        .ends_with(USAGE)
        .says(&["share"]);
    run(dir.path(), with(&["--target-fpr", "0"]))
        .ends_with(USAGE)
        .says(&["false-positive"]);
    run(dir.path(), with(&["--size", "0"]))
        .ends_with(USAGE)
        .says(&["size"]);
    run(dir.path(), with(&["--batch-size", "0"]))
        .ends_with(USAGE)
        .says(&["batch_size"]);
}

#[test]
fn several_products_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    draw(dir.path(), "all/nut");
    draw(dir.path(), "all/bolt");
    train(dir.path(), "all", "new")
        .ends_with(FAILURE)
        .says(&["bolt, nut"]);
}

#[test]
fn an_empty_folder_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    train(dir.path(), "empty", "new")
        .ends_with(FAILURE)
        .says(&["empty", "normal"]);
    std::fs::create_dir_all(dir.path().join("hollow/train/good")).unwrap();
    train(dir.path(), "hollow", "new")
        .ends_with(FAILURE)
        .says(&["train/good"]);
}

#[test]
fn an_unreadable_training_image_is_left_out_and_named() {
    let dir = copy();
    std::fs::write(dir.path().join("plate/train/good/bad.png"), "no image").unwrap();
    run(dir.path(), with(&[]))
        .ends_with(DONE)
        .says(&["warning:", "bad.png"]);
    for entry in std::fs::read_dir(dir.path().join("plate/train/good")).unwrap() {
        std::fs::write(entry.unwrap().path(), "no image").unwrap();
    }
    run(dir.path(), with(&["--overwrite"])).ends_with(FAILURE);
}

#[test]
fn a_model_with_its_backbone_needs_no_weights() {
    let dir = copy();
    run(dir.path(), with(&["--with-backbone"])).ends_with(DONE);
    assert!(dir.path().join("new/backbone.safetensors").is_file());
    run(dir.path(), ["predict", "new", "plate/test", "-o", "out"]).ends_with(DONE);
}
