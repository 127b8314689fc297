//! MVTec AD: `train/good`, `test/<kind>`, `ground_truth/<kind>/<stem>_mask.png`.

use std::path::Path;

use super::files::{Listing, folders, folders_named, sample, stem};
use super::masks::Masks;
use super::{Layout, Survey};
use crate::data::sample::{Dataset, Label};
use crate::error::Result;

/// The folder of normal images, in `train` and in `test`.
const GOOD: &str = "good";

pub(super) fn matches(root: &Path) -> Result<bool> {
    for train in folders_named(root, &["train"])? {
        if !folders_named(&train, &[GOOD])?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn survey(root: &Path) -> Result<Survey> {
    let mut dataset = Dataset::default();
    let mut other_files = Vec::new();
    for train in folders_named(root, &["train"])? {
        for good in folders_named(&train, &[GOOD])? {
            let listing = Listing::flat(&good)?;
            other_files.extend(listing.others);
            let normal = |path| sample(path, Label::Normal, GOOD, None);
            dataset.train.extend(listing.images.into_iter().map(normal));
        }
    }
    let mut masks = masks(root)?;
    for test in folders_named(root, &["test"])? {
        for (kind, folder) in folders(&test)? {
            let listing = Listing::flat(&folder)?;
            other_files.extend(listing.others);
            for path in listing.images {
                dataset.test.push(if kind.eq_ignore_ascii_case(GOOD) {
                    sample(path, Label::Normal, GOOD, None)
                } else {
                    let mask = masks.find(&kind, &stem(&path));
                    sample(path, Label::Anomalous, &kind, mask)
                });
            }
        }
    }
    Ok(Survey {
        layout: Layout::MvtecAd,
        dataset,
        stray_masks: masks.unused(),
        other_files,
    })
}

fn masks(root: &Path) -> Result<Masks> {
    let mut masks = Masks::default();
    for truth in folders_named(root, &["ground_truth"])? {
        for (kind, folder) in folders(&truth)? {
            let images = Listing::flat(&folder)?.images;
            masks.add(Some(&kind), images);
        }
    }
    Ok(masks)
}
