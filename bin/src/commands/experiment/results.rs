//! What an experiment leaves behind: results.json, results.csv and results.md.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use burn_ad::files::write_atomically;
use burn_ad::report::experiment::{Cell, ExperimentReport};
use burn_ad::{Error, Result};

use super::grid::{Grid, Mean};
use super::runs::RunFile;
use super::trial::Trial;
use crate::backend::BackendName;
use crate::output::write_json;

/// The files, for a folder that is written again.
pub(super) const FILES: [&str; 3] = ["results.json", "results.csv", "results.md"];

/// Everything that is known so far.
pub(super) struct Results<'a> {
    pub(super) grid: &'a Grid,
    pub(super) trials: &'a [Trial],
    pub(super) runs: &'a RunFile,
    /// Why runs failed, by fingerprint.
    pub(super) failed: &'a HashMap<String, String>,
    pub(super) dataset: &'a str,
    pub(super) backend: BackendName,
}

impl Results<'_> {
    /// Mean and deviation of every row, and of the means over kinds and normal classes.
    pub(super) fn report(&self) -> ExperimentReport {
        let mut cells: Vec<Cell> = self
            .grid
            .cells
            .iter()
            .map(|cell| Cell {
                labels: cell.labels.clone(),
                ..Cell::default()
            })
            .collect();
        for trial in self.trials {
            let outcome = match self.runs.get(&trial.fingerprint) {
                Some(line) => Ok(line.figures),
                None => match self.failed.get(&trial.fingerprint) {
                    Some(reason) => Err(reason.clone()),
                    None => continue,
                },
            };
            cells[trial.cell].runs.insert(trial.seed, outcome);
        }
        let mut rows = Vec::with_capacity(cells.len());
        for (position, cell) in cells.iter().enumerate() {
            rows.push(cell.clone());
            let ended = |mean: &&Mean| mean.cells.last() == Some(&position);
            for mean in self.grid.means.iter().filter(ended) {
                let of: Vec<&Cell> = mean.cells.iter().map(|&cell| &cells[cell]).collect();
                rows.push(Cell::mean_of(&of, mean.labels.clone()));
            }
        }
        ExperimentReport::new(
            self.dataset,
            &self.backend.to_string(),
            self.grid.axes.clone(),
            &rows,
        )
    }

    /// Writes the files.
    pub(super) fn write(&self, out: &Path) -> Result<ExperimentReport> {
        let report = self.report();
        let json = serde_json::to_value(&report).map_err(|error| Error::data(error.to_string()))?;
        write_json(&out.join(FILES[0]), &json)?;
        report.write_csv(&out.join(FILES[1]))?;
        let text = format!(
            "# {}\n\nMean and sample standard deviation over the runs; burn-ad {}, backend {}.\n\n{}",
            self.dataset,
            report.version,
            self.backend,
            report.table().markdown()
        );
        write_atomically(&out.join(FILES[2]), |file| {
            Ok(file.write_all(text.as_bytes())?)
        })?;
        Ok(report)
    }
}
