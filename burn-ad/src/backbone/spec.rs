//! What a backbone consists of before any tensor exists: its taps, its units, and the pixels it expects.

use serde::{Deserialize, Serialize};

/// One tap of a backbone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureInfo {
    /// Name of the tap in the reference implementation (`layer2`, `blocks.2`).
    pub name: &'static str,
    /// Channels of the feature map.
    pub channels: usize,
    /// Input pixels per feature position, along each side.
    pub stride: usize,
}

/// The normalisation that follows a convolution in a checkpoint and is folded into it at import.
#[derive(Clone, Debug, PartialEq)]
pub struct NormSpec {
    /// Name of the BatchNorm module in the canonical key style.
    pub name: String,
    /// Added to the running variance before the square root.
    pub epsilon: f64,
}

/// One convolution of a backbone: its canonical name, its weight's shape, what follows it.
///
/// Canonical names are torchvision's for ResNets and timm's for EfficientNets, without the
/// trailing `.weight`.
#[derive(Clone, Debug, PartialEq)]
pub struct UnitSpec {
    /// Name of the convolution module.
    pub name: String,
    /// `[out_channels, in_channels / groups, kernel_height, kernel_width]`.
    pub shape: [usize; 4],
    /// The BatchNorm behind it, if any.
    pub norm: Option<NormSpec>,
    /// Whether the convolution has a bias of its own in a checkpoint.
    pub bias: bool,
}

/// The values of one unit after folding: what a frozen network computes with.
#[derive(Clone, Debug, PartialEq)]
pub struct Unit {
    /// `shape.iter().product()` values, row-major.
    pub weight: Vec<f32>,
    /// One value per output channel.
    pub bias: Vec<f32>,
}

/// How images were resampled when a set of weights was trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interpolation {
    /// Pillow's antialiased triangle filter.
    #[default]
    Bilinear,
    /// Pillow's antialiased bicubic filter, a = -0.5.
    Bicubic,
}

/// The pixels a set of weights was trained on: `(value in [0, 1] - mean) / std` per RGB channel.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pixels {
    /// Subtracted from each of the red, green and blue values in [0, 1].
    pub mean: [f32; 3],
    /// Divides the difference.
    pub std: [f32; 3],
    /// The resampling filter of the training images.
    pub interpolation: Interpolation,
}

impl Pixels {
    /// ImageNet statistics and bilinear resampling: torchvision's ResNets.
    pub const IMAGENET: Self = Self {
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
        interpolation: Interpolation::Bilinear,
    };
    /// Values in [-1, 1] and bicubic resampling: timm's setting for EfficientNet-Lite0 to 2.
    pub const HALF: Self = Self {
        mean: [0.5; 3],
        std: [0.5; 3],
        interpolation: Interpolation::Bicubic,
    };

    /// The same statistics with another resampling filter.
    #[must_use]
    pub const fn with_interpolation(mut self, interpolation: Interpolation) -> Self {
        self.interpolation = interpolation;
        self
    }
}
