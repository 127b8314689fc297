//! The one error type of the library.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Everything that can go wrong because of a file, a setting or the data.
///
/// `Display` says what failed, on which file, and what to do about it. Cloning is cheap.
#[derive(Clone)]
pub struct Error {
    inner: Arc<Inner>,
}

/// Shorthand used throughout the library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Clone)]
struct Inner {
    kind: Kind,
    message: String,
    path: Option<PathBuf>,
    context: Vec<String>,
    help: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Usage,
    Io,
    Data,
    Weights,
    Model,
    Numeric,
    Interrupted,
}

impl Error {
    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            inner: Arc::new(Inner {
                kind,
                message: message.into(),
                path: None,
                context: Vec::new(),
                help: None,
            }),
        }
    }

    /// A wrong setting or argument: the caller asked for something that does not exist or fit.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// The operating system refused a read or a write.
    pub fn io(error: &std::io::Error) -> Self {
        Self::new(Kind::Io, error.to_string())
    }

    /// An image, a mask or a dataset folder is not what it should be.
    pub fn data(message: impl Into<String>) -> Self {
        Self::new(Kind::Data, message)
    }

    /// A checkpoint of backbone weights cannot be used.
    pub fn weights(message: impl Into<String>) -> Self {
        Self::new(Kind::Weights, message)
    }

    /// A model directory cannot be read or written.
    pub fn model(message: impl Into<String>) -> Self {
        Self::new(Kind::Model, message)
    }

    /// A computation left the finite numbers, or cannot be done on this data.
    pub fn numeric(message: impl Into<String>) -> Self {
        Self::new(Kind::Numeric, message)
    }

    /// The observer of a run asked it to stop.
    pub fn interrupted() -> Self {
        Self::new(Kind::Interrupted, "interrupted")
    }

    /// Names the file the error is about; the first name given stays.
    #[must_use]
    pub fn path(mut self, path: impl AsRef<Path>) -> Self {
        let inner = Arc::make_mut(&mut self.inner);
        if inner.path.is_none() {
            inner.path = Some(path.as_ref().to_path_buf());
        }
        self
    }

    /// Says what was being done, outermost call last.
    #[must_use]
    pub fn context(mut self, context: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.inner).context.push(context.into());
        self
    }

    /// Says what the user can do; the first advice given stays.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        let inner = Arc::make_mut(&mut self.inner);
        if inner.help.is_none() {
            inner.help = Some(help.into());
        }
        self
    }

    /// Whether the caller's settings are at fault (the command exits with 2).
    pub fn is_usage(&self) -> bool {
        self.inner.kind == Kind::Usage
    }

    /// Whether the run was stopped on request.
    pub fn is_interrupted(&self) -> bool {
        self.inner.kind == Kind::Interrupted
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for context in self.inner.context.iter().rev() {
            write!(f, "{context}: ")?;
        }
        if let Some(path) = &self.inner.path {
            write!(f, "{}: ", path.display())?;
        }
        f.write_str(&self.inner.message)?;
        if let Some(help) = &self.inner.help {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} error: {self}", self.inner.kind)
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::io(&error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_names_context_file_message_and_remedy() {
        let error = Error::data("not an image")
            .path("a b.png")
            .path("ignored.png")
            .context("reading the training set")
            .help("remove it");
        assert_eq!(
            error.to_string(),
            "reading the training set: a b.png: not an image\n  help: remove it"
        );
        assert!(!error.is_usage());
    }
}
