//! `burn-ad pretrain`: from images to weights that igd looks through.

use std::path::Path;

use serde_json::Value;

use crate::world::{DONE, FAILURE, Ran, USAGE, copy, files, json, lines, run, shared};

/// A distillation on `plate` in a second or two, with `more`, which may say otherwise.
fn kd(dir: &Path, file: &str, more: &str) -> Ran {
    let quick = [("--size", "32"), ("--steps", "4"), ("--batch", "3")];
    let said = |flag: &str| more.split_whitespace().any(|word| word == flag);
    let quick = quick.into_iter().filter(|(flag, _)| !said(flag));
    let words = "pretrain kd plate --random-weights --set log_every=2 -o";
    let words = words.split(' ').chain([file]);
    let words = words.chain(quick.flat_map(|(flag, value)| [flag, value]));
    run(dir, words.chain(more.split_whitespace()))
}

fn info(dir: &Path, file: &str) -> Value {
    let ran = run(dir, ["weights", "info", file, "--json"]).ends_with(DONE);
    let info: Value = serde_json::from_str(&ran.stdout).unwrap();
    info["imported"].clone()
}

#[test]
fn a_larger_network_teaches_an_encoder_that_igd_looks_through() {
    let dir = copy();
    let dir = dir.path();
    let before = files(dir);
    let ran = kd(dir, "new/e.safetensors", "")
        .ends_with(DONE)
        .says(&["learning from 8 images", "the teacher's weights are random"]);
    for part in [
        "igd-encoder-32",
        "distilled from resnet18",
        "last loss",
        "peak memory",
    ] {
        assert!(
            ran.stdout.contains(part),
            "{part:?} is not in\n{}",
            ran.stdout
        );
    }
    let mut left = files(dir);
    left.retain(|name| !before.contains(name));
    assert_eq!(
        left,
        ["new/e.safetensors", "new/e.safetensors.pretrain.jsonl"]
    );
    let log = lines(&dir.join("new/e.safetensors.pretrain.jsonl"));
    let steps: Vec<u64> = log.iter().map(|it| it["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [2, 4]);
    assert!(log.iter().all(|line| line["loss"].is_number()));

    let made = info(dir, "new/e.safetensors");
    assert_eq!(made["arch"], "igd-encoder-32");
    let recipe = &made["recipe"];
    assert_eq!(
        [
            &recipe["teacher"]["name"],
            &recipe["settings"]["steps"],
            &recipe["images"]
        ],
        [&Value::from("resnet18"), &4.into(), &8.into()]
    );
    // The same seed makes the same file, another one another.
    let read = |file: &str| std::fs::read(dir.join(file)).unwrap();
    kd(dir, "again.safetensors", "").ends_with(DONE);
    assert!(
        read("again.safetensors") == read("new/e.safetensors"),
        "the files differ"
    );
    kd(dir, "again.safetensors", "--seed 1")
        .ends_with(USAGE)
        .says(&["--overwrite"]);
    kd(dir, "again.safetensors", "--seed 1 --overwrite").ends_with(DONE);
    assert!(read("again.safetensors") != read("new/e.safetensors"));

    let train = "train plate -o igd --method igd-scratch --size 32 --weights new/e.safetensors --set method.local.encoder=backbone \
                 --set method.schedule.epochs=1 --set method.local.width=2 --set method.local.decoder_width=2";
    run(dir, train.split_whitespace()).ends_with(DONE);
    let header = json(&dir.join("igd/model.json"));
    assert_eq!(header["backbone"]["arch"], "igd-encoder-32");
    assert_eq!(header["backbone"]["digest"], made["digest"]);
    let eval = "eval igd plate -o out --weights new/e.safetensors";
    run(dir, eval.split(' ')).ends_with(DONE);
}

#[test]
fn views_of_any_images_teach_an_encoder() {
    let dir = copy();
    let dir = dir.path();
    // Images without any layout.
    let words = "pretrain ssl plate/train/good -o e.safetensors --size 32 --image-size 48 --epochs 2 --batch 4 \
                 --train-limit 75% --set temperature=0.2";
    let ran = run(dir, words.split_whitespace())
        .ends_with(DONE)
        .says(&["learning from 6 images"]);
    assert!(
        ran.stdout.contains("contrastive learning"),
        "{}",
        ran.stdout
    );
    let made = info(dir, "e.safetensors");
    let settings = &made["recipe"]["settings"];
    assert_eq!(
        [
            &settings["epochs"],
            &settings["temperature"],
            &settings["side"]
        ],
        [&Value::from(2), &0.2.into(), &32.into()]
    );
    let log = lines(&dir.join("e.safetensors.pretrain.jsonl"));
    let epochs: Vec<u64> = log.iter().map(|it| it["epoch"].as_u64().unwrap()).collect();
    assert_eq!(epochs, [0, 1]);
}

#[test]
fn what_cannot_work_is_refused_before_the_work() {
    let dir = shared();
    for (more, parts) in [
        ("--size 48", ["48 pixels", "64, 128"]),
        ("--steps 0", ["steps", "at least 1"]),
        ("--size 64 --image-size 32", ["64 pixels", "images of 32"]),
        ("--set learning_rat=1", ["learning_rat", "'learning_rate'"]),
        ("--normal-class 3", ["'3'", "--normal-class"]),
        ("--resume", ["no checkpoint", "--resume"]),
        ("--weights x.pth", ["--weights", "cannot be used"]),
        ("--teacher none", ["none", "possible values"]),
    ] {
        kd(dir, "x.safetensors", more).ends_with(USAGE).says(&parts);
    }
    let words = "pretrain kd plate -o x.safetensors --size 32 --teacher resnet34";
    run(dir, words.split(' ')).ends_with(USAGE).says(&[
        "no weights for resnet34",
        "weights fetch",
        "--random-weights",
    ]);
    kd(dir, "plate", "--overwrite")
        .ends_with(USAGE)
        .says(&["no name"]);
    let words = "pretrain ssl model -o x.safetensors --size 32";
    run(dir, words.split(' '))
        .ends_with(FAILURE)
        .says(&["no image", "folder of images"]);
    let left = files(dir);
    assert!(!left.iter().any(|name| name.starts_with("x.")), "{left:?}");
}

#[cfg(unix)]
#[test]
fn a_pretraining_that_was_stopped_goes_on_to_the_same_weights() {
    use std::process::{Command, Stdio};

    let dir = copy();
    let dir = dir.path();
    let args = |file: &str, more: &str| -> Vec<String> {
        let words =
            "pretrain kd plate --random-weights --size 32 --steps 24 --batch 2 --set log_every=1";
        let words = words.split(' ').chain(["-o", file]);
        words
            .chain(more.split_whitespace())
            .map(str::to_owned)
            .collect()
    };
    run(dir, args("whole.safetensors", "")).ends_with(DONE);

    let mut child = crate::world::command(dir)
        .args(args("new.safetensors", ""))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = dir.join("new.safetensors.pretrain.jsonl");
    let written = || {
        std::fs::read_to_string(&log)
            .unwrap_or_default()
            .lines()
            .count()
    };
    while written() < 3 {
        assert_eq!(child.try_wait().unwrap(), None, "the run ended early");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let sent = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(FAILURE), "{said}");
    for part in ["new.safetensors.checkpoint", "--resume", "interrupted"] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
    assert!(!dir.join("new.safetensors").exists());

    run(dir, args("new.safetensors", ""))
        .ends_with(USAGE)
        .says(&["unfinished", "--resume", "--overwrite"]);
    run(dir, args("new.safetensors", "--resume --seed 1"))
        .ends_with(USAGE)
        .says(&["other settings", "--overwrite"]);
    run(dir, args("new.safetensors", "--resume")).ends_with(DONE);
    let read = |path: &str| std::fs::read(dir.join(path)).unwrap();
    assert!(
        read("new.safetensors") == read("whole.safetensors"),
        "the weights differ"
    );
    let losses = |file: &str| -> Vec<[Value; 2]> {
        let log = lines(&dir.join(format!("{file}.pretrain.jsonl")));
        let of = |line: &Value| ["step", "loss"].map(|name| line[name].clone());
        log.iter().map(of).collect()
    };
    assert_eq!(losses("new.safetensors"), losses("whole.safetensors"));
    assert!(!dir.join("new.safetensors.checkpoint").exists());
}
