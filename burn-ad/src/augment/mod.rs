//! Pseudo-anomalies (provisional: replaced by the augment branch).

use image::{GrayImage, RgbImage};
use rand_chacha::ChaCha8Rng;

use crate::error::Result;

/// Where pseudo-anomalies come from.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct AugmentConfig {}

/// A known anomaly.
pub struct Known {
    /// Image.
    pub image: RgbImage,
    /// Mask.
    pub mask: GrayImage,
}

impl AugmentConfig {
    /// None.
    pub fn none() -> Self {
        Self {}
    }
    /// RPAG.
    pub fn rpag() -> Self {
        Self {}
    }
    /// # Errors
    /// Never.
    pub fn validate(&self) -> Result<()> {
        Ok(())
    }
    /// Whether there are any.
    pub fn is_none(&self) -> bool {
        true
    }
}

/// # Errors
/// Never.
pub fn pseudo_anomaly(
    _config: &AugmentConfig,
    _normal: &RgbImage,
    _foreground: Option<&GrayImage>,
    source: &Known,
    _rng: &mut ChaCha8Rng,
) -> Result<Known> {
    Ok(Known {
        image: source.image.clone(),
        mask: source.mask.clone(),
    })
}
