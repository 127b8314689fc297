//! A folder to work in, a way to run the command, and a small product with a model.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use tempfile::TempDir;

/// Exit codes the command promises.
pub(crate) const DONE: i32 = 0;
pub(crate) const FAILURE: i32 = 1;
pub(crate) const USAGE: i32 = 2;

/// Settings that make a model in about a second.
pub(crate) const QUICK: [&str; 9] = [
    "--random-weights",
    "--backbone",
    "resnet18",
    "--size",
    "64",
    "--set",
    "method.reduction={ subset = 16 }",
    "--set",
    "method.bank.max_candidates=500",
];

/// What a run of the command gave.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Fails the test, with everything that was printed, unless the exit code is `code`.
    pub(crate) fn ends_with(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "stdout:\n{}\nstderr:\n{}",
            self.stdout, self.stderr
        );
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    /// Fails the test unless stderr has all of `parts`.
    pub(crate) fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(
                self.stderr.contains(part),
                "{part:?} is not in\n{}",
                self.stderr
            );
        }
        self
    }
}

/// The command, in `dir`, with an empty cache of weights.
pub(crate) fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_burn-ad"));
    command
        .current_dir(dir)
        .env("BURN_AD_CACHE", dir.join(".cache"))
        .env_remove("RUST_BACKTRACE");
    command
}

/// Runs the command to its end.
pub(crate) fn run<S: AsRef<std::ffi::OsStr>>(dir: &Path, args: impl IntoIterator<Item = S>) -> Ran {
    let Output {
        status,
        stdout,
        stderr,
    } = command(dir).args(args).output().unwrap();
    Ran {
        code: status.code().unwrap_or(-1),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

/// A small product in `dir/name`.
pub(crate) fn draw(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    let args = "--size 64 --train 8 --test-normal 3 --per-kind 1 --kinds stain,missing-hole";
    let args = ["data", "synth", name].into_iter().chain(args.split(' '));
    run(dir, args).ends_with(DONE);
    path
}

/// A product of two kinds of defect, 4 images each, in `dir/name`.
pub(crate) fn draw_kinds(dir: &Path, name: &str) {
    let args = "--size 64 --train 8 --test-normal 3 --per-kind 4 --kinds stain,missing-hole";
    let args = ["data", "synth", name].into_iter().chain(args.split(' '));
    run(dir, args).ends_with(DONE);
}

/// Settings of a BGAD that learns in about a second.
pub(crate) const QUICK_BGAD: [&str; 8] = [
    "method.name=bgad",
    "method.taps=[8]",
    "method.flow.blocks=2",
    "method.flow.position_channels=8",
    "method.schedule.meta_epochs=2",
    "method.schedule.sub_epochs=2",
    "method.schedule.batch=6",
    "method.schedule.chunk=64",
];

/// A training run of it on `plate`, without known anomalies yet.
pub(crate) fn bgad_args(model: &str) -> Vec<String> {
    let plain = [
        "train",
        "plate",
        "-o",
        model,
        "--random-weights",
        "--backbone",
        "resnet18",
        "--size",
        "64",
    ];
    let sets = QUICK_BGAD.iter().flat_map(|set| ["--set", set]);
    plain.into_iter().chain(sets).map(str::to_owned).collect()
}

/// A JSON file.
pub(crate) fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The values of a file that has one a line.
pub(crate) fn lines(path: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().map(serde_json::from_str);
    lines.map(Result::unwrap).collect()
}

/// The runs of the experiment in `dir/out`.
pub(crate) fn runs(dir: &Path) -> Vec<serde_json::Value> {
    lines(&dir.join("out/runs.jsonl"))
}

/// Trains a model `dir/model` on `data`.
pub(crate) fn train(dir: &Path, data: &str, model: &str) -> Ran {
    let args = ["train", data, "-o", model].into_iter().chain(QUICK);
    run(dir, args)
}

/// A product `plate` and a model `model`, made once for all tests; nobody may change them.
pub(crate) fn shared() -> &'static Path {
    static WORLD: OnceLock<TempDir> = OnceLock::new();
    let world = WORLD.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        draw(dir.path(), "plate");
        train(dir.path(), "plate", "model").ends_with(DONE);
        dir
    });
    world.path()
}

/// A folder of one's own, with a copy of the shared product and model.
pub(crate) fn copy() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy_all(shared(), dir.path());
    dir
}

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_all(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The rows of a `predictions.csv` without its header: (path, score, decision, error).
pub(crate) fn predictions(path: &Path) -> Vec<(String, String, String, String)> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    let header = "path,score,normalised_score,decision,class,error,milliseconds";
    assert_eq!(
        reader.headers().unwrap(),
        header.split(',').collect::<Vec<_>>()
    );
    reader
        .records()
        .map(|row| {
            let row = row.unwrap();
            let cell = |index: usize| row[index].to_owned();
            (cell(0).replace('\\', "/"), cell(1), cell(3), cell(5))
        })
        .collect()
}

/// Every file below `dir`, relative, sorted.
pub(crate) fn files(dir: &Path) -> Vec<String> {
    fn add(root: &Path, dir: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                add(root, &path, found);
            } else {
                let relative = path.strip_prefix(root).unwrap().to_string_lossy();
                found.push(relative.replace('\\', "/"));
            }
        }
    }
    let mut found = Vec::new();
    add(dir, dir, &mut found);
    found.sort();
    found
}
