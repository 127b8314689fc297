//! Learning from known anomalies: `burn-ad train --method bgad` and `burn-ad eval`.

use std::collections::BTreeSet;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::Value;
use tempfile::TempDir;

use crate::world::{
    DONE, FAILURE, Ran, USAGE, bgad_args, draw_kinds, files, json, predictions, run,
};

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
            "train.jsonl",
            "train.svg"
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

/// A checkpoint of one coupling block for the 128 channels of ResNet-18 at stride 8, as FrEIA names its tensors.
fn write_flow(path: &Path, offset: f32) {
    let inputs = 64 + 8;
    let identity = (0..128 * 128).map(|at| f32::from(u8::from(at % 129 == 0)));
    let identity: Vec<f32> = identity.collect();
    let tensors = [
        ("global_offset", vec![1, 128], vec![offset; 128]),
        ("global_scale", vec![1, 128], vec![1.0; 128]),
        ("subnet.0.bias", vec![2 * inputs], vec![0.0; 2 * inputs]),
        (
            "subnet.0.weight",
            vec![2 * inputs, inputs],
            vec![0.01; 2 * inputs * inputs],
        ),
        ("subnet.2.bias", vec![128], vec![0.0; 128]),
        (
            "subnet.2.weight",
            vec![128, 2 * inputs],
            vec![0.01; 128 * 2 * inputs],
        ),
        ("w_perm", vec![128, 128], identity.clone()),
        ("w_perm_inv", vec![128, 128], identity),
    ];
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .into_iter()
        .map(|(name, shape, values)| {
            let bytes = values
                .iter()
                .flat_map(|value: &f32| value.to_le_bytes())
                .collect();
            (format!("module_list.0.{name}"), shape, bytes)
        })
        .collect();
    let views = bytes.iter().map(|(name, shape, bytes)| {
        (
            name,
            TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap(),
        )
    });
    safetensors::serialize_to_file(views, None, path).unwrap();
}

#[test]
fn a_trained_flow_is_taken_over() {
    let dir = world();
    let dir = dir.path();
    write_flow(&dir.join("flow.safetensors"), 0.25);
    let untrained = "--method nfad --init-flows flow.safetensors --set method.flow.blocks=1 --set \
                     method.schedule.meta_epochs=0";
    let untrained: Vec<&str> = untrained.split_whitespace().collect();
    train(dir, &untrained).ends_with(DONE);
    let bytes = std::fs::read(dir.join("new/model.safetensors")).unwrap();
    let model = SafeTensors::deserialize(&bytes).unwrap();
    let offset: Vec<u8> = 0.25f32.to_le_bytes().repeat(128);
    assert!(
        model
            .tensors()
            .iter()
            .any(|(_, tensor)| tensor.data() == offset)
    );
    // Another number of blocks says which setting is wrong; a method without flows says so.
    let blocks = [&untrained[..4], &["--overwrite"]].concat();
    train(dir, &blocks)
        .ends_with(FAILURE)
        .says(&["method.flow.blocks=1"]);
    let plain = "train plate -o other --random-weights --backbone resnet18 --size 64 --init-flows flow.safetensors";
    run(dir, plain.split(' '))
        .ends_with(USAGE)
        .says(&["no flows"]);
}
