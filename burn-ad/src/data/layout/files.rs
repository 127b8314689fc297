//! Listing folders: sorted, without hidden entries, names compared without case.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::data::image::is_image_path;
use crate::data::sample::{Dataset, ImageSource, MaskSource, Sample};
use crate::error::{Error, Result};

/// A folder nested deeper than this is a loop of links.
const MAX_DEPTH: usize = 16;

/// Image files of a folder (or of a tree), and the visible files that are none; both sorted.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) images: Vec<PathBuf>,
    pub(super) others: Vec<PathBuf>,
}

impl Listing {
    /// The files directly in `folder`.
    pub(super) fn flat(folder: &Path) -> Result<Self> {
        let mut listing = Self::default();
        listing.add(folder, None)?;
        listing.sort();
        Ok(listing)
    }

    /// The files in `folder` and all folders below it.
    pub(super) fn deep(folder: &Path) -> Result<Self> {
        let mut listing = Self::default();
        listing.add(folder, Some(MAX_DEPTH))?;
        listing.sort();
        Ok(listing)
    }

    fn add(&mut self, folder: &Path, depth: Option<usize>) -> Result<()> {
        for path in entries(folder)? {
            if path.is_dir() {
                match depth {
                    None => {}
                    Some(0) => {
                        return Err(Error::data("folders are nested too deeply")
                            .path(path)
                            .help("look for a link that leads back to a folder above it"));
                    }
                    Some(left) => self.add(&path, Some(left - 1))?,
                }
            } else if is_image_path(&path) {
                self.images.push(path);
            } else {
                self.others.push(path);
            }
        }
        Ok(())
    }

    fn sort(&mut self) {
        self.images.sort();
        self.others.sort();
    }
}

/// Visible entries of a folder, sorted.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let at = |error: std::io::Error| Error::io(&error).path(folder);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(at)? {
        let entry = entry.map_err(at)?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// Visible folders in a folder with their names, sorted.
pub(super) fn folders(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    Ok(entries(folder)?
        .into_iter()
        .filter(|path| path.is_dir())
        .map(|path| (name(&path), path))
        .collect())
}

/// The folders in `folder` that have one of these (lower-case) names.
pub(super) fn folders_named(folder: &Path, names: &[&str]) -> Result<Vec<PathBuf>> {
    Ok(folders(folder)?
        .into_iter()
        .filter(|(name, _)| names.contains(&name.to_lowercase().as_str()))
        .map(|(_, path)| path)
        .collect())
}

/// The last part of a path, as text.
pub(super) fn name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// File name without its extension.
pub(super) fn stem(path: &Path) -> String {
    path.file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// The folder's own name, also for `.` and `..`.
pub(super) fn product_name(root: &Path) -> String {
    let own = name(root);
    if !own.is_empty() {
        return own;
    }
    root.canonicalize().map_or(own, |full| name(&full))
}

/// An anomalous or normal sample from a file.
pub(super) fn sample(
    path: PathBuf,
    label: crate::data::sample::Label,
    kind: &str,
    mask: Option<PathBuf>,
) -> Sample {
    Sample {
        image: ImageSource::File(path),
        label,
        kind: kind.to_owned(),
        mask: mask.map(MaskSource::File),
    }
}

/// Two images with one mask: whichever it belongs to, the other would be scored wrongly.
pub(super) fn refuse_shared_masks(dataset: &Dataset) -> Result<()> {
    let mut owners = BTreeMap::new();
    for sample in &dataset.test {
        let Some(MaskSource::File(mask)) = &sample.mask else {
            continue;
        };
        if let Some(first) = owners.insert(mask, sample.image.name()) {
            return Err(Error::data(format!(
                "this mask fits two images, {first} and {}",
                sample.image.name()
            ))
            .path(mask)
            .help("give the images different names, or sort the masks into a folder per kind"));
        }
    }
    Ok(())
}
