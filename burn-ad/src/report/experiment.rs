//! A grid of runs: mean and standard deviation over seeds, as table, CSV, markdown and JSON.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::eval::EvalReport;
use super::table::{Align, Table, number};
use crate::error::{Error, Result};
use crate::files::write_atomically;

/// The figures by which runs are compared. Metrics lie in `[0, 1]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures<T> {
    /// AUROC over images.
    pub image_auroc: T,
    /// AUROC over pixels.
    pub pixel_auroc: T,
    /// Area under the per-region overlap up to a false-positive rate of 0.3.
    pub aupro: T,
    /// The mean over images of CKAAD's published PRO; see [`Quality`](super::eval::Quality::pro_per_image).
    #[serde(default)]
    pub pro_per_image: T,
    /// Average precision over images.
    pub image_average_precision: T,
    /// The best F1 over images; its threshold is chosen on the test set.
    pub image_best_f1: T,
    /// Share of right decisions at that threshold.
    #[serde(default)]
    pub image_best_f1_accuracy: T,
    /// For datasets of several products the mean over products of what is above over all images; it does not ask
    /// that scores of different products can be compared.
    #[serde(default)]
    pub mean_image_auroc: T,
    /// See [`mean_image_auroc`](Self::mean_image_auroc).
    #[serde(default)]
    pub mean_pixel_auroc: T,
    /// See [`mean_image_auroc`](Self::mean_image_auroc).
    #[serde(default)]
    pub mean_aupro: T,
    /// Share of the images whose most likely product is their own.
    #[serde(default)]
    pub class_accuracy: T,
    /// Seconds for fitting and calibration.
    pub seconds: T,
    /// Peak resident memory in MiB.
    pub peak_memory_mib: T,
}

const COUNT: usize = 13;

/// Figures that need masks, or several products; tables leave them out where no row has them.
const OPTIONAL: [Range<usize>; 2] = [1..4, 7..11];

/// Of each figure: its key in files, its title, and its decimals in tables.
const COLUMNS: [(&str, &str, usize); COUNT] = [
    ("image_auroc", "image AUROC", 4),
    ("pixel_auroc", "pixel AUROC", 4),
    ("aupro", "AUPRO", 4),
    ("pro_per_image", "PRO per image", 4),
    ("image_average_precision", "image AP", 4),
    ("image_best_f1", "best F1", 4),
    ("image_best_f1_accuracy", "accuracy at best F1", 4),
    ("mean_image_auroc", "image AUROC, mean of products", 4),
    ("mean_pixel_auroc", "pixel AUROC, mean", 4),
    ("mean_aupro", "AUPRO, mean", 4),
    ("class_accuracy", "class accuracy", 4),
    ("seconds", "seconds", 1),
    ("peak_memory_mib", "MiB", 0),
];

impl<T: Copy> Figures<T> {
    /// In the order of [`COLUMNS`].
    fn values(&self) -> [T; COUNT] {
        [
            self.image_auroc,
            self.pixel_auroc,
            self.aupro,
            self.pro_per_image,
            self.image_average_precision,
            self.image_best_f1,
            self.image_best_f1_accuracy,
            self.mean_image_auroc,
            self.mean_pixel_auroc,
            self.mean_aupro,
            self.class_accuracy,
            self.seconds,
            self.peak_memory_mib,
        ]
    }

    fn from_values(values: [T; COUNT]) -> Self {
        let [
            image_auroc,
            pixel_auroc,
            aupro,
            pro_per_image,
            image_average_precision,
            image_best_f1,
            image_best_f1_accuracy,
            mean_image_auroc,
            mean_pixel_auroc,
            mean_aupro,
            class_accuracy,
            seconds,
            peak_memory_mib,
        ] = values;
        Self {
            image_auroc,
            pixel_auroc,
            aupro,
            pro_per_image,
            image_average_precision,
            image_best_f1,
            image_best_f1_accuracy,
            mean_image_auroc,
            mean_pixel_auroc,
            mean_aupro,
            class_accuracy,
            seconds,
            peak_memory_mib,
        }
    }
}

impl From<&EvalReport> for Figures<Option<f64>> {
    fn from(report: &EvalReport) -> Self {
        let pixel = report.pixel.unwrap_or_default();
        let mean = report.mean_over_classes().unwrap_or_default();
        Self {
            image_auroc: report.image.auroc,
            pixel_auroc: pixel.auroc,
            aupro: pixel.aupro,
            pro_per_image: pixel.pro_per_image,
            image_average_precision: report.image.average_precision,
            image_best_f1: report.image.best_f1,
            image_best_f1_accuracy: report.image.best_f1_accuracy,
            mean_image_auroc: mean.image_auroc,
            mean_pixel_auroc: mean.pixel_auroc,
            mean_aupro: mean.aupro,
            class_accuracy: report.class_accuracy.filter(|_| report.classes.len() > 1),
            seconds: report.timings.fit_seconds,
            peak_memory_mib: report
                .peak_memory_bytes
                .map(|bytes| bytes as f64 / 1_048_576.0),
        }
    }
}

/// Mean and spread of one figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Arithmetic mean.
    pub mean: f64,
    /// Sample standard deviation (division by `runs - 1`); `None` for a single run.
    pub deviation: Option<f64>,
    /// How many runs had this figure.
    pub runs: usize,
}

impl Spread {
    /// Of the values that are known; `None` when none is.
    pub fn of(values: impl IntoIterator<Item = Option<f64>>) -> Option<Self> {
        let values: Vec<f64> = values.into_iter().flatten().collect();
        let runs = values.len();
        if runs == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / runs as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (runs > 1).then(|| (squares / (runs - 1) as f64).sqrt());
        Some(Self {
            mean,
            deviation,
            runs,
        })
    }

    /// `0.9876 ± 0.0012`, or the mean alone.
    fn text(self, decimals: usize) -> String {
        let mean = number(Some(self.mean), decimals);
        match self.deviation {
            Some(deviation) => format!("{mean} ± {}", number(Some(deviation), decimals)),
            None => mean,
        }
    }
}

/// One setting of the grid with its runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cell {
    /// What sets it apart, one text an axis.
    pub labels: Vec<String>,
    /// What each seed gave: figures, or why it failed.
    pub runs: BTreeMap<u64, std::result::Result<Figures<Option<f64>>, String>>,
}

impl Cell {
    /// The mean over cells, seed by seed: a figure that one of them lacks is unknown, and a seed that failed in
    /// one of them has failed.
    pub fn mean_of(cells: &[&Self], labels: Vec<String>) -> Self {
        let seeds: Vec<u64> = cells
            .first()
            .map(|cell| cell.runs.keys().copied().collect())
            .unwrap_or_default();
        let mean = |seed: u64| {
            let runs: Option<Vec<_>> = cells.iter().map(|cell| cell.runs.get(&seed)).collect();
            let runs: std::result::Result<Vec<_>, &String> =
                runs?.into_iter().map(std::result::Result::as_ref).collect();
            Some(runs.map_err(Clone::clone).map(|runs| {
                let values: [Option<f64>; COUNT] = std::array::from_fn(|figure| {
                    let all: Option<Vec<f64>> =
                        runs.iter().map(|run| run.values()[figure]).collect();
                    all.and_then(|all| Some(Spread::of(all.into_iter().map(Some))?.mean))
                });
                Figures::from_values(values)
            }))
        };
        Self {
            labels,
            runs: seeds
                .into_iter()
                .filter_map(|seed| Some((seed, mean(seed)?)))
                .collect(),
        }
    }

    fn summary(&self, axes: &[String]) -> CellSummary {
        let finished: Vec<[Option<f64>; COUNT]> =
            self.runs.values().flatten().map(Figures::values).collect();
        let figures =
            std::array::from_fn(|figure| Spread::of(finished.iter().map(|run| run[figure])));
        let mut failures: Vec<String> = self
            .runs
            .values()
            .filter_map(|run| run.clone().err())
            .collect();
        let failed = failures.len();
        failures.dedup();
        CellSummary {
            labels: axes
                .iter()
                .cloned()
                .zip(self.labels.iter().cloned())
                .collect(),
            runs: finished.len(),
            failed,
            figures: Figures::from_values(figures),
            failures,
        }
    }
}

/// One row of the results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellSummary {
    /// Axis and value, in the order of the axes.
    pub labels: Vec<(String, String)>,
    /// How many runs finished.
    pub runs: usize,
    /// How many failed.
    pub failed: usize,
    /// Over the runs that finished.
    pub figures: Figures<Option<Spread>>,
    /// Why runs failed, each reason once.
    pub failures: Vec<String>,
}

/// The results of a grid of runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExperimentReport {
    /// Version of burn-ad that made the report.
    pub version: String,
    /// Name of the product.
    pub dataset: String,
    /// Backend the models ran on.
    pub backend: String,
    /// What the cells are told apart by.
    pub axes: Vec<String>,
    /// One a row, in the order of the grid.
    pub cells: Vec<CellSummary>,
}

impl ExperimentReport {
    /// Means and deviations of `cells`, whose labels belong to `axes`.
    pub fn new(dataset: &str, backend: &str, axes: Vec<String>, cells: &[Cell]) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            dataset: dataset.to_owned(),
            backend: backend.to_owned(),
            cells: cells.iter().map(|cell| cell.summary(&axes)).collect(),
            axes,
        }
    }

    /// One row a cell: `mean ± deviation` of every figure, and why runs failed where some did.
    pub fn table(&self) -> Table {
        let any_failed = self.cells.iter().any(|cell| cell.failed > 0);
        let axes = self.axes.iter().map(|axis| (axis.as_str(), Align::Left));
        let has = |figure: usize| {
            let mut cells = self.cells.iter();
            let optional = OPTIONAL.iter().any(|range| range.contains(&figure));
            !optional || cells.any(|cell| cell.figures.values()[figure].is_some())
        };
        let shown: Vec<usize> = (0..COUNT).filter(|&figure| has(figure)).collect();
        let figures = shown
            .iter()
            .map(|&figure| (COLUMNS[figure].1, Align::Right));
        let columns = axes.chain([("runs", Align::Right)]).chain(figures);
        let mut table = Table::new(columns.chain(any_failed.then_some(("failed", Align::Left))));
        for cell in &self.cells {
            let mut row: Vec<String> = cell.labels.iter().map(|(_, value)| value.clone()).collect();
            row.push(cell.runs.to_string());
            let values = cell.figures.values();
            row.extend(shown.iter().map(|&figure| {
                values[figure].map_or_else(String::new, |spread| spread.text(COLUMNS[figure].2))
            }));
            if cell.failed > 0 {
                row.push(format!("{}: {}", cell.failed, cell.failures.join("; ")));
            }
            table.row(row);
        }
        table
    }

    /// Writes one row a cell, with mean and deviation in columns of their own.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_csv(&self, path: &Path) -> Result<()> {
        let failed = |error: csv::Error| Error::data(format!("cannot write CSV: {error}"));
        let header: Vec<String> = self
            .axes
            .iter()
            .cloned()
            .chain(["runs".to_owned(), "failed".to_owned()])
            .chain(
                COLUMNS
                    .iter()
                    .flat_map(|(key, _, _)| [(*key).to_owned(), format!("{key}_deviation")]),
            )
            .chain(["failures".to_owned()])
            .collect();
        // Shortest text that reads back as the same number.
        let text = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
        write_atomically(path, |file| {
            let mut writer = csv::Writer::from_writer(file);
            writer.write_record(&header).map_err(failed)?;
            for cell in &self.cells {
                let labels = cell.labels.iter().map(|(_, value)| value.clone());
                let counts = [cell.runs.to_string(), cell.failed.to_string()];
                let figures = cell.figures.values().into_iter().flat_map(|spread| {
                    [
                        text(spread.map(|spread| spread.mean)),
                        text(spread.and_then(|spread| spread.deviation)),
                    ]
                });
                let row = labels.chain(counts).chain(figures);
                let row: Vec<String> = row.chain([cell.failures.join("; ")]).collect();
                writer.write_record(&row).map_err(failed)?;
            }
            Ok(writer.flush()?)
        })
    }
}

#[cfg(test)]
#[path = "experiment_tests.rs"]
mod tests;
