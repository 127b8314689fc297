//! Looking through a dataset before hours are spent on it.

mod look;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::layout::{IndexOptions, Layout, survey};
use super::sample::Sample;
use crate::error::Result;
use look::{duplicates, look_at_all};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Results will be less than they could be.
    Warning,
    /// An image cannot be used, or results would be wrong.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// What is the matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Problem {
    /// The image cannot be decoded.
    UnreadableImage,
    /// The mask cannot be decoded.
    UnreadableMask,
    /// Image and mask have different sizes.
    SizeMismatch,
    /// The same pixels are in the training and in the test set.
    TrainTestDuplicate,
    /// The same pixels appear twice in one set.
    Duplicate,
    /// No pixel of an anomalous image's mask is marked.
    EmptyMask,
    /// A mask file that belongs to no anomalous image.
    MaskWithoutImage,
    /// An anomalous image without mask.
    ImageWithoutMask,
    /// The file carries an EXIF orientation, which is not applied.
    Orientation,
    /// A file that is no image by its extension.
    OtherFile,
}

impl Problem {
    /// How much it matters.
    pub fn severity(self) -> Severity {
        match self {
            Self::UnreadableImage
            | Self::UnreadableMask
            | Self::SizeMismatch
            | Self::TrainTestDuplicate => Severity::Error,
            Self::Duplicate | Self::EmptyMask | Self::MaskWithoutImage | Self::ImageWithoutMask => {
                Severity::Warning
            }
            Self::Orientation | Self::OtherFile => Severity::Info,
        }
    }
}

/// One thing found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What it is.
    pub problem: Problem,
    /// The file.
    pub path: PathBuf,
    /// The other file, of a pair.
    pub other: Option<PathBuf>,
    /// A sentence for people.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}: {}",
            self.severity,
            self.path.display(),
            self.message
        )
    }
}

/// How many readable images have a property.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Count {
    /// The property, for instance `640 x 480` or `8-bit grey`.
    pub what: String,
    /// Number of images.
    pub images: usize,
}

/// The state of a dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// Name of the product.
    pub name: String,
    /// The layout it follows.
    pub layout: Layout,
    /// Training images.
    pub train: usize,
    /// Anomalous images on the training side.
    pub pool: usize,
    /// Normal test images.
    pub test_normal: usize,
    /// Anomalous test images.
    pub test_anomalous: usize,
    /// Masks of anomalous test images.
    pub masks: usize,
    /// Image sizes (width x height), the most frequent first.
    pub sizes: Vec<Count>,
    /// Colour modes, the most frequent first.
    pub modes: Vec<Count>,
    /// What was found, the most serious first, then by problem and path.
    pub findings: Vec<Finding>,
}

impl CheckReport {
    /// Number of findings of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        let same = |finding: &&Finding| finding.severity == severity;
        self.findings.iter().filter(same).count()
    }

    /// Whether every image can be used and no result would be wrong.
    pub fn is_usable(&self) -> bool {
        self.count(Severity::Error) == 0
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({})", self.name, self.layout)?;
        let pool = match self.pool {
            0 => String::new(),
            count => format!(", {count} anomalous images beside them"),
        };
        writeln!(
            f,
            "{} training images{pool}; {} normal and {} anomalous test images, {} masks",
            self.train, self.test_normal, self.test_anomalous, self.masks
        )?;
        list(f, "sizes", &self.sizes)?;
        list(f, "modes", &self.modes)?;
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        write!(
            f,
            "{} errors, {} warnings",
            self.count(Severity::Error),
            self.count(Severity::Warning)
        )
    }
}

fn list(f: &mut fmt::Formatter<'_>, title: &str, counts: &[Count]) -> fmt::Result {
    const SHOWN: usize = 3;
    let shown: Vec<String> = counts
        .iter()
        .take(SHOWN)
        .map(|count| format!("{} ({})", count.what, count.images))
        .collect();
    write!(f, "{title}: {}", shown.join(", "))?;
    if counts.len() > SHOWN {
        write!(f, " and {} more", counts.len() - SHOWN)?;
    }
    writeln!(f)
}

/// Decodes every image and mask of a dataset, on all cores, and reports what is wrong.
///
/// `progress` is called on this thread with the number of samples done and their total.
///
/// # Errors
/// As [`super::layout::index`]: when there is no dataset to look through. Broken files are findings.
pub fn check(
    root: &Path,
    layout: Layout,
    options: &IndexOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<CheckReport> {
    let survey = survey(root, layout, options)?;
    let samples: Vec<&Sample> = survey
        .dataset
        .train
        .iter()
        .chain(&survey.dataset.pool)
        .chain(&survey.dataset.test)
        .collect();
    let looks = look_at_all(&samples, progress);

    let mut findings: Vec<Finding> = looks
        .iter()
        .flat_map(|look| look.findings.iter().cloned())
        .collect();
    if !survey.layout.has_masks() {
        findings.retain(|finding| finding.problem != Problem::ImageWithoutMask);
    }
    let learnt = survey.dataset.train.len() + survey.dataset.pool.len();
    duplicates(&samples, &looks, learnt, &mut findings);
    findings.extend(survey.stray_masks.into_iter().map(|path| {
        finding(
            Problem::MaskWithoutImage,
            path,
            "the mask belongs to no anomalous test image",
        )
    }));
    findings.extend(survey.other_files.into_iter().map(|path| {
        finding(
            Problem::OtherFile,
            path,
            "not an image by its extension; ignored",
        )
    }));
    findings.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.cmp(b)));

    let (test, masks) = (&survey.dataset.test, |sample: &&Sample| {
        sample.mask.is_some()
    });
    let test_anomalous = test.iter().filter(|s| s.label.is_anomalous()).count();
    let seen = || looks.iter().filter_map(|look| look.seen.as_ref());
    Ok(CheckReport {
        layout: survey.layout,
        train: survey.dataset.train.len(),
        pool: survey.dataset.pool.len(),
        test_normal: test.len() - test_anomalous,
        test_anomalous,
        masks: test.iter().filter(masks).count(),
        sizes: tally(seen().map(|seen| format!("{} x {}", seen.size.0, seen.size.1))),
        modes: tally(seen().map(|seen| seen.mode.to_owned())),
        findings,
        name: survey.dataset.name,
    })
}

fn finding(problem: Problem, path: PathBuf, message: impl Into<String>) -> Finding {
    Finding {
        severity: problem.severity(),
        problem,
        path,
        other: None,
        message: message.into(),
    }
}

fn tally(values: impl Iterator<Item = String>) -> Vec<Count> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    let mut counts: Vec<Count> = counts
        .into_iter()
        .map(|(what, images)| Count { what, images })
        .collect();
    counts.sort_by_key(|count| Reverse(count.images));
    counts
}
