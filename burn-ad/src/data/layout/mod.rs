//! Folder layouts: from a directory to an index of samples.
//!
//! Everything is sorted by path, hidden files are ignored, and folder names and extensions are
//! compared without regard to case.

mod files;
mod folder;
mod magnetic_tile;
mod masks;
mod mvtec;
mod products;
mod split;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use self::products::index_products;
use super::sample::Dataset;
use crate::error::{Error, Result};

/// How the images of a product are arranged on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// Whichever of the others is found.
    #[default]
    Auto,
    /// `train/good`, `test/<kind>`, `ground_truth/<kind>/<stem>_mask.png`.
    MvtecAd,
    /// `normal` (or `good`, `ok`), `abnormal` (or `anomalous`, `defect`, `bad`, `ng`; folders in
    /// it are kinds of defect), `mask` (or `masks`, `ground_truth`; same stem, or with `_mask`).
    Folder,
    /// `MT_Free/Imgs/*.jpg`, `MT_<kind>/Imgs/*.jpg` with a `.png` mask of the same stem beside it.
    MagneticTile,
}

impl Layout {
    /// Every layout with its name on the command line.
    pub const NAMES: [(Self, &'static str); 4] = [
        (Self::Auto, "auto"),
        (Self::MvtecAd, "mvtec-ad"),
        (Self::Folder, "folder"),
        (Self::MagneticTile, "magnetic-tile"),
    ];
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::MvtecAd => "mvtec-ad",
            Self::Folder => "folder",
            Self::MagneticTile => "magnetic-tile",
        })
    }
}

impl FromStr for Layout {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::NAMES.iter().find(|(_, known)| *known == name);
        found.map(|(layout, _)| *layout).ok_or_else(|| {
            Error::usage(format!("there is no dataset layout named '{name}'")).help(format!(
                "choose one of: {}",
                Self::NAMES.map(|(_, name)| name).join(", ")
            ))
        })
    }
}

/// How layouts without a fixed split divide their normal images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IndexOptions {
    /// Seed of the shuffle.
    pub seed: u64,
    /// Share of the normal images to train on, in `(0, 1]`, rounded down to whole images.
    pub train_share: f64,
}

impl Default for IndexOptions {
    fn default() -> Self {
        Self {
            seed: 0,
            train_share: 0.8,
        }
    }
}

/// Lists the samples below `root`. Reads folders only, no image.
///
/// # Errors
/// When a folder cannot be read, the layout is not recognised, there is no training image, a
/// mask belongs to two images, or `train_share` is outside `(0, 1]`.
pub fn index(root: &Path, layout: Layout, options: &IndexOptions) -> Result<Dataset> {
    Ok(survey(root, layout, options)?.dataset)
}

/// The index, and what the folders hold besides it.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) layout: Layout,
    pub(super) dataset: Dataset,
    /// Mask files that belong to no anomalous image.
    pub(super) stray_masks: Vec<PathBuf>,
    /// Visible files in image folders that are no images by their extension.
    pub(super) other_files: Vec<PathBuf>,
}

pub(super) fn survey(root: &Path, layout: Layout, options: &IndexOptions) -> Result<Survey> {
    if !(options.train_share > 0.0 && options.train_share <= 1.0) {
        return Err(Error::usage(format!(
            "a train share of {} is not possible",
            options.train_share
        ))
        .help("give a number above 0 and up to 1, for instance 0.8"));
    }
    if !root.is_dir() {
        let error = if root.exists() {
            Error::data("the dataset must be a folder, but this is a file")
        } else {
            Error::data("there is no such folder")
        };
        return Err(error.path(root).help("give the folder of one product"));
    }
    let layout = match layout {
        Layout::Auto => match detect(root)? {
            Some(found) => found,
            None => return Err(unknown(root)?),
        },
        known => known,
    };
    let mut survey = match layout {
        Layout::Auto | Layout::MvtecAd => mvtec::survey(root)?,
        Layout::Folder => folder::survey(root, options)?,
        Layout::MagneticTile => magnetic_tile::survey(root, options)?,
    };
    survey.layout = layout;
    survey.dataset.name = files::product_name(root);
    if survey.dataset.train.is_empty() {
        return Err(Error::data("there is no image to train on")
            .path(root)
            .help(format!(
                "as {layout}, training images belong in {}",
                home(layout)
            )));
    }
    files::refuse_shared_masks(&survey.dataset)?;
    survey.stray_masks.sort();
    survey.other_files.sort();
    Ok(survey)
}

fn home(layout: Layout) -> &'static str {
    match layout {
        Layout::Auto | Layout::MvtecAd => "train/good",
        Layout::Folder => "normal (or good, ok)",
        Layout::MagneticTile => "MT_Free/Imgs",
    }
}

/// The most specific layout first.
fn detect(root: &Path) -> Result<Option<Layout>> {
    Ok(if mvtec::matches(root)? {
        Some(Layout::MvtecAd)
    } else if magnetic_tile::matches(root)? {
        Some(Layout::MagneticTile)
    } else if folder::matches(root)? {
        Some(Layout::Folder)
    } else {
        None
    })
}

/// The error for a folder that follows no layout, with the likely reason.
fn unknown(root: &Path) -> Result<Error> {
    let folders = files::folders(root)?;
    let mut products = Vec::new();
    for (name, path) in &folders {
        if detect(path)?.is_some() {
            products.push(name.clone());
        }
    }
    let error = Error::data(
        "no known layout: looked for train/good (mvtec-ad), MT_Free/Imgs (magnetic-tile), \
         and normal, good or ok (folder)",
    )
    .path(root);
    Ok(if !products.is_empty() {
        error.help(format!(
            "this folder holds several products; give one of: {}",
            products.join(", ")
        ))
    } else if folders.is_empty() {
        error.help("put the good images in a folder named 'normal', defects in 'abnormal'")
    } else {
        error.help(format!(
            "found only the folders {}; put the good images in 'normal', defects in 'abnormal'",
            folders
                .iter()
                .map(|(name, _)| name.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        ))
    })
}
