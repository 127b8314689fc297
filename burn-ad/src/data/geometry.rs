//! How a picture of any shape becomes the square a backbone sees, and how a map finds its way back.

use image::{GrayImage, RgbImage};
use serde::{Deserialize, Serialize};

pub use super::placement::{Placement, Region};
use super::resample::resample;
use crate::error::{Error, Result};

/// How the aspect ratio is dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fit {
    /// Shorter side to the input size, then the centre is cut out: torchvision's
    /// `Resize(size)` and `CenterCrop(size)`. What lies outside is never seen.
    Crop,
    /// Straight to a square: everything is seen, the aspect ratio is lost.
    Squash,
    /// Longer side to the input size, centred, the rest filled by repeating the edge pixels:
    /// everything is seen undistorted, at a lower resolution.
    Letterbox,
}

/// Antialiased resampling filter, as Pillow defines it: the kernel widens when shrinking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// Triangle.
    Bilinear,
    /// Cubic convolution with a = -0.5.
    Bicubic,
    /// Lanczos with three lobes (Pillow's former `ANTIALIAS`).
    Lanczos,
}

/// From a picture of any shape to a `size x size` input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Geometry {
    /// What happens to the aspect ratio.
    pub fit: Fit,
    /// Side of the square input, in pixels; `1..=`[`Geometry::MAX_SIZE`].
    pub size: usize,
    /// Resampling filter of the image; masks always take the nearest pixel.
    pub filter: Filter,
}

impl Geometry {
    /// Largest input side accepted: one input of this size takes 3 GB of f32.
    pub const MAX_SIZE: usize = 16_384;

    /// Checks that the size can be used.
    ///
    /// # Errors
    /// When `size` is zero or larger than [`Geometry::MAX_SIZE`].
    pub fn check(&self) -> Result<()> {
        if (1..=Self::MAX_SIZE).contains(&self.size) {
            return Ok(());
        }
        Err(
            Error::usage(format!("an input size of {} cannot be used", self.size)).help(format!(
                "choose 1 to {} pixels; 256 is usual",
                Self::MAX_SIZE
            )),
        )
    }

    /// Where a picture of `[height, width]` pixels ends up.
    ///
    /// # Panics
    /// When `size` or one of the sides is zero.
    pub fn place(&self, original: [usize; 2]) -> Placement {
        let size = self.size;
        let [height, width] = original;
        assert!(
            size > 0 && height > 0 && width > 0,
            "nothing to place: {height} x {width} pixels into {size}"
        );
        let (short, long) = (height.min(width), height.max(width));
        let scaled = match self.fit {
            Fit::Crop => original.map(|side| side * size / short),
            Fit::Squash => [size, size],
            // Rounded to the nearest pixel, but a hair must not vanish.
            Fit::Letterbox => original.map(|side| ((side * size + long / 2) / long).max(1)),
        };
        Placement::new(original, scaled, size)
    }

    /// Resizes, then crops or pads, to `size x size`.
    ///
    /// Equal to Pillow's `Image.resize` with the same filter.
    ///
    /// # Panics
    /// When `size` is zero or the image has no pixel.
    pub fn apply(&self, image: &RgbImage) -> (RgbImage, Placement) {
        let placement = self.place([image.height() as usize, image.width() as usize]);
        let window = placement.window();
        let picture = resample(image, placement.scaled, window, self.filter);
        (pad(picture, &placement), placement)
    }

    /// Takes a mask through the same geometry: `size * size` values, `true` where the nearest
    /// pixel (Pillow's `NEAREST`) is not zero. Letterbox borders are `false`.
    ///
    /// # Panics
    /// When `size` is zero or the mask has no pixel.
    pub fn apply_mask(&self, mask: &GrayImage) -> Vec<bool> {
        let original = [mask.height() as usize, mask.width() as usize];
        let placement = self.place(original);
        let window = placement.window();
        let rows = nearest(original[0], placement.scaled[0], window.top, window.height);
        let columns = nearest(original[1], placement.scaled[1], window.left, window.width);
        let mut out = vec![false; self.size * self.size];
        for (row, &y) in rows.iter().enumerate() {
            let source = &mask.as_raw()[y * original[1]..][..original[1]];
            let start = (placement.valid.top + row) * self.size + placement.valid.left;
            for (target, &x) in out[start..][..columns.len()].iter_mut().zip(&columns) {
                *target = source[x] != 0;
            }
        }
        out
    }
}

/// Repeats the edge pixels of `picture` around it until the input is full.
fn pad(picture: RgbImage, placement: &Placement) -> RgbImage {
    let (size, valid) = (placement.size, placement.valid);
    if valid.height == size && valid.width == size {
        return picture;
    }
    RgbImage::from_fn(size as u32, size as u32, |x, y| {
        let inside = |at: u32, start: usize, length: usize| {
            (at as usize).saturating_sub(start).min(length - 1) as u32
        };
        *picture.get_pixel(
            inside(x, valid.left, valid.width),
            inside(y, valid.top, valid.height),
        )
    })
}

/// The source pixel of each target pixel `start..start + length` along one axis.
///
/// The position is summed up step by step because Pillow does so: a product would round
/// differently where a position falls between two pixels.
fn nearest(source: usize, scaled: usize, start: usize, length: usize) -> Vec<usize> {
    let step = source as f64 / scaled as f64;
    let mut position = step * 0.5;
    let mut indices = Vec::with_capacity(length);
    for target in 0..start + length {
        if target >= start {
            indices.push((position as usize).min(source - 1));
        }
        position += step;
    }
    indices
}
