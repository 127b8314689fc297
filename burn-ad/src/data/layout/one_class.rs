//! Classification datasets turned into anomaly detection: one class is normal, all others are anomalous.

use std::path::Path;
use std::sync::Arc;

use super::IndexOptions;
use crate::data::packed::{PackedImage, PackedImages};
use crate::data::sample::{Dataset, ImageSource, Label, Sample};
use crate::error::{Error, Result};

/// A classification dataset.
pub(super) struct Classes {
    pub(super) names: Vec<String>,
    pub(super) train: Arc<PackedImages>,
    pub(super) test: Arc<PackedImages>,
}

/// `0` to `9`.
pub(super) fn digits() -> Vec<String> {
    (0..10).map(|digit: u8| digit.to_string()).collect()
}

impl Classes {
    /// Training images of the normal class are for training, those of other classes the pool.
    ///
    /// # Errors
    /// When the options name no class, or one that does not exist; the message lists them.
    pub(super) fn dataset(&self, root: &Path, options: &IndexOptions) -> Result<Dataset> {
        let normal = self.normal(root, options.normal_class.as_deref())?;
        let of = |images: &Arc<PackedImages>| {
            let samples: Vec<Sample> = (0..images.len())
                .filter_map(|index| self.sample(images, index, normal))
                .collect();
            samples
        };
        let (train, pool) = of(&self.train)
            .into_iter()
            .partition(|sample| !sample.label.is_anomalous());
        Ok(Dataset {
            train,
            pool,
            test: of(&self.test),
            ..Dataset::default()
        })
    }

    fn sample(&self, images: &Arc<PackedImages>, index: usize, normal: usize) -> Option<Sample> {
        let class = usize::from(images.labels()[index]);
        let (label, kind) = if class == normal {
            (Label::Normal, "good")
        } else {
            (Label::Anomalous, self.names.get(class)?.as_str())
        };
        Some(Sample {
            image: ImageSource::Packed(PackedImage::new(images, index)?),
            label,
            kind: kind.to_owned(),
            mask: None,
        })
    }

    /// A class by its name, or by its number.
    fn normal(&self, root: &Path, wanted: Option<&str>) -> Result<usize> {
        let list = format!("the classes are {}", self.names.join(", "));
        let Some(wanted) = wanted else {
            return Err(
                Error::usage("which class of this dataset is the normal one is not said")
                    .path(root)
                    .help(format!(
                        "name it with --normal-class, or data.normal_class in the settings; {list}"
                    )),
            );
        };
        let named = |name: &String| name.eq_ignore_ascii_case(wanted.trim());
        let numbered = || {
            let number: Option<usize> = wanted.trim().parse().ok();
            number.filter(|&number| number < self.names.len())
        };
        let found = self.names.iter().position(named).or_else(numbered);
        found.ok_or_else(|| {
            Error::usage(format!("there is no class '{wanted}'"))
                .path(root)
                .help(list)
        })
    }
}

#[cfg(test)]
#[path = "one_class_tests.rs"]
mod tests;
