//! `runs.jsonl`: the runs that are finished, one a line, so that a killed experiment repeats none of them.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use burn_ad::files::write_atomically;
use burn_ad::report::experiment::Figures;
use burn_ad::{Error, Result};
use serde::{Deserialize, Serialize};

use super::trial::Trial;

/// One finished run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RunLine {
    /// Of the run.
    pub(super) fingerprint: String,
    /// Of the images.
    pub(super) data: String,
    /// Axis and value.
    pub(super) labels: Vec<(String, String)>,
    pub(super) seed: u64,
    /// Known anomalies that were learnt from, or only kept out of the test set.
    pub(super) known_anomalies: usize,
    /// Anomalous images that were learnt as normal ones.
    #[serde(default)]
    pub(super) contamination: usize,
    pub(super) test_normal: usize,
    pub(super) test_anomalous: usize,
    pub(super) figures: Figures<Option<f64>>,
    /// Folder of all its results, below that of the experiment.
    pub(super) results: String,
}

/// The file, and what is in it.
#[derive(Debug)]
pub(super) struct RunFile {
    path: PathBuf,
    lines: HashMap<String, RunLine>,
}

impl RunFile {
    /// Reads what is there; a last line that a killed process left unfinished is dropped.
    ///
    /// # Errors
    /// When the file cannot be read, or holds something else.
    pub(super) fn open(path: PathBuf) -> Result<Self> {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(Error::io(&error).path(&path)),
        };
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        let mut lines = HashMap::new();
        for line in whole.lines() {
            let line: RunLine = serde_json::from_str(line).map_err(|error| {
                Error::data(format!("this is no line of an experiment: {error}"))
                    .path(&path)
                    .help("start afresh with --overwrite")
            })?;
            lines.insert(line.fingerprint.clone(), line);
        }
        if whole.len() < text.len() {
            write_atomically(&path, |file| Ok(file.write_all(whole.as_bytes())?))?;
        }
        Ok(Self { path, lines })
    }

    /// # Errors
    /// When a finished run is none of `trials`: the experiment is another one.
    pub(super) fn check(&self, trials: &[Trial], data: &str, dir: &Path) -> Result<()> {
        let foreign = |line: &&RunLine| {
            !trials
                .iter()
                .any(|trial| trial.fingerprint == line.fingerprint)
        };
        let Some(line) = self.lines.values().find(foreign) else {
            return Ok(());
        };
        let message = if line.data == data {
            "the folder holds runs of an experiment with other settings"
        } else {
            "the folder holds runs of an experiment on other images"
        };
        Err(Error::usage(message).path(dir).help(
            "go on with the command it was begun with (more seeds, variants and values may be added), choose another \
             folder, or start afresh with --overwrite",
        ))
    }

    pub(super) fn get(&self, fingerprint: &str) -> Option<&RunLine> {
        self.lines.get(fingerprint)
    }

    /// Adds a run: one write, so that a killed process leaves whole lines.
    pub(super) fn add(&mut self, line: RunLine) -> Result<()> {
        let at = |error: std::io::Error| Error::io(&error).path(&self.path);
        let text = serde_json::to_string(&line).map_err(|error| Error::data(error.to_string()))?;
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)
            .map_err(at)?;
        file.write_all(format!("{text}\n").as_bytes()).map_err(at)?;
        file.sync_all().map_err(at)?;
        self.lines.insert(line.fingerprint.clone(), line);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn line(fingerprint: &str) -> RunLine {
        RunLine {
            fingerprint: fingerprint.to_owned(),
            data: "d".to_owned(),
            labels: vec![("variant".to_owned(), "BGAD, a | b".to_owned())],
            seed: 1,
            known_anomalies: 5,
            contamination: 0,
            test_normal: 3,
            test_anomalous: 4,
            figures: Figures {
                aupro: Some(0.1 + 0.2),
                ..Figures::default()
            },
            results: format!("runs/{fingerprint}"),
        }
    }

    #[test]
    fn finished_runs_are_found_again_and_a_half_line_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runs.jsonl");
        let mut runs = RunFile::open(path.clone()).unwrap();
        runs.add(line("a")).unwrap();
        runs.add(line("b")).unwrap();
        let whole = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{whole}{}", &whole[..20])).unwrap();
        let mut again = RunFile::open(path.clone()).unwrap();
        assert_eq!(again.get("b"), Some(&line("b")));
        assert_eq!(again.get("c"), None);
        again.add(line("c")).unwrap();
        assert_eq!(RunFile::open(path).unwrap().lines.len(), 3);
    }

    #[test]
    fn a_foreign_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runs.jsonl");
        std::fs::write(&path, "{\"score\": 1}\n").unwrap();
        assert!(
            RunFile::open(path)
                .unwrap_err()
                .to_string()
                .contains("runs.jsonl")
        );
    }

    #[test]
    fn runs_of_another_experiment_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut runs = RunFile::open(dir.path().join("runs.jsonl")).unwrap();
        runs.check(&[], "d", dir.path()).unwrap();
        runs.add(line("a")).unwrap();
        for (data, part) in [("d", "other settings"), ("e", "other images")] {
            let error = runs.check(&[], data, dir.path()).unwrap_err();
            assert!(
                error.is_usage() && error.to_string().contains(part),
                "{error}"
            );
        }
    }
}
