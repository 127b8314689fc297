//! Random views of a picture, for contrastive learning.

use image::{RgbImage, imageops};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::colour_jitter::{ColourJitter, grey};
use super::draws::Draws;
use crate::data::{Filter, Region, resample};
use crate::error::{Error, Result};

/// Ratios of width to height of what is cut out, as torchvision has them.
const RATIOS: [f64; 2] = [3.0 / 4.0, 4.0 / 3.0];
/// So often a cut that does not fit is drawn again.
const ATTEMPTS: usize = 10;

/// What makes two views of a picture differ: a random cut, resized; mirroring; other colours.
///
/// Source: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", ICML
/// 2020 (SimCLR), its augmentations for small images (without blur).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomView {
    /// Least and greatest share of the picture's area that is seen.
    pub area: [f64; 2],
    /// How likely it is mirrored left-right.
    pub flip: f64,
    /// How its colours change.
    pub jitter: ColourJitter,
    /// How likely they do.
    pub jitter_probability: f64,
    /// How likely it loses its colours.
    pub grey_probability: f64,
}

impl Default for RandomView {
    fn default() -> Self {
        Self {
            area: [0.2, 1.0],
            flip: 0.5,
            jitter: ColourJitter::default(),
            jitter_probability: 0.8,
            grey_probability: 0.2,
        }
    }
}

impl RandomView {
    /// # Errors
    /// When a setting is out of its range.
    pub fn validate(&self) -> Result<()> {
        self.jitter.validate()?;
        let [least, greatest] = self.area;
        if !(least > 0.0 && least <= greatest && greatest <= 1.0) {
            return Err(Error::usage(format!(
                "shares of the area must be 0 < least <= greatest <= 1, not {:?}",
                self.area
            )));
        }
        for (name, probability) in [
            ("flip", self.flip),
            ("jitter_probability", self.jitter_probability),
            ("grey_probability", self.grey_probability),
        ] {
            if !(0.0..=1.0).contains(&probability) {
                return Err(Error::usage(format!(
                    "{name} must be in [0, 1], not {probability}"
                )));
            }
        }
        Ok(())
    }

    /// A view of `side` x `side` pixels of the part `region` of a picture.
    pub fn apply(
        &self,
        picture: &RgbImage,
        region: Region,
        side: usize,
        rng: &mut ChaCha8Rng,
    ) -> RgbImage {
        let draws = &mut Draws(rng);
        let cut = self.cut(region, draws);
        let whole = Region {
            top: 0,
            left: 0,
            height: side,
            width: side,
        };
        let [left, top, width, height] =
            [cut.left, cut.top, cut.width, cut.height].map(|length| length as u32);
        let cut = imageops::crop_imm(picture, left, top, width, height).to_image();
        let mut view = resample(&cut, [side; 2], whole, Filter::Bilinear);
        if draws.chance(self.flip) {
            imageops::flip_horizontal_in_place(&mut view);
        }
        if draws.chance(self.jitter_probability) {
            view = self.jitter.apply(&view, draws.0);
        }
        if draws.chance(self.grey_probability) {
            view = grey(&view);
        }
        view
    }

    /// The rectangle that is seen, as torchvision's `RandomResizedCrop` draws it.
    fn cut(&self, region: Region, draws: &mut Draws<'_>) -> Region {
        let (height, width) = (region.height, region.width);
        let placed = |[rows, columns]: [usize; 2], [top, left]: [usize; 2]| Region {
            top: region.top + top,
            left: region.left + left,
            height: rows,
            width: columns,
        };
        let [least, greatest] = RATIOS;
        for _ in 0..ATTEMPTS {
            let area = (height * width) as f64 * draws.uniform(self.area[0], self.area[1]);
            let ratio = draws.uniform(least.ln(), greatest.ln()).exp();
            let columns = (area * ratio).sqrt().round() as usize;
            let rows = (area / ratio).sqrt().round() as usize;
            if (1..=width).contains(&columns) && (1..=height).contains(&rows) {
                let corner = [height - rows, width - columns].map(|free| draws.below(free + 1));
                return placed([rows, columns], corner);
            }
        }
        // The middle, with a ratio as near to the picture's as is allowed.
        let side = |length: f64, most: usize| (length.round() as usize).clamp(1, most);
        let ratio = width as f64 / height as f64;
        let [rows, columns] = if ratio < least {
            [side(width as f64 / least, height), width]
        } else if ratio > greatest {
            [height, side(height as f64 * greatest, width)]
        } else {
            [height, width]
        };
        placed(
            [rows, columns],
            [(height - rows) / 2, (width - columns) / 2],
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::train::stream_rng;
    use image::Rgb;

    const PART: Region = Region {
        top: 3,
        left: 10,
        height: 20,
        width: 30,
    };

    #[test]
    fn cuts_lie_inside_and_have_the_area_and_shape_asked_for() {
        let view = RandomView {
            area: [0.2, 0.5],
            ..RandomView::default()
        };
        let mut rng = stream_rng(0, "cuts");
        let draws = &mut Draws(&mut rng);
        for _ in 0..200 {
            let cut = view.cut(PART, draws);
            assert!(cut.top >= 3 && cut.top + cut.height <= 23, "{cut:?}");
            assert!(cut.left >= 10 && cut.left + cut.width <= 40, "{cut:?}");
            let share = (cut.height * cut.width) as f64 / 600.0;
            assert!((0.15..0.56).contains(&share), "{cut:?}");
            let ratio = cut.width as f64 / cut.height as f64;
            assert!((0.68..1.48).contains(&ratio), "{cut:?}");
        }
        // Nothing of that shape fits: the middle.
        let strip = Region {
            height: 2,
            width: 30,
            ..PART
        };
        let whole = RandomView {
            area: [1.0, 1.0],
            ..view
        };
        let cut = whole.cut(strip, draws);
        assert_eq!([cut.height, cut.width, cut.left], [2, 3, 23]);
    }

    #[test]
    fn a_seed_gives_one_view_and_another_seed_another_one() {
        let picture = RgbImage::from_fn(50, 40, |x, y| Rgb([(5 * x) as u8, (6 * y) as u8, 50]));
        let draw = |seed| {
            let mut rng = stream_rng(seed, "view");
            RandomView::default().apply(&picture, PART, 16, &mut rng)
        };
        assert_eq!(draw(1).dimensions(), (16, 16));
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let plain = RandomView {
            area: [1.0, 1.0],
            flip: 0.0,
            jitter_probability: 0.0,
            grey_probability: 0.0,
            ..RandomView::default()
        };
        let square = Region {
            height: 16,
            width: 16,
            ..PART
        };
        let found = plain.apply(&picture, square, 16, &mut stream_rng(0, "view"));
        let whole = found.enumerate_pixels();
        let same = whole
            .filter(|(x, y, pixel)| *pixel == picture.get_pixel(x + 10, y + 3))
            .count();
        // Of a square nothing but all has its area and fits.
        assert_eq!(same, 256);
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        assert!(RandomView::default().validate().is_ok());
        for view in [
            RandomView {
                area: [0.0, 1.0],
                ..RandomView::default()
            },
            RandomView {
                area: [0.6, 0.5],
                ..RandomView::default()
            },
            RandomView {
                flip: 1.5,
                ..RandomView::default()
            },
        ] {
            assert!(view.validate().unwrap_err().is_usage());
        }
    }
}
