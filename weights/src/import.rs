//! From a checkpoint to the folded units of a frozen backbone.

use std::path::Path;

use burn_ad::backbone::{BackboneConfig, Pixels, Unit, UnitSpec, WeightsFile};
use burn_ad::error::{Error, Result};
use burn_ad::files::sha256_file;

use crate::catalogue;
use crate::checkpoint::Checkpoint;
use crate::detect::{Comparison, detect_arch};
use crate::keys::{Expected, KeyStyle, UnitKeys};

/// An error lists this many tensors with bad values.
const LISTED: usize = 10;

/// Imports a checkpoint as the weights of `arch`, or of the architecture that it fits.
///
/// Strict: every tensor of the architecture must be in the file, with its shape and finite values,
/// and every tensor of the file must be used or be one of
/// [`KeyStyle::ignored_modules`](crate::KeyStyle::ignored_modules) or a BatchNorm's step counter.
/// Each BatchNorm is folded into its convolution in `f64`.
///
/// Mean, standard deviation and interpolation come from the catalogue when the file's SHA-256 is
/// known there, else they are [`BackboneConfig::pixels`], the usual ones for the architecture.
///
/// # Errors
/// When the file cannot be read (see [`Checkpoint::open`]) or does not fit; the error then lists
/// the keys, and names the architecture that would fit.
pub fn import(path: &Path, arch: Option<BackboneConfig>) -> Result<WeightsFile> {
    let sha256 = sha256_file(path)?;
    let known = catalogue::by_digest(&sha256);
    let name = path.file_name().unwrap_or(path.as_os_str());
    import_as(
        path,
        arch,
        known.map(|entry| entry.pixels),
        known.map_or_else(
            || name.to_string_lossy().into_owned(),
            |entry| entry.source.to_string(),
        ),
        sha256,
    )
}

/// [`import`] of a file whose pixels, source and SHA-256 are known.
pub(crate) fn import_as(
    path: &Path,
    arch: Option<BackboneConfig>,
    pixels: Option<Pixels>,
    source: String,
    source_sha256: String,
) -> Result<WeightsFile> {
    let checkpoint = Checkpoint::open(path)?;
    let comparison = matching(&checkpoint, arch).map_err(|error| error.path(path))?;
    let arch = comparison.arch;
    let specs = arch.units();
    let expected = Expected::new(comparison.style, &specs);
    let mut faults = Vec::new();
    let mut units = Vec::with_capacity(specs.len());
    for (spec, keys) in specs.iter().zip(&expected.units) {
        units.push(read_unit(&checkpoint, spec, keys, &mut faults)?);
    }
    if !faults.is_empty() {
        let more = match faults.len().saturating_sub(LISTED) {
            0 => String::new(),
            more => format!("\n    and {more} more"),
        };
        faults.truncate(LISTED);
        return Err(Error::weights(format!(
            "the checkpoint has values that no trained network has:\n    {}{more}",
            faults.join("\n    ")
        ))
        .path(path)
        .help("the file is damaged or its training failed; get it again"));
    }
    Ok(WeightsFile {
        arch,
        pixels: pixels.unwrap_or_else(|| arch.pixels()),
        source,
        source_sha256,
        recipe: None,
        units,
    })
}

/// The exact match with `arch`, or with the one architecture that fits.
fn matching(checkpoint: &Checkpoint, arch: Option<BackboneConfig>) -> Result<Comparison> {
    if checkpoint.is_burn_ad() {
        return Err(Error::weights(
            "this file was imported before: it holds folded weights of burn-ad",
        )
        .help("use it as it is"));
    }
    if let Some(arch) = arch {
        if KeyStyle::of(arch).is_empty() {
            return Err(Error::weights(format!(
                "this is a checkpoint of others, and weights of {arch} are our own"
            ))
            .help("`burn-ad pretrain` makes them, as a file that is used as it is"));
        }
        let comparison = Comparison::best(checkpoint, arch);
        if comparison.is_exact() {
            return Ok(comparison);
        }
        let nearest = Comparison::nearest(checkpoint);
        let error = Error::weights(comparison.report());
        return Err(if nearest.arch != arch && nearest.is_likely() {
            error.help(format!("this looks like {0}: try --arch {0}", nearest.arch))
        } else {
            error.help("see what the file holds with `burn-ad weights info FILE`")
        });
    }
    match detect_arch(checkpoint).as_slice() {
        &[(arch, style)] => Ok(Comparison::new(checkpoint, arch, style)),
        [] => Err(
            Error::weights(Comparison::nearest(checkpoint).report()).help(
                "no known architecture fits; the nearest is shown. Name the right one with --arch",
            ),
        ),
        several => {
            let names: Vec<_> = several.iter().map(|(arch, _)| arch.name()).collect();
            Err(
                Error::weights(format!("the checkpoint fits {}", names.join(" and ")))
                    .help("name the right one with --arch"),
            )
        }
    }
}

/// Reads a unit and folds its BatchNorm: w' = w g / sqrt(v + e), b' = beta + (b - m) g / sqrt(v + e).
fn read_unit(
    checkpoint: &Checkpoint,
    spec: &UnitSpec,
    keys: &UnitKeys,
    faults: &mut Vec<String>,
) -> Result<Unit> {
    let mut read = |key: &str| -> Result<Vec<f32>> {
        let values = checkpoint.read(key)?;
        let bad = values.iter().filter(|value| !value.is_finite()).count();
        if bad > 0 {
            faults.push(format!("{key}: {bad} values are not finite"));
        }
        Ok(values)
    };
    let mut weight = read(&keys.weight)?;
    let channels = spec.shape[0];
    let mut bias = match &keys.bias {
        Some(key) => read(key)?,
        None => vec![0.0; channels],
    };
    let (Some(norm), Some(keys)) = (&spec.norm, &keys.norm) else {
        return Ok(Unit { weight, bias });
    };
    let (gamma, beta) = (read(&keys.gamma)?, read(&keys.beta)?);
    let (mean, variance) = (read(&keys.mean)?, read(&keys.variance)?);
    let negative = variance.iter().filter(|&&value| value < 0.0).count();
    if negative > 0 {
        faults.push(format!(
            "{}: {negative} variances are negative",
            keys.variance
        ));
        return Ok(Unit { weight, bias });
    }
    let fan_in = weight.len() / channels;
    for (channel, filter) in weight.chunks_mut(fan_in).enumerate() {
        let scale =
            f64::from(gamma[channel]) / (f64::from(variance[channel]) + norm.epsilon).sqrt();
        for value in filter {
            *value = (f64::from(*value) * scale) as f32;
        }
        let shift = f64::from(bias[channel]) - f64::from(mean[channel]);
        bias[channel] = (f64::from(beta[channel]) + shift * scale) as f32;
    }
    if !weight.iter().chain(&bias).all(|value| value.is_finite()) {
        faults.push(format!(
            "{}: not finite after folding its BatchNorm",
            spec.name
        ));
    }
    Ok(Unit { weight, bias })
}
