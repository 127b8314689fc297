//! Runs that are stopped half-way.
#![cfg(unix)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::world::{FAILURE, command, copy, files, run};

/// Starts a training run that takes a while, and waits until it has begun.
fn start(dir: &Path) -> Child {
    // Many small passes over the images.
    let args = "train plate -o new --random-weights --backbone resnet18 --size 512 --batch-size 1";
    let mut child = command(dir)
        .args(args.split(' '))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The note on random weights is the last line before the work.
    let mut lines = BufReader::new(child.stderr.as_mut().unwrap());
    let mut line = String::new();
    while !line.contains("random") {
        line.clear();
        assert_ne!(
            lines.read_line(&mut line).unwrap(),
            0,
            "the run ended early"
        );
    }
    child
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill")
        .args([name, &child.id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
}

#[test]
fn a_terminated_run_ends_with_a_message_and_leaves_no_half_model() {
    let dir = copy();
    let before = files(dir.path());
    let mut child = start(dir.path());
    signal(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(FAILURE));
    // The settings are written before the work, on purpose.
    let mut after = files(dir.path());
    after.retain(|name| name != "new.config.json");
    assert_eq!(after, before);
}

#[test]
fn a_killed_run_leaves_an_older_model_whole() {
    let dir = copy();
    let mut child = start(dir.path());
    signal(&child, "-KILL");
    child.wait().unwrap();
    assert!(!dir.path().join("new").exists());
    run(
        dir.path(),
        ["predict", "model", "plate/test/good", "-o", "out"],
    )
    .ends_with(0);
}
