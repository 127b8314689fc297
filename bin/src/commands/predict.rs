//! `burn-ad predict`: scores and pictures for images nobody has labelled.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::backend::{AutodiffBackend, Backend};
use burn_ad::data::{ImageSource, Label, Sample};
use burn_ad::method::{Model, ModelHeader, ScoredImage, score_samples};
use burn_ad::report::overlay::OverlayStyle;
use burn_ad::report::predictions::{Decision, Format, PredictionRow, PredictionWriter};
use burn_ad::report::raw::{write_npy, write_png16};
use burn_ad::report::table::{Align, Table, number};
use burn_ad::train::{Observer, Run};
use burn_ad::{Error, Result};
use clap::{Args, ValueEnum};

use super::{MachineArgs, ModelArgs, ReadArgs};
use crate::backend::{Job, dispatch};
use crate::evaluation::{
    decision, overlay_file, reason, refuse_unreadable, style, warn_unreadable,
};
use crate::inputs::{Input, find};
use crate::output::{Names, OutputFolder, print};
use crate::progress::Progress;
use crate::weights::load_model;

/// Folder of the pictures.
const OVERLAYS: &str = "overlays";
/// Folder of the raw maps.
const MAPS: &str = "maps";

const FOLDER: OutputFolder<'static> = OutputFolder {
    command: "predict",
    contents: &[
        "predictions.csv",
        "predictions.csv.partial",
        "predictions.jsonl",
        "predictions.jsonl.partial",
        OVERLAYS,
        MAPS,
    ],
};

/// Score images
///
/// Writes predictions.csv or predictions.jsonl (path, score, normalised score, decision, class, error, time), a
/// picture for each image (image, heat map, contour), and on request the raw anomaly maps at the image's resolution.
/// The normalised score is 0.5 at the model's threshold.
#[derive(Debug, Args)]
pub(crate) struct PredictArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Images, folders (searched to the bottom), or patterns such as 'parts/*.png'
    #[arg(value_name = "INPUT", required = true)]
    inputs: Vec<PathBuf>,
    /// Folder for the results
    #[arg(long, short, value_name = "DIR", default_value = "burn-ad-predictions")]
    output: PathBuf,
    /// Write into a folder that holds something else
    #[arg(long)]
    overwrite: bool,
    /// Form of the predictions
    #[arg(long, value_enum, default_value_t)]
    format: Formats,
    /// Draw no pictures
    #[arg(long)]
    no_overlays: bool,
    /// Write the anomaly maps: NumPy arrays of f32, or 16-bit PNG that carry their range
    #[arg(long, value_enum, value_name = "FORM")]
    raw_maps: Option<RawMaps>,
    /// End with exit code 1 when an image could not be read
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    read: ReadArgs,
}

/// Which files of predictions to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Formats {
    #[default]
    Csv,
    Jsonl,
    Both,
}

/// How anomaly maps are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RawMaps {
    Npy,
    Png16,
}

impl PredictArgs {
    pub(crate) fn run(self, quiet: bool) -> Result<()> {
        let header = ModelHeader::read(&self.model.model)?;
        let results = [OVERLAYS, MAPS].map(|name| self.output.join(name));
        let inputs = find(&self.inputs, &results)?;
        let backend = self.machine.prepare()?;
        FOLDER.prepare(&self.output, self.overwrite)?;
        let mut progress = Progress::new(quiet);
        let mut results = Results {
            args: &self,
            inputs: &inputs,
            style: style(&header.calibration),
            names: Names::default(),
            writers: self.writers()?,
            waiting: BTreeMap::new(),
            rows: Vec::with_capacity(inputs.len()),
            unreadable: Vec::new(),
        };
        let job = PredictJob {
            args: &self,
            results: &mut results,
            progress: &mut progress,
        };
        dispatch(backend, job)?;
        progress.finish();
        let Results {
            writers,
            rows,
            unreadable,
            ..
        } = results;
        for writer in writers {
            writer.finish()?;
        }
        warn_unreadable(&unreadable, &mut |message| progress.warn(message));
        print(&self.text(&rows))?;
        refuse_unreadable(unreadable.len(), self.strict)
    }

    fn writers(&self) -> Result<Vec<PredictionWriter>> {
        let mut writers = Vec::new();
        if self.format != Formats::Jsonl {
            let path = self.output.join("predictions.csv");
            writers.push(PredictionWriter::create(&path, Format::Csv)?);
        }
        if self.format != Formats::Csv {
            let path = self.output.join("predictions.jsonl");
            writers.push(PredictionWriter::create(&path, Format::Jsonl)?);
        }
        Ok(writers)
    }

    /// The images with the highest scores, and how many there were.
    fn text(&self, rows: &[PredictionRow]) -> String {
        let mut scored: Vec<&PredictionRow> =
            rows.iter().filter(|row| row.score.is_some()).collect();
        let anomalous = scored
            .iter()
            .filter(|row| row.decision == Some(Decision::Anomalous))
            .count();
        let mut text = String::new();
        if rows.len() > LISTED {
            // A stable sort: equal scores stay in the order of the images.
            scored.sort_by(|a, b| b.score.unwrap_or(0.0).total_cmp(&a.score.unwrap_or(0.0)));
            scored.truncate(LISTED);
            text += &format!("The {LISTED} highest scores:\n");
        }
        let mut table = Table::new([
            ("image", Align::Left),
            ("score", Align::Right),
            ("normalised", Align::Right),
            ("decision", Align::Left),
        ]);
        for row in &scored {
            table.row([
                row.path.clone(),
                number(row.score.map(f64::from), 4),
                number(row.normalised_score.map(f64::from), 4),
                row.decision
                    .map(|decision| decision.to_string())
                    .unwrap_or_default(),
            ]);
        }
        text += &table.text();
        let read = rows.iter().filter(|row| row.score.is_some()).count();
        let milliseconds: f64 = rows.iter().filter_map(|row| row.milliseconds).sum();
        text += &format!(
            "\n{read} images: {anomalous} anomalous, {} normal",
            read - anomalous
        );
        if read < rows.len() {
            text += &format!("; {} unreadable", rows.len() - read);
        }
        if read > 0 {
            text += &format!(" ({:.1} ms an image)", milliseconds / read as f64);
        }
        text + &format!("\nresults: {}\n", self.output.display())
    }
}

/// More images than this are not all listed on the terminal.
const LISTED: usize = 20;

struct PredictJob<'a, 'b> {
    args: &'a PredictArgs,
    results: &'a mut Results<'b>,
    progress: &'a mut Progress,
}

impl Job for PredictJob<'_, '_> {
    type Output = ();

    fn run<AB: AutodiffBackend>(self, device: AB::Device) -> Result<()> {
        let ModelArgs { model, weights } = &self.args.model;
        let model = load_model::<AB::InnerBackend>(model, weights.as_deref(), &device)?;
        predict(&model, self.args, self.results, device, self.progress)
    }
}

fn predict<B: Backend>(
    model: &Model<B>,
    args: &PredictArgs,
    results: &mut Results<'_>,
    device: B::Device,
    progress: &mut Progress,
) -> Result<()> {
    let loader = args.read.loader(model.header());
    let samples: Vec<Sample> = results
        .inputs
        .iter()
        .map(|input| Sample {
            image: ImageSource::File(input.path.clone()),
            label: Label::Normal,
            kind: String::new(),
            mask: None,
        })
        .collect();
    let seed = model.header().training.seed;
    let mut run = Run::<B>::new(device, seed, progress).with_batch_size(args.read.batch_size);
    score_samples(
        model,
        &samples,
        &loader,
        "scoring",
        &mut run,
        &mut |index, result| results.take(index, &samples[index], result),
    )
}

/// Collects what comes in any order, and writes it in the order of the images.
struct Results<'a> {
    args: &'a PredictArgs,
    inputs: &'a [Input],
    style: OverlayStyle,
    names: Names,
    writers: Vec<PredictionWriter>,
    waiting: BTreeMap<usize, PredictionRow>,
    rows: Vec<PredictionRow>,
    unreadable: Vec<Error>,
}

impl Results<'_> {
    fn take(&mut self, index: usize, sample: &Sample, result: Result<ScoredImage>) -> Result<()> {
        let name = self.inputs[index].path.to_string_lossy();
        let row = match result {
            Ok(scored) => {
                self.pictures(index, sample, &scored)?;
                let normalised = Some(scored.normalised_score);
                let decision = Some(decision(scored.anomalous));
                let mut row = PredictionRow::scored(name, scored.score, normalised, decision);
                row.milliseconds = Some(scored.milliseconds);
                row.class = scored.found_class;
                row
            }
            Err(error) => {
                let reason = reason(&error, &name);
                let row = PredictionRow::failed(name, reason);
                self.unreadable.push(error);
                row
            }
        };
        self.waiting.insert(index, row);
        while let Some(row) = self.waiting.remove(&self.rows.len()) {
            for writer in &mut self.writers {
                writer.push(&row)?;
            }
            self.rows.push(row);
        }
        Ok(())
    }

    fn pictures(&mut self, index: usize, sample: &Sample, scored: &ScoredImage) -> Result<()> {
        let relative = &self.inputs[index].relative;
        let out = &self.args.output;
        if !self.args.no_overlays {
            let path = self
                .names
                .unique(&Path::new(OVERLAYS).join(relative), "png");
            overlay_file(&out.join(path), sample, scored, &self.style)?;
        }
        let Some(form) = self.args.raw_maps else {
            return Ok(());
        };
        let extension = if form == RawMaps::Npy { "npy" } else { "png" };
        let path = out.join(
            self.names
                .unique(&Path::new(MAPS).join(relative), extension),
        );
        let size = scored.placement.original;
        let map = scored.placement.restore(&scored.map, scored.placement.size);
        match form {
            RawMaps::Npy => write_npy(&path, &map, size),
            RawMaps::Png16 => {
                let low = map.iter().copied().fold(f32::INFINITY, f32::min);
                let high = map.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                write_png16(&path, &map, size, (low, high))
            }
        }
    }
}
