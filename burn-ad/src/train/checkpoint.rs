//! Checkpoints: all that an interrupted training run needs to go on as if nothing had happened.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::files::write_atomically;

/// The format this version writes and reads.
const FORMAT: &str = "burn-ad checkpoint 1";
const FORMAT_KEY: &str = "format";
const FINGERPRINT_KEY: &str = "fingerprint";
const STATE_KEY: &str = "state";

/// Where a run keeps its checkpoint, and whether it begins with the one that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoints {
    /// The file; always a complete checkpoint, or none.
    pub path: PathBuf,
    /// Whether to go on from it.
    pub resume: bool,
}

/// What a checkpoint holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint<S> {
    /// Where the run was.
    pub state: S,
    /// Parameters and optimisers by name, as the method wrote them.
    pub parts: HashMap<String, Vec<u8>>,
}

impl<S> Checkpoint<S> {
    /// Takes a part out of it.
    ///
    /// # Errors
    /// When it has no part of this name.
    pub(crate) fn take(&mut self, name: &str) -> Result<Vec<u8>> {
        let found = self.parts.remove(name);
        found.ok_or_else(|| Error::model(format!("'{name}' is missing")))
    }
}

impl Checkpoints {
    /// What is wrong with the checkpoint, and what to do.
    pub(crate) fn damaged(&self, error: &Error) -> Error {
        Error::model(format!("the checkpoint is damaged ({error})"))
            .path(&self.path)
            .help("start the run afresh with --overwrite")
    }

    /// Replaces the checkpoint; the old one stays until the new one is complete.
    ///
    /// `fingerprint` identifies settings, data and seed.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(
        &self,
        fingerprint: &str,
        state: &impl Serialize,
        parts: &[(String, Vec<u8>)],
    ) -> Result<()> {
        let failed = |error: &dyn std::fmt::Display| Error::model(error.to_string());
        let state = serde_json::to_string(state).map_err(|error| failed(&error))?;
        let metadata = HashMap::from([
            (FORMAT_KEY.to_owned(), FORMAT.to_owned()),
            (FINGERPRINT_KEY.to_owned(), fingerprint.to_owned()),
            (STATE_KEY.to_owned(), state),
        ]);
        let views = parts
            .iter()
            .map(|(name, bytes)| {
                TensorView::new(Dtype::U8, vec![bytes.len()], bytes).map(|view| (name, view))
            })
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(|error| failed(&error))?;
        let bytes =
            safetensors::serialize(views, Some(metadata)).map_err(|error| failed(&error))?;
        write_atomically(&self.path, |writer| {
            Ok(std::io::Write::write_all(writer, &bytes)?)
        })
    }

    /// The checkpoint to go on from; `None` when the run begins afresh.
    ///
    /// # Errors
    /// When there is none to go on from, it cannot be read, or it belongs to another run.
    pub fn load<S: DeserializeOwned>(&self, fingerprint: &str) -> Result<Option<Checkpoint<S>>> {
        if !self.resume {
            return Ok(None);
        }
        read(&self.path, fingerprint).map(Some).map_err(|error| {
            error
                .path(&self.path)
                .context("going on with an interrupted run")
        })
    }

    /// Removes the checkpoint of a finished run. Training leaves it, so that what comes after it can fail
    /// without loss: who saves the model removes it then.
    ///
    /// # Errors
    /// When the file is there and cannot be removed.
    pub fn remove(&self) -> Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io(&error).path(&self.path))
            }
            _ => Ok(()),
        }
    }
}

fn read<S: DeserializeOwned>(path: &Path, fingerprint: &str) -> Result<Checkpoint<S>> {
    let bytes = std::fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::usage("there is no checkpoint to go on from")
            .help("start the run without --resume"),
        _ => Error::io(&error),
    })?;
    let foreign = |reason: String| {
        Error::model(format!(
            "not a complete checkpoint of this program ({reason})"
        ))
        .help("start the run afresh with --overwrite")
    };
    let file = SafeTensors::deserialize(&bytes).map_err(|error| foreign(error.to_string()))?;
    let (_, header) =
        SafeTensors::read_metadata(&bytes).map_err(|error| foreign(error.to_string()))?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let entry = |key: &str| {
        metadata
            .get(key)
            .ok_or_else(|| foreign(format!("no entry '{key}'")))
    };
    if entry(FORMAT_KEY)? != FORMAT {
        return Err(foreign(format!("its format is '{}'", entry(FORMAT_KEY)?)));
    }
    if entry(FINGERPRINT_KEY)? != fingerprint {
        return Err(Error::usage(
            "the checkpoint belongs to a run with other settings, images, weights or seed",
        )
        .help("give the settings of that run, or start afresh with --overwrite"));
    }
    let state =
        serde_json::from_str(entry(STATE_KEY)?).map_err(|error| foreign(error.to_string()))?;
    let parts = file
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, view.data().to_vec()));
    Ok(Checkpoint {
        state,
        parts: parts.collect(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn in_dir(dir: &Path, resume: bool) -> Checkpoints {
        Checkpoints {
            path: dir.join("run.checkpoint"),
            resume,
        }
    }

    #[test]
    fn what_was_saved_is_loaded_and_other_runs_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let parts = [
            ("flow".to_owned(), vec![1, 2, 3]),
            ("adam".to_owned(), vec![]),
        ];
        in_dir(dir.path(), false)
            .save("abc", &(3, 1.5), &parts)
            .unwrap();
        let fresh = in_dir(dir.path(), false);
        assert_eq!(fresh.load::<(usize, f64)>("abc").unwrap(), None);
        let again = in_dir(dir.path(), true);
        let checkpoint = again.load::<(usize, f64)>("abc").unwrap().unwrap();
        assert_eq!(checkpoint.state, (3, 1.5));
        assert_eq!(checkpoint.parts["flow"], [1, 2, 3]);
        assert!(again.load::<(usize, f64)>("other").unwrap_err().is_usage());
        again.remove().unwrap();
        again.remove().unwrap();
        assert!(again.load::<(usize, f64)>("abc").unwrap_err().is_usage());
    }

    #[test]
    fn a_truncated_checkpoint_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = in_dir(dir.path(), true);
        checkpoints
            .save("abc", &1, &[("flow".to_owned(), vec![0; 100])])
            .unwrap();
        let bytes = std::fs::read(&checkpoints.path).unwrap();
        for keep in [0, 7, 40, bytes.len() - 1] {
            std::fs::write(&checkpoints.path, &bytes[..keep]).unwrap();
            let error = checkpoints.load::<usize>("abc").unwrap_err().to_string();
            assert!(
                error.contains("run.checkpoint") && error.contains("complete"),
                "{error}"
            );
        }
    }
}
