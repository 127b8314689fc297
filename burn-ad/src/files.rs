//! Writing files so that a reader never sees half of one, and hashing them.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Writes a file under a temporary name beside `path`, syncs it, and renames it into place.
///
/// # Errors
/// When `write` fails or the file cannot be created; the destination is then untouched.
pub fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&File>) -> Result<()>,
) -> Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let at = |error: std::io::Error| Error::io(&error).path(path);
    std::fs::create_dir_all(parent).map_err(at)?;
    let temporary = tempfile::Builder::new()
        .prefix(".burn-ad-")
        .suffix(".tmp")
        .tempfile_in(parent)
        .map_err(at)?;
    {
        let mut writer = BufWriter::new(temporary.as_file());
        write(&mut writer).map_err(|error| error.path(path))?;
        writer.flush().map_err(at)?;
    }
    temporary.as_file().sync_all().map_err(at)?;
    make_readable(temporary.as_file()).map_err(at)?;
    temporary.persist(path).map_err(|error| at(error.error))?;
    Ok(())
}

/// Temporary files are private to their owner; results should get the usual mode.
#[cfg(unix)]
fn make_readable(file: &File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn make_readable(_file: &File) -> std::io::Result<()> {
    Ok(())
}

/// SHA-256 of a file's content, in lower-case hexadecimal.
///
/// # Errors
/// When the file cannot be read.
pub fn sha256_file(path: &Path) -> Result<String> {
    let at = |error: std::io::Error| Error::io(&error).path(path);
    let mut file = File::open(path).map_err(at)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0u8; 1 << 16];
    loop {
        let read = file.read(&mut buffer).map_err(at)?;
        if read == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&buffer[..read]);
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_litter() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("out.txt");
        write_atomically(&path, |w| Ok(w.write_all(b"old")?)).expect("first write");
        let failed = write_atomically(&path, |w| {
            w.write_all(b"new")?;
            Err(Error::data("stop"))
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read(&path).expect("still there"), b"old");
        assert_eq!(std::fs::read_dir(dir.path()).expect("listing").count(), 1);
    }

    #[test]
    fn sha256_matches_the_standard_vector() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("abc");
        std::fs::write(&path, b"abc").expect("write");
        assert_eq!(
            sha256_file(&path).expect("hash"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
