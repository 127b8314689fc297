//! An image together with its mask.

use std::sync::Arc;

use image::imageops::FilterType;
use image::{GrayImage, RgbImage, imageops};

use super::mask;
use crate::data::image::decode_mask;
use crate::data::sample::{MaskSource, Sample};
use crate::error::{Error, Result};

/// An image and the mask of its anomalous pixels, of equal size and not empty.
///
/// Where nothing is marked it is a normal image, or a texture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    image: RgbImage,
    mask: GrayImage,
}

impl Known {
    /// Pairs an image with its mask; any value but 0 marks an anomalous pixel (and becomes 255).
    ///
    /// # Errors
    /// When the sizes differ, or the image has no pixel.
    pub fn new(image: RgbImage, mask: GrayImage) -> Result<Self> {
        check_size(&image)?;
        if image.dimensions() != mask.dimensions() {
            let ([w, h], [mw, mh]) = (size(&image), [mask.width(), mask.height()]);
            return Err(Error::data(format!(
                "the image has {w} x {h} pixels, its mask {mw} x {mh}"
            ))
            .help("`burn-ad data check` lists all such masks"));
        }
        let mask = mask::binary(&mask);
        Ok(Self { image, mask })
    }

    /// An image in which nothing is marked.
    ///
    /// # Errors
    /// When the image has no pixel.
    pub fn unmarked(image: RgbImage) -> Result<Self> {
        let mask = GrayImage::new(image.width(), image.height());
        Self::new(image, mask)
    }

    /// Reads a sample with its mask; nothing is marked in a normal one.
    ///
    /// # Errors
    /// When a file cannot be read, an anomalous sample has no mask, or as [`new`](Self::new).
    pub fn load(sample: &Sample) -> Result<Self> {
        let image = Arc::unwrap_or_clone(sample.image.read()?);
        let mask = match &sample.mask {
            Some(MaskSource::File(path)) => decode_mask(path)?,
            Some(MaskSource::Memory(mask)) => mask.as_ref().clone(),
            None if sample.label.is_anomalous() => {
                return Err(Error::data("nobody drew the mask of this anomaly")
                    .path(&*sample.image.name())
                    .help("draw one, or leave this image out of the known anomalies"));
            }
            None => GrayImage::new(image.width(), image.height()),
        };
        Self::new(image, mask).map_err(|error| error.path(&*sample.image.name()))
    }

    /// The pixels.
    pub fn image(&self) -> &RgbImage {
        &self.image
    }

    /// 255 where the image is anomalous, else 0.
    pub fn mask(&self) -> &GrayImage {
        &self.mask
    }

    /// Whether any pixel is marked.
    pub fn is_marked(&self) -> bool {
        self.mask.as_raw().iter().any(|&value| value != 0)
    }

    /// The image and the mask.
    pub fn into_parts(self) -> (RgbImage, GrayImage) {
        (self.image, self.mask)
    }

    /// For steps that keep the two in agreement.
    pub(super) fn from_parts(image: RgbImage, mask: GrayImage) -> Self {
        debug_assert_eq!(image.dimensions(), mask.dimensions());
        Self { image, mask }
    }

    /// The same mask with other pixels.
    pub(super) fn with_image(&self, image: RgbImage) -> Self {
        Self::from_parts(image, self.mask.clone())
    }

    /// Resized, the image with antialiased bilinear interpolation, the mask with the nearest pixel.
    pub(super) fn resized(&self, [width, height]: [u32; 2]) -> Self {
        if self.image.dimensions() == (width, height) {
            return self.clone();
        }
        Self::from_parts(
            imageops::resize(&self.image, width, height, FilterType::Triangle),
            imageops::resize(&self.mask, width, height, FilterType::Nearest),
        )
    }

    /// Scaled in proportion to the area of another image; as it is where the sizes agree.
    pub(super) fn scaled_to_area_of(&self, other: &RgbImage) -> Self {
        let (from, to) = (size(&self.image), size(other));
        if from == to {
            return self.clone();
        }
        let area = |sides: [u32; 2]| f64::from(sides[0]) * f64::from(sides[1]);
        let scale = (area(to) / area(from)).sqrt();
        self.resized(from.map(|side| (f64::from(side) * scale).round().max(1.0) as u32))
    }
}

/// Width and height.
pub(super) fn size(image: &RgbImage) -> [u32; 2] {
    [image.width(), image.height()]
}

pub(super) fn check_size(image: &RgbImage) -> Result<()> {
    if image.width() == 0 || image.height() == 0 {
        return Err(Error::data("the image has no pixel"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::sample::{ImageSource, Label};
    use image::Luma;

    #[test]
    fn a_sample_is_read_with_its_mask_and_an_anomaly_needs_one() {
        let mut sample = Sample {
            image: ImageSource::Memory {
                name: "part 7".into(),
                image: Arc::new(RgbImage::new(4, 3)),
            },
            label: Label::Anomalous,
            kind: "dent".into(),
            mask: Some(MaskSource::Memory(Arc::new(GrayImage::from_pixel(
                4,
                3,
                Luma([1]),
            )))),
        };
        assert!(Known::load(&sample).expect("complete").is_marked());
        sample.mask = None;
        let error = Known::load(&sample).expect_err("no mask").to_string();
        assert!(error.starts_with("part 7: "), "{error}");
        sample.label = Label::Normal;
        assert!(!Known::load(&sample).expect("normal").is_marked());
    }

    #[test]
    fn any_value_but_zero_marks_a_pixel() {
        let mask = GrayImage::from_fn(3, 1, |x, _| Luma([[0, 1, 255][x as usize]]));
        let known = Known::new(RgbImage::new(3, 1), mask).expect("same size");
        assert_eq!(known.mask().as_raw(), &[0, 255, 255]);
        assert!(known.is_marked());
    }

    #[test]
    fn scaling_keeps_the_proportions() {
        let other = RgbImage::new(20, 20);
        let sizes = [(40, 10), (20, 20), (80, 20), (400, 1)].map(|(width, height)| {
            let known = Known::unmarked(RgbImage::new(width, height)).expect("pixels");
            known.scaled_to_area_of(&other).image().dimensions()
        });
        assert_eq!(sizes, [(40, 10), (20, 20), (40, 10), (400, 1)]);
    }

    #[test]
    fn sizes_must_agree_and_pixels_must_exist() {
        let error = Known::new(RgbImage::new(3, 2), GrayImage::new(2, 3)).expect_err("differ");
        assert!(error.to_string().contains("3 x 2"), "{error}");
        assert!(Known::unmarked(RgbImage::new(0, 4)).is_err());
    }
}
