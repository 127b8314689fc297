//! Magnetic tile surface defects (Huang, Qiu, Yuan 2018) as its authors publish it:
//! `MT_<kind>/Imgs/<name>.jpg` with the mask `<name>.png` beside it, `MT_Free` without defect.

use std::path::Path;

use super::files::{Listing, folders, folders_named, sample, stem};
use super::masks::Masks;
use super::split::split;
use super::{IndexOptions, Layout, Survey};
use crate::data::sample::{Dataset, Label};
use crate::error::Result;

pub(super) fn matches(root: &Path) -> Result<bool> {
    for folder in folders_named(root, &["mt_free"])? {
        if !folders_named(&folder, &["imgs"])?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `MT_Free` is split by `options`; all defects are test images.
pub(super) fn survey(root: &Path, options: &IndexOptions) -> Result<Survey> {
    let mut normals = Vec::new();
    let mut defects = Vec::new();
    let mut stray_masks = Vec::new();
    let mut other_files = Vec::new();
    for (name, folder) in folders(root)? {
        let lower = name.to_lowercase();
        let Some(kind) = lower.strip_prefix("mt_") else {
            continue;
        };
        for folder in folders_named(&folder, &["imgs"])? {
            let listing = Listing::flat(&folder)?;
            other_files.extend(listing.others);
            let (pngs, images): (Vec<_>, Vec<_>) = listing.images.into_iter().partition(|path| {
                path.extension()
                    .is_some_and(|e| e.eq_ignore_ascii_case("png"))
            });
            let mut masks = Masks::default();
            masks.add(None, pngs);
            for path in images {
                // Asked for normal images too (theirs are black), so that it does not count as stray.
                let mask = masks.find(kind, &stem(&path));
                if kind == "free" {
                    normals.push(sample(path, Label::Normal, "good", None));
                } else {
                    defects.push(sample(path, Label::Anomalous, kind, mask));
                }
            }
            stray_masks.extend(masks.unused());
        }
    }
    let (train, mut test) = split(normals, options);
    test.extend(defects);
    Ok(Survey {
        layout: Layout::MagneticTile,
        dataset: Dataset {
            train,
            test,
            ..Dataset::default()
        },
        stray_masks,
        other_files,
    })
}
