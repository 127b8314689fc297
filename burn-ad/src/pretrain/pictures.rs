//! The training images as bytes.

use std::sync::Arc;

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use image::RgbImage;
use rayon::prelude::*;

use crate::data::{Geometry, Normalisation, Region, Sample};
use crate::error::Result;
use crate::method::reading::nothing_readable;
use crate::train::{Run, Step};

/// Images that are read side by side.
const AT_ONCE: usize = 64;

/// All readable images, on their squares.
pub(super) struct Pictures<'a> {
    geometry: Geometry,
    all: Vec<Entry<'a>>,
}

struct Entry<'a> {
    sample: &'a Sample,
    /// Kept as far as memory is allowed for; others are read again when they are asked for.
    picture: Option<Picture>,
}

/// An image of `size` x `size` pixels.
#[derive(Clone)]
pub(super) struct Picture {
    pub(super) pixels: Arc<RgbImage>,
    /// The part that shows picture.
    pub(super) region: Region,
}

impl<'a> Pictures<'a> {
    /// Reads all images once; of those that cannot be read the user is told.
    ///
    /// # Errors
    /// When none can be read, or the run is interrupted.
    pub(super) fn read<B: Backend>(
        samples: &'a [Sample],
        geometry: Geometry,
        run: &mut Run<'_, B>,
    ) -> Result<Self> {
        geometry.check()?;
        let mut pictures = Self {
            geometry,
            all: Vec::with_capacity(samples.len()),
        };
        let each = (3 * geometry.size * geometry.size) as u64;
        let (mut free, mut done) = (run.feature_memory, 0);
        for part in samples.chunks(AT_ONCE) {
            let read: Vec<Result<Picture>> = part
                .par_iter()
                .map(|sample| load(sample, &geometry))
                .collect();
            for (sample, picture) in part.iter().zip(read) {
                match picture {
                    Ok(picture) => {
                        let picture = (free >= each).then_some(picture);
                        free = free.saturating_sub(each);
                        pictures.all.push(Entry { sample, picture });
                    }
                    Err(error) => run.warn(&format!("left out of training: {error}")),
                }
            }
            done += part.len() as u64;
            run.step(&Step {
                phase: "reading images",
                done,
                total: samples.len() as u64,
                unit: "images",
                values: &[],
            })?;
        }
        match pictures.all.is_empty() {
            true => Err(nothing_readable()),
            false => Ok(pictures),
        }
    }

    /// Readable images.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// One of them.
    ///
    /// # Errors
    /// When it is read again, and cannot be read any more.
    pub(super) fn picture(&self, index: usize) -> Result<Picture> {
        let entry = &self.all[index];
        match &entry.picture {
            Some(picture) => Ok(picture.clone()),
            None => load(entry.sample, &self.geometry),
        }
    }
}

fn load(sample: &Sample, geometry: &Geometry) -> Result<Picture> {
    let (pixels, placement) = geometry.apply(sample.image.read()?.as_ref());
    Ok(Picture {
        pixels: Arc::new(pixels),
        region: placement.valid,
    })
}

/// Images of `side` x `side` pixels as a network takes them, `[batch, 3, side, side]`.
pub(super) fn to_tensor<B: Backend>(
    images: &[RgbImage],
    side: usize,
    normalisation: &Normalisation,
    device: &B::Device,
) -> Tensor<B, 4> {
    let values: Vec<f32> = images
        .iter()
        .flat_map(|image| normalisation.apply(image))
        .collect();
    let data = TensorData::new(values, [images.len(), 3, side, side]);
    Tensor::from_data(data, device)
}
