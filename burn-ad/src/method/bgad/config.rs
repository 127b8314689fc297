//! Settings of NFAD, BGAD and BGAD-dagger.

use super::loss::LossConfig;
use crate::augment::{AugmentConfig, Foreground, Rpag};
use crate::error::{Error, Result};
use crate::flow::FlowConfig;

/// Settings of BGAD and of its relatives. Defaults are the published ones (appendix and code of
/// Yao et al., CVPR 2023).
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BgadConfig {
    /// Strides of the backbone taps; each gets a flow of its own.
    pub taps: Vec<usize>,
    /// The flow of each tap.
    pub flow: FlowConfig,
    /// What is minimised.
    pub loss: LossConfig,
    /// Where anomalies to learn from come from, beside the known ones as they are.
    pub augment: AugmentConfig,
    /// Where on a normal image pseudo-anomalies go. The whole image suits textures.
    pub foreground: Foreground,
    /// Which images are seen how often.
    pub schedule: ScheduleConfig,
}

/// Which images are seen how often, and how fast is learnt.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    /// Meta epochs; the first sees normal images only. 0 leaves the flows as they are drawn or
    /// imported.
    pub meta_epochs: usize,
    /// Passes over the images in a meta epoch.
    pub sub_epochs: usize,
    /// Meta epochs over which the learning rate rises from a tenth.
    pub warm_up: usize,
    /// Adam's learning rate at its highest; it falls to a thousandth along a cosine.
    pub learning_rate: f64,
    /// Images whose vectors are shuffled together.
    pub batch: usize,
    /// Vectors of an optimiser step. What a batch leaves over is dropped (scoring uses all).
    pub chunk: usize,
    /// Share of normal images in a batch that has anomalies; the appendix says 2 : 1. A pass ends
    /// when every normal image was seen once.
    pub normal_share: f64,
    /// Share of an image's vectors that one pass uses, drawn anew each time. 1 is the paper's; less
    /// is for small budgets. Anomalous vectors are always used.
    pub vector_share: f64,
    /// How often each known anomaly stands in the list of anomalous images.
    pub repeats: usize,
    /// How many of these stay as they are; the others are made anew by the augmentation.
    pub plain_repeats: usize,
    /// Different versions of each augmented anomaly; 0 makes a new one every time (published).
    /// With a number their features are computed once.
    pub versions: usize,
}

impl BgadConfig {
    /// BGAD: flow, boundary-guided loss with asymmetric weights, RPAG.
    pub fn bgad() -> Self {
        Self {
            taps: vec![4, 8, 16],
            flow: FlowConfig::bgad(),
            loss: LossConfig::bgad(),
            augment: AugmentConfig::Rpag(Rpag::default()),
            foreground: Foreground::Whole,
            schedule: ScheduleConfig {
                meta_epochs: 25,
                sub_epochs: 8,
                warm_up: 2,
                learning_rate: 2e-4,
                batch: 32,
                chunk: 4096,
                normal_share: 2.0 / 3.0,
                vector_share: 1.0,
                repeats: 10,
                plain_repeats: 5,
                versions: 0,
            },
        }
    }

    /// NFAD: the same flow on normal images alone.
    pub fn nfad() -> Self {
        Self {
            loss: LossConfig::nfad(),
            augment: AugmentConfig::None,
            ..Self::bgad()
        }
    }

    /// BGAD-dagger: pushes and pulls every vector, without the one-sided selection.
    pub fn dagger() -> Self {
        Self {
            loss: LossConfig::dagger(),
            ..Self::bgad()
        }
    }

    /// # Errors
    /// When a field is out of its range.
    pub fn validate(&self) -> Result<()> {
        let wrong = |message: String| Err(Error::usage(message));
        if self.taps.is_empty() {
            return wrong("'taps' names no stride".into());
        }
        self.flow.validate()?;
        self.loss.validate()?;
        self.augment.validate()?;
        let schedule = &self.schedule;
        for (name, value) in [
            ("sub_epochs", schedule.sub_epochs),
            ("batch", schedule.batch),
            ("chunk", schedule.chunk),
            ("repeats", schedule.repeats),
        ] {
            if value == 0 {
                return wrong(format!("'schedule.{name}' must be at least 1"));
            }
        }
        if !(schedule.learning_rate > 0.0 && schedule.learning_rate.is_finite()) {
            return wrong(format!(
                "'schedule.learning_rate' must be positive, not {}",
                schedule.learning_rate
            ));
        }
        for (name, share) in [
            ("normal_share", schedule.normal_share),
            ("vector_share", schedule.vector_share),
        ] {
            if !(share > 0.0 && share <= 1.0) {
                return wrong(format!("'schedule.{name}' must be in (0, 1], not {share}"));
            }
        }
        Ok(())
    }

    /// Whether known anomalies change anything.
    pub fn uses_anomalies(&self) -> bool {
        self.loss.uses_anomalies() && self.schedule.normal_share < 1.0
    }
}
