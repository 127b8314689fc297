//! Looking through a dataset before hours are spent on it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};

use rayon::prelude::*;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::image::{decode_mask, decode_with_info};
use super::layout::{IndexOptions, Layout, survey};
use super::sample::{ImageSource, MaskSource, Sample};
use crate::error::Result;

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
        writeln!(
            f,
            "{} training images; {} normal and {} anomalous test images, {} masks",
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
        .chain(&survey.dataset.test)
        .collect();
    let looks = look_at_all(&samples, progress);

    let mut findings: Vec<Finding> = looks
        .iter()
        .flat_map(|look| look.findings.iter().cloned())
        .collect();
    duplicates(&samples, &looks, survey.dataset.train.len(), &mut findings);
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
        test_normal: test.len() - test_anomalous,
        test_anomalous,
        masks: test.iter().filter(masks).count(),
        sizes: tally(seen().map(|seen| format!("{} x {}", seen.size.0, seen.size.1))),
        modes: tally(seen().map(|seen| seen.mode.to_owned())),
        findings,
        name: survey.dataset.name,
    })
}

/// What one sample's files look like.
struct Look {
    seen: Option<Seen>,
    findings: Vec<Finding>,
}

struct Seen {
    size: (u32, u32),
    mode: &'static str,
    /// SHA-256 of size and pixels.
    digest: [u8; 32],
}

/// On rayon's threads; the results come back to this one, in any order.
fn look_at_all(samples: &[&Sample], progress: &mut dyn FnMut(usize, usize)) -> Vec<Look> {
    let mut looks: Vec<Option<Look>> = samples.iter().map(|_| None).collect();
    let (sender, receiver) = channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            samples.par_iter().enumerate().for_each_with(
                sender,
                |sender: &mut Sender<_>, (index, sample)| {
                    // The receiver outlives every sender; if it did not, nobody wants the result.
                    let _ = sender.send((index, look_at(sample)));
                },
            );
        });
        for (done, (index, look)) in receiver.iter().enumerate() {
            looks[index] = Some(look);
            progress(done + 1, samples.len());
        }
    });
    looks.into_iter().flatten().collect()
}

fn look_at(sample: &Sample) -> Look {
    let ImageSource::File(path) = &sample.image else {
        // A survey lists files only.
        return Look {
            seen: None,
            findings: Vec::new(),
        };
    };
    let mut findings = Vec::new();
    let mut found = |problem, path: &Path, message: String| {
        findings.push(finding(problem, path.to_path_buf(), message));
    };
    let seen = match decode_with_info(path) {
        Err(error) => {
            found(Problem::UnreadableImage, path, reason(&error, path));
            None
        }
        Ok((image, info)) => {
            if info.turned {
                let message = "the file carries an EXIF orientation, which is not applied";
                found(Problem::Orientation, path, message.to_owned());
            }
            let mut hasher = Sha256::new();
            hasher.update(image.width().to_le_bytes());
            hasher.update(image.height().to_le_bytes());
            hasher.update(image.as_raw());
            Some(Seen {
                size: image.dimensions(),
                mode: info.mode,
                digest: hasher.finalize().into(),
            })
        }
    };
    match &sample.mask {
        None if sample.label.is_anomalous() => {
            let message = "the anomalous image has no mask: no pixel metrics for it";
            found(Problem::ImageWithoutMask, path, message.to_owned());
        }
        Some(MaskSource::File(mask_path)) => match decode_mask(mask_path) {
            Err(error) => found(
                Problem::UnreadableMask,
                mask_path,
                reason(&error, mask_path),
            ),
            Ok(mask) => {
                if mask.iter().all(|&value| value == 0) {
                    let message = "no pixel is marked";
                    found(Problem::EmptyMask, mask_path, message.to_owned());
                }
                if let Some(seen) = seen.as_ref().filter(|seen| seen.size != mask.dimensions()) {
                    let message = format!(
                        "the image has {} x {} pixels, its mask {} x {}: {}",
                        seen.size.0,
                        seen.size.1,
                        mask.width(),
                        mask.height(),
                        mask_path.display()
                    );
                    let mismatch = finding(Problem::SizeMismatch, path.clone(), message);
                    findings.push(Finding {
                        other: Some(mask_path.clone()),
                        ..mismatch
                    });
                }
            }
        },
        _ => {}
    }
    Look { seen, findings }
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

/// The error's text on one line, without the path, which the finding names itself.
fn reason(error: &crate::error::Error, path: &Path) -> String {
    let text = error.to_string();
    let text = text.lines().next().unwrap_or_default();
    let prefix = format!("{}: ", path.display());
    text.strip_prefix(&prefix).unwrap_or(text).to_owned()
}

/// Each image is compared with the first of the same pixels; `samples[..train]` is for training.
fn duplicates(samples: &[&Sample], looks: &[Look], train: usize, findings: &mut Vec<Finding>) {
    let mut first = BTreeMap::new();
    for (index, look) in looks.iter().enumerate() {
        let Some(seen) = &look.seen else { continue };
        let Some(&earlier) = first.get(&seen.digest) else {
            first.insert(seen.digest, index);
            continue;
        };
        let (this, other) = (samples[index].image.name(), samples[earlier].image.name());
        let (problem, message) = if index >= train && earlier < train {
            let message = format!("the same pixels are a training image: {other}");
            (Problem::TrainTestDuplicate, message)
        } else {
            (Problem::Duplicate, format!("the same pixels as {other}"))
        };
        findings.push(Finding {
            other: Some(PathBuf::from(other.as_ref())),
            ..finding(problem, PathBuf::from(this.as_ref()), message)
        });
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
