//! The figures of a training run, one JSON object a line, in a file that is readable at any time.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use burn_ad::files::write_atomically;
use burn_ad::report::curves::training_curves;
use burn_ad::train::{Observer, Step};
use burn_ad::{Error, Result};
use serde_json::Value;

use crate::progress::Progress;

/// `train.jsonl` while it grows.
#[derive(Debug)]
pub(crate) struct TrainLog {
    path: PathBuf,
    /// Lines of the run that goes on; until the first new line says where that is.
    earlier: Option<Vec<String>>,
    file: Option<File>,
}

impl TrainLog {
    /// A log whose file begins with its first line. One of an earlier run goes on when `resume`, else it is removed.
    ///
    /// # Errors
    /// When the log to go on with cannot be read, or the other one not removed.
    pub(crate) fn new(path: PathBuf, resume: bool) -> Result<Self> {
        let at = |error: std::io::Error| Error::io(&error).path(&path);
        let mut earlier = None;
        if path.exists() && resume {
            let text = std::fs::read_to_string(&path).map_err(at)?;
            earlier = Some(text.lines().map(str::to_owned).collect());
        } else if path.exists() {
            std::fs::remove_file(&path).map_err(at)?;
        }
        Ok(Self {
            path,
            earlier,
            file: None,
        })
    }

    /// Adds one line; a process that is killed leaves whole lines only.
    fn add(&mut self, figures: &Value) -> Result<()> {
        let at = |error: std::io::Error| Error::io(&error).path(&self.path);
        let mut file = match self.file.take() {
            Some(file) => file,
            None => {
                let kept = self.earlier.take().unwrap_or_default();
                write_atomically(&self.path, |file| {
                    for line in kept.iter().filter(|line| is_before(line, figures)) {
                        writeln!(file, "{line}")?;
                    }
                    Ok(())
                })?;
                OpenOptions::new()
                    .append(true)
                    .open(&self.path)
                    .map_err(at)?
            }
        };
        file.write_all(format!("{figures}\n").as_bytes())
            .map_err(at)?;
        self.file = Some(file);
        Ok(())
    }
}

/// Whether an earlier line is of a pass before that of `figures`: a run that was killed repeats what came after its
/// checkpoint. A half line is none.
fn is_before(line: &str, figures: &Value) -> bool {
    let place = |value: &Value| {
        let first = ["meta_epoch", "epoch", "step"];
        let first = first.iter().find_map(|&name| value[name].as_u64());
        (first, value["sub_epoch"].as_u64())
    };
    serde_json::from_str::<Value>(line).is_ok_and(|line| place(&line) < place(figures))
}

/// Shows a run on the terminal and keeps its figures.
pub(crate) struct Recorder<'a> {
    pub(crate) progress: &'a mut Progress,
    /// `None` where the figures are not kept, or could not be written.
    pub(crate) log: Option<TrainLog>,
}

impl Observer for Recorder<'_> {
    fn step(&mut self, step: &Step<'_>) -> ControlFlow<()> {
        self.progress.step(step)
    }

    fn warn(&mut self, message: &str) {
        self.progress.warn(message);
    }

    fn record(&mut self, figures: &Value) {
        let written = self.log.as_mut().map(|log| log.add(figures));
        if let Some(Err(error)) = written {
            // Hours of training are worth more than their log.
            self.progress
                .warn(&format!("the training log ends here: {error}"));
            self.log = None;
        }
    }
}

/// Moves a finished log to its model and draws it there, `train.svg` beside `train.jsonl`; a method that records
/// nothing has none.
pub(crate) fn keep(log: &Path, kept: &Path) -> Result<()> {
    if !log.exists() {
        return Ok(());
    }
    std::fs::rename(log, kept).map_err(|error| Error::io(&error).path(kept))?;
    let text = std::fs::read_to_string(kept).map_err(|error| Error::io(&error).path(kept))?;
    let lines = text.lines().map(serde_json::from_str);
    let lines: Vec<Value> = lines.filter_map(std::result::Result::ok).collect();
    let Some(svg) = training_curves(&lines) else {
        return Ok(());
    };
    write_atomically(&kept.with_extension("svg"), |file| {
        Ok(file.write_all(svg.as_bytes())?)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn line(meta: u64, sub: u64) -> Value {
        json!({ "meta_epoch": meta, "sub_epoch": sub, "loss": 0.5 })
    }

    fn places(path: &Path) -> Vec<(u64, u64)> {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.ends_with('\n'));
        text.lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .map(|line| {
                (
                    line["meta_epoch"].as_u64().unwrap(),
                    line["sub_epoch"].as_u64().unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn a_run_that_goes_on_drops_half_lines_and_passes_done_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.train.jsonl");
        let mut log = TrainLog::new(path.clone(), false).unwrap();
        for (meta, sub) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            log.add(&line(meta, sub)).unwrap();
        }
        OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"{\"meta_ep")
            .unwrap();
        let mut log = TrainLog::new(path.clone(), true).unwrap();
        log.add(&line(1, 0)).unwrap();
        log.add(&line(1, 1)).unwrap();
        assert_eq!(places(&path), [(0, 0), (0, 1), (1, 0), (1, 1)]);
        let mut log = TrainLog::new(path.clone(), false).unwrap();
        log.add(&line(0, 0)).unwrap();
        assert_eq!(places(&path), [(0, 0)]);
    }

    #[test]
    fn a_run_without_figures_writes_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.train.jsonl");
        drop(TrainLog::new(path.clone(), false).unwrap());
        assert!(!path.exists());
        keep(&path, &dir.path().join("kept")).unwrap();
    }
}
