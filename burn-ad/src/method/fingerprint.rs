//! What tells training runs apart, so that a checkpoint is gone on with by its own run only.

use burn::tensor::backend::AutodiffBackend;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::TrainingData;
use crate::backbone::{Backbone, digest};
use crate::data::Sample;
use crate::error::{Error, Result};
use crate::files::hex;
use crate::ops::computes_on_cpu;
use crate::train::Run;

/// Identifies settings, weights, images, kind of backend and seed of a run.
///
/// `learnt_from` says what the run begins with: its normal images, and what there is beside them.
pub(super) fn fingerprint<AB: AutodiffBackend>(
    config: &impl Serialize,
    backbone: &Backbone<AB::InnerBackend>,
    data: &TrainingData<'_>,
    learnt_from: (impl Serialize, impl Serialize),
    run: &Run<'_, AB>,
) -> Result<String> {
    let all = (
        config,
        backbone.config(),
        digest(backbone.units().iter().map(|(spec, unit)| (spec, unit))),
        data.loader.preprocess(),
        learnt_from.0,
        learnt_from.1,
        // Optimisers in main memory write other checkpoints.
        computes_on_cpu::<AB>(&run.device),
        run.seed,
    );
    identity(&all)
}

/// A short text that is another one wherever `what` differs.
///
/// # Errors
/// When it cannot be serialised.
pub(crate) fn identity(what: &impl Serialize) -> Result<String> {
    let json = serde_json::to_vec(what).map_err(|error| Error::model(error.to_string()))?;
    Ok(hex(&Sha256::digest(&json)))
}

/// The names of images.
pub(crate) fn names(samples: &[Sample]) -> Vec<String> {
    let names = samples.iter().map(|sample| sample.image.name());
    names.map(|name| name.into_owned()).collect()
}
