//! The ten augmentations of BGAD's pseudo-anomalies, and three of them at random.
//!
//! Source: BGAD (Yao et al., CVPR 2023), RandAugment pseudo-anomalies; the ranges are those of the
//! published code, most of them defaults of the library it uses (Albumentations 1).
//!
//! Every augmentation acts on image and mask together. What moves pixels moves those of both
//! through one map: the image bilinearly, the mask to the nearest pixel. Where a map reaches
//! beyond the frame the picture is reflected there (without repeating the edge pixel), as in the
//! published code's library, *and so is the mask*: an anomaly seen twice is marked twice. What
//! changes only values leaves the mask alone.

mod contrast;
mod geometry;
mod photometric;
mod warp;

use image::imageops;
use rand_chacha::ChaCha8Rng;

use super::draws::Draws;
use super::known::Known;
pub(super) use contrast::luminance;
pub(super) use photometric::{from_hsv, is_grey, level, to_hsv};

/// One of the ten augmentations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Augmentation {
    /// Rotation by a random multiple of 90 degrees (0 included); may swap width and height.
    Rotate90,
    /// Mirrored left-right, top-bottom, or both.
    Flip,
    /// Rows become columns; swaps width and height.
    Transpose,
    /// Radial lens distortion with a coefficient in `[-1, 1]`.
    Optical,
    /// Gaussian noise with a variance of 10 to 50 squared grey levels, one draw per channel; in a
    /// grey image one per pixel, so that it stays grey.
    Noise,
    /// One of: motion blur along a random line in 3 to 7 pixels, median of 3 x 3, mean of 3 x 3
    /// (2 : 1 : 1).
    Blur,
    /// Shift by up to 6.25 % of the side, scaling by up to 20 %, rotation by up to 45 degrees.
    ShiftScaleRotate,
    /// One of: lens distortion within 0.05, a grid of 5 x 5 cells stretched by up to 30 %, piecewise
    /// affine on 4 x 4 points that move by 3 to 5 % (standard deviation) of the side (3 : 1 : 3).
    Distortion,
    /// One of, equally likely: CLAHE with a clip limit up to 2, sharpening, embossing, brightness
    /// and contrast within 20 %.
    Contrast,
    /// Hue within 40 degrees, saturation within 30 and value within 20 of 255.
    // Differs from the published code: a grey image stays grey, only its value changes. There a
    // larger saturation turns grey into red, which no normal image shows.
    HueSaturationValue,
}

impl Augmentation {
    /// All ten.
    pub const ALL: [Self; 10] = [
        Self::Rotate90,
        Self::Flip,
        Self::Transpose,
        Self::Optical,
        Self::Noise,
        Self::Blur,
        Self::ShiftScaleRotate,
        Self::Distortion,
        Self::Contrast,
        Self::HueSaturationValue,
    ];

    /// How likely it acts once it was picked.
    pub fn probability(self) -> f64 {
        match self {
            Self::Rotate90 | Self::Flip | Self::Transpose | Self::Optical => 0.5,
            Self::Noise | Self::Blur | Self::ShiftScaleRotate | Self::Distortion => 0.2,
            Self::Contrast | Self::HueSaturationValue => 0.3,
        }
    }

    /// The augmented image and mask, whatever the [`probability`](Self::probability).
    pub fn apply(self, known: &Known, rng: &mut ChaCha8Rng) -> Known {
        self.draw(known, &mut Draws(rng))
    }

    fn draw(self, known: &Known, draws: &mut Draws<'_>) -> Known {
        let image = known.image();
        match self {
            Self::Rotate90 => geometry::rotate90(known, draws.below(4)),
            Self::Flip => {
                let (horizontal, vertical) =
                    [(true, false), (false, true), (true, true)][draws.below(3)];
                geometry::flip(known, horizontal, vertical)
            }
            Self::Transpose => Known::from_parts(
                imageops::flip_horizontal(&imageops::rotate90(image)),
                imageops::flip_horizontal(&imageops::rotate90(known.mask())),
            ),
            Self::Optical => geometry::optical(known, draws.around_zero(1.0)),
            Self::Noise => known.with_image(photometric::noise(image, draws)),
            Self::Blur => known.with_image(photometric::blur(image, draws)),
            Self::ShiftScaleRotate => geometry::shift_scale_rotate(known, draws),
            Self::Distortion => geometry::distortion(known, draws),
            Self::Contrast => known.with_image(contrast::contrast(image, draws)),
            Self::HueSaturationValue => {
                known.with_image(photometric::hue_saturation_value(image, draws))
            }
        }
    }
}

/// Some of the ten at random, without replacement, in the order drawn; each acts with its own
/// [`probability`](Augmentation::probability).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RandAugment {
    /// How many are picked: at most 10, BGAD picks 3.
    pub picks: usize,
}

impl Default for RandAugment {
    fn default() -> Self {
        Self { picks: 3 }
    }
}

impl RandAugment {
    /// The augmented image and mask.
    pub fn apply(&self, known: &Known, rng: &mut ChaCha8Rng) -> Known {
        let draws = &mut Draws(rng);
        let mut augmented = known.clone();
        for augmentation in self.pick(draws) {
            if draws.chance(augmentation.probability()) {
                augmented = augmentation.draw(&augmented, draws);
            }
        }
        augmented
    }

    fn pick(&self, draws: &mut Draws<'_>) -> Vec<Augmentation> {
        let mut rest = Augmentation::ALL.to_vec();
        (0..self.picks.min(rest.len()))
            .map(|_| {
                let drawn = draws.below(rest.len());
                rest.remove(drawn)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
