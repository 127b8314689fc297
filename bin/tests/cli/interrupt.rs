//! Runs that are stopped half-way.
#![cfg(unix)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::world::{DONE, FAILURE, Ran, USAGE, bgad_args, command, copy, draw_kinds, files, run};

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

/// Stops a training run of known anomalies on its way and goes on with it, with `args(MODEL)` long enough for that.
///
/// `other` is another setting of the method, `written` one as the command has it, `place` names what tells the lines of
/// the log apart.
fn goes_on(args: impl Fn(&str) -> Vec<String>, other: &str, written: &str, place: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    draw_kinds(dir, "plate");
    let args = |model: &str, more: &[&str]| -> Vec<String> {
        let more = ["--anomalies", "2"].iter().chain(more);
        let more = more.map(|&word| word.to_owned());
        args(model).into_iter().chain(more).collect()
    };
    run(dir, args("whole", &[])).ends_with(DONE);

    let mut child = command(dir)
        .args(args("new", &[]))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = dir.join("new.train.jsonl");
    // The third pass is over, and further ones are to come.
    while std::fs::read_to_string(&log)
        .unwrap_or_default()
        .lines()
        .count()
        < 3
    {
        assert_eq!(child.try_wait().unwrap(), None, "the run ended early");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    signal(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    let stopped = Ran {
        code: output.status.code().unwrap(),
        stdout: String::new(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    };
    let said = ["new.checkpoint", "--resume", written, "interrupted"];
    stopped.ends_with(FAILURE).says(&said);
    assert!(!dir.join("new").exists());

    run(dir, args("new", &[]))
        .ends_with(USAGE)
        .says(&["unfinished", "--resume", "--overwrite"]);
    run(dir, args("new", &["--set", other, "--resume"]))
        .ends_with(USAGE)
        .says(&["other settings", "--overwrite"]);
    run(dir, args("new", &["--resume"])).ends_with(DONE);
    let read = |path: &str| std::fs::read(dir.join(path)).unwrap();
    assert!(
        read("new/model.safetensors") == read("whole/model.safetensors"),
        "the models differ"
    );
    assert_eq!(read("new/config.json"), read("whole/config.json"));
    let passes = |model: &str| -> Vec<Vec<serde_json::Value>> {
        let log = String::from_utf8(read(&format!("{model}/train.jsonl"))).unwrap();
        let lines = log
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines
            .map(|line| place.iter().map(|&name| line[name].clone()).collect())
            .collect()
    };
    let whole = passes("whole");
    assert!(whole.iter().flatten().all(serde_json::Value::is_number));
    assert_eq!(passes("new"), whole);
    let left = files(dir)
        .into_iter()
        .filter(|name| name.starts_with("new."));
    assert_eq!(left.count(), 0);
}

#[test]
fn a_run_that_was_stopped_goes_on_to_the_same_model() {
    let args = |model: &str| {
        let mut args = bgad_args(model);
        let longer = ["--set", "method.schedule.meta_epochs=12"];
        args.extend(longer.map(str::to_owned));
        args
    };
    let place = ["meta_epoch", "sub_epoch", "loss"];
    goes_on(args, "method.loss.beta=0.2", "'method.taps=[8]'", &place);
}

#[test]
fn two_players_that_were_stopped_go_on_to_the_same_model() {
    let args = |model: &str| {
        let train = format!("train plate -o {model} --method ckaad-medical");
        let words = crate::ckaad::words(&train, "--set method.schedule.epochs=12");
        words.into_iter().map(str::to_owned).collect()
    };
    let place = ["epoch", "loss_rec", "loss_d", "energy_anomalous"];
    let written = "'method.taps=[4,8]'";
    goes_on(args, "method.loss.gamma=0.2", written, &place);
}
