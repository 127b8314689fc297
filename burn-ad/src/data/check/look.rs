//! Decoding every file of a dataset and noting what is wrong with each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;

use ::image::RgbImage;
use sha2::{Digest, Sha256};

use super::{Finding, Problem, finding};
use crate::data::image::{decode_mask, decode_with_info};
use crate::data::sample::{ImageSource, MaskSource, Sample};
use crate::error::Error;

/// What one sample's files look like.
pub(super) struct Look {
    pub(super) seen: Option<Seen>,
    pub(super) findings: Vec<Finding>,
}

pub(super) struct Seen {
    pub(super) size: (u32, u32),
    pub(super) mode: &'static str,
    /// SHA-256 of size and pixels.
    digest: [u8; 32],
}

impl Seen {
    fn of(image: &RgbImage, mode: &'static str) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(image.width().to_le_bytes());
        hasher.update(image.height().to_le_bytes());
        hasher.update(image.as_raw());
        Self {
            size: image.dimensions(),
            mode,
            digest: hasher.finalize().into(),
        }
    }
}

/// On as many threads as rayon has; the results come back to this one, which may itself be one of rayon's
/// and so must not wait for these, in any order.
pub(super) fn look_at_all(
    samples: &[&Sample],
    progress: &mut dyn FnMut(usize, usize),
) -> Vec<Look> {
    let mut looks: Vec<Option<Look>> = samples.iter().map(|_| None).collect();
    let (sender, receiver) = channel();
    std::thread::scope(|scope| {
        let threads = rayon::current_num_threads();
        for thread in 0..threads {
            let sender = sender.clone();
            scope.spawn(move || {
                for (index, sample) in samples.iter().enumerate().skip(thread).step_by(threads) {
                    // The receiver outlives every sender; if it did not, nobody wants the result.
                    let _ = sender.send((index, look_at(sample)));
                }
            });
        }
        drop(sender);
        for (done, (index, look)) in receiver.iter().enumerate() {
            looks[index] = Some(look);
            progress(done + 1, samples.len());
        }
    });
    looks.into_iter().flatten().collect()
}

fn look_at(sample: &Sample) -> Look {
    let path = match &sample.image {
        ImageSource::File(path) => path,
        ImageSource::Packed(image) => {
            // Reading the file has shown that it is whole.
            let seen = Seen::of(&image.pixels(), image.mode());
            return Look {
                seen: Some(seen),
                findings: Vec::new(),
            };
        }
        // No survey lists images in memory.
        ImageSource::Memory { .. } => {
            return Look {
                seen: None,
                findings: Vec::new(),
            };
        }
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
            Some(Seen::of(&image, info.mode))
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

/// The error's text on one line, without the path, which the finding names itself.
fn reason(error: &Error, path: &Path) -> String {
    let text = error.to_string();
    let text = text.lines().next().unwrap_or_default();
    let prefix = format!("{}: ", path.display());
    text.strip_prefix(&prefix).unwrap_or(text).to_owned()
}

/// Each image is compared with the first of the same pixels; `samples[..train]` are on the training side.
pub(super) fn duplicates(
    samples: &[&Sample],
    looks: &[Look],
    train: usize,
    findings: &mut Vec<Finding>,
) {
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
