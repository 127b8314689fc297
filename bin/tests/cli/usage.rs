//! Help, exit codes and the behaviour of every command alike.

use std::process::Stdio;

use crate::world::{DONE, FAILURE, USAGE, command, run, shared};

const COMMANDS: [&[&str]; 18] = [
    &[],
    &["train"],
    &["eval"],
    &["experiment"],
    &["predict"],
    &["demo"],
    &["backends"],
    &["bench"],
    &["data"],
    &["data", "check"],
    &["data", "info"],
    &["data", "synth"],
    &["augment"],
    &["augment", "preview"],
    &["weights"],
    &["weights", "info"],
    &["weights", "import"],
    &["weights", "fetch"],
];

#[test]
fn every_command_explains_itself() {
    let dir = tempfile::tempdir().unwrap();
    for words in COMMANDS {
        let ran = run(dir.path(), words.iter().chain(&["--help"])).ends_with(DONE);
        assert!(
            ran.stdout.contains("Usage: burn-ad"),
            "{words:?}: {}",
            ran.stdout
        );
    }
    let version = run(dir.path(), ["--version"]).ends_with(DONE);
    assert_eq!(
        version.stdout,
        concat!("burn-ad ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn wrong_arguments_are_usage_errors() {
    let dir = tempfile::tempdir().unwrap();
    for (args, part) in [
        ("", "Usage"),
        ("trian", "train"),
        ("train", "DATA"),
        ("train data", "--output"),
        ("train data -o m --fit stretch", "letterbox"),
        ("train data -o m --backbone resnet19", "resnet18"),
        ("train data -o m --method padm", "padim"),
        (
            "train data -o m --weights a --random-weights",
            "cannot be used",
        ),
        ("train data -o m --backend tpu", "flex"),
        ("predict model", "INPUT"),
        ("eval model data -o out --heatmaps some", "all, none"),
        ("data synth out --size 3 --product metal-plate", "64"),
        ("data synth out --kinds scrach", "scratch"),
        ("weights import a.pth -o b --arch resnet", "resnet18"),
        ("train data -o m --threads 0", "--threads"),
    ] {
        let ran = run(dir.path(), args.split_whitespace()).ends_with(USAGE);
        assert!(
            ran.stderr.contains(part),
            "{args}: {part:?} is not in\n{}",
            ran.stderr
        );
    }
}

#[test]
fn what_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let model = shared().join("model");
    let model = model.to_str().unwrap();
    for (args, code, part) in [
        (
            vec!["train", "no data", "-o", "m", "--random-weights"],
            FAILURE,
            "no data",
        ),
        (
            vec!["eval", "no model", "data", "-o", "out"],
            FAILURE,
            "no model",
        ),
        (
            vec!["eval", model, "no data", "-o", "out"],
            FAILURE,
            "no data",
        ),
        (vec!["predict", "no model", "a.png"], FAILURE, "no model"),
        (vec!["predict", model, "no.png"], USAGE, "no.png"),
        (vec!["data", "check", "no data"], FAILURE, "no data"),
        (vec!["data", "info", "no data"], FAILURE, "no data"),
        (vec!["weights", "info", "no.pth"], FAILURE, "no.pth"),
        (vec!["weights", "fetch", "nonesuch"], USAGE, "nonesuch"),
        (
            vec!["train", "x", "-o", "m", "--config", "no.toml"],
            USAGE,
            "no.toml",
        ),
    ] {
        let ran = run(dir.path(), &args).ends_with(code);
        assert!(ran.stderr.starts_with("error: "), "{}", ran.stderr);
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
    assert!(
        std::fs::read_dir(dir.path()).unwrap().next().is_none(),
        "nothing may be written"
    );
}

#[test]
fn a_reader_that_goes_away_is_no_fault() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = command(dir.path())
        .args(["weights", "list"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(DONE));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_stdout_is_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = command(dir.path())
        .args(["weights", "list"])
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(FAILURE));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("standard output")
    );
}

#[test]
fn kernels_are_chosen_by_a_variable_that_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let with = |value: &str| {
        let mut command = command(dir.path());
        let output = command.arg("backends").env("BURN_AD_KERNELS", value);
        let output = output.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    for (value, part) in [
        ("off", "Burn's own operations"),
        (
            "precise:portable",
            "precise: no faster summation than the most exact ones, portable",
        ),
        ("", "fast: features within"),
    ] {
        let (code, text) = with(value);
        assert_eq!(code, Some(DONE), "{text}");
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let (code, text) = with("quick");
    assert_eq!(code, Some(USAGE), "{text}");
    assert!(
        text.contains("BURN_AD_KERNELS=quick is not understood"),
        "{text}"
    );
}

#[test]
fn backends_lists_all_and_those_not_compiled_in_are_usage_errors() {
    let dir = tempfile::tempdir().unwrap();
    let ran = run(dir.path(), ["backends"]).ends_with(DONE);
    for name in ["flex", "ndarray", "wgpu", "cuda"] {
        let line = ran
            .stdout
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap();
        if line.contains("not compiled in") {
            let args = [
                "predict",
                "model",
                "plate",
                "-o",
                "/nowhere/at/all",
                "--backend",
                name,
            ];
            run(shared(), args).ends_with(USAGE).says(&["--features"]);
        }
    }
}
