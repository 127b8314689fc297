//! What a dataset consists of: an index of images, their labels and masks.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use ::image::{GrayImage, RgbImage};

use super::image::{decode, decode_mask};
use super::packed::PackedImage;
use crate::error::{Error, Result};

/// Whether an image shows a good product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Label {
    /// A good product.
    Normal,
    /// A defective product.
    Anomalous,
}

impl Label {
    /// `true` for [`Label::Anomalous`].
    pub fn is_anomalous(self) -> bool {
        self == Self::Anomalous
    }
}

/// Where an image comes from: a file, or memory for apps that embed the library.
#[derive(Clone, Debug)]
pub enum ImageSource {
    /// A file that [`crate::data::image::decode`] can read.
    File(PathBuf),
    /// Pixels that are already here, and a name for reports.
    Memory {
        /// Name shown in reports and errors.
        name: String,
        /// The pixels.
        image: Arc<RgbImage>,
    },
    /// One of many small images that lie in one block of memory.
    Packed(PackedImage),
}

impl ImageSource {
    /// The path, or the name of an image in memory.
    pub fn name(&self) -> Cow<'_, str> {
        match self {
            Self::File(path) => path.to_string_lossy(),
            Self::Memory { name, .. } => Cow::Borrowed(name),
            Self::Packed(image) => Cow::Owned(image.name()),
        }
    }

    /// The pixels.
    ///
    /// # Errors
    /// When the file cannot be read or the image has no pixel.
    pub fn read(&self) -> Result<Arc<RgbImage>> {
        match self {
            Self::File(path) => decode(path).map(Arc::new),
            Self::Memory { name, image } if image.is_empty() => {
                Err(Error::data("the image has no pixel").path(name))
            }
            Self::Memory { image, .. } => Ok(Arc::clone(image)),
            Self::Packed(image) => Ok(Arc::new(image.pixels())),
        }
    }
}

/// Where a pixel mask comes from (any non-zero value marks an anomalous pixel).
#[derive(Clone, Debug)]
pub enum MaskSource {
    /// A grey image file.
    File(PathBuf),
    /// Pixels that are already here.
    Memory(Arc<GrayImage>),
}

impl MaskSource {
    /// The pixels.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(&self) -> Result<Arc<GrayImage>> {
        match self {
            Self::File(path) => decode_mask(path).map(Arc::new),
            Self::Memory(mask) => Ok(Arc::clone(mask)),
        }
    }
}

/// One image with all that is known about it.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The image.
    pub image: ImageSource,
    /// Good or defective.
    pub label: Label,
    /// The folder's name for what the image shows: `good`, or the kind of defect; in a dataset of
    /// several products the product's name and a slash before it (`bottle/good`).
    pub kind: String,
    /// The defective pixels; `None` for normal images and where nobody drew them.
    pub mask: Option<MaskSource>,
}

impl Sample {
    /// The product that the image shows, in a dataset of several.
    pub fn class(&self) -> Option<&str> {
        self.kind.rsplit_once('/').map(|(class, _)| class)
    }
}

/// The images of one product, split into training and test images.
#[derive(Clone, Debug, Default)]
pub struct Dataset {
    /// Name of the product, for reports.
    pub name: String,
    /// Normal images to learn from.
    pub train: Vec<Sample>,
    /// Anomalous images on the training side, in datasets that have some: a method may learn from a few of them, and
    /// none is tested. Where this is empty, known anomalies are taken out of the test images.
    pub pool: Vec<Sample>,
    /// Images to evaluate on.
    pub test: Vec<Sample>,
}
