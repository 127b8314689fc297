//! Choosing some of a dataset's kinds of anomaly.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::sample::Dataset;
use crate::error::{Error, Result};

/// Some of the kinds of defect of a dataset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kinds {
    /// All of them.
    #[default]
    All,
    /// These.
    Only(Vec<String>),
    /// All but these.
    Except(Vec<String>),
}

impl Kinds {
    /// Whether `kind` is one of them; `crack` is that of every product, `bottle/crack` that of one.
    pub fn contains(&self, kind: &str) -> bool {
        let listed = |kinds: &[String]| kinds.iter().any(|name| is_named(kind, name));
        match self {
            Self::All => true,
            Self::Only(kinds) => listed(kinds),
            Self::Except(kinds) => !listed(kinds),
        }
    }

    /// # Errors
    /// When a kind is listed that no anomalous image has; the message names those that exist.
    pub fn check(&self, dataset: &Dataset) -> Result<()> {
        let (Self::Only(kinds) | Self::Except(kinds)) = self else {
            return Ok(());
        };
        let known = anomalous_kinds(dataset);
        let exists = |name: &&String| known.iter().any(|kind| is_named(kind, name));
        match kinds.iter().find(|name| !exists(name)) {
            None => Ok(()),
            Some(kind) => {
                let known: Vec<String> = known.into_iter().collect();
                let error = Error::usage(format!("there is no kind of anomaly '{kind}'"));
                Err(error.help(format!("the kinds are {}", known.join(", "))))
            }
        }
    }

    /// The test set with anomalous images of these kinds alone; normal images stay.
    ///
    /// # Errors
    /// Those of [`check`](Self::check).
    pub fn tested(&self, mut dataset: Dataset) -> Result<Dataset> {
        self.check(&dataset)?;
        dataset
            .test
            .retain(|sample| !sample.label.is_anomalous() || self.contains(&sample.kind));
        Ok(dataset)
    }
}

/// Whether `name` is a kind, or its part behind the product.
fn is_named(kind: &str, name: &str) -> bool {
    kind == name || kind.rsplit_once('/').is_some_and(|(_, own)| own == name)
}

/// The kinds of all anomalous images, those of the pool and those that are tested.
pub fn anomalous_kinds(dataset: &Dataset) -> BTreeSet<String> {
    let all = dataset.pool.iter().chain(&dataset.test);
    let anomalous = all.filter(|sample| sample.label.is_anomalous());
    anomalous.map(|sample| sample.kind.clone()).collect()
}
