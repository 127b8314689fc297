//! Our own weight files: folded units in safetensors, with everything needed to use them.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::path::Path;

use burn::prelude::*;
use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, View, serialize};
use serde::{Deserialize, Serialize};

use super::Backbone;
use super::config::BackboneConfig;
use super::digest::{digest, little_endian};
use super::spec::{Pixels, Unit, UnitSpec};
use crate::error::{Error, Result};
use crate::files::write_atomically;

/// The format this version writes; it reads this one and none newer.
const FORMAT_VERSION: u64 = 1;
/// The one metadata key. One key, so that a file's bytes do not depend on a map's order.
const METADATA: &str = "burn-ad";
/// What the file holds, beside other kinds of files under the same key.
const KIND: &str = "backbone weights";
/// An error lists this many faults and counts the rest.
const LISTED: usize = 20;

/// The weights of a backbone and where they come from.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightsFile {
    /// Which network.
    pub arch: BackboneConfig,
    /// The pixels the weights were trained on.
    pub pixels: Pixels,
    /// Where the weights come from: a file name, an address, a package.
    pub source: String,
    /// SHA-256 of the checkpoint they were imported from, in hexadecimal; empty when there is none.
    pub source_sha256: String,
    /// How they were made, where burn-ad made them itself: settings of the pre-training, its teacher.
    pub recipe: Option<serde_json::Value>,
    /// The folded values in the order of [`BackboneConfig::units`].
    pub units: Vec<Unit>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    kind: String,
    format_version: u64,
    arch: String,
    pixels: Pixels,
    source: String,
    source_sha256: String,
    digest: String,
    /// Older versions pass it over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recipe: Option<serde_json::Value>,
}

/// The part of the header that every version has.
#[derive(Deserialize)]
struct Envelope {
    kind: String,
    format_version: u64,
}

impl WeightsFile {
    /// [`digest`] of the units: the identity of the weights, whatever file they are in.
    pub fn digest(&self) -> String {
        digest(self.arch.units().iter().zip(&self.units))
    }

    /// The network with these weights.
    ///
    /// # Errors
    /// When the units do not fill the network.
    pub fn backbone<B: Backend>(&self, device: &B::Device) -> Result<Backbone<B>> {
        let mut units = self.units.iter();
        self.arch.build(device, &mut |spec| {
            let unit = units.next().cloned();
            unit.ok_or_else(|| Error::weights(format!("there is no unit for {}", spec.name)))
        })
    }

    /// Writes the file under a temporary name and renames it; the same weights give the same bytes.
    ///
    /// # Errors
    /// When the units do not fill the network, hold a value that is not finite, or the file cannot
    /// be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let specs = self.arch.units();
        let mut faults = Vec::new();
        if specs.len() != self.units.len() {
            let (given, needed) = (self.units.len(), specs.len());
            faults.push(format!("{given} units where the network has {needed}"));
        }
        for (spec, unit) in specs.iter().zip(&self.units) {
            faults.extend(spec.check(unit).err().map(|error| error.to_string()));
            let parts = [("weight", &unit.weight), ("bias", &unit.bias)];
            faults.extend(
                parts.iter().filter_map(|(part, values)| {
                    not_finite(&format!("{}.{part}", spec.name), values)
                }),
            );
        }
        report(&faults, self.arch).map_err(|error| error.path(path))?;
        let header = Header {
            kind: KIND.to_owned(),
            format_version: FORMAT_VERSION,
            arch: self.arch.to_string(),
            pixels: self.pixels,
            source: self.source.clone(),
            source_sha256: self.source_sha256.clone(),
            digest: self.digest(),
            recipe: self.recipe.clone(),
        };
        let header = serde_json::to_string(&header)
            .map_err(|error| Error::weights(error.to_string()).path(path))?;
        let tensors = specs.iter().zip(&self.units).flat_map(|(spec, unit)| {
            let weight = (format!("{}.weight", spec.name), spec.shape.to_vec());
            let bias = (format!("{}.bias", spec.name), vec![spec.shape[0]]);
            [(weight, &unit.weight), (bias, &unit.bias)]
                .map(|((name, shape), values)| (name, Values { shape, values }))
        });
        let metadata = HashMap::from([(METADATA.to_owned(), header)]);
        let bytes = serialize(tensors, Some(metadata))
            .map_err(|error| Error::weights(error.to_string()).path(path))?;
        write_atomically(path, |writer| {
            use std::io::Write;
            Ok(writer.write_all(&bytes)?)
        })
    }

    /// Reads and checks a file: every unit present with its shape, type and finite values, nothing
    /// else in it, and the digest as written.
    ///
    /// # Errors
    /// When the file cannot be read, is not a weight file of ours, is cut off or damaged, was
    /// written by a newer version, or does not hold exactly the units of its network; then all
    /// faults are listed.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|error| Error::io(&error).path(path))?;
        Self::parse(&bytes).map_err(|error| error.path(path))
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| damaged(&error))?;
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| damaged(&error))?;
        let header = metadata.metadata().as_ref();
        let header = header
            .and_then(|map| map.get(METADATA))
            .ok_or_else(|| foreign("it has no burn-ad header"))?;
        let envelope: Envelope =
            serde_json::from_str(header).map_err(|error| foreign(&error.to_string()))?;
        if envelope.kind != KIND {
            return Err(foreign(&format!("it holds {}", envelope.kind)));
        }
        if envelope.format_version > FORMAT_VERSION {
            return Err(Error::weights(format!(
                "weight format {} is newer than {FORMAT_VERSION}, the newest this version reads",
                envelope.format_version
            ))
            .help("update burn-ad, or import the checkpoint again"));
        }
        let header: Header =
            serde_json::from_str(header).map_err(|error| foreign(&error.to_string()))?;
        let arch: BackboneConfig = header.arch.parse()?;
        let file = Self {
            arch,
            pixels: header.pixels,
            source: header.source,
            source_sha256: header.source_sha256,
            recipe: header.recipe,
            units: take_units(arch, &tensors)?,
        };
        if file.digest() != header.digest {
            return Err(
                Error::weights("the values do not match the digest in the header")
                    .help("the file was damaged or edited: import the checkpoint again"),
            );
        }
        Ok(file)
    }
}

/// Every unit of `arch` out of `tensors`, or a list of all that is wrong.
fn take_units(arch: BackboneConfig, tensors: &SafeTensors<'_>) -> Result<Vec<Unit>> {
    let mut faults = Vec::new();
    let mut known = HashSet::new();
    let mut take = |name: String, shape: &[usize]| {
        let values = take_values(&name, shape, tensors, &mut faults);
        known.insert(name);
        values
    };
    let unit = |spec: &UnitSpec| Unit {
        weight: take(format!("{}.weight", spec.name), &spec.shape),
        bias: take(format!("{}.bias", spec.name), &spec.shape[..1]),
    };
    let units = arch.units().iter().map(unit).collect();
    let mut extra: Vec<_> = tensors
        .names()
        .into_iter()
        .filter(|name| !known.contains(*name))
        .collect();
    extra.sort_unstable();
    faults.extend(
        extra
            .iter()
            .map(|name| format!("{name} is not part of the network")),
    );
    report(&faults, arch).map(|()| units)
}

/// The values of one tensor; what is wrong with them goes to `faults`.
fn take_values(
    name: &str,
    shape: &[usize],
    tensors: &SafeTensors<'_>,
    faults: &mut Vec<String>,
) -> Vec<f32> {
    let Ok(tensor) = tensors.tensor(name) else {
        faults.push(format!("{name} is missing"));
        return Vec::new();
    };
    if tensor.shape() != shape {
        let found = tensor.shape();
        faults.push(format!("{name} has shape {found:?} instead of {shape:?}"));
        return Vec::new();
    }
    if tensor.dtype() != Dtype::F32 {
        faults.push(format!("{name} has type {} instead of F32", tensor.dtype()));
        return Vec::new();
    }
    let (words, _) = tensor.data().as_chunks::<4>();
    let values: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
    faults.extend(not_finite(name, &values));
    values
}

fn not_finite(name: &str, values: &[f32]) -> Option<String> {
    let count = values.iter().filter(|value| !value.is_finite()).count();
    (count > 0).then(|| format!("{name} has {count} values that are not finite"))
}

/// One error that lists the faults, if there are any.
fn report(faults: &[String], arch: BackboneConfig) -> Result<()> {
    if faults.is_empty() {
        return Ok(());
    }
    let mut text = format!("the weights do not fit {arch}:");
    for fault in faults.iter().take(LISTED) {
        text.push_str("\n  - ");
        text.push_str(fault);
    }
    if faults.len() > LISTED {
        text.push_str(&format!("\n  - and {} more", faults.len() - LISTED));
    }
    Err(Error::weights(text))
}

fn damaged(error: &SafeTensorError) -> Error {
    Error::weights(format!("not a complete safetensors file ({error})"))
        .help("it may be cut off or of another format: import the checkpoint again")
}

fn foreign(reason: &(impl Display + ?Sized)) -> Error {
    Error::weights(format!("not a weight file of burn-ad: {reason}"))
        .help("import a checkpoint with `burn-ad weights import FILE --arch NAME -o OUT`")
}

/// Values on their way into a file.
struct Values<'a> {
    shape: Vec<usize>,
    values: &'a [f32],
}

impl View for Values<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(little_endian(self.values))
    }

    fn data_len(&self) -> usize {
        size_of_val(self.values)
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
