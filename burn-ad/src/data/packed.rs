//! Many small images of one size in one block of memory, as one-class datasets are published.

use std::fmt;
use std::sync::Arc;

use ::image::RgbImage;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// How the bytes of one packed image are arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackedPixels {
    /// One byte a pixel, row by row.
    Grey,
    /// All red bytes, then all green ones, then all blue ones, each row by row.
    Planes,
}

impl PackedPixels {
    /// Bytes per pixel.
    pub fn channels(self) -> usize {
        match self {
            Self::Grey => 1,
            Self::Planes => 3,
        }
    }

    /// The colour mode as [`check`](crate::data::check()) names it.
    pub(crate) fn mode(self) -> &'static str {
        match self {
            Self::Grey => "8-bit grey",
            Self::Planes => "8-bit colour",
        }
    }
}

/// Images of one size with a class number each. They are expanded to RGB one by one, when they are read: 60 000 grey
/// images of 28 x 28 pixels take 47 MB here and would take 141 MB as RGB.
#[derive(PartialEq, Eq)]
pub struct PackedImages {
    part: String,
    width: u32,
    height: u32,
    arrangement: PackedPixels,
    pixels: Vec<u8>,
    labels: Vec<u8>,
}

impl PackedImages {
    /// Images `[count, channels, height, width]` and their class numbers `[count]`; `part` (for instance `train`)
    /// stands before each image's name.
    ///
    /// # Errors
    /// When an image has no pixel, or the lengths do not fit each other.
    pub fn new(
        part: impl Into<String>,
        [height, width]: [u32; 2],
        arrangement: PackedPixels,
        pixels: Vec<u8>,
        labels: Vec<u8>,
    ) -> Result<Self> {
        let images = Self {
            part: part.into(),
            width,
            height,
            arrangement,
            pixels,
            labels,
        };
        let expected = images.stride().checked_mul(images.labels.len());
        if images.stride() == 0 || expected != Some(images.pixels.len()) {
            return Err(Error::data(format!(
                "{} bytes are not {} images of {width} x {height} pixels with {} bytes each",
                images.pixels.len(),
                images.labels.len(),
                arrangement.channels()
            )));
        }
        Ok(images)
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Class number of each image.
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// SHA-256 of sizes, class numbers and pixels.
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(self.width.to_le_bytes());
        hasher.update(self.height.to_le_bytes());
        hasher.update((self.labels.len() as u64).to_le_bytes());
        hasher.update(&self.labels);
        hasher.update(&self.pixels);
        hasher.finalize().into()
    }

    /// Bytes of one image.
    fn stride(&self) -> usize {
        let pixels = (self.width as usize).saturating_mul(self.height as usize);
        pixels.saturating_mul(self.arrangement.channels())
    }
}

/// Without the pixels.
impl fmt::Debug for PackedImages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackedImages")
            .field("part", &self.part)
            .field("size", &[self.height, self.width])
            .field("arrangement", &self.arrangement)
            .field("images", &self.labels.len())
            .finish()
    }
}

/// One image of [`PackedImages`]. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct PackedImage {
    images: Arc<PackedImages>,
    index: usize,
}

impl PackedImage {
    /// `None` when there are not that many images.
    pub fn new(images: &Arc<PackedImages>, index: usize) -> Option<Self> {
        (index < images.len()).then(|| Self {
            images: Arc::clone(images),
            index,
        })
    }

    /// All images that lie together with this one.
    pub fn images(&self) -> &Arc<PackedImages> {
        &self.images
    }

    /// `train/00012`.
    pub fn name(&self) -> String {
        format!("{}/{:05}", self.images.part, self.index)
    }

    /// Height and width.
    pub fn size(&self) -> [u32; 2] {
        [self.images.height, self.images.width]
    }

    /// The colour mode as [`check`](crate::data::check()) names it.
    pub(crate) fn mode(&self) -> &'static str {
        self.images.arrangement.mode()
    }

    /// The image as RGB; grey becomes three equal channels.
    pub fn pixels(&self) -> RgbImage {
        let stride = self.images.stride();
        let bytes = &self.images.pixels[self.index * stride..][..stride];
        let rgb = match self.images.arrangement {
            PackedPixels::Grey => bytes.iter().flat_map(|&grey| [grey; 3]).collect(),
            PackedPixels::Planes => {
                let (red, rest) = bytes.split_at(stride / 3);
                let (green, blue) = rest.split_at(stride / 3);
                let pixels = red.iter().zip(green).zip(blue);
                pixels
                    .flat_map(|((&red, &green), &blue)| [red, green, blue])
                    .collect()
            }
        };
        RgbImage::from_raw(self.images.width, self.images.height, rgb)
            .expect("three bytes for each pixel")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn grey_and_planes_become_rgb() {
        let grey = PackedImages::new(
            "train",
            [1, 2],
            PackedPixels::Grey,
            vec![1, 2, 3, 4],
            vec![7, 8],
        );
        let grey = Arc::new(grey.unwrap());
        let second = PackedImage::new(&grey, 1).unwrap();
        assert_eq!(second.pixels().as_raw(), &[3, 3, 3, 4, 4, 4]);
        assert_eq!(
            (second.name(), second.size()),
            ("train/00001".to_owned(), [1, 2])
        );
        assert_eq!(grey.labels(), [7, 8]);
        assert!(PackedImage::new(&grey, 2).is_none());

        let planes = PackedPixels::Planes;
        let colour =
            PackedImages::new("test", [2, 1], planes, vec![1, 2, 3, 4, 5, 6], vec![0]).unwrap();
        let first = PackedImage::new(&Arc::new(colour), 0).unwrap();
        assert_eq!(first.pixels().dimensions(), (1, 2));
        assert_eq!(first.pixels().as_raw(), &[1, 3, 5, 2, 4, 6]);
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        for (size, bytes, labels) in [
            ([2, 2], 7, 2),
            ([0, 2], 0, 2),
            ([2, 2], 4, 2),
            ([u32::MAX, u32::MAX], 4, 2),
        ] {
            let grey = PackedPixels::Grey;
            let images = PackedImages::new("train", size, grey, vec![0; bytes], vec![0; labels]);
            assert!(images.is_err(), "{size:?} {bytes} {labels}");
        }
    }

    #[test]
    fn the_digest_sees_pixels_labels_and_sizes() {
        let of = |size, pixels: &[u8], label| {
            let grey = PackedPixels::Grey;
            let images = PackedImages::new("a", size, grey, pixels.to_vec(), vec![label]);
            images.unwrap().digest()
        };
        let one = of([1, 2], &[1, 2], 3);
        assert_eq!(one, of([1, 2], &[1, 2], 3));
        for other in [
            of([2, 1], &[1, 2], 3),
            of([1, 2], &[1, 3], 3),
            of([1, 2], &[1, 2], 4),
        ] {
            assert_ne!(one, other);
        }
    }
}
