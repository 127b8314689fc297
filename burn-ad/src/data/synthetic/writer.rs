//! The set as a folder in the layout of MVTec AD.

use std::path::{Path, PathBuf};

use image::ImageFormat;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Item, SyntheticConfig};
use crate::error::{Error, Result};

/// File at the top of a folder written by [`write_mvtec`]: says what is in it, and that it may be replaced.
pub const MARKER: &str = "synthetic.json";

/// What else is at the top of such a folder.
const FOLDERS: [&str; 3] = ["train", "test", "ground_truth"];

#[derive(Serialize, Deserialize)]
struct Marker {
    /// Always [`GENERATOR`].
    generator: String,
    version: String,
    config: SyntheticConfig,
}

const GENERATOR: &str = "burn-ad synthetic";

/// Writes the set to `dir`: `train/good/000.png`, `test/<kind>/000.png`, `ground_truth/<kind>/000_mask.png`.
///
/// The set is built in a temporary folder beside `dir` and renamed into place: `dir` is never half-written.
/// A folder that this function wrote before, and to which nothing was added at the top, is replaced;
/// any other folder with content only if `overwrite` is set.
/// `progress` is called with the numbers of pictures done and in all.
///
/// # Errors
/// When the configuration is not valid, `dir` must not be replaced, or a file cannot be written.
pub fn write_mvtec(
    config: &SyntheticConfig,
    dir: &Path,
    overwrite: bool,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<()> {
    config.validate()?;
    let target = Target::check(dir, overwrite)?;
    let at = |error: std::io::Error| Error::io(&error).path(dir);
    std::fs::create_dir_all(&target.parent).map_err(at)?;
    let workshop = tempfile::Builder::new()
        .prefix(".burn-ad-")
        .suffix(".tmp")
        .tempdir_in(&target.parent)
        .map_err(at)?;
    // The temporary folder is private to its owner; a folder made inside it gets the usual mode.
    let built = workshop.path().join("set");
    write_files(config, &built, progress)?;
    target.replace_by(&built, workshop.path()).map_err(at)
}

fn write_files(
    config: &SyntheticConfig,
    root: &Path,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<()> {
    let at = |path: &Path, error: std::io::Error| Error::io(&error).path(path);
    // Also the folders that get no picture: a layout is recognised by its folders.
    let kinds = config.kinds.iter().map(|kind| kind.name());
    let mut folders = vec![root.join("train/good"), root.join("test/good")];
    folders.push(root.join("ground_truth"));
    for kind in kinds.filter(|_| config.per_kind > 0) {
        folders.push(root.join("test").join(kind));
        folders.push(root.join("ground_truth").join(kind));
    }
    for folder in &folders {
        std::fs::create_dir_all(folder).map_err(|error| at(folder, error))?;
    }

    let items = Item::all(config);
    progress(0, items.len());
    let mut done = 0;
    // In portions, so that the progress is told on the caller's thread.
    for portion in items.chunks(4 * rayon::current_num_threads()) {
        portion.par_iter().try_for_each(|item| -> Result<()> {
            let (image, mask) = item.render(config)?;
            let path = root.join(item.path());
            image
                .save_with_format(&path, ImageFormat::Png)
                .map_err(|error| Error::data(error.to_string()).path(&path))?;
            if let Some(mask) = mask {
                let path = root.join(item.mask_path());
                mask.save_with_format(&path, ImageFormat::Png)
                    .map_err(|error| Error::data(error.to_string()).path(&path))?;
            }
            Ok(())
        })?;
        done += portion.len();
        progress(done, items.len());
    }

    let marker = Marker {
        generator: GENERATOR.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        config: config.clone(),
    };
    let path = root.join(MARKER);
    let text = serde_json::to_string_pretty(&marker)
        .map_err(|error| Error::data(error.to_string()).path(&path))?;
    std::fs::write(&path, text + "\n").map_err(|error| at(&path, error))
}

/// A destination that may be written.
struct Target {
    dir: PathBuf,
    parent: PathBuf,
    exists: bool,
}

impl Target {
    fn check(dir: &Path, overwrite: bool) -> Result<Self> {
        let at = |error: std::io::Error| Error::io(&error).path(dir);
        let exists = dir.try_exists().map_err(at)?;
        // A link is followed: the folder it names is replaced, not the link.
        let dir_absolute = if exists {
            dir.canonicalize().map_err(at)?
        } else {
            std::path::absolute(dir).map_err(at)?
        };
        let parent = dir_absolute.parent().map(Path::to_path_buf);
        let here = std::env::current_dir().and_then(|here| here.canonicalize());
        let (Some(parent), false) = (
            parent,
            exists && here.is_ok_and(|here| here.starts_with(&dir_absolute)),
        ) else {
            return Err(
                Error::usage("will not replace the folder that is being worked in")
                    .path(dir)
                    .help("name a new folder"),
            );
        };
        if exists {
            if !dir_absolute.is_dir() {
                return Err(Error::usage("is a file")
                    .path(dir)
                    .help("name a new folder"));
            }
            if !overwrite && !is_replaceable(&dir_absolute).map_err(at)? {
                return Err(Error::usage(
                    "the folder is not empty, and not (only) a synthetic data set",
                )
                .path(dir)
                .help(
                    "name a new folder, or ask for overwriting: all its content is then deleted",
                ));
            }
        }
        Ok(Self {
            dir: dir_absolute,
            parent,
            exists,
        })
    }

    /// Renames the new folder into place; an old one is put into `workshop`, which the caller deletes.
    fn replace_by(&self, built: &Path, workshop: &Path) -> std::io::Result<()> {
        let old = workshop.join("old");
        if self.exists {
            std::fs::rename(&self.dir, &old)?;
        }
        std::fs::rename(built, &self.dir).inspect_err(|_| {
            if self.exists {
                // The rename error is the one to report: should putting back fail too, nothing more can be done here.
                let _ = std::fs::rename(&old, &self.dir);
            }
        })
    }
}

/// Whether a folder is empty or holds a set written here and nothing else.
fn is_replaceable(dir: &Path) -> std::io::Result<bool> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        names.push(entry?.file_name());
    }
    if names.is_empty() {
        return Ok(true);
    }
    let only_ours = names
        .iter()
        .all(|name| name == MARKER || FOLDERS.iter().any(|folder| name == folder));
    if !only_ours {
        return Ok(false);
    }
    let marker = std::fs::read(dir.join(MARKER)).unwrap_or_default();
    Ok(serde_json::from_slice::<Marker>(&marker).is_ok_and(|marker| marker.generator == GENERATOR))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{DefectKind, Product, render_defect};
    use super::*;

    fn small() -> SyntheticConfig {
        SyntheticConfig {
            train: 2,
            test_normal: 1,
            kinds: vec![DefectKind::Scratch, DefectKind::MissingHole],
            ..SyntheticConfig::mini(Product::MetalPlate)
        }
    }

    fn listing(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn writes_the_layout_and_the_rendered_pixels() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("new folder/plätte");
        let mut calls = Vec::new();
        write_mvtec(&small(), &dir, false, &mut |done, all| {
            calls.push((done, all));
        })
        .unwrap();
        assert_eq!((calls[0], *calls.last().unwrap()), ((0, 5), (5, 5)));
        assert_eq!(listing(&dir), ["ground_truth", MARKER, "test", "train"]);
        assert_eq!(listing(&dir.join("train/good")), ["000.png", "001.png"]);
        assert_eq!(listing(&dir.join("test/good")), ["000.png"]);
        let (image, mask) = render_defect(&small(), DefectKind::MissingHole, 0).unwrap();
        let read = |path: &str| image::open(dir.join(path)).unwrap();
        assert_eq!(read("test/missing-hole/000.png").into_rgb8(), image);
        assert_eq!(
            read("ground_truth/missing-hole/000_mask.png").into_luma8(),
            mask
        );
        assert_eq!(listing(dir.parent().unwrap()).len(), 1, "no litter");
    }

    #[test]
    fn replaces_only_its_own_or_empty_folders_unless_told() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("set");
        let write = |overwrite| write_mvtec(&small(), &dir, overwrite, &mut |_, _| {});
        std::fs::create_dir(&dir).unwrap();
        write(false).unwrap();
        std::fs::write(dir.join("train/good/999.png"), b"stale").unwrap();
        write(false).unwrap();
        assert!(!dir.join("train/good/999.png").exists());

        std::fs::write(dir.join("thesis.txt"), b"years of work").unwrap();
        let error = write(false).unwrap_err();
        assert!(error.is_usage(), "{error}");
        assert!(dir.join("thesis.txt").exists());
        write(true).unwrap();
        assert!(!dir.join("thesis.txt").exists());
        assert_eq!(listing(scratch.path()), ["set"], "no litter");
    }

    #[test]
    fn an_interrupted_write_leaves_the_destination_as_it_was() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("set");
        let stopped = std::panic::catch_unwind(|| {
            write_mvtec(&small(), &dir, false, &mut |done, all| {
                assert!(!dir.exists(), "visible before it is complete");
                assert!(done < all, "stop here");
            })
        });
        assert!(stopped.is_err());
        assert!(listing(scratch.path()).is_empty());
    }

    #[test]
    fn a_file_and_the_working_folder_are_never_replaced() {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("file");
        std::fs::write(&file, b"content").unwrap();
        for path in [file.as_path(), Path::new("."), Path::new("/")] {
            let error = write_mvtec(&small(), path, true, &mut |_, _| {}).unwrap_err();
            assert!(error.is_usage(), "{error}");
        }
        assert_eq!(std::fs::read(&file).unwrap(), b"content");
    }
}
