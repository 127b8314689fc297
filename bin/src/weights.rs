//! Finding the weights of a backbone: a file the user names, the cache, or random ones.

use std::path::{Path, PathBuf};

use burn::tensor::backend::Backend;
use burn_ad::backbone::{Backbone, BackboneConfig, Interpolation, Pixels, WeightsFile};
use burn_ad::data::{Filter, Normalisation};
use burn_ad::method::{BackboneRecord, Model};
use burn_ad::{Error, Result};
use burn_ad_weights::{Checkpoint, cache, catalogue, import, resolve};

use crate::settings::{BackboneSettings, DEFAULT_BACKBONE};

/// Weights for training, not yet on a device.
pub(crate) enum ChosenWeights {
    /// Real ones.
    File(Box<WeightsFile>),
    /// Drawn from a seed.
    Random {
        /// The network.
        arch: BackboneConfig,
        /// Its seed.
        seed: u64,
    },
    /// None, for a method that looks at pixels alone.
    Nothing,
}

impl ChosenWeights {
    /// Reads the weights that the settings ask for.
    ///
    /// # Errors
    /// When the file cannot be used, or one is needed, none is named and the cache has none.
    pub(crate) fn find(settings: &BackboneSettings, seed: u64) -> Result<Self> {
        let arch = match settings.name {
            Some(arch) => arch,
            None => DEFAULT_BACKBONE.parse()?,
        };
        if let Some(path) = &settings.weights {
            return Ok(Self::File(Box::new(read_weights(path, settings.name)?)));
        }
        if arch.is_none() {
            return Ok(Self::Nothing);
        }
        if settings.random {
            return Ok(Self::Random { arch, seed });
        }
        let folder = cache::directory()?;
        let path = resolve(arch, &folder).ok_or_else(|| {
            let message = format!("there are no weights for {arch} in {}", folder.display());
            Error::usage(message).help(format!(
                "{}, name a file with --weights FILE, or try without any: --random-weights",
                ways_to_get(arch)
            ))
        })?;
        Ok(Self::File(Box::new(read_weights(&path, Some(arch))?)))
    }

    /// Which network.
    pub(crate) fn arch(&self) -> BackboneConfig {
        match self {
            Self::File(file) => file.arch,
            Self::Random { arch, .. } => *arch,
            Self::Nothing => BackboneConfig::None,
        }
    }

    /// The pixels the weights expect.
    pub(crate) fn pixels(&self) -> Pixels {
        match self {
            Self::File(file) => file.pixels,
            Self::Random { .. } | Self::Nothing => self.arch().pixels(),
        }
    }

    /// How pixels become the numbers the network knows.
    pub(crate) fn normalisation(&self) -> Normalisation {
        let Pixels { mean, std, .. } = self.pixels();
        Normalisation { mean, std }
    }

    /// The resampling filter of the images the weights were trained on.
    pub(crate) fn filter(&self) -> Filter {
        match self.pixels().interpolation {
            Interpolation::Bilinear => Filter::Bilinear,
            Interpolation::Bicubic => Filter::Bicubic,
        }
    }

    /// Where they come from, in words.
    pub(crate) fn source(&self) -> String {
        match self {
            Self::File(file) => file.source.clone(),
            Self::Random { seed, .. } => format!("random weights of seed {seed}"),
            Self::Nothing => "pixels alone".to_owned(),
        }
    }

    /// What tells them apart from all others.
    pub(crate) fn digest(&self) -> String {
        match self {
            Self::File(file) => file.digest(),
            Self::Random { .. } | Self::Nothing => self.source(),
        }
    }

    /// The seed of random weights.
    pub(crate) fn random_seed(&self) -> Option<u64> {
        match self {
            Self::File(_) | Self::Nothing => None,
            Self::Random { seed, .. } => Some(*seed),
        }
    }

    /// The network on a device.
    pub(crate) fn backbone<B: Backend>(&self, device: &B::Device) -> Result<Backbone<B>> {
        match self {
            Self::File(file) => file.backbone(device),
            Self::Random { arch, seed } => Ok(arch.random(*seed, device)),
            // There is nothing to draw.
            Self::Nothing => Ok(BackboneConfig::None.random(0, device)),
        }
    }
}

/// How to get weights of `arch`: every published one, as one of the servers may be out of reach, or our own.
fn ways_to_get(arch: BackboneConfig) -> String {
    let commands: Vec<String> = catalogue::entries()
        .iter()
        .filter(|entry| entry.arch == arch)
        .map(|entry| format!("`burn-ad weights fetch {}`", entry.name))
        .collect();
    match commands.as_slice() {
        [] => "make some with `burn-ad pretrain`".to_owned(),
        several => format!("get published ones with {}", several.join(" or ")),
    }
}

/// Reads a weight file of ours, or imports a checkpoint on the fly.
fn read_weights(path: &Path, arch: Option<BackboneConfig>) -> Result<WeightsFile> {
    let file = if Checkpoint::open(path)?.is_burn_ad() {
        WeightsFile::read(path)?
    } else {
        import(path, arch)?
    };
    match arch {
        Some(arch) if arch != file.arch => Err(Error::usage(format!(
            "these are weights of {}, not of {arch}",
            file.arch
        ))
        .path(path)
        .help(format!("choose --backbone {}, or other weights", file.arch))),
        _ => Ok(file),
    }
}

/// Loads a model; `weights` is the file the user names for its backbone, else the cache is searched.
///
/// # Errors
/// When the model cannot be used, or the weights it was trained with are not found.
pub(crate) fn load_model<B: Backend>(
    dir: &Path,
    weights: Option<&Path>,
    device: &B::Device,
) -> Result<Model<B>> {
    Model::load(dir, device, |record| match weights {
        Some(path) => read_weights(path, Some(record.arch))?.backbone(device),
        None => cached(record)?.backbone(device),
    })
}

/// The file in the cache with the very weights of a model.
fn cached(record: &BackboneRecord) -> Result<WeightsFile> {
    let folder = cache::directory()?;
    for path in candidates(record.arch, &folder) {
        // A file that cannot be read is not the one; the error below says what is missing.
        if let Ok(file) = WeightsFile::read(&path)
            && file.arch == record.arch
            && file.digest() == record.digest
        {
            return Ok(file);
        }
    }
    Err(Error::model(format!(
        "the model needs the weights of {} it was trained with ({}), and {} does not hold them",
        record.arch,
        record.source,
        folder.display()
    ))
    .help(format!(
        "name the file with --weights FILE, {}, or train with --with-backbone",
        ways_to_get(record.arch)
    )))
}

/// Files that may hold the weights of `arch`, the likeliest first.
fn candidates(arch: BackboneConfig, folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = resolve(arch, folder).into_iter().collect();
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut others: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "safetensors"))
        .filter(|path| !paths.contains(path))
        .collect();
    // Our own names begin with the architecture.
    let named = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        !name.starts_with(arch.name())
    };
    others.sort_by_key(|path| (named(path), path.clone()));
    paths.extend(others);
    paths
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn without_a_backbone_nothing_is_looked_for() {
        for random in [false, true] {
            let settings = BackboneSettings {
                name: Some(BackboneConfig::None),
                weights: None,
                random,
            };
            let weights = ChosenWeights::find(&settings, 3).unwrap();
            assert!(weights.arch().is_none());
            assert_eq!(weights.random_seed(), None);
            assert_eq!(weights.source(), "pixels alone");
            assert_eq!(
                weights.normalisation().mean,
                BackboneConfig::None.pixels().mean
            );
        }
    }

    #[test]
    fn weights_are_fetched_or_made() {
        let ways = |name: &str| ways_to_get(name.parse().unwrap());
        assert!(ways("resnet18").contains("`burn-ad weights fetch resnet18.tv_in1k`"));
        assert!(ways("igd-encoder-64").contains("burn-ad pretrain"));
    }
}
