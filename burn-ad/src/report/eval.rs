//! All numbers of an evaluation, for programs (JSON) and for people (tables).

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::table::{Align, Table, number};
use crate::error::{Error, Result};
use crate::files::write_atomically;

/// The result of evaluating one model on one dataset.
///
/// Metrics lie in `[0, 1]`; what is undefined (one class only, no masks, no threshold) is `None`, written
/// as `null`. JSON knows no NaN: a number that is not finite is written as `null` too.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EvalReport {
    /// Version of burn-ad that made the report.
    pub version: String,
    /// Method or preset, for example `padim`.
    pub method: String,
    /// Name of the backbone and of its weights.
    pub backbone: String,
    /// Name of the product or dataset.
    pub dataset: String,
    /// Backend the model ran on.
    pub backend: String,
    /// How scores were normalised: `calibrated` on training normals, or the `paper`'s test-set maxima.
    pub protocol: String,
    /// Seed of the run.
    pub seed: u64,
    /// How many images took part.
    pub counts: Counts,
    /// How well images are told apart.
    pub image: Quality,
    /// How well pixels are told apart; `None` when no masks are known.
    pub pixel: Option<Quality>,
    /// Image score from which an image counts as anomalous, fitted without test images.
    pub threshold: Option<f64>,
    /// What that threshold does to the test images.
    pub decisions: Option<Decisions>,
    /// The same by folder name of the test images (`good`, `scratch`, ...).
    pub kinds: Vec<KindReport>,
    /// The same by product, for datasets of several; empty otherwise.
    #[serde(default)]
    pub classes: Vec<ClassReport>,
    /// Share of the images whose most likely class is their own; `None` for methods without classes.
    #[serde(default)]
    pub class_accuracy: Option<f64>,
    /// Speed.
    pub timings: Timings,
    /// Peak resident memory of the process, in bytes.
    pub peak_memory_bytes: Option<u64>,
}

/// How many images took part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Normal images the model was fitted on.
    pub train: usize,
    /// Normal images among the tested.
    pub test_normal: usize,
    /// Anomalous images among the tested.
    pub test_anomalous: usize,
    /// Test images that could not be read; they are in no metric.
    pub skipped: usize,
}

/// How well scores separate normal from anomalous, over images or over pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Area under the receiver operating characteristic.
    pub auroc: Option<f64>,
    /// Average precision.
    pub average_precision: Option<f64>,
    /// The best F1 over all thresholds; chosen on the test set, so an upper bound.
    pub best_f1: Option<f64>,
    /// The threshold of that F1.
    pub best_f1_threshold: Option<f64>,
    /// Share of right decisions at that threshold.
    pub best_f1_accuracy: Option<f64>,
    /// Area under the per-region overlap up to a false-positive rate of 0.3, divided by 0.3 (pixels only).
    pub aupro: Option<f64>,
    /// The "PRO" of CKAAD's published code, for comparing with its tables only: the mean of what each anomalous image
    /// reaches alone, at 200 thresholds of its own, up to a false-positive rate of 0.3 (pixels only).
    #[serde(default)]
    pub pro_per_image: Option<f64>,
}

/// Decisions at the model's threshold, "positive" meaning anomalous.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decisions {
    /// Anomalous, found.
    pub true_positive: usize,
    /// Normal, but reported: a false alarm.
    pub false_positive: usize,
    /// Normal, passed.
    pub true_negative: usize,
    /// Anomalous, but missed.
    pub false_negative: usize,
}

impl Decisions {
    /// Counts decisions `score > threshold` against labels (`true` = anomalous).
    ///
    /// # Panics
    /// When there are more or fewer labels than scores.
    pub fn count(scores: &[f32], labels: &[bool], threshold: f32) -> Self {
        assert_eq!(scores.len(), labels.len(), "one label per score");
        let reported = scores.iter().map(|score| *score > threshold);
        Self::of(reported.zip(labels.iter().copied()))
    }

    /// Counts decisions already made: whether an image was reported, and whether it is anomalous.
    pub fn of(images: impl IntoIterator<Item = (bool, bool)>) -> Self {
        let mut counts = Self::default();
        for (reported, anomalous) in images {
            *match (reported, anomalous) {
                (true, true) => &mut counts.true_positive,
                (true, false) => &mut counts.false_positive,
                (false, false) => &mut counts.true_negative,
                (false, true) => &mut counts.false_negative,
            } += 1;
        }
        counts
    }

    /// Share of the anomalous images that were found; `None` without anomalous images.
    pub fn detection_rate(&self) -> Option<f64> {
        share(self.true_positive, self.false_negative)
    }

    /// Share of the normal images that were reported; `None` without normal images.
    pub fn false_alarm_rate(&self) -> Option<f64> {
        share(self.false_positive, self.true_negative)
    }
}

fn share(part: usize, rest: usize) -> Option<f64> {
    let all = part + rest;
    (all > 0).then(|| part as f64 / all as f64)
}

/// Results on the test images of one kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KindReport {
    /// Name of the kind.
    pub kind: String,
    /// Whether it is a kind of defect.
    pub anomalous: bool,
    /// Number of images.
    pub images: usize,
    /// AUROC of these images against all normal test images, in a dataset of several products those of the same
    /// product; `None` for normal kinds.
    pub image_auroc: Option<f64>,
    /// Share of the images at or above the threshold: the detection rate of a defect, the false alarm
    /// rate of a normal kind.
    pub reported: Option<f64>,
    /// Pixel AUROC over these images.
    pub pixel_auroc: Option<f64>,
    /// AUPRO over these images.
    pub aupro: Option<f64>,
}

/// Results on the test images of one product of several, against its own normal images.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClassReport {
    /// Name of the product.
    pub class: String,
    /// Number of images.
    pub images: usize,
    /// AUROC of the images.
    pub image_auroc: Option<f64>,
    /// Pixel AUROC.
    pub pixel_auroc: Option<f64>,
    /// AUPRO.
    pub aupro: Option<f64>,
    /// Share of the images that the model takes for this product; `None` for methods without classes.
    pub class_accuracy: Option<f64>,
}

/// Wall-clock times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// Fitting the model, in seconds.
    pub fit_seconds: Option<f64>,
    /// Median time to score an image, in milliseconds.
    pub image_median_ms: Option<f64>,
    /// 95th percentile of the time to score an image, in milliseconds.
    pub image_p95_ms: Option<f64>,
}

impl Timings {
    /// Median and 95th percentile (nearest rank) of the times per image, in milliseconds.
    pub fn of(fit_seconds: Option<f64>, image_ms: &[f64]) -> Self {
        let mut sorted = image_ms.to_vec();
        sorted.sort_by(f64::total_cmp);
        let percentile = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100).max(1);
            sorted.get(rank - 1).copied()
        };
        Self {
            fit_seconds,
            image_median_ms: percentile(50),
            image_p95_ms: percentile(95),
        }
    }
}

impl EvalReport {
    /// Writes the report as indented JSON, under a temporary name first.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_json(&self, path: &Path) -> Result<()> {
        write_atomically(path, |file| {
            serde_json::to_writer_pretty(&mut *file, self)
                .map_err(|error| Error::data(format!("cannot write JSON: {error}")))?;
            Ok(std::io::Write::write_all(file, b"\n")?)
        })
    }

    /// Reads what [`write_json`](Self::write_json) wrote.
    ///
    /// # Errors
    /// When the file cannot be read or is not such a report.
    pub fn read_json(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|error| Error::io(&error).path(path))?;
        serde_json::from_slice(&bytes).map_err(|error| {
            Error::data(format!("not an evaluation report: {error}"))
                .path(path)
                .help("give the metrics file that `burn-ad eval` wrote")
        })
    }

    /// The figures of the whole run, one per row.
    pub fn summary(&self) -> Table {
        let mut table = Table::new([("metric", Align::Left), ("value", Align::Right)]);
        let pixel = self.pixel.unwrap_or_default();
        let decisions = self.decisions.as_ref();
        let mebibytes = self
            .peak_memory_bytes
            .map(|bytes| bytes as f64 / 1_048_576.0);
        for (name, value, decimals) in [
            ("image AUROC", self.image.auroc, 4),
            ("image average precision", self.image.average_precision, 4),
            ("image best F1 (test-set threshold)", self.image.best_f1, 4),
            (
                "image accuracy at best F1 (test-set threshold)",
                self.image.best_f1_accuracy,
                4,
            ),
            ("pixel AUROC", pixel.auroc, 4),
            ("pixel average precision", pixel.average_precision, 4),
            ("pixel best F1 (test-set threshold)", pixel.best_f1, 4),
            ("AUPRO (limit 0.3)", pixel.aupro, 4),
            (
                "PRO per image (own thresholds, as CKAAD)",
                pixel.pro_per_image,
                4,
            ),
            ("class accuracy", self.class_accuracy, 4),
            ("threshold (image score)", self.threshold, 4),
            (
                "detection rate at threshold",
                decisions.and_then(Decisions::detection_rate),
                4,
            ),
            (
                "false alarm rate at threshold",
                decisions.and_then(Decisions::false_alarm_rate),
                4,
            ),
            ("fit, seconds", self.timings.fit_seconds, 1),
            ("per image, ms (median)", self.timings.image_median_ms, 1),
            ("per image, ms (95 %)", self.timings.image_p95_ms, 1),
            ("peak memory, MiB", mebibytes, 0),
        ] {
            table.row([name.to_owned(), number(value, decimals)]);
        }
        table
    }

    /// Results by kind of test image, one per row.
    pub fn kinds(&self) -> Table {
        let mut table = Table::new([
            ("kind", Align::Left),
            ("images", Align::Right),
            ("image AUROC", Align::Right),
            ("reported", Align::Right),
            ("pixel AUROC", Align::Right),
            ("AUPRO", Align::Right),
        ]);
        for kind in &self.kinds {
            table.row([
                kind.kind.clone(),
                kind.images.to_string(),
                number(kind.image_auroc, 4),
                number(kind.reported.map(|share| share * 100.0), 1)
                    + if kind.reported.is_some() { " %" } else { "" },
                number(kind.pixel_auroc, 4),
                number(kind.aupro, 4),
            ]);
        }
        table
    }

    /// The mean of [`classes`](Self::classes), each figure over the products that have it; `None` without products.
    pub fn mean_over_classes(&self) -> Option<ClassReport> {
        let mean = |of: &dyn Fn(&ClassReport) -> Option<f64>| {
            let values: Vec<f64> = self.classes.iter().filter_map(of).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        (!self.classes.is_empty()).then(|| ClassReport {
            class: "mean".to_owned(),
            images: self.classes.iter().map(|class| class.images).sum(),
            image_auroc: mean(&|class| class.image_auroc),
            pixel_auroc: mean(&|class| class.pixel_auroc),
            aupro: mean(&|class| class.aupro),
            class_accuracy: mean(&|class| class.class_accuracy),
        })
    }

    /// Results by product, one per row, and their mean.
    pub fn classes(&self) -> Table {
        let mut table = Table::new([
            ("product", Align::Left),
            ("images", Align::Right),
            ("image AUROC", Align::Right),
            ("pixel AUROC", Align::Right),
            ("AUPRO", Align::Right),
            ("class accuracy", Align::Right),
        ]);
        for class in self.classes.iter().chain(&self.mean_over_classes()) {
            table.row([
                class.class.clone(),
                class.images.to_string(),
                number(class.image_auroc, 4),
                number(class.pixel_auroc, 4),
                number(class.aupro, 4),
                number(class.class_accuracy, 4),
            ]);
        }
        table
    }

    /// Decisions at the threshold against the truth; `None` without a threshold.
    pub fn confusion(&self) -> Option<Table> {
        let counts = self.decisions?;
        let mut table = Table::new([
            ("", Align::Left),
            ("passed", Align::Right),
            ("reported", Align::Right),
        ]);
        for (name, passed, reported) in [
            ("normal", counts.true_negative, counts.false_positive),
            ("anomalous", counts.false_negative, counts.true_positive),
        ] {
            table.row([name.to_owned(), passed.to_string(), reported.to_string()]);
        }
        Some(table)
    }

    /// One line that says what was evaluated.
    pub fn title(&self) -> String {
        let Counts {
            train,
            test_normal,
            test_anomalous,
            skipped,
        } = self.counts;
        let skipped = match skipped {
            0 => String::new(),
            count => format!(", {count} unreadable"),
        };
        format!(
            "{} on {}: {train} training images, {test_normal} normal and {test_anomalous} anomalous test images{skipped} (backbone {}, backend {}, protocol {}, seed {})",
            self.method, self.dataset, self.backbone, self.backend, self.protocol, self.seed
        )
    }

    /// Everything for the terminal: title, summary, decisions and kinds.
    pub fn text(&self) -> String {
        let mut parts = vec![self.title() + "\n", self.summary().text()];
        parts.extend(self.confusion().map(|table| table.text()));
        if !self.classes.is_empty() {
            parts.push(self.classes().text());
        }
        if !self.kinds.is_empty() {
            parts.push(self.kinds().text());
        }
        parts.join("\n")
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::report) fn example() -> EvalReport {
        EvalReport {
            version: "0.1.0".into(),
            method: "padim".into(),
            backbone: "efficientnet_lite0".into(),
            dataset: "Blech <3> & 金属".into(),
            backend: "flex".into(),
            protocol: "calibrated".into(),
            seed: 7,
            counts: Counts {
                train: 40,
                test_normal: 10,
                test_anomalous: 20,
                skipped: 1,
            },
            image: Quality {
                auroc: Some(0.98765),
                average_precision: Some(0.9),
                ..Quality::default()
            },
            pixel: Some(Quality {
                auroc: Some(0.95),
                aupro: Some(0.81),
                ..Quality::default()
            }),
            threshold: Some(3.25),
            decisions: Some(Decisions {
                true_positive: 18,
                false_positive: 1,
                true_negative: 9,
                false_negative: 2,
            }),
            kinds: vec![
                KindReport {
                    kind: "good".into(),
                    images: 10,
                    reported: Some(0.1),
                    ..KindReport::default()
                },
                KindReport {
                    kind: "scratch".into(),
                    anomalous: true,
                    images: 20,
                    image_auroc: Some(0.98765),
                    reported: Some(0.9),
                    pixel_auroc: Some(0.95),
                    aupro: None,
                },
            ],
            classes: Vec::new(),
            class_accuracy: None,
            timings: Timings::of(Some(1.5), &[10.0, 30.0, 20.0]),
            peak_memory_bytes: Some(512 << 20),
        }
    }

    #[test]
    fn json_reads_back_the_same() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("metrics.json");
        let report = example();
        report.write_json(&path).expect("written");
        assert_eq!(EvalReport::read_json(&path).expect("read"), report);
        std::fs::write(&path, "{\"version\": 3}").expect("write");
        let message = EvalReport::read_json(&path)
            .expect_err("no report")
            .to_string();
        assert!(
            message.contains("metrics.json") && message.contains("help:"),
            "{message}"
        );
    }

    #[test]
    fn numbers_that_are_not_finite_become_null() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("metrics.json");
        let mut report = example();
        report.image.auroc = Some(f64::NAN);
        report.threshold = Some(f64::INFINITY);
        report.write_json(&path).expect("written");
        let read = EvalReport::read_json(&path).expect("still JSON");
        assert_eq!((read.image.auroc, read.threshold), (None, None));
        assert_eq!(read.pixel, report.pixel);
    }

    #[test]
    fn the_text_shows_every_table() {
        let text = example().text();
        for part in [
            "金属",
            "0.9877",
            "512",
            "scratch",
            "90.0 %",
            "18",
            "1 unreadable",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(!text.contains("NaN"));
        // The best F1 was not given.
        assert!(
            text.lines()
                .any(|line| line.contains("best F1") && line.ends_with(" -"))
        );
    }

    #[test]
    fn products_come_with_their_mean() {
        let class = |class: &str, image_auroc: f64, pixel_auroc: Option<f64>| ClassReport {
            class: class.into(),
            images: 7,
            image_auroc: Some(image_auroc),
            pixel_auroc,
            ..ClassReport::default()
        };
        let report = EvalReport {
            classes: vec![class("bottle", 0.5, Some(0.75)), class("cable", 0.75, None)],
            class_accuracy: Some(0.875),
            ..example()
        };
        let text = report.text();
        let mean = text
            .lines()
            .find(|line| line.trim_start().starts_with("mean"));
        let words: Vec<&str> = mean.expect("a mean").split_whitespace().collect();
        assert_eq!(words, ["mean", "14", "0.6250", "0.7500", "-", "-"]);
        assert!(text.contains("bottle") && text.contains("0.8750"));
    }

    #[test]
    fn a_score_at_the_threshold_is_not_above_it() {
        let scores = [0.1, 0.5, 0.5, 0.9, 0.2, f32::NAN];
        let labels = [false, false, true, true, true, false];
        let counts = Decisions::count(&scores, &labels, 0.5);
        assert_eq!(
            counts,
            Decisions {
                true_positive: 1,
                false_positive: 0,
                true_negative: 3,
                false_negative: 2
            }
        );
        assert_eq!(counts.detection_rate(), Some(1.0 / 3.0));
        assert_eq!(counts.false_alarm_rate(), Some(0.0));
        assert_eq!(Decisions::default().detection_rate(), None);
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let timings = Timings::of(None, &hundred);
        assert_eq!(
            (timings.image_median_ms, timings.image_p95_ms),
            (Some(50.0), Some(95.0))
        );
        assert_eq!(Timings::of(None, &[]).image_p95_ms, None);
        assert_eq!(Timings::of(None, &[4.0]).image_median_ms, Some(4.0));
    }
}
