//! Runs that were stopped: where they keep what is needed to go on, and how to go on.

use std::path::{Path, PathBuf};

use burn_ad::train::Checkpoints;
use burn_ad::{Error, Result};

use crate::output::tell;

/// Where a run that writes `output` keeps its checkpoint, once it is clear what becomes of one that is there.
///
/// # Errors
/// When there is one, and the user says neither that it is to go on nor that it is to be overwritten.
pub(crate) fn checkpoints(output: &Path, resume: bool, overwrite: bool) -> Result<Checkpoints> {
    let path = beside(output, "checkpoint");
    if path.exists() && !resume {
        if !overwrite {
            return Err(Error::usage("there is a checkpoint of an unfinished run")
                .path(&path)
                .help("go on from it with --resume, or start afresh with --overwrite"));
        }
        std::fs::remove_file(&path).map_err(|error| Error::io(&error).path(&path))?;
    }
    Ok(Checkpoints { path, resume })
}

/// Names the checkpoint and the command that goes on from it.
pub(crate) fn say_how_to_go_on(error: &Error, checkpoints: &Checkpoints) {
    if error.is_interrupted() && checkpoints.path.exists() {
        tell(&format!(
            "the run so far is in {}; go on with\n  {}",
            checkpoints.path.display(),
            command_line("--resume")
        ));
    }
}

/// The command as it was typed, with `flag` added.
fn command_line(flag: &str) -> String {
    let mut words: Vec<String> = std::env::args_os()
        .map(|word| quoted(&word.to_string_lossy()))
        .collect();
    if !words.iter().any(|word| word == flag) {
        words.push(flag.to_owned());
    }
    words.join(" ")
}

/// A word that a shell reads back as it is.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./\\:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// `<path>.<ending>`, whatever dots `path` has.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    // Component by component, so that `model/` loses its slash.
    let mut name = path.components().collect::<PathBuf>().into_os_string();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_word_is_read_back_by_a_shell() {
        for (word, text) in [
            ("--set", "--set"),
            ("a/b.c=1,2", "a/b.c=1,2"),
            ("{ total = 3 }", "'{ total = 3 }'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(word), text);
        }
    }

    #[test]
    fn files_beside_a_model_keep_its_dots_and_lose_its_slash() {
        assert_eq!(
            beside(Path::new("a/m.v1/"), "checkpoint"),
            Path::new("a/m.v1.checkpoint")
        );
    }
}
