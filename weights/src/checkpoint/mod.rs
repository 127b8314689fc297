//! Checkpoint files: what tensors they hold, and their values on demand.
//!
//! Opening reads names, shapes and positions only. Everything a file claims is checked against the
//! file's real length before memory is reserved for it, and no file is trusted by its extension.

mod dtype;
mod entry;
mod pickle;
mod safetensors;
mod scope;
mod tar;
mod torch;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use burn_ad::error::{Error, Result};
use serde::Serialize;

pub use dtype::Dtype;
pub use entry::Entry;

use entry::gather;
use scope::Scope;

/// How a checkpoint is stored, recognised by its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Container {
    /// `torch.save` since PyTorch 1.6: a zip archive.
    TorchZip,
    /// `torch.save` of PyTorch 0.2 to 1.5: pickles followed by raw storages.
    TorchLegacy,
    /// `torch.save` before PyTorch 0.2: a tar archive.
    TorchTar,
    /// A safetensors file.
    Safetensors,
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TorchZip => "PyTorch (zip)",
            Self::TorchLegacy => "PyTorch (legacy pickle)",
            Self::TorchTar => "PyTorch (tar)",
            Self::Safetensors => "safetensors",
        })
    }
}

/// What a container's reader found, before wrappers' names are dropped.
struct Contents {
    container: Container,
    wrapper: Option<String>,
    entries: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
}

/// An open checkpoint file.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    file: Mutex<File>,
    container: Container,
    wrapper: Option<String>,
    prefix: String,
    entries: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
}

/// Wrappers that training code puts around a network; dropped where all keys have them.
const PREFIXES: [&str; 4] = ["module.", "backbone.", "model.", "encoder."];

impl Checkpoint {
    /// Opens a `.pth`, `.pt` or `.safetensors` file and reads the description of the tensors of its
    /// one state dict: the file's dict, or the dict in it under a usual name.
    ///
    /// # Errors
    /// When the file cannot be read, is none of the known formats, is truncated or damaged, or is a
    /// pickle that refers to anything but tensors.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_scope(path, Scope::StateDict)
    }

    /// Opens a file as [`Checkpoint::open`] does, with the tensors of all dicts and lists in it: the
    /// tensor `d["a"][0]["b.c"]` is called `a.0.b.c`.
    ///
    /// # Errors
    /// As [`Checkpoint::open`], and when dicts and lists are nested too deep, hold too much or give
    /// two tensors one name.
    pub fn open_nested(path: &Path) -> Result<Self> {
        Self::open_scope(path, Scope::Nested)
    }

    fn open_scope(path: &Path, scope: Scope) -> Result<Self> {
        let at = |error: std::io::Error| Error::io(&error).path(path);
        let mut file = File::open(path).map_err(at)?;
        let length = file.metadata().map_err(at)?.len();
        let contents = read_contents(&mut file, length, scope).map_err(|why| {
            Error::weights(why).path(path).help(
                "give a state dict as written by torch.save or safetensors; a download may be cut off",
            )
        })?;
        let (prefix, entries) = strip_prefixes(contents.entries);
        Ok(Self {
            path: path.to_path_buf(),
            file: Mutex::new(file),
            container: contents.container,
            wrapper: contents.wrapper,
            prefix,
            entries,
            metadata: contents.metadata,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How it is stored.
    pub fn container(&self) -> Container {
        self.container
    }

    /// Key of the dict around the state dict (`state_dict`, `model`), if there is one.
    pub fn wrapper(&self) -> Option<&str> {
        self.wrapper.as_deref()
    }

    /// What was dropped from the front of every key (`module.`), or nothing.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Text entries of a safetensors header (`format: pt`); empty for other containers.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// All tensors by name, wrappers and common prefixes dropped.
    pub fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.entries
    }

    /// Whether this is a weight file of ours, written by an import, and not a checkpoint.
    pub fn is_burn_ad(&self) -> bool {
        self.metadata.contains_key("burn-ad")
    }

    /// Reads one tensor, converted to `f32`, row-major whatever its strides in the file.
    ///
    /// # Errors
    /// When there is no such tensor, it is not a floating-point tensor, or the file cannot be read.
    pub fn read(&self, name: &str) -> Result<Vec<f32>> {
        let entry = self.entry(name)?;
        if !entry.dtype.is_float() {
            return Err(self.wrong_type(name, entry, "floating-point numbers"));
        }
        let stored = entry.dtype.to_f32(&self.bytes(entry)?);
        Ok(gather(stored, &entry.shape, &entry.strides))
    }

    /// Reads one tensor of 64-bit integers, PyTorch's type of indices, in row-major order.
    ///
    /// # Errors
    /// When there is no such tensor, it has another type, or the file cannot be read.
    pub fn read_indices(&self, name: &str) -> Result<Vec<i64>> {
        let entry = self.entry(name)?;
        if entry.dtype != Dtype::I64 {
            return Err(self.wrong_type(name, entry, "indices (i64)"));
        }
        let bytes = self.bytes(entry)?;
        let stored = bytes.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b));
        Ok(gather(stored.collect(), &entry.shape, &entry.strides))
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        self.entries
            .get(name)
            .ok_or_else(|| Error::weights(format!("there is no tensor {name}")).path(&self.path))
    }

    fn wrong_type(&self, name: &str, entry: &Entry, expected: &str) -> Error {
        let found = entry.dtype;
        Error::weights(format!("{name} holds {found}, expected {expected}")).path(&self.path)
    }

    /// The stored elements from the tensor's first to its last.
    fn bytes(&self, entry: &Entry) -> Result<Vec<u8>> {
        let mut bytes = vec![0; entry.span * entry.dtype.size()];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(entry.start))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|error| Error::io(&error).path(&self.path))?;
        Ok(bytes)
    }
}

fn read_contents(file: &mut File, length: u64, scope: Scope) -> Result<Contents, String> {
    let mut head = [0; 512];
    let mut filled = 0;
    while filled < head.len() {
        match file.read(&mut head[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) => return Err(error.to_string()),
        }
    }
    let head = &head[..filled];
    file.rewind().map_err(|error| error.to_string())?;
    if head.is_empty() {
        Err("the file is empty".into())
    } else if head.starts_with(b"PK\x03\x04") {
        torch::read_zip(file, length, scope)
    } else if head.get(257..262) == Some(b"ustar") {
        tar::read(file, length, scope)
    } else if head.starts_with(torch::LEGACY_MAGIC) {
        torch::read_legacy(file, length, scope)
    } else if safetensors::looks_like(head, length) {
        safetensors::read(file, length)
    } else if head.starts_with(b"<") {
        Err("this is a web page, not a checkpoint".into())
    } else {
        Err("neither a PyTorch nor a safetensors file".into())
    }
}

/// Drops the known prefixes that all keys share, outermost first.
fn strip_prefixes(mut entries: BTreeMap<String, Entry>) -> (String, BTreeMap<String, Entry>) {
    let mut dropped = String::new();
    while let Some(prefix) = PREFIXES
        .iter()
        .find(|&prefix| !entries.is_empty() && entries.keys().all(|key| key.starts_with(prefix)))
    {
        dropped.push_str(prefix);
        entries = entries
            .into_iter()
            .map(|(key, entry)| (key[prefix.len()..].to_owned(), entry))
            .collect();
    }
    (dropped, entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_go_only_when_all_keys_share_them() {
        let entry = Entry::new(vec![], vec![], Dtype::F32, 0, 4).expect("a scalar");
        let map = |keys: &[&str]| {
            keys.iter()
                .map(|&key| (key.to_owned(), entry.clone()))
                .collect::<BTreeMap<_, _>>()
        };
        let (prefix, entries) = strip_prefixes(map(&["module.model.a", "module.model.b"]));
        assert_eq!((prefix.as_str(), entries.len()), ("module.model.", 2));
        assert!(entries.contains_key("a"));
        let (prefix, _) = strip_prefixes(map(&["module.a", "b"]));
        assert_eq!(prefix, "");
    }
}
