//! Embedding a detector in an app of your own: train on a folder, save, load, score.
//!
//! `cargo run --release --example train_and_score -p burn-ad -- FOLDER WEIGHTS.safetensors [METHOD] [FIT]`
//!
//! `FOLDER` is any layout that `burn-ad data check` knows, `WEIGHTS` a file that `burn-ad weights
//! import` or `fetch` wrote.

use std::path::Path;
use std::time::Instant;

use burn_ad::backbone::WeightsFile;
use burn_ad::data::{self, Filter, Fit, Geometry, Layout, Loader, Normalisation, Preprocess};
use burn_ad::method::{MethodConfig, Model, TrainOptions, TrainingImages, score_samples};
use burn_ad::metrics::{ScoreMap, auroc, pixel_metrics};
use burn_ad::train::{Quiet, Run};
use burn_ad::{Error, Result};
use burn_autodiff::Autodiff;
use burn_flex::Flex;

type Cpu = Autodiff<Flex>;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |name: &str| {
        arguments
            .next()
            .ok_or_else(|| Error::usage(format!("the argument {name} is missing")))
    };
    let (folder, weights) = (next("FOLDER")?, next("WEIGHTS")?);
    let method = MethodConfig::preset(&next("METHOD").unwrap_or_else(|_| "npad".into()))?;
    let fit = match next("FIT").unwrap_or_else(|_| "squash".into()).as_str() {
        "crop" => Fit::Crop,
        "letterbox" => Fit::Letterbox,
        _ => Fit::Squash,
    };

    let dataset = data::index(Path::new(&folder), Layout::Auto, &Default::default())?;
    let weights = WeightsFile::read(Path::new(&weights))?;
    let device = Default::default();
    let loader = Loader::new(Preprocess {
        geometry: Geometry {
            fit,
            size: 256,
            filter: Filter::Bilinear,
        },
        normalisation: Normalisation {
            mean: weights.pixels.mean,
            std: weights.pixels.std,
        },
    });
    let options = TrainOptions {
        dataset: dataset.name.clone(),
        backend: "flex".into(),
        weights_source: weights.source.clone(),
        random_seed: None,
        known_anomalies: Vec::new(),
        contamination: Vec::new(),
        calibration_share: 0.1,
        target_fpr: 0.01,
    };
    let mut quiet = Quiet;
    let mut run = Run::<Cpu>::new(device, 0, &mut quiet);
    let backbone = weights.backbone::<Flex>(&device)?;
    let model = Model::train(
        &method,
        backbone,
        &TrainingImages::of_normal(&dataset.train),
        &loader,
        &options,
        &mut run,
    )?;
    println!(
        "trained {method} in {:.1} s",
        model.header().training.seconds
    );

    let mut run = Run::<Flex>::new(device, 0, &mut quiet);
    let started = Instant::now();
    let (mut scores, mut labels, mut maps) = (Vec::new(), Vec::new(), Vec::new());
    score_samples(
        &model,
        &dataset.test,
        &loader,
        "scoring",
        &mut run,
        &mut |index, scored| {
            let (sample, scored) = (&dataset.test[index], scored?);
            scores.push(scored.score);
            labels.push(sample.label.is_anomalous());
            let valid = scored.placement.shown();
            let mask = scored.mask.unwrap_or_else(|| vec![false; scored.map.len()]);
            maps.push((scored.map, mask, valid));
            Ok(())
        },
    )?;
    let seconds = started.elapsed().as_secs_f64();
    let size = loader.preprocess().geometry.size;
    let maps: Vec<ScoreMap> = maps
        .iter()
        .map(|(scores, mask, valid)| ScoreMap {
            scores,
            mask,
            valid: Some(valid),
            height: size,
            width: size,
        })
        .collect();
    let pixels = pixel_metrics(&maps, 0.3)?;
    println!(
        "image AUROC {:.4}, pixel AUROC {:.4}, AUPRO {:.4}, {:.1} ms/image",
        auroc(&scores, &labels)?.unwrap_or(f64::NAN),
        pixels.auroc.unwrap_or(f64::NAN),
        pixels.aupro.unwrap_or(f64::NAN),
        1e3 * seconds / scores.len() as f64,
    );
    Ok(())
}
