//! `burn-ad bench`: rows, files, wrong arguments, the worker that another program drives.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use serde_json::Value;

use crate::world::{DONE, FAILURE, USAGE, command, files, json, run};

#[test]
fn everything_quick_gives_a_row_a_work_and_files() {
    let dir = tempfile::tempdir().unwrap();
    let args = [
        "bench",
        "--quick",
        "--runs",
        "2",
        "-o",
        "out",
        "--threads",
        "1",
    ];
    let ran = run(dir.path(), args).ends_with(DONE);
    for part in [
        "features resnet18, 1 x 64 x 64",
        "flow step",
        "ResNet-18 training step",
        "nearest neighbours",
        "Mahalanobis",
        "CKAAD step",
        "IGD step",
        "AUPRO",
        "all pixel metrics",
        "fit of N-pad, 8 images of 64 x 64",
        "quick: sizes too small",
    ] {
        assert!(ran.stdout.contains(part), "{part:?}:\n{}", ran.stdout);
    }
    assert_eq!(
        files(&dir.path().join("out")),
        ["bench.json", "bench.md", "burn-ad-run.json"]
    );
    let record = json(&dir.path().join("out/bench.json"));
    assert_eq!(record["complete"], true);
    assert_eq!(record["machine"]["threads"], 1);
    assert_eq!(record["versions"]["burn_ad"], env!("CARGO_PKG_VERSION"));
    let works = record["works"].as_array().unwrap();
    assert_eq!(works.len(), 10);
    for work in works {
        let ms: Vec<f64> = serde_json::from_value(work["ms"].clone()).unwrap();
        assert_eq!(ms.len(), 2, "{work}");
        let least = ms.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(least > 0.0);
        assert_eq!(work["minimum_ms"], least);
        assert!(work["median_ms"].as_f64().unwrap() >= least);
    }
    let markdown = std::fs::read_to_string(dir.path().join("out/bench.md")).unwrap();
    assert!(markdown.starts_with("| work | median ms |"), "{markdown}");
}

#[test]
fn what_is_asked_for_is_measured_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let args = "bench --quick --only metrics,features --batch 2,2 --size 32 --backbones resnet34";
    let ran = run(dir.path(), args.split(' ')).ends_with(DONE);
    let rows: Vec<&str> = ran.stdout.lines().skip(2).take(3).collect();
    assert!(rows[0].starts_with("AUPRO"), "{}", ran.stdout);
    assert!(rows[1].starts_with("all pixel metrics"), "{}", ran.stdout);
    assert!(
        rows[2].starts_with("features resnet34, 2 x 32 x 32"),
        "{}",
        ran.stdout
    );
    assert_eq!(ran.stdout.lines().count(), 2 + 3 + 2, "{}", ran.stdout);
    assert!(files(dir.path()).is_empty());
}

#[test]
fn wrong_arguments_of_a_bench_are_usage_errors() {
    let dir = tempfile::tempdir().unwrap();
    for (args, part) in [
        ("--only everything", "flow-step"),
        ("--backbones resnet19", "resnet18"),
        ("--runs 0", "--runs"),
        ("--seconds 0", "above 0"),
        ("--seconds nan", "above 0"),
        ("--runs 3 --seconds 1", "cannot be used"),
        ("--batch 0", "--batch"),
        ("--size 8", "32"),
        ("--overwrite", "--output"),
    ] {
        let words = ["bench"].into_iter().chain(args.split(' '));
        let ran = run(dir.path(), words).ends_with(USAGE);
        assert!(ran.stderr.contains(part), "{args}: {}", ran.stderr);
    }
    std::fs::write(dir.path().join("mine.txt"), "x").unwrap();
    let ran = run(dir.path(), "bench --quick --only metrics -o .".split(' '));
    ran.ends_with(USAGE).says(&["--overwrite"]);
}

#[test]
fn a_worker_answers_line_by_line() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = command(dir.path())
        .args("bench --worker --quick --only metrics,scoring".split(' '))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut requests = child.stdin.take().unwrap();
    let mut replies = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut reply =
        || -> Value { serde_json::from_str(&replies.next().unwrap().unwrap()).unwrap() };
    let greeting = reply();
    assert_eq!(greeting["backend"], "flex");
    let names: Vec<&str> = greeting["works"]
        .as_array()
        .unwrap()
        .iter()
        .map(|work| work["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["aupro", "pixel-metrics", "nearest", "mahalanobis-20"]
    );
    assert_eq!(greeting["works"][2]["parameters"]["queries"], 64);
    for (request, runs) in [
        ("nearest 3", 3),
        ("nearest", 1),
        ("aupro 2", 2),
        ("nearest 0", 0),
    ] {
        writeln!(requests, "{request}").unwrap();
        let reply = reply();
        assert_eq!(reply["name"], request.split(' ').next().unwrap());
        assert_eq!(reply["ms"].as_array().unwrap().len(), runs, "{request}");
    }
    for (request, part) in [("fit 1", "fit"), ("nearest many", "many")] {
        writeln!(requests, "{request}").unwrap();
        let error = reply()["error"].as_str().unwrap().to_owned();
        assert!(error.contains(part), "{error}");
    }
    drop(requests);
    assert_eq!(child.wait().unwrap().code(), Some(DONE));
}

#[cfg(unix)]
#[test]
fn a_bench_that_is_stopped_shows_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = command(dir.path())
        // Half an hour for the first of two works.
        .args("bench --quick --only metrics --seconds 1800 -o out".split(' '))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A line every five seconds says that runs are being counted.
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let counted = lines.find(|line| line.as_ref().unwrap().contains("runs"));
    assert!(counted.is_some(), "ended early");
    let pid = child.id().to_string();
    let sent = std::process::Command::new("kill")
        .args(["-INT", &pid])
        .status();
    assert!(sent.unwrap().success());
    // Nobody may be stopped by a full pipe.
    let rest = std::thread::spawn(move || lines.count());
    let output = child.wait_with_output().unwrap();
    rest.join().unwrap();
    assert_eq!(output.status.code(), Some(FAILURE));
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(
        stdout.contains("AUPRO") && stdout.contains("stopped before the end"),
        "{stdout}"
    );
    let record = json(&dir.path().join("out/bench.json"));
    assert_eq!(record["complete"], false);
    assert_eq!(record["works"].as_array().unwrap().len(), 1);
}
