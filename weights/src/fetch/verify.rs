//! Hash first, final name second.

use std::path::Path;

use burn_ad::error::{Error, Result};
use burn_ad::files::sha256_file;

/// Whether a file is there and its SHA-256 begins with `sha256`.
pub(super) fn is_intact(path: &Path, sha256: &str) -> Result<bool> {
    Ok(path.is_file() && sha256_file(path)?.starts_with(sha256))
}

/// The error for a complete file with the wrong hash; the file is deleted.
pub(super) fn reject(part: &Path, sha256: &str, source: &str) -> Result<Error> {
    let found = sha256_file(part)?;
    std::fs::remove_file(part).map_err(|error| Error::io(&error).path(part))?;
    let found = found.get(..sha256.len()).unwrap_or(&found);
    Ok(Error::weights(format!(
        "{source} has the wrong SHA-256: {found} instead of {sha256}; it was deleted"
    ))
    .help("try again; if it stays so, a proxy or the server changes the file"))
}

/// Gives a checked file its final name, on disk before the name.
pub(super) fn publish(part: &Path, path: &Path) -> Result<()> {
    let at = |error: std::io::Error| Error::io(&error).path(path);
    let file = std::fs::OpenOptions::new()
        .append(true)
        .open(part)
        .map_err(at)?;
    file.sync_all().map_err(at)?;
    drop(file);
    std::fs::rename(part, path).map_err(at)
}
