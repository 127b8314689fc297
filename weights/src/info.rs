//! What a weights file is, for people and for scripts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn_ad::backbone::{BackboneConfig, Pixels, WeightsFile};
use burn_ad::error::{Error, Result};
use burn_ad::files::sha256_file;
use serde::Serialize;

use crate::catalogue;
use crate::checkpoint::{Checkpoint, Container};
use crate::detect::detect_arch;
use crate::keys::KeyStyle;

/// Description of a checkpoint or of a weight file of ours.
#[derive(Clone, Debug, Serialize)]
pub struct Info {
    /// The file.
    pub path: PathBuf,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 of the file in hexadecimal.
    pub sha256: String,
    /// How it is stored, recognised by its content.
    pub container: Container,
    /// Key of the dict around the state dict.
    pub wrapper: Option<String>,
    /// What all keys begin with and an import drops.
    pub prefix: String,
    /// Number of tensors.
    pub tensors: usize,
    /// Number of floating-point values without the running statistics of BatchNorms.
    pub parameters: usize,
    /// Number of tensors per element type.
    pub dtypes: BTreeMap<String, usize>,
    /// Architectures that the checkpoint fits exactly.
    pub detected: Vec<Detected>,
    /// Name in the catalogue, if the file's SHA-256 is known there.
    pub catalogue: Option<&'static str>,
    /// Set when this is a file written by an import.
    pub imported: Option<Imported>,
}

/// An architecture that fits a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Detected {
    /// The architecture.
    pub arch: BackboneConfig,
    /// The names of its tensors.
    pub keys: KeyStyle,
}

/// Header of a weight file of ours.
#[derive(Clone, Debug, Serialize)]
pub struct Imported {
    /// The architecture.
    pub arch: BackboneConfig,
    /// Mean, standard deviation and interpolation that belong to the weights.
    pub pixels: Pixels,
    /// Where they came from.
    pub source: String,
    /// SHA-256 of the checkpoint.
    pub source_sha256: String,
    /// How burn-ad made them itself (see [`WeightsFile::recipe`]).
    pub recipe: Option<serde_json::Value>,
    /// Identity of the weights (see [`WeightsFile::digest`]).
    pub digest: String,
}

/// Describes a file without importing it.
///
/// # Errors
/// When the file is no checkpoint that [`Checkpoint::open`] can read, or is a damaged file of ours.
pub fn info(path: &Path) -> Result<Info> {
    let checkpoint = Checkpoint::open(path)?;
    let bytes = std::fs::metadata(path)
        .map_err(|error| Error::io(&error).path(path))?
        .len();
    let sha256 = sha256_file(path)?;
    let mut dtypes = BTreeMap::new();
    let mut parameters = 0;
    for (name, entry) in checkpoint.entries() {
        *dtypes.entry(entry.dtype.to_string()).or_insert(0) += 1;
        let statistic = name.ends_with(".running_mean") || name.ends_with(".running_var");
        if entry.dtype.is_float() && !statistic {
            parameters += entry.elements();
        }
    }
    let imported = if checkpoint.is_burn_ad() {
        let file = WeightsFile::read(path)?;
        Some(Imported {
            arch: file.arch,
            pixels: file.pixels,
            digest: file.digest(),
            source: file.source,
            source_sha256: file.source_sha256,
            recipe: file.recipe,
        })
    } else {
        None
    };
    let detected = detect_arch(&checkpoint).into_iter();
    Ok(Info {
        path: path.to_path_buf(),
        bytes,
        catalogue: catalogue::by_digest(&sha256).map(|entry| entry.name),
        sha256,
        container: checkpoint.container(),
        wrapper: checkpoint.wrapper().map(str::to_owned),
        prefix: checkpoint.prefix().to_owned(),
        tensors: checkpoint.entries().len(),
        parameters,
        dtypes,
        detected: detected
            .map(|(arch, keys)| Detected { arch, keys })
            .collect(),
        imported,
    })
}
