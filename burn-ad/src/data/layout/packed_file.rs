//! Reading files of packed images, plain or as gzip, up to the size that their headers announce.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

use flate2::read::GzDecoder;

use crate::data::packed::PackedImages;
use crate::error::{Error, Result};

/// Most that one file may hold, in bytes.
const MAX_BYTES: u64 = 1 << 30;

/// The file `name` in `root`, or `name.gz`.
pub(super) fn find(root: &Path, name: &str) -> Option<PathBuf> {
    [name.to_owned(), format!("{name}.gz")]
        .map(|name| root.join(name))
        .into_iter()
        .find(|path| path.is_file())
}

/// The error for a file that is not there.
pub(super) fn missing(root: &Path, name: &str) -> Error {
    Error::data(format!("there is no {name} beside the other files"))
        .path(root)
        .help("copy it there, with all files of the dataset")
}

/// A file that is read from its beginning to its end.
pub(super) struct PackedFile {
    path: PathBuf,
    reader: Box<dyn Read>,
    read: u64,
}

impl PackedFile {
    /// Unpacks what ends in `.gz`.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::io(&error).path(path))?;
        let file = BufReader::with_capacity(1 << 16, file);
        let packed = path
            .extension()
            .is_some_and(|ending| ending.eq_ignore_ascii_case("gz"));
        Ok(Self {
            path: path.to_owned(),
            reader: if packed {
                Box::new(GzDecoder::new(file))
            } else {
                Box::new(file)
            },
            read: 0,
        })
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// When the file ends before, is damaged, or `count` is too large. Memory grows with what is there, not with what
    /// a header announces.
    pub(super) fn bytes(&mut self, count: u64) -> Result<Vec<u8>> {
        if count > MAX_BYTES {
            return Err(self.error(format!(
                "it announces {count} bytes, more than the {} MiB that are read",
                MAX_BYTES >> 20
            )));
        }
        let mut bytes = Vec::new();
        let outcome = self.reader.by_ref().take(count).read_to_end(&mut bytes);
        outcome.map_err(|error| self.reading(&error))?;
        self.read += bytes.len() as u64;
        if (bytes.len() as u64) < count {
            return Err(self.error(format!(
                "the file ends after {} bytes, {} before its end",
                self.read,
                count - bytes.len() as u64
            )));
        }
        Ok(bytes)
    }

    /// A big-endian number.
    pub(super) fn number(&mut self) -> Result<u32> {
        let bytes = self.bytes(4)?;
        let number = bytes.try_into().ok().map(u32::from_be_bytes);
        number.ok_or_else(|| self.error("the file ends too early"))
    }

    /// # Errors
    /// When there is more to read.
    pub(super) fn end(mut self) -> Result<()> {
        let mut more = [0];
        match self.reader.read(&mut more) {
            Ok(0) => Ok(()),
            Ok(_) => Err(self.error("there are bytes behind what the file announces")),
            Err(error) => Err(self.reading(&error)),
        }
    }

    /// What is wrong with the file, and what to do.
    pub(super) fn error(&self, message: impl Into<String>) -> Error {
        Error::data(message)
            .path(&self.path)
            .help("get the file again; one that is packed ends in .gz")
    }

    fn reading(&self, error: &std::io::Error) -> Error {
        match error.kind() {
            ErrorKind::InvalidInput | ErrorKind::InvalidData | ErrorKind::UnexpectedEof => {
                self.error(format!("the file is damaged: {error}"))
            }
            _ => Error::io(error).path(&self.path),
        }
    }
}

/// A file as it was when it was read.
type Stamp = (PathBuf, u64, Option<SystemTime>);

/// What was read and is still in use: an experiment indexes the same files for every run.
static IN_USE: Mutex<Vec<(Vec<Stamp>, Weak<PackedImages>)>> = Mutex::new(Vec::new());

/// The images of `files`, read again only where they have changed or nobody uses them any more.
pub(super) fn shared(
    files: &[PathBuf],
    read: impl FnOnce() -> Result<PackedImages>,
) -> Result<Arc<PackedImages>> {
    let stamp = |path: &PathBuf| {
        let data = std::fs::metadata(path).map_err(|error| Error::io(&error).path(path))?;
        Ok((path.clone(), data.len(), data.modified().ok()))
    };
    let stamps: Vec<Stamp> = files.iter().map(stamp).collect::<Result<_>>()?;
    let in_use = || IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
    let found = in_use()
        .iter()
        .find(|(known, _)| *known == stamps)
        .and_then(|(_, images)| images.upgrade());
    if let Some(images) = found {
        return Ok(images);
    }
    let images = Arc::new(read()?);
    let mut in_use = in_use();
    in_use.retain(|(known, images)| *known != stamps && images.strong_count() > 0);
    in_use.push((stamps, Arc::downgrade(&images)));
    Ok(images)
}
