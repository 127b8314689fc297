//! Checkpoint files: what tensors they hold, and their values on demand.
//!
//! Opening reads names, shapes and positions only. Everything a file claims is checked against the
//! file's real length before memory is reserved for it, and no file is trusted by its extension.

mod dtype;
mod pickle;
mod safetensors;
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

/// One tensor of a checkpoint: its description and its place in the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Sizes of the dimensions; empty for a scalar.
    pub shape: Vec<usize>,
    /// Type of the stored elements.
    pub dtype: Dtype,
    /// Elements between neighbours along each dimension.
    strides: Vec<usize>,
    /// Byte position of the first element in the file.
    start: u64,
    /// Stored elements from the first to the last one used.
    span: usize,
}

/// A tensor may have more elements than are stored (stride 0, overlaps), but not so many that a
/// tiny file reserves all memory. The supported backbones' largest tensor has 9 million.
const MAX_EXPANDED: usize = 1 << 25;

impl Entry {
    /// Checks that the tensor lies within `available` bytes of the file that begin at `start`.
    fn new(
        shape: Vec<usize>,
        strides: Vec<usize>,
        dtype: Dtype,
        start: u64,
        available: u64,
    ) -> Option<Self> {
        let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        let span = if elements == 0 {
            0
        } else {
            let last = shape
                .iter()
                .zip(&strides)
                .try_fold(0usize, |last, (&size, &stride)| {
                    last.checked_add((size - 1).checked_mul(stride)?)
                })?;
            last.checked_add(1)?
        };
        if elements > span && elements > MAX_EXPANDED {
            return None;
        }
        let bytes = u64::try_from(span.checked_mul(dtype.size())?).ok()?;
        (bytes <= available).then_some(Self {
            shape,
            dtype,
            strides,
            start,
            span,
        })
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
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
    /// Opens a `.pth`, `.pt` or `.safetensors` file and reads the description of its tensors.
    ///
    /// # Errors
    /// When the file cannot be read, is none of the known formats, is truncated or damaged, or is a
    /// pickle that refers to anything but tensors.
    pub fn open(path: &Path) -> Result<Self> {
        let at = |error: std::io::Error| Error::io(&error).path(path);
        let mut file = File::open(path).map_err(at)?;
        let length = file.metadata().map_err(at)?.len();
        let contents = read_contents(&mut file, length).map_err(|why| {
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
        let fail = |why: String| Error::weights(why).path(&self.path);
        let entry = self
            .entries
            .get(name)
            .ok_or_else(|| fail(format!("there is no tensor {name}")))?;
        if !entry.dtype.is_float() {
            return Err(fail(format!(
                "{name} holds {}, expected floating-point numbers",
                entry.dtype
            )));
        }
        let mut bytes = vec![0; entry.span * entry.dtype.size()];
        {
            let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            file.seek(SeekFrom::Start(entry.start))
                .and_then(|_| file.read_exact(&mut bytes))
                .map_err(|error| Error::io(&error).path(&self.path))?;
        }
        let stored = entry.dtype.to_f32(&bytes);
        Ok(gather(stored, &entry.shape, &entry.strides))
    }
}

fn read_contents(file: &mut File, length: u64) -> Result<Contents, String> {
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
        torch::read_zip(file, length)
    } else if head.get(257..262) == Some(b"ustar") {
        tar::read(file, length)
    } else if head.starts_with(torch::LEGACY_MAGIC) {
        torch::read_legacy(file, length)
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

/// Row-major values of a strided tensor.
fn gather(stored: Vec<f32>, shape: &[usize], strides: &[usize]) -> Vec<f32> {
    let elements: usize = shape.iter().product();
    let mut expected = 1;
    let contiguous = shape.iter().zip(strides).rev().all(|(&size, &stride)| {
        let fits = size <= 1 || stride == expected;
        expected *= size;
        fits
    });
    if contiguous {
        return stored;
    }
    let mut values = Vec::with_capacity(elements);
    let mut index = vec![0; shape.len()];
    let mut position = 0;
    for _ in 0..elements {
        values.push(stored[position]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            position += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            position -= strides[axis] * shape[axis];
            index[axis] = 0;
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transposed_tensor_reads_row_major() {
        let stored = vec![0., 3., 1., 4., 2., 5.];
        assert_eq!(gather(stored, &[2, 3], &[1, 2]), [0., 1., 2., 3., 4., 5.]);
        assert_eq!(gather(vec![7.], &[2, 2], &[0, 0]), [7.; 4]);
    }

    #[test]
    fn an_entry_must_lie_within_its_data() {
        let entry = |shape: &[usize], strides: &[usize], bytes| {
            Entry::new(shape.to_vec(), strides.to_vec(), Dtype::F32, 0, bytes)
        };
        assert!(entry(&[2, 3], &[3, 1], 24).is_some());
        assert!(entry(&[2, 3], &[3, 1], 23).is_none());
        assert!(entry(&[usize::MAX, 2], &[1, 1], u64::MAX).is_none());
        assert!(entry(&[2, 2], &[usize::MAX, 1], u64::MAX).is_none());
        assert!(
            entry(&[1 << 40], &[0], 4).is_none(),
            "stride 0 must not reserve terabytes"
        );
    }

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
