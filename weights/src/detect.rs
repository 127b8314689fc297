//! Which architecture a checkpoint fits, and what is wrong where it does not.

use std::collections::HashSet;
use std::fmt::Write as _;

use burn_ad::backbone::BackboneConfig;

use crate::checkpoint::Checkpoint;
use crate::keys::{Expected, KeyStyle};

/// An error lists this many keys of each kind and counts the rest.
const LISTED: usize = 10;

/// The difference between a checkpoint and what an architecture in one key style needs.
#[derive(Debug)]
pub(crate) struct Comparison {
    pub(crate) arch: BackboneConfig,
    pub(crate) style: KeyStyle,
    matched: usize,
    missing: Vec<String>,
    unexpected: Vec<String>,
    wrong: Vec<String>,
}

impl Comparison {
    pub(crate) fn new(checkpoint: &Checkpoint, arch: BackboneConfig, style: KeyStyle) -> Self {
        let expected = Expected::new(style, &arch.units());
        let mut comparison = Self {
            arch,
            style,
            matched: 0,
            missing: Vec::new(),
            unexpected: Vec::new(),
            wrong: Vec::new(),
        };
        let mut known = HashSet::new();
        for wanted in &expected.wanted {
            known.insert(wanted.key.as_str());
            match checkpoint.entries().get(&wanted.key) {
                None => comparison.missing.push(wanted.key.clone()),
                Some(entry) if entry.shape != wanted.shape => comparison.wrong.push(format!(
                    "{}: {:?} in the file, {:?} needed",
                    wanted.key, entry.shape, wanted.shape
                )),
                Some(entry) if !entry.dtype.is_float() => comparison
                    .wrong
                    .push(format!("{}: {} instead of floats", wanted.key, entry.dtype)),
                Some(_) => comparison.matched += 1,
            }
        }
        comparison.unexpected = checkpoint
            .entries()
            .keys()
            .filter(|key| !known.contains(key.as_str()) && !expected.allows(key))
            .cloned()
            .collect();
        comparison
    }

    /// The best style for `arch`, a published one.
    pub(crate) fn best(checkpoint: &Checkpoint, arch: BackboneConfig) -> Self {
        KeyStyle::of(arch)
            .iter()
            .map(|&style| Self::new(checkpoint, arch, style))
            .min_by_key(Self::faults)
            .expect("published architectures have a key style")
    }

    /// The architecture that fits best.
    pub(crate) fn nearest(checkpoint: &Checkpoint) -> Self {
        BackboneConfig::PUBLISHED
            .into_iter()
            .map(|arch| Self::best(checkpoint, arch))
            .min_by_key(Self::faults)
            .expect("there are architectures")
    }

    fn faults(&self) -> usize {
        self.missing.len() + self.unexpected.len() + self.wrong.len()
    }

    pub(crate) fn is_exact(&self) -> bool {
        self.faults() == 0
    }

    /// Whether so much fits that a user should hear of it.
    pub(crate) fn is_likely(&self) -> bool {
        self.matched >= 4 * self.faults()
    }

    /// Missing, unexpected and misshapen keys: the first of each kind, and how many there are.
    pub(crate) fn report(&self) -> String {
        let mut text = format!("the checkpoint does not fit {} ({})", self.arch, self.style);
        for (title, keys) in [
            ("missing", &self.missing),
            ("unexpected", &self.unexpected),
            ("wrong shape or type", &self.wrong),
        ] {
            if keys.is_empty() {
                continue;
            }
            let _ = write!(text, "\n  {title} ({}):", keys.len());
            for key in keys.iter().take(LISTED) {
                let _ = write!(text, "\n    {key}");
            }
            if keys.len() > LISTED {
                let _ = write!(text, "\n    and {} more", keys.len() - LISTED);
            }
        }
        text
    }
}

/// Every architecture and key style that a checkpoint fits without a missing, unexpected or
/// misshapen tensor; usually one, or none.
///
/// timm's `efficientnet_b*` have the same keys and shapes as the `tf_efficientnet_b*` known here,
/// but pad differently: names and shapes cannot tell them apart.
pub fn detect_arch(checkpoint: &Checkpoint) -> Vec<(BackboneConfig, KeyStyle)> {
    let mut found = Vec::new();
    for arch in BackboneConfig::PUBLISHED {
        for &style in KeyStyle::of(arch) {
            if Comparison::new(checkpoint, arch, style).is_exact() {
                found.push((arch, style));
            }
        }
    }
    found
}
