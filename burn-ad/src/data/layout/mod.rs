//! Layouts of datasets: from a directory to an index of samples.
//!
//! Everything is sorted by path, hidden files are ignored, and folder names and extensions are
//! compared without regard to case.

mod cifar;
mod files;
mod folder;
mod idx;
mod labelled;
mod limit;
mod magnetic_tile;
mod masks;
mod mvtec;
mod one_class;
mod packed_file;
mod plain;
mod products;
mod split;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use self::plain::training_images;
pub use self::products::index_products;
use super::sample::Dataset;
use super::share::TrainLimit;
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
    /// it are kinds of defect), `mask` (or `masks`, `ground_truth`; same stem, or with `_mask`); or `no` and `yes`.
    Folder,
    /// `MT_Free/Imgs/*.jpg`, `MT_<kind>/Imgs/*.jpg` with a `.png` mask of the same stem beside it.
    MagneticTile,
    /// `train/<kind>` and `test/<kind>`, the normal images in `normal` (or `good`, `healthy`, `ok`, else `nv`);
    /// anomalies in `train` are the pool. No masks.
    Labelled,
    /// MNIST and its relatives: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-..`, also `.gz`. One
    /// class is normal, training images of the others are the pool.
    Idx,
    /// CIFAR-10, binary version: `data_batch_1.bin` to `data_batch_5.bin`, `test_batch.bin`. One class is normal,
    /// training images of the others are the pool.
    #[serde(rename = "cifar-10")]
    Cifar10,
}

impl Layout {
    /// Every layout with its name on the command line.
    pub const NAMES: [(Self, &'static str); 7] = [
        (Self::Auto, "auto"),
        (Self::MvtecAd, "mvtec-ad"),
        (Self::Folder, "folder"),
        (Self::MagneticTile, "magnetic-tile"),
        (Self::Labelled, "labelled"),
        (Self::Idx, "idx"),
        (Self::Cifar10, "cifar-10"),
    ];

    /// Whether one class of a classification dataset is chosen as the normal one.
    fn has_normal_class(self) -> bool {
        matches!(self, Self::Idx | Self::Cifar10)
    }

    /// Whether a folder looks like it; `auto` looks like any.
    fn matches(self, root: &Path) -> Result<bool> {
        match self {
            Self::Auto => Ok(detect(root)?.is_some()),
            Self::MvtecAd => mvtec::matches(root),
            Self::Folder => folder::matches(root),
            Self::MagneticTile => magnetic_tile::matches(root),
            Self::Labelled => labelled::matches(root),
            Self::Idx => Ok(idx::matches(root)),
            Self::Cifar10 => Ok(cifar::matches(root)),
        }
    }

    /// Whether there is a place for masks.
    pub(super) fn has_masks(self) -> bool {
        !matches!(self, Self::Labelled | Self::Idx | Self::Cifar10)
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::MvtecAd => "mvtec-ad",
            Self::Folder => "folder",
            Self::MagneticTile => "magnetic-tile",
            Self::Labelled => "labelled",
            Self::Idx => "idx",
            Self::Cifar10 => "cifar-10",
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

/// What a layout leaves open: how normal images are divided, which class is normal, how many images are used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IndexOptions {
    /// Seed of the shuffle, and of the choice that `train_limit` makes.
    pub seed: u64,
    /// In layouts without a split of their own, the share of the normal images to train on, in `(0, 1]`, rounded
    /// down to whole images.
    pub train_share: f64,
    /// In classification datasets the class that is normal, by its name or number; all others are anomalous.
    pub normal_class: Option<String>,
    /// So many of the normal training images (of each product), drawn by `seed`.
    pub train_limit: Option<TrainLimit>,
    /// At most this many test images of each kind; the same ones whatever the seed.
    pub test_limit: Option<usize>,
}

impl Default for IndexOptions {
    fn default() -> Self {
        Self {
            seed: 0,
            train_share: 0.8,
            normal_class: None,
            train_limit: None,
            test_limit: None,
        }
    }
}

/// Lists the samples below `root`. Reads folders only, no image, except where many images are packed in a file.
///
/// # Errors
/// When a folder cannot be read, the layout is not recognised, there is no training image, a
/// mask belongs to two images, packed images are damaged, or an option does not fit: `train_share` outside `(0, 1]`,
/// a limit of 0, a normal class where there is none to choose, or none (or an unknown one) where there is.
pub fn index(root: &Path, layout: Layout, options: &IndexOptions) -> Result<Dataset> {
    let mut dataset = survey(root, layout, options)?.dataset;
    limit::limit(&mut dataset, options)?;
    Ok(dataset)
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

impl Survey {
    /// Of packed images, beside which nothing is looked for.
    fn of_classes(layout: Layout, dataset: Dataset) -> Self {
        Self {
            layout,
            dataset,
            stray_masks: Vec::new(),
            other_files: Vec::new(),
        }
    }
}

/// Everything below `root`, beyond all limits.
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
    if let Some(class) = &options.normal_class
        && !layout.has_normal_class()
    {
        let message = format!(
            "a dataset of layout {layout} has no classes, so '{class}' cannot be the normal one"
        );
        return Err(Error::usage(message)
            .path(root)
            .help("leave --normal-class (data.normal_class) out"));
    }
    let mut survey = match layout {
        Layout::Auto | Layout::MvtecAd => mvtec::survey(root)?,
        Layout::Folder => folder::survey(root, options)?,
        Layout::MagneticTile => magnetic_tile::survey(root, options)?,
        Layout::Labelled => labelled::survey(root)?,
        Layout::Idx => idx::survey(root, options)?,
        Layout::Cifar10 => cifar::survey(root, options)?,
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
        Layout::Labelled => "train/normal (or good, healthy, ok, nv)",
        Layout::Idx | Layout::Cifar10 => "the normal class",
    }
}

/// The most specific layout first.
fn detect(root: &Path) -> Result<Option<Layout>> {
    for layout in [
        Layout::Labelled,
        Layout::MvtecAd,
        Layout::MagneticTile,
        Layout::Idx,
        Layout::Cifar10,
        Layout::Folder,
    ] {
        if layout.matches(root)? {
            return Ok(Some(layout));
        }
    }
    Ok(None)
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
        "no known layout: looked for train/good (mvtec-ad), train/normal (labelled), MT_Free/Imgs (magnetic-tile), \
         train-images-idx3-ubyte (idx), data_batch_1.bin (cifar-10), and normal, good or ok (folder)",
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
