//! Random changes of brightness, contrast, saturation and hue.

use image::{Rgb, RgbImage};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::draws::Draws;
use super::rand_augment::{from_hsv, is_grey, level, luminance, to_hsv};
use crate::error::{Error, Result};

/// torchvision's `ColorJitter`: each change by a random factor, in random order.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColourJitter {
    /// Values are multiplied by a factor within this of 1.
    pub brightness: f64,
    /// Distances from the mean grey level are multiplied by a factor within this of 1.
    pub contrast: f64,
    /// Distances of a pixel's channels from its grey level are multiplied by a factor within this of 1.
    pub saturation: f64,
    /// Hues turn by up to this share of a full circle; at most one half.
    pub hue: f64,
}

impl Default for ColourJitter {
    /// SimCLR's for small images (strength 0.5).
    fn default() -> Self {
        Self {
            brightness: 0.4,
            contrast: 0.4,
            saturation: 0.4,
            hue: 0.1,
        }
    }
}

impl ColourJitter {
    /// # Errors
    /// When a strength is out of its range.
    pub fn validate(&self) -> Result<()> {
        for (name, strength, largest) in [
            ("brightness", self.brightness, 1.0),
            ("contrast", self.contrast, 1.0),
            ("saturation", self.saturation, 1.0),
            ("hue", self.hue, 0.5),
        ] {
            if !(0.0..=largest).contains(&strength) {
                return Err(Error::usage(format!(
                    "the strength {strength} of the change in {name} must be in [0, {largest}]"
                )));
            }
        }
        Ok(())
    }

    /// The image in other colours.
    pub fn apply(&self, image: &RgbImage, rng: &mut ChaCha8Rng) -> RgbImage {
        let draws = &mut Draws(rng);
        let mut order = [0, 1, 2, 3];
        draws.shuffle(&mut order);
        let mut image = image.clone();
        for change in order {
            match change {
                0 => {
                    let factor = 1.0 + draws.around_zero(self.brightness);
                    blend(&mut image, factor, |_| 0.0);
                }
                1 => {
                    let factor = 1.0 + draws.around_zero(self.contrast);
                    let sum: u64 = image
                        .pixels()
                        .map(|pixel| u64::from(luminance(pixel)))
                        .sum();
                    let count = f64::from(image.width()) * f64::from(image.height());
                    let mean = (sum as f64 / count.max(1.0)).round();
                    blend(&mut image, factor, |_| mean);
                }
                2 => {
                    let factor = 1.0 + draws.around_zero(self.saturation);
                    blend(&mut image, factor, |pixel| f64::from(luminance(pixel)));
                }
                _ => turn(&mut image, 360.0 * draws.around_zero(self.hue)),
            }
        }
        image
    }
}

/// Multiplies the distance of each pixel's channels from its `base` by a factor.
fn blend(image: &mut RgbImage, factor: f64, base: impl Fn(&Rgb<u8>) -> f64) {
    for pixel in image.pixels_mut() {
        let base = base(pixel);
        *pixel = Rgb(pixel
            .0
            .map(|value| level(base + factor * (f64::from(value) - base))));
    }
}

/// Turns hues by some degrees.
fn turn(image: &mut RgbImage, degrees: f64) {
    if is_grey(image) {
        return;
    }
    for pixel in image.pixels_mut() {
        let [hue, saturation, value] = to_hsv(*pixel);
        *pixel = from_hsv([(hue + degrees).rem_euclid(360.0), saturation, value]);
    }
}

/// The image without colour.
pub(super) fn grey(image: &RgbImage) -> RgbImage {
    let mut grey = image.clone();
    for pixel in grey.pixels_mut() {
        *pixel = Rgb([luminance(pixel); 3]);
    }
    grey
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::train::stream_rng;

    fn colours() -> RgbImage {
        RgbImage::from_fn(6, 4, |x, y| Rgb([(40 * x) as u8, (60 * y) as u8, 90]))
    }

    const NONE: ColourJitter = ColourJitter {
        brightness: 0.0,
        contrast: 0.0,
        saturation: 0.0,
        hue: 0.0,
    };

    #[test]
    fn each_change_does_what_its_name_says() {
        let image = colours();
        let rng = |seed| stream_rng(seed, "jitter");
        assert_eq!(NONE.apply(&image, &mut rng(0)), image);
        for seed in 0..5 {
            let brightness = ColourJitter {
                brightness: 0.4,
                ..NONE
            };
            let found = brightness.apply(&image, &mut rng(seed));
            // Of unsaturated values one factor between 0.6 and 1.4.
            let factor = f64::from(found.get_pixel(3, 2)[0]) / 120.0;
            assert!((0.59..1.41).contains(&factor), "{factor}");
            let blue = f64::from(found.get_pixel(0, 0)[2]);
            assert!((blue - 90.0 * factor).abs() < 2.0, "{blue}");
            let contrast = ColourJitter {
                contrast: 0.4,
                ..NONE
            };
            let flat = RgbImage::from_pixel(3, 3, Rgb([77; 3]));
            assert_eq!(contrast.apply(&flat, &mut rng(seed)), flat);
            assert_ne!(contrast.apply(&image, &mut rng(seed)), image);
            let saturation = ColourJitter {
                saturation: 0.4,
                ..NONE
            };
            let colourless = grey(&image);
            assert!(is_grey(&colourless));
            assert_eq!(saturation.apply(&colourless, &mut rng(seed)), colourless);
            let hue = ColourJitter { hue: 0.5, ..NONE };
            let found = hue.apply(&image, &mut rng(seed));
            assert_ne!(found, image);
            for (before, after) in image.pixels().zip(found.pixels()) {
                let value = |pixel: &Rgb<u8>| *pixel.0.iter().max().unwrap();
                assert_eq!(value(before), value(after));
            }
        }
    }

    #[test]
    fn strengths_beyond_reason_are_refused() {
        assert!(ColourJitter::default().validate().is_ok());
        let jitter = ColourJitter { hue: 0.6, ..NONE };
        assert!(jitter.validate().unwrap_err().is_usage());
        let jitter = ColourJitter {
            contrast: f64::NAN,
            ..NONE
        };
        assert!(jitter.validate().unwrap_err().is_usage());
    }
}
