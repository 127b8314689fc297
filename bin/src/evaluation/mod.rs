//! Measuring a model on labelled images: metrics, predictions, heat maps and the report.

mod figures;
mod heatmaps;

use std::path::Path;

use burn::tensor::backend::Backend;
use burn_ad::data::{Dataset, Loader, Sample};
use burn_ad::method::{Calibration, Model, ScoredImage, score_samples};
use burn_ad::report::eval::EvalReport;
use burn_ad::report::html::{GalleryItem, write_report};
use burn_ad::report::likelihoods::{Collector, Likelihoods};
use burn_ad::report::predictions::{Decision, PredictionRow, write_csv, write_jsonl};
use burn_ad::train::Run;
use burn_ad::{Error, Result, metrics};

use self::figures::{Figures, Measured};
use self::heatmaps::HeatmapWriter;
pub(crate) use self::heatmaps::{Heatmaps, overlay_file, style};
use crate::backend::BackendName;
use crate::output::{OutputFolder, write_json};
use crate::settings::Protocol;

/// What an evaluation leaves in its folder.
pub(crate) const FOLDER: OutputFolder<'static> = OutputFolder {
    command: "eval",
    contents: &[
        "metrics.json",
        "predictions.csv",
        "predictions.jsonl",
        "report.html",
        LIKELIHOODS,
        "heatmaps",
    ],
};

const LIKELIHOODS: &str = "likelihoods.json";

/// Which images to measure on, and what to write.
pub(crate) struct Evaluation<'a> {
    pub(crate) dataset: &'a Dataset,
    /// Its folder; names are shown below it.
    pub(crate) root: &'a Path,
    pub(crate) backend: BackendName,
    pub(crate) protocol: Protocol,
    pub(crate) heatmaps: Heatmaps,
    /// Pixel metrics at the images' own resolution as well.
    pub(crate) original_resolution: bool,
    /// Where everything goes; prepared as [`FOLDER`].
    pub(crate) out: &'a Path,
}

/// What the page shows beside figures.
struct Pictures<'a> {
    likelihoods: Option<&'a Likelihoods>,
    heatmaps: &'a HeatmapWriter<'a>,
}

/// What an evaluation found.
pub(crate) struct Evaluated {
    pub(crate) report: EvalReport,
    /// Pixel metrics at the images' own resolution, when asked for.
    pub(crate) original: Option<burn_ad::report::eval::Quality>,
    /// Why images were left out.
    pub(crate) unreadable: Vec<Error>,
}

impl Evaluation<'_> {
    /// Scores every test image, measures, and writes all files. Under the papers' protocol the model takes over the
    /// test set's statistics first.
    ///
    /// # Errors
    /// When there is no readable test image, a file cannot be written, or the run is interrupted.
    pub(crate) fn run<B: Backend>(
        &self,
        model: &mut Model<B>,
        loader: &Loader,
        run: &mut Run<'_, B>,
    ) -> Result<Evaluated> {
        let samples = &self.dataset.test;
        if samples.is_empty() {
            return Err(Error::data("there is no test image")
                .path(self.root)
                .help("score images without labels with `burn-ad predict`"));
        }
        if self.protocol == Protocol::Paper {
            model.adopt_test_statistics(samples, loader, run)?;
        }
        let model = &*model;
        let calibration = &model.header().calibration;
        let mut results: Vec<Option<Result<ScoredImage>>> = samples.iter().map(|_| None).collect();
        let mut heatmaps = HeatmapWriter::new(self.heatmaps, samples, self.out, style(calibration));
        let mut likelihoods = Collector::default();
        let mut measured = Measured::new(samples, loader.preprocess(), self.original_resolution);
        score_samples(
            model,
            samples,
            loader,
            "scoring",
            run,
            &mut |index, result| {
                results[index] = Some(match result {
                    Ok(mut scored) => {
                        heatmaps.write(index, &samples[index], &scored)?;
                        self.collect(&samples[index], &mut scored, &mut likelihoods);
                        measured.take(&samples[index], &mut scored)?;
                        Ok(scored)
                    }
                    Err(error) => Err(error),
                });
                Ok(())
            },
        )?;

        let mut scored = Vec::new();
        let mut failed = Vec::new();
        for (index, result) in results.into_iter().enumerate() {
            match result {
                Some(Ok(image)) => scored.push(image),
                Some(Err(error)) => failed.push((index, error)),
                None => {}
            }
        }
        if scored.is_empty() {
            let error = Error::data("none of the test images can be read").path(self.root);
            return Err(error.help("run `burn-ad data check` on the folder"));
        }
        let threshold = self.decide(&mut scored, calibration)?;
        let figures = Figures {
            header: model.header(),
            samples,
            scored: &scored,
            unreadable: failed.len(),
            threshold,
        };
        let (report, original) =
            figures.report(&measured, self.backend, self.protocol, &self.dataset.name)?;
        let likelihoods = if likelihoods.is_empty() {
            None
        } else {
            let found = Likelihoods {
                histograms: likelihoods.finish()?,
                centres: model.centre_distances(),
            };
            let value = serde_json::to_value(&found).map_err(|error| self.no_json(&error))?;
            write_json(&self.out.join(LIKELIHOODS), &value)?;
            Some(found)
        };
        let pictures = Pictures {
            likelihoods: likelihoods.as_ref(),
            heatmaps: &heatmaps,
        };
        self.write(&report, original.as_ref(), &scored, &failed, &pictures)?;
        Ok(Evaluated {
            report,
            original,
            unreadable: failed.into_iter().map(|(_, error)| error).collect(),
        })
    }

    /// The threshold; under the papers' protocol found on these very images, which then decides again.
    fn decide(&self, scored: &mut [ScoredImage], calibration: &Calibration) -> Result<Option<f32>> {
        if self.protocol == Protocol::Default {
            return Ok(Some(calibration.threshold));
        }
        let labels: Vec<bool> = scored
            .iter()
            .map(|image| self.dataset.test[image.index].label.is_anomalous())
            .collect();
        let scores: Vec<f32> = scored.iter().map(|image| image.score).collect();
        let lowest = scores.iter().copied().fold(f32::INFINITY, f32::min);
        let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let span = (highest - lowest).max(f32::MIN_POSITIVE);
        let threshold = metrics::best_f1(&scores, &labels)?.map(|best| best.threshold);
        for image in scored {
            image.normalised_score = (image.score - lowest) / span;
            image.anomalous = threshold.is_some_and(|threshold| image.score >= threshold);
        }
        Ok(threshold)
    }

    fn no_json(&self, error: &serde_json::Error) -> Error {
        Error::data(error.to_string()).path(self.out)
    }

    /// Takes an image's likelihoods; an anomalous image without mask has vectors of unknown truth.
    fn collect(&self, sample: &Sample, scored: &mut ScoredImage, to: &mut Collector) {
        let maps = std::mem::take(&mut scored.likelihoods);
        if maps.is_empty() || sample.label.is_anomalous() && scored.mask.is_none() {
            return;
        }
        let class = sample.class().or(scored.found_class.as_deref());
        let class = class.unwrap_or(&self.dataset.name);
        let shown = scored.placement.shown();
        for (scale, (grid, values)) in maps.iter().enumerate() {
            to.add(
                class,
                scale,
                (*grid, values),
                scored.mask.as_deref(),
                &shown,
            );
        }
    }

    fn write(
        &self,
        report: &EvalReport,
        original: Option<&burn_ad::report::eval::Quality>,
        scored: &[ScoredImage],
        failed: &[(usize, Error)],
        pictures: &Pictures<'_>,
    ) -> Result<()> {
        let mut value = serde_json::to_value(report).map_err(|error| self.no_json(&error))?;
        if let Some(original) = original {
            value["pixel_at_original_resolution"] =
                serde_json::to_value(original).map_err(|error| self.no_json(&error))?;
        }
        write_json(&self.out.join("metrics.json"), &value)?;

        let samples = &self.dataset.test;
        let name = |index: usize| samples[index].image.name().into_owned();
        let mut rows: Vec<(usize, PredictionRow)> = Vec::with_capacity(samples.len());
        rows.extend(failed.iter().map(|(index, error)| {
            let name = name(*index);
            let reason = reason(error, &name);
            (*index, PredictionRow::failed(name, reason))
        }));
        rows.extend(scored.iter().map(|image| {
            // Under the papers' protocol without both classes there is no threshold to decide by.
            let decision = report.threshold.map(|_| decision(image.anomalous));
            let normalised = Some(image.normalised_score);
            let mut row =
                PredictionRow::scored(name(image.index), image.score, normalised, decision);
            row.milliseconds = Some(image.milliseconds);
            row.class = image.found_class.clone();
            (image.index, row)
        }));
        rows.sort_by_key(|(index, _)| *index);
        let rows: Vec<PredictionRow> = rows.into_iter().map(|(_, row)| row).collect();
        write_csv(&self.out.join("predictions.csv"), &rows)?;
        write_jsonl(&self.out.join("predictions.jsonl"), &rows)?;

        let items: Vec<GalleryItem> = scored
            .iter()
            .map(|image| {
                let sample = &samples[image.index];
                let path = name(image.index);
                let below = Path::new(&path).strip_prefix(self.root);
                GalleryItem {
                    name: below.map_or(path.clone(), |below| below.display().to_string()),
                    kind: sample.kind.clone(),
                    anomalous: sample.label.is_anomalous(),
                    score: image.score,
                    overlay: pictures.heatmaps.file_of(image.index),
                }
            })
            .collect();
        write_report(
            &self.out.join("report.html"),
            report,
            pictures.likelihoods,
            &items,
        )
    }
}

/// The decision as files name it.
pub(crate) fn decision(anomalous: bool) -> Decision {
    if anomalous {
        Decision::Anomalous
    } else {
        Decision::Normal
    }
}

/// An error without its advice.
pub(crate) fn one_line(error: &Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

/// The same for a row that names the image itself.
pub(crate) fn reason(error: &Error, name: &str) -> String {
    let text = one_line(error);
    let reason = text.strip_prefix(&format!("{name}: ")).map(str::to_owned);
    reason.unwrap_or(text)
}

/// An evaluation or prediction lists this many unreadable images and counts the others.
const LISTED: usize = 10;

/// Warns of the images that were left out.
pub(crate) fn warn_unreadable(errors: &[Error], warn: &mut dyn FnMut(&str)) {
    for error in errors.iter().take(LISTED) {
        warn(&format!("left out: {}", one_line(error)));
    }
    if errors.len() > LISTED {
        let more = errors.len() - LISTED;
        warn(&format!(
            "left out: {more} more images, see the error column of the predictions"
        ));
    }
}

/// The failure that `--strict` makes of unreadable images.
pub(crate) fn refuse_unreadable(count: usize, strict: bool) -> Result<()> {
    if strict && count > 0 {
        let images = if count == 1 {
            "1 image"
        } else {
            &format!("{count} images")
        };
        return Err(Error::data(format!(
            "{images} could not be read (the others' results are written)"
        )));
    }
    Ok(())
}
