//! Labelled splits, as medical datasets are published: `train/<kind>` and `test/<kind>`, anomalies on both sides.
//!
//! OCT2017 (`NORMAL`, `CNV`, `DME`, `DRUSEN`) and Chest X-ray (`NORMAL`, `PNEUMONIA`) lie like this.

use std::path::{Path, PathBuf};

use super::files::{Listing, folders, folders_named, sample};
use super::{Layout, Survey};
use crate::data::sample::{Dataset, Label, Sample};
use crate::error::Result;

/// Folders of normal images, in lower case.
const NORMAL: [&str; 4] = ["normal", "good", "healthy", "ok"];

/// The naevi of ISIC: normal where no folder has one of the other names.
const NAEVI: [&str; 1] = ["nv"];

/// MVTec AD has anomalies on the test side alone, its normal images in `good`, and masks. So `train/good` is taken for
/// a labelled split only with other folders beside it and without `ground_truth`; every other name of a
/// normal folder is.
pub(super) fn matches(root: &Path) -> Result<bool> {
    let kinds = kinds_of(root, "train")?;
    let names = normal_names(&kinds);
    let has_masks = !folders_named(root, &["ground_truth"])?.is_empty();
    let normal: Vec<&str> = kinds
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| is_normal(name, names))
        .collect();
    let only_good = normal.iter().all(|name| name.eq_ignore_ascii_case("good"));
    let as_mvtec = only_good && (normal.len() == kinds.len() || has_masks);
    Ok(!normal.is_empty() && !as_mvtec)
}

/// Anomalies in `train` are the pool; `val` is passed over.
pub(super) fn survey(root: &Path) -> Result<Survey> {
    let (train, test) = (kinds_of(root, "train")?, kinds_of(root, "test")?);
    let names = normal_names(&train);
    let mut other_files = Vec::new();
    let mut side = |kinds| samples(kinds, names, &mut other_files);
    let (train, pool) = side(train)?
        .into_iter()
        .partition(|sample| !sample.label.is_anomalous());
    let test = side(test)?;
    Ok(Survey {
        layout: Layout::Labelled,
        dataset: Dataset {
            train,
            pool,
            test,
            ..Dataset::default()
        },
        stray_masks: Vec::new(),
        other_files,
    })
}

/// The folders of one side with their names.
fn kinds_of(root: &Path, side: &str) -> Result<Vec<(String, PathBuf)>> {
    let mut kinds = Vec::new();
    for side in folders_named(root, &[side])? {
        kinds.extend(folders(&side)?);
    }
    Ok(kinds)
}

fn normal_names(kinds: &[(String, PathBuf)]) -> &'static [&'static str] {
    if kinds.iter().any(|(name, _)| is_normal(name, &NORMAL)) {
        &NORMAL
    } else {
        &NAEVI
    }
}

fn is_normal(name: &str, names: &[&str]) -> bool {
    names.iter().any(|normal| name.eq_ignore_ascii_case(normal))
}

fn samples(
    kinds: Vec<(String, PathBuf)>,
    normal: &[&str],
    other_files: &mut Vec<PathBuf>,
) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for (kind, folder) in kinds {
        let listing = Listing::deep(&folder)?;
        other_files.extend(listing.others);
        let (label, kind) = match is_normal(&kind, normal) {
            true => (Label::Normal, "good"),
            false => (Label::Anomalous, kind.as_str()),
        };
        let images = listing.images.into_iter();
        samples.extend(images.map(|path| sample(path, label, kind, None)));
    }
    Ok(samples)
}

#[cfg(test)]
#[path = "labelled_tests.rs"]
mod tests;
