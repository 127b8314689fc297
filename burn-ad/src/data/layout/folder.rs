//! A plain folder of normal images, one of abnormal images, and one of masks.

use std::path::{Path, PathBuf};

use super::files::{Listing, folders, folders_named, name, sample, stem};
use super::masks::Masks;
use super::split::split;
use super::{IndexOptions, Layout, Survey};
use crate::data::sample::{Dataset, Label};
use crate::error::Result;

const NORMAL: [&str; 3] = ["normal", "good", "ok"];
const ABNORMAL: [&str; 5] = ["abnormal", "anomalous", "defect", "bad", "ng"];
/// Answers to "is there a tumour?", as Br35H sorts its images; names only where both folders exist.
const ANSWERS: [&str; 2] = ["no", "yes"];
const MASK: [&str; 3] = ["mask", "masks", "ground_truth"];

pub(super) fn matches(root: &Path) -> Result<bool> {
    Ok(!sides(root)?[0].is_empty())
}

/// Folders of normal and of abnormal images.
fn sides(root: &Path) -> Result<[Vec<PathBuf>; 2]> {
    let named = [
        folders_named(root, &NORMAL)?,
        folders_named(root, &ABNORMAL)?,
    ];
    let [no, yes] = ANSWERS.map(|name| folders_named(root, &[name]));
    let answers = [no?, yes?];
    let answered = named[0].is_empty() && answers.iter().all(|folders| !folders.is_empty());
    Ok(if answered { answers } else { named })
}

/// Normal images are split by `options`; every abnormal image is a test image.
pub(super) fn survey(root: &Path, options: &IndexOptions) -> Result<Survey> {
    let [normal, abnormal] = sides(root)?;
    let mut normals = Vec::new();
    let mut other_files = Vec::new();
    for folder in normal {
        let listing = Listing::deep(&folder)?;
        other_files.extend(listing.others);
        let normal = |path| sample(path, Label::Normal, "good", None);
        normals.extend(listing.images.into_iter().map(normal));
    }
    let (train, mut test) = split(normals, options);

    let mut masks = Masks::default();
    for folder in folders_named(root, &MASK)? {
        masks.add(None, Listing::flat(&folder)?.images);
        for (kind, folder) in folders(&folder)? {
            masks.add(Some(&kind), Listing::deep(&folder)?.images);
        }
    }
    for folder in abnormal {
        // Images directly in the folder are of a kind named after it.
        let loose = Listing::flat(&folder)?;
        let mut kinds = vec![(name(&folder), loose)];
        for (kind, folder) in folders(&folder)? {
            kinds.push((kind, Listing::deep(&folder)?));
        }
        for (kind, listing) in kinds {
            other_files.extend(listing.others);
            for path in listing.images {
                let mask = masks.find(&kind, &stem(&path));
                test.push(sample(path, Label::Anomalous, &kind, mask));
            }
        }
    }
    Ok(Survey {
        layout: Layout::Folder,
        dataset: Dataset {
            train,
            test,
            ..Dataset::default()
        },
        stray_masks: masks.unused(),
        other_files,
    })
}
