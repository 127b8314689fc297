//! What the user wants predictions for: files, folders and patterns become one list of images.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use burn_ad::data::image::is_image_path;
use burn_ad::{Error, Result};

/// An image to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Input {
    /// As the user named it, or found below a folder the user named.
    pub(crate) path: PathBuf,
    /// Below the folder that holds all inputs: where its results go, so that files of the same name stay apart.
    pub(crate) relative: PathBuf,
}

/// Folders nested deeper than this are a loop of links.
const MAX_DEPTH: usize = 64;

/// Every image that `arguments` name: files in the order given, folders with all images below them in the order
/// of their paths, patterns (`*`, `?`, `[..]`, `**`) likewise. An image named twice counts once.
///
/// What lies in `results`, the folders that are going to be written, is left out: an earlier run put it there.
///
/// # Errors
/// When a path does not exist, a pattern matches nothing, a folder has no image or cannot be read.
pub(crate) fn find(arguments: &[PathBuf], results: &[PathBuf]) -> Result<Vec<Input>> {
    let mut search = Search {
        results: results
            .iter()
            .filter_map(|folder| std::fs::canonicalize(folder).ok())
            .collect(),
        paths: Vec::new(),
    };
    for argument in arguments {
        search.add(argument)?;
    }
    let mut paths = search.paths;
    let mut seen = HashSet::new();
    let mut full = Vec::new();
    paths.retain(|path| {
        // A file that cannot be resolved is kept: reading it will say why.
        let resolved = std::fs::canonicalize(path)
            .or_else(|_| std::path::absolute(path))
            .unwrap_or_else(|_| path.clone());
        let new = seen.insert(resolved.clone());
        if new {
            full.push(resolved);
        }
        new
    });
    let common = common_folder(&full);
    let relative = |full: &PathBuf| full.strip_prefix(&common).unwrap_or(full).to_path_buf();
    Ok(paths
        .into_iter()
        .zip(&full)
        .map(|(path, full)| Input {
            path,
            relative: relative(full),
        })
        .collect())
}

struct Search {
    /// Resolved.
    results: Vec<PathBuf>,
    paths: Vec<PathBuf>,
}

impl Search {
    fn add(&mut self, argument: &Path) -> Result<()> {
        if argument.is_dir() {
            return self.add_folder(argument);
        }
        // A file may be called `part[1].png`: what exists is no pattern.
        if argument.exists() {
            self.paths.push(argument.to_path_buf());
            return Ok(());
        }
        let text = argument.to_string_lossy();
        if !text.contains(['*', '?', '[']) {
            return Err(Error::usage("there is no such file or folder").path(argument));
        }
        let pattern = |error: glob::PatternError| {
            Error::usage(format!("not a pattern of file names: {error}")).path(argument)
        };
        let before = self.paths.len();
        for found in glob::glob(&text).map_err(pattern)? {
            let found = found.map_err(|error| Error::io(error.error()).path(error.path()))?;
            if found.is_dir() {
                self.add_images(&found, MAX_DEPTH)?;
            } else if is_image_path(&found) && !self.is_result(&found) {
                self.paths.push(found);
            }
        }
        if self.paths.len() == before {
            return Err(Error::usage("the pattern matches no image").path(argument));
        }
        Ok(())
    }

    fn add_folder(&mut self, folder: &Path) -> Result<()> {
        let before = self.paths.len();
        self.add_images(folder, MAX_DEPTH)?;
        if self.paths.len() > before {
            return Ok(());
        }
        Err(Error::data("there is no image in this folder or below it")
            .path(folder)
            .help("images end in .bmp, .jpg, .jpeg, .png, .tif, .tiff or .webp"))
    }

    /// Hidden files and folders are left out.
    fn add_images(&mut self, folder: &Path, depth: usize) -> Result<()> {
        let at = |error: std::io::Error| Error::io(&error).path(folder);
        if depth == 0 {
            return Err(Error::data("folders are nested too deeply")
                .path(folder)
                .help("look for a link that leads back to a folder above it"));
        }
        if self.is_result(folder) {
            return Ok(());
        }
        let mut entries = std::fs::read_dir(folder)
            .map_err(at)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<std::io::Result<Vec<_>>>()
            .map_err(at)?;
        entries.sort();
        for path in entries {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with('.') {
                continue;
            }
            if path.is_dir() {
                self.add_images(&path, depth - 1)?;
            } else if is_image_path(&path) {
                self.paths.push(path);
            }
        }
        Ok(())
    }

    fn is_result(&self, path: &Path) -> bool {
        std::fs::canonicalize(path)
            .is_ok_and(|path| self.results.iter().any(|folder| path.starts_with(folder)))
    }
}

/// The deepest folder that all files lie in.
fn common_folder(files: &[PathBuf]) -> PathBuf {
    let mut folders = files.iter().map(|file| file.parent().unwrap_or(file));
    let Some(first) = folders.next() else {
        return PathBuf::new();
    };
    folders.fold(first.to_path_buf(), |common, folder| {
        let shared = common.components().zip(folder.components());
        shared
            .take_while(|(a, b)| a == b)
            .map(|(component, _)| component)
            .collect()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        dir
    }

    fn relative(dir: &Path, arguments: &[&str]) -> Vec<String> {
        let arguments: Vec<PathBuf> = arguments.iter().map(|name| dir.join(name)).collect();
        let inputs = find(&arguments, &[dir.join("results")]).unwrap();
        inputs
            .iter()
            .map(|input| input.relative.to_string_lossy().replace('\\', "/"))
            .collect()
    }

    #[test]
    fn folders_are_searched_in_order_without_hidden_and_other_files() {
        let dir = folder(&["b.png", "a/z.JPG", "a/c.txt", ".hidden/x.png", "ä ö/1.png"]);
        assert_eq!(
            relative(dir.path(), &[""]),
            ["a/z.JPG", "b.png", "ä ö/1.png"]
        );
    }

    #[test]
    fn files_keep_the_order_given_and_count_once() {
        let dir = folder(&["a/1.png", "b/1.png", "b/2.png"]);
        assert_eq!(
            relative(dir.path(), &["b/2.png", "a", "b/../a/1.png", "b"]),
            ["b/2.png", "a/1.png", "b/1.png"]
        );
    }

    #[test]
    fn patterns_match_unless_a_file_has_that_name() {
        let dir = folder(&["p[1].png", "p1.png", "p2.png", "p3.txt", "sub/p4.png"]);
        assert_eq!(relative(dir.path(), &["p[1].png"]), ["p[1].png"]);
        assert_eq!(relative(dir.path(), &["p[12].*"]), ["p1.png", "p2.png"]);
        assert_eq!(relative(dir.path(), &["p?.*"]), ["p1.png", "p2.png"]);
        assert_eq!(
            relative(dir.path(), &["**/p*.png"]),
            ["p1.png", "p2.png", "p[1].png", "sub/p4.png"]
        );
    }

    #[test]
    fn results_of_an_earlier_run_are_no_input() {
        let dir = folder(&["1.png", "results/overlays/1.png", "results.png"]);
        assert_eq!(relative(dir.path(), &[""]), ["1.png", "results.png"]);
        assert_eq!(
            relative(dir.path(), &["**/*.png"]),
            ["1.png", "results.png"]
        );
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let dir = folder(&["empty/readme.txt"]);
        for (name, usage) in [
            ("nothing.png", true),
            ("*.png", true),
            ("a[", true),
            ("empty", false),
        ] {
            let error = find(&[dir.path().join(name)], &[]).unwrap_err();
            assert_eq!(error.is_usage(), usage, "{error}");
        }
    }
}
