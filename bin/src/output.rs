//! Standard output, and folders of results.

use std::collections::HashSet;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use burn_ad::files::write_atomically;
use burn_ad::{Error, Result};
use serde_json::json;

/// Prints a text that ends with its own line break.
///
/// A reader that has gone (`burn-ad ... | head`) is no error: the files are what counts.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Error::io(&error).context("writing to standard output"))
        }
        _ => Ok(()),
    }
}

/// Prints a line to standard error. Nobody can be told that it does not work, and no run should end for it.
pub(crate) fn tell(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Says at the top of a folder which command wrote it, so that it may be written again.
const MARKER: &str = "burn-ad-run.json";

/// A folder that a command fills with results.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutputFolder<'a> {
    /// Name of the command.
    pub(crate) command: &'a str,
    /// What it writes: removed when the same command writes into the folder again, so that results of two
    /// runs never mix.
    pub(crate) contents: &'a [&'a str],
}

impl OutputFolder<'_> {
    /// Makes `dir` ready: new, empty, or cleared of an earlier run of the same command.
    ///
    /// With `overwrite` the results go beside whatever else is there; only files of the same name are replaced.
    pub(crate) fn prepare(&self, dir: &Path, overwrite: bool) -> Result<()> {
        let at = |error: std::io::Error| Error::io(&error).path(dir);
        if dir.exists() && !dir.is_dir() {
            return Err(Error::usage("a file of this name exists")
                .path(dir)
                .help("choose another folder for the results"));
        }
        std::fs::create_dir_all(dir).map_err(at)?;
        let empty = std::fs::read_dir(dir).map_err(at)?.next().is_none();
        if self.is_ours(dir) {
            for name in self.contents {
                let path = dir.join(name);
                let removed = if path.is_dir() {
                    std::fs::remove_dir_all(&path)
                } else if path.exists() {
                    std::fs::remove_file(&path)
                } else {
                    Ok(())
                };
                removed.map_err(|error| Error::io(&error).path(&path))?;
            }
        } else if !empty && !overwrite {
            return Err(Error::usage(format!(
                "the folder holds something that `burn-ad {}` did not write",
                self.command
            ))
            .path(dir)
            .help("choose another folder, or add --overwrite to write into this one"));
        }
        write_json(
            &dir.join(MARKER),
            &json!({ "command": self.command, "burn_ad_version": env!("CARGO_PKG_VERSION") }),
        )
    }

    fn is_ours(&self, dir: &Path) -> bool {
        let marker = std::fs::read(dir.join(MARKER)).ok();
        marker
            .and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok())
            .is_some_and(|marker| marker["command"] == self.command)
    }
}

/// Writes indented JSON, under a temporary name first.
pub(crate) fn write_json(path: &Path, value: &serde_json::Value) -> Result<()> {
    write_atomically(path, |file| Ok(writeln!(file, "{value:#}")?))
}

/// Hands out file names that are not yet taken, also on file systems that ignore case.
#[derive(Debug, Default)]
pub(crate) struct Names {
    taken: HashSet<String>,
}

impl Names {
    /// `<path without extension>.<extension>`, or the first free one of `<path>-2.<extension>`, ...
    pub(crate) fn unique(&mut self, path: &Path, extension: &str) -> PathBuf {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        (1..)
            .map(|number| match number {
                1 => format!("{stem}.{extension}"),
                _ => format!("{stem}-{number}.{extension}"),
            })
            .map(|name| path.with_file_name(name))
            .find(|candidate| {
                self.taken
                    .insert(candidate.to_string_lossy().to_lowercase())
            })
            .expect("there is always a further number")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const FOLDER: OutputFolder<'static> = OutputFolder {
        command: "eval",
        contents: &["metrics.json", "heatmaps"],
    };

    #[test]
    fn a_second_run_clears_its_own_results_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        FOLDER.prepare(&out, false).unwrap();
        std::fs::create_dir(out.join("heatmaps")).unwrap();
        std::fs::write(out.join("heatmaps/old.png"), "x").unwrap();
        std::fs::write(out.join("notes.txt"), "mine").unwrap();
        FOLDER.prepare(&out, false).unwrap();
        assert!(!out.join("heatmaps").exists());
        assert!(out.join("notes.txt").exists());
    }

    #[test]
    fn a_foreign_folder_is_refused_unless_told_otherwise() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("metrics.json"), "mine").unwrap();
        assert!(FOLDER.prepare(dir.path(), false).unwrap_err().is_usage());
        FOLDER.prepare(dir.path(), true).unwrap();
        assert!(dir.path().join("metrics.json").exists());
        let other = OutputFolder {
            command: "predict",
            ..FOLDER
        };
        assert!(other.prepare(dir.path(), false).is_err());
    }

    #[test]
    fn names_stay_apart_whatever_case_and_extension() {
        let mut names = Names::default();
        let mut unique = |path: &str| {
            let name = names.unique(Path::new(path), "png");
            name.to_string_lossy().into_owned()
        };
        assert_eq!(unique("a/x.png"), "a/x.png");
        assert_eq!(unique("a/X.jpg"), "a/X-2.png");
        assert_eq!(unique("b/x.png"), "b/x.png");
        assert_eq!(unique("a/x.tif"), "a/x-3.png");
    }
}
