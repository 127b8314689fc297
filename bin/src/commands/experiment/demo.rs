//! The comparison on a product that is drawn, for `--demo`.

use std::path::{Path, PathBuf};

use burn_ad::Result;
use burn_ad::data::synthetic::{Product, SyntheticConfig, write_mvtec};

use crate::progress::{Progress, stop_if_interrupted};

/// Small enough for minutes.
pub(super) const SIZE: [&str; 1] = ["data.size=128"];

/// Random weights need no download.
pub(super) const BACKBONE: [&str; 2] = ["backbone.name=resnet18", "backbone.random=true"];

/// The method that [`VARIANTS`] change, with half its blocks and a schedule for minutes instead of hours: small batches
/// and a higher learning rate, a quarter of the vectors, a fifth of the passes.
pub(super) const METHOD: [&str; 8] = [
    "method.name=bgad",
    "method.flow.blocks=4",
    "method.flow.position_channels=32",
    "method.schedule.meta_epochs=5",
    "method.schedule.warm_up=1",
    "method.schedule.batch=8",
    "method.schedule.vector_share=0.25",
    "method.schedule.learning_rate=0.001",
];

/// The rows of the papers' ablation of BGAD, where no others are asked for.
pub(super) const VARIANTS: [&str; 4] = [
    "NFAD: method.name=nfad",
    "BGAD, no RPAG, no weights: method.augment=none; method.loss.weights.enabled=false",
    "BGAD, no weights: method.loss.weights.enabled=false",
    "BGAD",
];

/// Known anomalies of these rows.
pub(super) const ANOMALIES: [usize; 2] = [5, 10];

/// Enough for 10 known anomalies of a kind beside those that are tested.
const PER_KIND: usize = 16;

/// Draws the product below `out`; the same one every time. The folder of its images.
pub(super) fn draw(product: &str, out: &Path, progress: &mut Progress) -> Result<PathBuf> {
    let product: Product = product.parse()?;
    let data = out.join("data").join(product.name());
    let config = SyntheticConfig {
        per_kind: PER_KIND,
        ..SyntheticConfig::new(product)
    };
    write_mvtec(&config, &data, false, &mut |done, total| {
        progress.count("drawing", done, total);
    })?;
    progress.finish();
    stop_if_interrupted()?;
    Ok(data)
}
