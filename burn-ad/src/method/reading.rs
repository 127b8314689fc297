//! The images of a training run, read once and handed over as features.

use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;

use super::taps::refuse_not_finite;
use crate::data::{Loaded, Loader, Sample, for_each_batch};
use crate::error::{Error, Result};
use crate::train::{Levels, Run, Step};

/// Computes the features of samples, and hands those of each readable one to `keep`, in order.
///
/// `features` is given images `[batch, 3, size, size]` and what they were loaded from. Of images that
/// cannot be read the user is told.
///
/// # Errors
/// When a feature is not finite, `keep` fails, or the run is interrupted.
pub(super) fn read_features<AB: AutodiffBackend>(
    loader: &Loader,
    samples: &[Sample],
    run: &mut Run<'_, AB>,
    features: impl Fn(Tensor<AB::InnerBackend, 4>, &[Loaded]) -> Vec<Levels>,
    mut keep: impl FnMut(&Loaded, Levels) -> Result<()>,
) -> Result<()> {
    let (device, batch_size) = (run.device.clone(), run.batch_size);
    let (mut done, total) = (0, samples.len() as u64);
    let mut unreadable = Vec::new();
    for_each_batch::<AB::InnerBackend>(
        loader,
        samples,
        batch_size,
        &device,
        &mut |_, error| {
            unreadable.push(error);
            Ok(())
        },
        &mut |batch, items| {
            for (item, levels) in items.iter().zip(features(batch.images, &items)) {
                refuse_not_finite(&levels, &samples[item.index])?;
                keep(item, levels)?;
            }
            done += items.len() as u64;
            run.step(&Step {
                phase: "extracting features",
                done,
                total,
                unit: "images",
                values: &[],
            })
        },
    )?;
    for error in unreadable {
        run.warn(&format!("left out of training: {error}"));
    }
    Ok(())
}

/// What to say when there is nothing to learn from.
pub(crate) fn nothing_readable() -> Error {
    Error::data("none of the training images can be read")
        .help("run `burn-ad data check` on the folder")
}
