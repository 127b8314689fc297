//! Which classes there are, and which image is of which.

use super::config::HgadConfig;
use crate::data::Sample;
use crate::error::{Error, Result};

/// The class of images that belong to no product of several.
const ONLY: &str = "product";

/// The class index of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Classes {
    names: Vec<String>,
}

impl Classes {
    /// The ones of the model to begin with, `old`, in their order, then the others: those that the
    /// settings name, else those of the training images.
    pub(super) fn of_training(
        config: &HgadConfig,
        old: &[String],
        samples: &[Sample],
    ) -> Result<Self> {
        if config.one_class {
            return Ok(Self {
                names: vec![ONLY.to_owned()],
            });
        }
        let mut found: Vec<&str> = samples.iter().map(name_of).collect();
        found.sort_unstable();
        found.dedup();
        let mut names = old.to_vec();
        if config.classes.is_empty() {
            let new = found
                .into_iter()
                .filter(|name| !old.iter().any(|class| class == name));
            names.extend(new.map(str::to_owned));
            return Ok(Self { names });
        }
        let new = config.classes.iter().filter(|name| !old.contains(name));
        names.extend(new.cloned());
        let known = |name: &&str| names.iter().any(|class| class == name);
        if let Some(unknown) = found.iter().find(|name| !known(name)) {
            return Err(Error::usage(format!(
                "there are training images of '{unknown}', which is none of the classes in the settings"
            ))
            .help(format!(
                "the classes are {}; add it to method.classes, or empty that list",
                config.classes.join(", ")
            )));
        }
        Ok(Self { names })
    }

    /// Those of a trained model.
    pub(super) fn of_model(config: &HgadConfig) -> Result<Self> {
        if config.classes.is_empty() {
            return Err(Error::model("the model names no class"));
        }
        Ok(Self {
            names: config.classes.clone(),
        })
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    pub(super) fn count(&self) -> usize {
        self.names.len()
    }

    /// The place of a class in the index; `None` where it is not known which, or not in the index.
    pub(super) fn index(&self, name: Option<&str>) -> Option<usize> {
        if self.names.len() == 1 {
            return Some(0);
        }
        self.names
            .iter()
            .position(|class| Some(class.as_str()) == name)
    }

    /// The place of a training image's class.
    pub(super) fn label(&self, sample: &Sample) -> Option<usize> {
        self.index(Some(name_of(sample)))
    }

    /// Tells of classes that have too few images to be learnt; the first `old` ones are known already.
    pub(super) fn warn_of_small(&self, old: usize, labels: &[usize], warn: &mut dyn FnMut(&str)) {
        if self.count() == 1 {
            return;
        }
        for (class, name) in self.names.iter().enumerate() {
            match labels.iter().filter(|&&label| label == class).count() {
                0 if class < old => warn(&format!(
                    "no training image shows '{name}': the flows change without it, so that it will be judged less and less well"
                )),
                0 => warn(&format!(
                    "no training image shows '{name}': its centres stay where they begin, and its images will look anomalous"
                )),
                1 => warn(&format!(
                    "one training image alone shows '{name}': what varies between good products of this class cannot be learnt"
                )),
                _ => {}
            }
        }
    }
}

fn name_of(sample: &Sample) -> &str {
    sample.class().unwrap_or(ONLY)
}
