//! RandAugment pseudo-anomalies (RPAG): a known anomaly, augmented, on a normal image.
//!
//! Source: BGAD (Yao et al., CVPR 2023), its published code's strategy.

use image::{GrayImage, RgbImage};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::PseudoAnomaly;
use super::area::Area;
use super::draws::Draws;
use super::known::{Known, size};
use super::mask::{Region, bounds, external_regions, marked};
use super::rand_augment::RandAugment;
use crate::error::{Error, Result};

/// Settings of BGAD's pseudo-anomalies; the defaults are those of the published code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rpag {
    /// How many of the ten augmentations are picked for an anomaly, 0 to 10. BGAD: 3.
    pub augmentations: usize,
    /// A region may stay where more than this share of it is in the foreground, 0 to below 1.
    /// BGAD: 2/3.
    pub foreground_share: f64,
    /// How many places are tried for a region until one has that share; the best one is taken. At
    /// least 1; the published code tries one.
    pub attempts: usize,
}

impl Default for Rpag {
    fn default() -> Self {
        Self {
            augmentations: 3,
            foreground_share: 2.0 / 3.0,
            attempts: 32,
        }
    }
}

/// How often an augmentation that moved the whole anomaly out of the frame is drawn again.
const AUGMENTATION_ATTEMPTS: usize = 8;

impl Rpag {
    pub(super) fn validate(&self) -> Result<()> {
        if self.augmentations > 10 {
            return Err(Error::usage(format!(
                "rpag cannot pick {} of 10 augmentations",
                self.augmentations
            )));
        }
        if !(0.0..1.0).contains(&self.foreground_share) {
            return Err(Error::usage(format!(
                "rpag's foreground_share is {}, not from 0 to below 1",
                self.foreground_share
            )));
        }
        if self.attempts == 0 {
            return Err(Error::usage("rpag needs at least one of `attempts`"));
        }
        Ok(())
    }

    /// Pastes an augmented known anomaly onto a normal image.
    ///
    /// 1. An anomaly of another size is scaled (in proportion) to the normal image's area. Then
    ///    [`RandAugment`] acts on it and its mask. It is laid centre on centre: a quarter turn of
    ///    an oblong picture needs no stretching.
    /// 2. If more than [`foreground_share`](Self::foreground_share) of it lies in the foreground,
    ///    it is pasted there.
    /// 3. Otherwise each external contour (the mask inside its bounding box) moves separately: its
    ///    centroid goes to a random foreground point at least half the largest contour's box away
    ///    from the border (any foreground point where there is none). Pixels that fall outside
    ///    the image are dropped, and count as not in the foreground.
    /// 4. Without foreground it is pasted as in 2. Without a marked pixel nothing changes.
    ///
    /// Pixels outside the returned mask are those of `normal`, pixels inside are pixels of the
    /// augmented anomaly.
    // Differs from the published code in: several attempts in step 3; an augmentation that leaves
    // nothing of the mask is drawn again, and in the end left out; images are scaled in proportion.
    pub(super) fn apply(
        &self,
        normal: &RgbImage,
        foreground: &Area<'_>,
        source: &Known,
        rng: &mut ChaCha8Rng,
    ) -> PseudoAnomaly {
        let augmented = self.augmented(&source.scaled_to_area_of(normal), rng);
        let centring = [0, 1].map(|axis| {
            let (to, from) = (size(normal)[axis], size(augmented.image())[axis]);
            (i64::from(to) - i64::from(from)).div_euclid(2)
        });
        let mut canvas = Canvas::new(normal);
        let mut shares = Vec::new();
        let mut moved = false;
        let all = marked(augmented.mask());
        if !all.is_empty() {
            let share = foreground.share(&all, centring);
            if share > self.foreground_share || foreground.is_empty() {
                canvas.paste(augmented.image(), &all, centring);
                shares.push(share);
            } else {
                moved = true;
                let regions = external_regions(augmented.mask());
                let places = foreground.points(margins(&regions));
                for region in &regions {
                    let (offset, share) = self.place(region, &places, foreground, &mut Draws(rng));
                    canvas.paste(augmented.image(), region, offset);
                    shares.push(share);
                }
            }
        }
        PseudoAnomaly {
            image: canvas.image,
            mask: canvas.mask,
            source: augmented,
            foreground_shares: shares,
            moved,
        }
    }

    fn augmented(&self, source: &Known, rng: &mut ChaCha8Rng) -> Known {
        let augment = RandAugment {
            picks: self.augmentations,
        };
        if !source.is_marked() {
            return augment.apply(source, rng);
        }
        (0..AUGMENTATION_ATTEMPTS)
            .map(|_| augment.apply(source, rng))
            .find(Known::is_marked)
            .unwrap_or_else(|| source.clone())
    }

    /// Where a region goes, and the share of it that is in the foreground there.
    fn place(
        &self,
        region: &Region,
        places: &[[i64; 2]],
        foreground: &Area<'_>,
        draws: &mut Draws<'_>,
    ) -> ([i64; 2], f64) {
        let count = region.len() as i64;
        let centroid = [0, 1].map(|axis| {
            let sum: i64 = region.iter().map(|point| point[axis]).sum();
            // Rounded; coordinates are not negative.
            (2 * sum + count) / (2 * count)
        });
        let mut best = ([0, 0], -1.0);
        for _ in 0..self.attempts {
            let point = places[draws.below(places.len())];
            let offset = [point[0] - centroid[0], point[1] - centroid[1]];
            let share = foreground.share(region, offset);
            if share > best.1 {
                best = (offset, share);
            }
            if share > self.foreground_share {
                break;
            }
        }
        best
    }
}

/// Half the width and height of the largest region's box (the box of largest area).
fn margins(regions: &[Region]) -> [i64; 2] {
    let boxes = regions.iter().filter_map(|region| bounds(region));
    let sides = boxes.map(|bounds| bounds.map(|[first, last]| last - first + 1));
    let largest = sides.max_by_key(|[width, height]| width * height);
    largest.map_or([0, 0], |sides| sides.map(|side| (side + 1) / 2))
}

/// A copy of a normal image that is pasted onto, and what was.
struct Canvas {
    image: RgbImage,
    mask: GrayImage,
}

impl Canvas {
    fn new(normal: &RgbImage) -> Self {
        Self {
            image: normal.clone(),
            mask: GrayImage::new(normal.width(), normal.height()),
        }
    }

    /// Copies a region's pixels, moved by `offset`, except those that leave the image.
    fn paste(&mut self, source: &RgbImage, region: &Region, offset: [i64; 2]) {
        for &[x, y] in region {
            let to = [u32::try_from(x + offset[0]), u32::try_from(y + offset[1])];
            let [Ok(to_x), Ok(to_y)] = to else { continue };
            if let Some(pixel) = self.image.get_pixel_mut_checked(to_x, to_y) {
                *pixel = *source.get_pixel(x as u32, y as u32);
                self.mask.put_pixel(to_x, to_y, image::Luma([255]));
            }
        }
    }
}

#[cfg(test)]
mod tests;
