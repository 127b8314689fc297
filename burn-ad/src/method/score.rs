//! Scoring images one after the other, whatever their number.

use std::time::Instant;

use burn::tensor::backend::Backend;

use super::Examination;
use super::model::Model;
use crate::data::{Loader, Placement, Sample, for_each_batch};
use crate::error::{Error, Result};
use crate::tensors::to_vec;
use crate::train::{Run, Step};

/// What a model says about one image.
#[derive(Clone, Debug)]
pub struct ScoredImage {
    /// Position in the slice of samples.
    pub index: usize,
    /// Raw score, higher means more anomalous.
    pub score: f32,
    /// Score in (0, 1), 0.5 at the threshold ([`Calibration::normalise`](super::Calibration::normalise)).
    pub normalised_score: f32,
    /// Whether the score is above the threshold.
    pub anomalous: bool,
    /// One raw score a pixel of the model's input, `size * size`, row-major.
    pub map: Vec<f32>,
    /// The class it looks most like; `None` for methods without classes.
    pub found_class: Option<String>,
    /// Log-likelihoods a dimension, row-major over a grid of `[rows, columns]`, one entry a feature
    /// map; empty for methods without likelihoods.
    pub likelihoods: Vec<([usize; 2], Vec<f32>)>,
    /// Where the picture lies in the input.
    pub placement: Placement,
    /// The mask on the input's pixels, where the sample has one.
    pub mask: Option<Vec<bool>>,
    /// This image's share of its batch's time on the device, in milliseconds.
    pub milliseconds: f64,
}

/// Scores every sample, in order; each result, or the reason there is none, goes to `sink`.
///
/// # Errors
/// The first error of `sink`, or when the run is interrupted.
pub fn score_samples<B: Backend>(
    model: &Model<B>,
    samples: &[Sample],
    loader: &Loader,
    phase: &str,
    run: &mut Run<'_, B>,
    sink: &mut dyn FnMut(usize, Result<ScoredImage>) -> Result<()>,
) -> Result<()> {
    let (device, batch_size) = (run.device.clone(), run.batch_size);
    // Both closures below hand results on; the cell lets them share the one sink.
    let sink = std::cell::RefCell::new(sink);
    let pass_on = |index: usize, result: Result<ScoredImage>| (sink.borrow_mut())(index, result);
    let mut done = 0;
    for_each_batch::<B>(
        loader,
        samples,
        batch_size,
        &device,
        &mut |index, error| pass_on(index, Err(error)),
        &mut |batch, items| {
            let started = Instant::now();
            let Examination {
                prediction,
                classes,
                likelihoods,
            } = model.examine(&batch);
            let mut classes = classes.into_iter();
            let likelihoods: Vec<([usize; 2], Vec<f32>)> = likelihoods
                .into_iter()
                .map(|maps| {
                    let [_, rows, columns] = maps.dims();
                    ([rows, columns], to_vec(maps))
                })
                .collect();
            let scores = to_vec(prediction.image_scores);
            let maps = to_vec(prediction.anomaly_maps);
            let milliseconds = started.elapsed().as_secs_f64() * 1e3 / items.len() as f64;
            let area = maps.len() / items.len();
            done += items.len();
            let seen = scores.iter().zip(maps.chunks(area)).enumerate();
            for (item, (place, (&score, map))) in items.into_iter().zip(seen) {
                let index = item.index;
                let found_class = classes.next();
                if !score.is_finite() || map.iter().any(|value| !value.is_finite()) {
                    let name = samples[index].image.name().into_owned();
                    let error = Error::numeric("the anomaly score is not finite").path(name);
                    pass_on(index, Err(error))?;
                    continue;
                }
                let calibration = &model.header().calibration;
                pass_on(
                    index,
                    Ok(ScoredImage {
                        index,
                        score,
                        normalised_score: calibration.normalise(score),
                        anomalous: calibration.is_anomalous(score),
                        map: map.to_vec(),
                        found_class,
                        likelihoods: likelihoods
                            .iter()
                            .map(|(grid, values)| {
                                let area = grid[0] * grid[1];
                                (*grid, values[place * area..][..area].to_vec())
                            })
                            .collect(),
                        placement: item.placement,
                        mask: item.mask,
                        milliseconds,
                    }),
                )?;
            }
            run.step(&Step {
                phase,
                done: done as u64,
                total: samples.len() as u64,
                unit: "images",
                values: &[],
            })
        },
    )
}
