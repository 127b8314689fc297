//! From bytes to the numbers a backbone was trained on.

use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Per-channel mean and standard deviation of pixels in `[0, 1]`, in the order red, green, blue.
///
/// They belong to the weights of a backbone, not to the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalisation {
    /// Subtracted first.
    pub mean: [f32; 3],
    /// Divided by second; positive.
    pub std: [f32; 3],
}

impl Normalisation {
    /// The statistics of ImageNet that torchvision and most of timm use.
    pub const IMAGENET: Self = Self {
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
    };

    /// To `[-1, 1]`: TensorFlow's "Inception" scaling, which EfficientNet-Lite was trained with.
    pub const HALF: Self = Self {
        mean: [0.5; 3],
        std: [0.5; 3],
    };

    /// Checks that the values can be used.
    ///
    /// # Errors
    /// When a mean is not finite, or a standard deviation is not finite and positive.
    pub fn check(&self) -> Result<()> {
        let usable = self.mean.iter().all(|mean| mean.is_finite())
            && self.std.iter().all(|std| std.is_finite() && *std > 0.0);
        if usable {
            return Ok(());
        }
        Err(Error::usage(format!(
            "cannot normalise with mean {:?} and standard deviation {:?}",
            self.mean, self.std
        ))
        .help(
            "give three finite means and three positive standard deviations, of pixels in [0, 1]",
        ))
    }

    /// `(pixel / 255 - mean) / std`, computed in f32 as torchvision does; `[3, height, width]`.
    pub fn apply(&self, image: &RgbImage) -> Vec<f32> {
        let tables: [[f32; 256]; 3] = std::array::from_fn(|channel| {
            std::array::from_fn(|value| {
                (value as f32 / 255.0 - self.mean[channel]) / self.std[channel]
            })
        });
        let count = image.width() as usize * image.height() as usize;
        let mut pixels = vec![0.0; 3 * count];
        let (red, rest) = pixels.split_at_mut(count);
        let (green, blue) = rest.split_at_mut(count);
        for (index, pixel) in image.as_raw().chunks_exact(3).enumerate() {
            red[index] = tables[0][usize::from(pixel[0])];
            green[index] = tables[1][usize::from(pixel[1])];
            blue[index] = tables[2][usize::from(pixel[2])];
        }
        pixels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_become_planes_in_the_order_red_green_blue() {
        let image = RgbImage::from_raw(2, 1, vec![0, 255, 51, 255, 0, 102]).expect("six bytes");
        let pixels = Normalisation::HALF.apply(&image);
        let expected = [-1.0, 1.0, 1.0, -1.0, -0.6, -0.2];
        for (got, want) in pixels.iter().zip(expected) {
            assert!((got - want).abs() < 1e-6, "{pixels:?}");
        }
    }

    #[test]
    fn imagenet_statistics_centre_their_own_mean() {
        let grey = RgbImage::from_pixel(1, 1, image::Rgb([124, 116, 104]));
        for value in Normalisation::IMAGENET.apply(&grey) {
            assert!(value.abs() < 0.02, "{value}");
        }
    }

    #[test]
    fn a_zero_deviation_is_refused() {
        let mut bad = Normalisation::HALF;
        bad.std[1] = 0.0;
        assert!(bad.check().is_err_and(|error| error.is_usage()));
        assert!(Normalisation::IMAGENET.check().is_ok());
    }
}
