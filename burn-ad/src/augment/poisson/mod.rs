//! NSA's anomalies: scaled patches of another image, blended seamlessly.
//!
//! Source: Schlueter, Tan, Hou, Kainz, "Natural synthetic anomalies" (ECCV 2022), and its published
//! code, which uses OpenCV's cloning; here the Poisson equation is solved in [`solve`].

mod solve;

use image::imageops::{self, FilterType};
use image::{GrayImage, Luma, Rgb, RgbImage};
use imageproc::filter::median_filter;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::PseudoAnomaly;
use super::area::Area;
use super::draws::Draws;
use super::known::{Known, size};
use super::rand_augment::is_grey;
use crate::error::{Error, Result};
use solve::Domain;
pub use solve::Gradients;

/// Settings of NSA's anomalies; the defaults are those of the published code, which has its own
/// bounds for some products.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Poisson {
    /// Most patches, at least 1; each one after the first is pasted with probability 1/2.
    pub patches: usize,
    /// Bounds of half a patch's sides, as shares of the normal image's, above 0 to 0.5. Within them
    /// they are 0.03 plus a Gamma number of shape 2 and scale 0.05.
    pub half_side: [f64; 2],
    /// Bounds of the factor by which a cut patch is resized, above 0; Gaussian around 1 with
    /// deviation 0.5 within them.
    pub scale: [f64; 2],
    /// Which differences between neighbours the blend keeps.
    pub gradients: Gradients,
    /// Mean change over the channels, in grey levels of 255, above which a pixel is marked.
    pub visible: f64,
}

impl Default for Poisson {
    fn default() -> Self {
        Self {
            patches: 4,
            half_side: [0.05, 0.2],
            scale: [0.7, 1.3],
            gradients: Gradients::Source,
            visible: 1.0,
        }
    }
}

/// Least share of a patch that should lie in the foreground (published code), and how many places
/// are tried for that.
const OVERLAP: f64 = 0.25;
const ATTEMPTS: usize = 32;
/// How often patches that change nothing visible are drawn again.
const REDRAWS: usize = 8;

impl Poisson {
    pub(super) fn validate(&self) -> Result<()> {
        if self.patches == 0 {
            return Err(Error::usage("poisson needs at least one of `patches`"));
        }
        let range = |name: &str, [low, high]: [f64; 2], most: f64| {
            if 0.0 < low && low <= high && high <= most {
                return Ok(());
            }
            Err(Error::usage(format!(
                "poisson's {name} is [{low}, {high}], not a range above 0 up to {most}"
            )))
        };
        range("half_side", self.half_side, 0.5)?;
        range("scale", self.scale, 10.0)?;
        if !(0.0..255.0).contains(&self.visible) {
            return Err(Error::usage(format!(
                "poisson's visible is {}, not from 0 to below 255",
                self.visible
            )));
        }
        Ok(())
    }

    /// Blends patches cut from `source` (any image; scaled in proportion to the normal image's area)
    /// into a normal image.
    ///
    /// A patch is a rectangle centred on a foreground point and shifted into the image. What is
    /// blended is its inside, without its outermost pixels, in the foreground; all around the
    /// normal image's values are kept, also those of the background at the product's outline, which
    /// therefore runs into a patch there. The mask marks where the mean change exceeds `visible`,
    /// after a 5 x 5 median against grain; pixels outside it get their old values back.
    // Differs from the published code: nothing outside the normal image's foreground changes; there
    // a patch's object may replace background.
    pub(super) fn apply(
        &self,
        normal: &RgbImage,
        foreground: &Area<'_>,
        source: &Known,
        rng: &mut ChaCha8Rng,
    ) -> PseudoAnomaly {
        let draws = &mut Draws(rng);
        let source = source.scaled_to_area_of(normal);
        let points = foreground.points([0, 0]);
        let mut result = (
            normal.clone(),
            GrayImage::new(normal.width(), normal.height()),
        );
        for _ in 0..REDRAWS {
            let mut blended = normal.clone();
            for patch in 0..self.patches {
                if (patch == 0 || draws.chance(0.5)) && !points.is_empty() {
                    let patch = self.cut(source.image(), size(normal), draws);
                    let corner = place(size(&patch), foreground, &points, size(normal), draws);
                    self.blend(&mut blended, &patch, corner, foreground);
                }
            }
            result = self.keep_visible(normal, blended, foreground);
            if result.1.as_raw().iter().any(|&value| value != 0) {
                break;
            }
        }
        PseudoAnomaly {
            image: result.0,
            mask: result.1,
            source,
            foreground_shares: Vec::new(),
            moved: false,
        }
    }

    /// A random rectangle of the source, resized; no larger than the frame.
    fn cut(&self, source: &RgbImage, frame: [u32; 2], draws: &mut Draws<'_>) -> RgbImage {
        let sides: [u32; 2] = std::array::from_fn(|axis| {
            // Shape 2: the sum of two exponentials.
            let gamma = 0.05 * (draws.exponential() + draws.exponential());
            let half = (0.03 + gamma).clamp(self.half_side[0], self.half_side[1]);
            let side = (2.0 * half * f64::from(frame[axis])).round() as u32;
            side.clamp(1, size(source)[axis])
        });
        let [x, y] =
            [0, 1].map(|axis| draws.below((size(source)[axis] - sides[axis] + 1) as usize) as u32);
        let patch = imageops::crop_imm(source, x, y, sides[0], sides[1]).to_image();
        let scale = (1.0 + 0.5 * draws.gaussian()).clamp(self.scale[0], self.scale[1]);
        let scaled: [u32; 2] = std::array::from_fn(|axis| {
            let side = (f64::from(sides[axis]) * scale).round() as u32;
            side.clamp(1, frame[axis])
        });
        imageops::resize(&patch, scaled[0], scaled[1], FilterType::Triangle)
    }

    fn blend(
        &self,
        image: &mut RgbImage,
        patch: &RgbImage,
        [left, top]: [u32; 2],
        foreground: &Area<'_>,
    ) {
        let (width, height) = patch.dimensions();
        let domain = Domain::new(width as usize, height as usize, &|x, y| {
            foreground.contains([i64::from(left) + x as i64, i64::from(top) + y as i64])
        });
        let target = imageops::crop_imm(image, left, top, width, height).to_image();
        let plane = |image: &RgbImage, c: usize| {
            image
                .pixels()
                .map(|pixel| f64::from(pixel[c]))
                .collect::<Vec<_>>()
        };
        let solve = |c| domain.blend(&plane(patch, c), &plane(&target, c), self.gradients);
        let red = solve(0);
        let channels = if is_grey(patch) && is_grey(&target) {
            [red.clone(), red.clone(), red]
        } else {
            [red, solve(1), solve(2)]
        };
        for (i, &place) in domain.places().iter().enumerate() {
            let (x, y) = (place as u32 % width, place as u32 / width);
            let levels = [0, 1, 2].map(|c: usize| channels[c][i].round().clamp(0.0, 255.0) as u8);
            image.put_pixel(left + x, top + y, Rgb(levels));
        }
    }

    /// Takes back what is not visible; also returns the mask of the rest.
    fn keep_visible(
        &self,
        normal: &RgbImage,
        mut blended: RgbImage,
        foreground: &Area<'_>,
    ) -> (RgbImage, GrayImage) {
        let changed = GrayImage::from_fn(normal.width(), normal.height(), |x, y| {
            let (a, b) = (normal.get_pixel(x, y), blended.get_pixel(x, y));
            let change: u32 = (0..3).map(|c| u32::from(a[c].abs_diff(b[c]))).sum();
            Luma([if f64::from(change) / 3.0 > self.visible {
                255
            } else {
                0
            }])
        });
        let mut mask = median_filter(&changed, 2, 2);
        for (x, y, value) in mask.enumerate_pixels_mut() {
            if !foreground.contains([x.into(), y.into()]) {
                *value = Luma([0]);
            }
            if value[0] == 0 {
                blended.put_pixel(x, y, *normal.get_pixel(x, y));
            }
        }
        (blended, mask)
    }
}

/// The upper left corner for a patch of some size.
fn place(
    [width, height]: [u32; 2],
    foreground: &Area<'_>,
    points: &[[i64; 2]],
    frame: [u32; 2],
    draws: &mut Draws<'_>,
) -> [u32; 2] {
    let rows = (0..i64::from(height)).flat_map(|y| (0..i64::from(width)).map(move |x| [x, y]));
    let patch: Vec<[i64; 2]> = rows.collect();
    let mut best = ([0, 0], -1.0);
    for _ in 0..ATTEMPTS {
        let point = points[draws.below(points.len())];
        let fit = |at: i64, side: u32, frame: u32| {
            (at - i64::from(side) / 2).clamp(0, i64::from(frame - side))
        };
        let corner = [
            fit(point[0], width, frame[0]),
            fit(point[1], height, frame[1]),
        ];
        let share = foreground.share(&patch, corner);
        if share > best.1 {
            best = (corner, share);
        }
        if share > OVERLAP {
            break;
        }
    }
    // Not negative, and within the frame.
    best.0.map(|at| at as u32)
}

#[cfg(test)]
mod tests;
