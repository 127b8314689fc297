//! What a backbone consists of before any tensor exists: its taps and its units.

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
