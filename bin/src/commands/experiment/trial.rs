//! The runs of an experiment, checked before the first one starts.

use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use burn_ad::data::known::relative_name;
use burn_ad::data::{Dataset, ImageSource, IndexOptions, Kinds, Layout, PackedImages};
use burn_ad::files::{hex, sha256_file};
use burn_ad::method::ModelHeader;
use burn_ad::{Error, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::grid::{Grid, GridCell};
use crate::backend::BackendName;
use crate::settings::{Flag, Settings};
use crate::training::{check_known, images_below, split};
use crate::weights::ChosenWeights;

/// What all runs have in common.
pub(super) struct Source<'a> {
    /// Folder of the product.
    pub(super) root: &'a Path,
    /// Settings file.
    pub(super) config: Option<&'a Path>,
    /// `KEY=VALUE` of the whole experiment.
    pub(super) sets: &'a [String],
    /// Settings given as flags of their own.
    pub(super) flags: Vec<Flag>,
    pub(super) backend: BackendName,
    /// Fingerprint of the images.
    pub(super) data: String,
}

/// One training with one evaluation.
pub(super) struct Trial {
    /// Position in the grid.
    pub(super) cell: usize,
    pub(super) seed: u64,
    pub(super) settings: Settings,
    pub(super) weights: Rc<ChosenWeights>,
    /// The kinds that are tested.
    pub(super) tested: Kinds,
    /// Identifies settings, weights, backend and data: whatever the figures depend on.
    pub(super) fingerprint: String,
    /// The same of the training alone: runs that differ in their test images only are trained once.
    pub(super) training: String,
}

/// Every run of the grid, all cells of one seed before the next seed.
///
/// # Errors
/// When settings of a cell cannot be used, or the data has not the anomalies it needs.
pub(super) fn prepare(grid: &Grid, seeds: u64, source: &Source<'_>) -> Result<Vec<Trial>> {
    let mut weights = Weights::default();
    let mut images = LastImages::default();
    let mut trials = Vec::with_capacity(grid.cells.len());
    for seed in 0..seeds {
        for (position, cell) in grid.cells.iter().enumerate() {
            let trial = source
                .trial(cell, position, seed, &mut weights, &mut images)
                .map_err(|error| error.context(cell.labels.join(", ")))?;
            trials.push(trial);
        }
    }
    Ok(trials)
}

impl Source<'_> {
    fn trial(
        &self,
        cell: &GridCell,
        position: usize,
        seed: u64,
        weights: &mut Weights,
        images: &mut LastImages,
    ) -> Result<Trial> {
        let mut flags = self.flags.clone();
        flags.extend(Flag::given("--seeds", ["train", "seed"], Some(seed))?);
        flags.extend(Flag::given(
            "--anomalies",
            ["anomalies", "count"],
            cell.count,
        )?);
        flags.extend(Flag::given(
            "--anomaly-classes",
            ["anomalies", "draw"],
            cell.draw,
        )?);
        flags.extend(Flag::given(
            "--split",
            ["anomalies", "kinds"],
            cell.drawn.as_ref(),
        )?);
        let mut settings = Settings::resolve_variant(self.config, self.sets, flags, &cell.sets)?;
        check_known(&settings)?;
        let dataset = images.below(self.root, &settings)?;
        split(&settings, dataset)?;
        cell.tested.check(dataset)?;
        let (weights, digest) = weights.find(&settings)?;
        settings.pin(&weights);

        // What changes the speed alone is no part of a run's identity.
        let mut resolved = settings.to_value().clone();
        if let Some(train) = resolved["train"].as_object_mut() {
            train.retain(|key, _| {
                ![
                    "batch_size",
                    "workers",
                    "feature_memory_mib",
                    "with_backbone",
                ]
                .contains(&key.as_str())
            });
        }
        let flows = settings.train.init_flows.as_deref();
        let flows = flows.map(sha256_file).transpose()?;
        let model = settings.train.init_from.as_deref();
        let model = model.map(ModelHeader::read).transpose()?;
        let model = model.map(|header| header.tensors_sha256);
        let identity = |settings: &Value, tested: Option<&Kinds>| {
            fingerprint(&json!({
                "settings": settings,
                "tested": tested,
                "weights": digest,
                "flows": flows,
                "model": model,
                "backend": self.backend.to_string(),
                "data": self.data,
            }))
        };
        if settings.anomalies.count.is_none() {
            // From which kinds none are taken makes no difference.
            resolved["anomalies"] = json!(null);
        }
        let run = identity(&resolved, Some(&cell.tested));
        if !settings.method.uses_anomalies() {
            resolved["anomalies"] = json!(null);
        }
        Ok(Trial {
            cell: position,
            seed,
            training: identity(&resolved, None),
            fingerprint: run,
            settings,
            weights,
            tested: cell.tested.clone(),
        })
    }
}

/// The images of the last run, for the next one: most rows differ in their method alone.
#[derive(Default)]
struct LastImages {
    last: Option<(ImagesOf, Dataset)>,
}

/// What the list of images depends on.
type ImagesOf = (bool, Layout, IndexOptions);

impl LastImages {
    fn below(&mut self, root: &Path, settings: &Settings) -> Result<&Dataset> {
        let options = settings.index_options();
        let key = (settings.method.has_classes(), settings.data.layout, options);
        let last = self.last.take().filter(|(last, _)| *last == key);
        let (key, dataset) = match last {
            Some(last) => last,
            None => {
                let dataset = images_below(root, &settings.method, key.1, &key.2)?;
                (key, dataset)
            }
        };
        Ok(&self.last.insert((key, dataset)).1)
    }
}

/// Weights that were read, and their digests: large files serve many runs.
#[derive(Default)]
struct Weights {
    found: HashMap<String, (Rc<ChosenWeights>, String)>,
}

impl Weights {
    fn find(&mut self, settings: &Settings) -> Result<(Rc<ChosenWeights>, String)> {
        let seed = settings.train.seed;
        let drawn = settings.backbone.random.then_some(seed);
        let key = json!([settings.to_value()["backbone"], drawn]).to_string();
        if let Some(found) = self.found.get(&key) {
            return Ok(found.clone());
        }
        let weights = Rc::new(ChosenWeights::find(&settings.backbone, seed)?);
        let digest = weights.digest();
        Ok(self.found.entry(key).or_insert((weights, digest)).clone())
    }
}

/// Identifies the images of a dataset, however they are split: names, kinds and lengths of files, and what packed files
/// hold, whichever class is the normal one.
///
/// # Errors
/// When a file is not there.
pub(super) fn data_fingerprint(dataset: &Dataset, root: &Path) -> Result<String> {
    let samples = dataset
        .train
        .iter()
        .chain(&dataset.pool)
        .chain(&dataset.test);
    let mut packed: Vec<&Arc<PackedImages>> = Vec::new();
    let mut files = Vec::new();
    for sample in samples {
        match &sample.image {
            ImageSource::Packed(image) => {
                if !packed
                    .iter()
                    .any(|known| Arc::ptr_eq(known, image.images()))
                {
                    packed.push(image.images());
                }
            }
            _ => files.push(sample),
        }
    }
    let mut lines = files
        .into_iter()
        .map(|sample| {
            let length = match &sample.image {
                ImageSource::File(path) => std::fs::metadata(path)
                    .map_err(|error| Error::io(&error).path(path))?
                    .len(),
                ImageSource::Memory { image, .. } => image.len() as u64,
                ImageSource::Packed(_) => 0,
            };
            let name = relative_name(sample, root);
            Ok(json!([name, sample.kind, sample.mask.is_some(), length]).to_string())
        })
        .collect::<Result<Vec<_>>>()?;
    lines.extend(packed.iter().map(|images| hex(&images.digest())));
    lines.sort_unstable();
    Ok(fingerprint(&json!(lines)))
}

/// Short enough for a folder's name.
fn fingerprint(value: &Value) -> String {
    let digest = hex(&Sha256::digest(value.to_string()));
    digest[..16].to_owned()
}
