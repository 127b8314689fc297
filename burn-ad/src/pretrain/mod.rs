//! Pre-training of IGD's encoder: by distillation from a larger network, or by contrast.
//!
//! Source: Chen et al., "Deep One-Class Classification via Interpolated Gaussian Descriptor", AAAI
//! 2022, supplementary. What comes out is a [`WeightsFile`] of a
//! [student](crate::backbone::StudentConfig), a frozen backbone like any other.

mod contrast;
mod course;
mod distil;
mod nt_xent;
mod pictures;
#[cfg(test)]
mod tests;

use burn::tensor::backend::Backend;
use serde::Serialize;
use serde_json::json;

pub use contrast::{ContrastConfig, contrast};
pub use distil::{DistilConfig, Teacher, distil};
pub use nt_xent::nt_xent;

use crate::backbone::{BackboneConfig, Pixels, StudentConfig, WeightsFile};
use crate::error::{Error, Result};
use crate::network::residual::{Encoder, Maker, Normalisation};
use crate::network::{Init, NormMode, save};
use crate::tensors::TensorSet;
use crate::train::stream_rng;

/// Name of the encoder in checkpoints.
const ENCODER: &str = "encoder";

/// A fresh encoder, drawn from the seed.
fn encoder<B: Backend>(student: StudentConfig, seed: u64, device: &B::Device) -> Encoder<B> {
    let mut rng = stream_rng(seed, ENCODER);
    let mut maker = Maker {
        norm: Normalisation::Batch(NormMode::Train),
        init: Init::Uniform,
        offsets: true,
        rng: &mut rng,
        device,
    };
    Encoder::new(student.side(), student.width(), &mut maker)
}

/// What is written about a pre-training beside its weights.
struct Recipe<'a, S> {
    kind: &'a str,
    source: String,
    settings: &'a S,
    teacher: serde_json::Value,
    /// Images that were learnt from.
    images: usize,
    seed: u64,
    /// Mean loss of the last steps.
    loss: f64,
}

/// The trained encoder as weights of a frozen backbone: batch normalisations are folded.
fn weights<B: Backend>(
    student: StudentConfig,
    encoder: &Encoder<B>,
    pixels: Pixels,
    recipe: Recipe<'_, impl Serialize>,
) -> Result<WeightsFile> {
    let mut tensors = TensorSet::default();
    save(encoder, ENCODER, &mut tensors);
    let units = student.units_of(ENCODER, &mut tensors)?;
    tensors.finish()?;
    let settings = serde_json::to_value(recipe.settings);
    let settings = settings.map_err(|error| Error::model(error.to_string()))?;
    let mut about = json!({
        "kind": recipe.kind,
        "burn_ad": env!("CARGO_PKG_VERSION"),
        "settings": settings,
        "images": recipe.images,
        "seed": recipe.seed,
        "loss": recipe.loss,
    });
    if !recipe.teacher.is_null() {
        about["teacher"] = recipe.teacher;
    }
    Ok(WeightsFile {
        arch: BackboneConfig::Student(student),
        pixels,
        source: recipe.source,
        source_sha256: String::new(),
        recipe: Some(about),
        units,
    })
}

/// # Errors
/// When a number of steps, epochs or images is 0, or a rate is out of its range.
fn validate(counts: &[(&str, usize)], rates: &[(&str, f64)]) -> Result<()> {
    for (name, count) in counts {
        if *count == 0 {
            return Err(Error::usage(format!("{name} must be at least 1")));
        }
    }
    for (name, rate) in rates {
        if !(rate.is_finite() && *rate >= 0.0) {
            return Err(Error::usage(format!(
                "{name} must be a number from 0 on, not {rate}"
            )));
        }
    }
    Ok(())
}
