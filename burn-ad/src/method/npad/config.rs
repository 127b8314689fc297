//! Settings of N-pad and of its two baselines.

use crate::error::{Error, Result};

/// How many of the concatenated channels a feature vector keeps.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Reduction {
    /// All of them.
    All,
    /// A random subset of this many channels (PaDiM); all, when there are fewer.
    Subset(usize),
    /// A random orthogonal projection to this many dimensions; all, when there are fewer.
    Projection(usize),
}

/// How features are brought to one scale before they are concatenated.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LevelScaling {
    /// As the backbone gives them.
    None,
    /// Each level's vector divided by its Euclidean norm.
    UnitNorm,
}

/// The Gaussian at each grid position.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GaussianConfig {
    /// A position's Gaussian is estimated from all positions at most this far away (Chebyshev
    /// distance in grid cells). 0 is PaDiM; a value as large as the grid pools all positions.
    pub radius: usize,
    /// A feature is compared with the Gaussians of all positions at most this far away, and the
    /// smallest distance counts.
    pub search: usize,
    /// Added to the diagonal of every covariance.
    pub epsilon: f64,
}

/// How the representative normal features are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BankKind {
    /// Centroids of k-means (N-pad).
    Centroids,
    /// A greedy k-centre coreset of the features themselves (PatchCore).
    Coreset,
}

/// The set of representative normal features.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BankConfig {
    /// Centroids or coreset.
    pub kind: BankKind,
    /// Members, as a share of all training feature vectors ...
    pub share: f64,
    /// ... but no more than this many.
    pub max_members: usize,
    /// Feature vectors that the members are chosen from: a seeded sample, the same number from
    /// each image. Bounds the memory of a fit.
    pub max_candidates: usize,
    /// Most iterations of k-means.
    pub iterations: usize,
}

/// What an anomaly map is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Combination {
    /// Sum of the two distances, each standardised by its statistics on normal images.
    Sum,
    /// Product of the two distances.
    Product,
    /// The Mahalanobis distance alone.
    Gaussian,
    /// The distance to the representative set alone.
    Bank,
}

impl Combination {
    /// Whether Gaussians are needed.
    pub fn uses_gaussian(self) -> bool {
        self != Self::Bank
    }

    /// Whether a representative set is needed.
    pub fn uses_bank(self) -> bool {
        self != Self::Gaussian
    }
}

/// How a map becomes one score.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ImageScore {
    /// Largest pixel of the smoothed map.
    Max,
    /// Mean over this share of the pixels, the largest ones.
    TopShare(f64),
    /// PatchCore's: the largest distance to the bank, re-weighted by how crowded the bank is
    /// around the nearest member (eq. 7 of that paper) with this many neighbours.
    Reweighted(usize),
}

/// Settings of N-pad. What the abstract of the paper does not fix is our reconstruction; every
/// choice is a field here.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NpadConfig {
    /// Strides of the backbone taps to concatenate.
    pub taps: Vec<usize>,
    /// Input pixels per grid cell, along each side.
    pub grid: usize,
    /// Average each tap over 3x3 neighbourhoods first (PatchCore's local averaging).
    pub pool: bool,
    /// How taps are brought to one scale.
    pub scaling: LevelScaling,
    /// How many channels are kept.
    pub reduction: Reduction,
    /// Also learn from the mirrored images (left-right and up-down): only for products without
    /// a fixed orientation.
    pub flips: bool,
    /// The Gaussians.
    pub gaussian: GaussianConfig,
    /// The representative set.
    pub bank: BankConfig,
    /// Which distances make the map.
    pub combination: Combination,
    /// Standard deviation of the smoothing of maps, in input pixels; 0 is none.
    pub sigma: f64,
    /// How a map becomes an image's score.
    pub image_score: ImageScore,
}

/// The largest covariance that is kept whole by default: 1024 positions x 200^2 floats are 164 MB.
const DEFAULT_DIMENSIONS: usize = 200;

impl NpadConfig {
    /// N-pad (Jang, Hwang, Park; CVPR workshops 2023), as far as its abstract fixes it: 3x3
    /// neighbourhoods, Mahalanobis distance plus distance to centroids.
    pub fn npad() -> Self {
        Self {
            taps: vec![4, 8, 16],
            grid: 8,
            pool: false,
            scaling: LevelScaling::None,
            reduction: Reduction::Projection(DEFAULT_DIMENSIONS),
            flips: false,
            gaussian: GaussianConfig {
                radius: 1,
                search: 1,
                epsilon: 0.01,
            },
            bank: BankConfig {
                kind: BankKind::Centroids,
                share: 0.01,
                max_members: 2048,
                max_candidates: 100_000,
                iterations: 20,
            },
            combination: Combination::Sum,
            sigma: 4.0,
            image_score: ImageScore::Max,
        }
    }

    /// PaDiM (Defard et al., ICPR workshops 2021): one Gaussian a position, a random subset of
    /// channels, Mahalanobis distance alone.
    pub fn padim() -> Self {
        let npad = Self::npad();
        Self {
            reduction: Reduction::Subset(DEFAULT_DIMENSIONS),
            gaussian: GaussianConfig {
                radius: 0,
                search: 0,
                ..npad.gaussian
            },
            combination: Combination::Gaussian,
            ..npad
        }
    }

    /// PatchCore (Roth et al., CVPR 2022): locally averaged features of strides 8 and 16, a greedy
    /// coreset of 1 %, re-weighted image score with 9 neighbours.
    pub fn patchcore() -> Self {
        let npad = Self::npad();
        Self {
            taps: vec![8, 16],
            pool: true,
            reduction: Reduction::All,
            bank: BankConfig {
                kind: BankKind::Coreset,
                share: 0.01,
                max_members: 8192,
                max_candidates: 100_000,
                iterations: 0,
            },
            combination: Combination::Bank,
            image_score: ImageScore::Reweighted(9),
            ..npad
        }
    }

    /// # Errors
    /// When a field is out of its range or two fields contradict each other.
    pub fn validate(&self) -> Result<()> {
        let wrong = |message: String| Err(Error::usage(message));
        if self.taps.is_empty() {
            return wrong("'taps' names no stride".into());
        }
        if self.grid == 0 {
            return wrong("'grid' must be at least 1".into());
        }
        if let Reduction::Subset(0) | Reduction::Projection(0) = self.reduction {
            return wrong("'reduction' must keep at least one dimension".into());
        }
        if !(self.gaussian.epsilon > 0.0 && self.gaussian.epsilon.is_finite()) {
            return wrong(format!(
                "'gaussian.epsilon' must be positive, not {}: it keeps covariances invertible",
                self.gaussian.epsilon
            ));
        }
        if !(self.bank.share > 0.0 && self.bank.share <= 1.0) {
            return wrong(format!(
                "'bank.share' must be in (0, 1], not {}",
                self.bank.share
            ));
        }
        if self.bank.max_members == 0 || self.bank.max_candidates == 0 {
            return wrong("'bank.max_members' and 'bank.max_candidates' must be at least 1".into());
        }
        if !(self.sigma >= 0.0 && self.sigma.is_finite()) {
            return wrong(format!("'sigma' must be 0 or more, not {}", self.sigma));
        }
        match self.image_score {
            ImageScore::TopShare(share) if !(share > 0.0 && share <= 1.0) => wrong(format!(
                "'image_score.top-share' must be in (0, 1], not {share}"
            )),
            ImageScore::Reweighted(_) if !self.combination.uses_bank() => {
                wrong("'image_score.reweighted' needs a bank, but 'combination' uses none".into())
            }
            ImageScore::Reweighted(0) => {
                wrong("'image_score.reweighted' must be at least 1".into())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn presets_are_valid_and_survive_json() {
        for preset in [
            NpadConfig::npad(),
            NpadConfig::padim(),
            NpadConfig::patchcore(),
        ] {
            preset.validate().unwrap();
            let json = serde_json::to_string(&preset).unwrap();
            assert_eq!(serde_json::from_str::<NpadConfig>(&json).unwrap(), preset);
        }
    }

    #[test]
    fn contradictions_are_named() {
        let mut config = NpadConfig::padim();
        config.image_score = ImageScore::Reweighted(9);
        let message = config.validate().unwrap_err().to_string();
        assert!(message.contains("reweighted"), "{message}");
        config = NpadConfig::npad();
        config.sigma = -1.0;
        assert!(config.validate().unwrap_err().is_usage());
    }
}
