//! The door from decoded images to tensors.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

use super::geometry::Region;
use super::loader::{Loaded, Loader};
use super::sample::Sample;
use crate::error::{Error, Result};

/// Images as a network takes them.
#[derive(Clone, Debug)]
pub struct Batch<B: Backend> {
    /// Normalised pixels, `[batch, 3, size, size]`.
    pub images: Tensor<B, 4>,
    /// For each image the part that shows picture; the rest is letterbox padding.
    pub valid: Vec<Region>,
    /// For each image the product it shows, where that is known.
    pub classes: Vec<Option<String>>,
}

impl<B: Backend> Batch<B> {
    /// Images that fill their frames.
    pub fn full(images: Tensor<B, 4>) -> Self {
        let [count, _, height, width] = images.dims();
        let valid = Region {
            top: 0,
            left: 0,
            height,
            width,
        };
        Self {
            images,
            valid: vec![valid; count],
            classes: vec![None; count],
        }
    }

    /// Puts decoded images of `size` x `size` pixels on a device.
    ///
    /// # Panics
    /// If `items` is empty or an item has another size.
    pub fn from_loaded(items: &[Loaded], size: usize, device: &B::Device) -> Self {
        let mut pixels = Vec::with_capacity(items.len() * 3 * size * size);
        for item in items {
            assert_eq!(item.pixels.len(), 3 * size * size, "image size");
            pixels.extend_from_slice(&item.pixels);
        }
        let data = TensorData::new(pixels, [items.len(), 3, size, size]);
        Self {
            images: Tensor::from_data(data, device),
            valid: items.iter().map(|item| item.placement.valid).collect(),
            classes: vec![None; items.len()],
        }
    }

    /// The same with the product that each sample shows; `items` are those of the batch.
    #[must_use]
    fn with_classes(mut self, items: &[Loaded], samples: &[Sample]) -> Self {
        let class = |item: &Loaded| samples[item.index].class().map(str::to_owned);
        self.classes = items.iter().map(class).collect();
        self
    }
}

/// Decodes `samples` ahead on worker threads and hands them over in batches, in order.
///
/// Images that cannot be read go to `unreadable` with their index and are left out.
///
/// # Errors
/// The first error of `unreadable` or `use_batch`; nothing is read after it.
pub fn for_each_batch<B: Backend>(
    loader: &Loader,
    samples: &[Sample],
    batch_size: usize,
    device: &B::Device,
    unreadable: &mut dyn FnMut(usize, Error) -> Result<()>,
    use_batch: &mut dyn FnMut(Batch<B>, Vec<Loaded>) -> Result<()>,
) -> Result<()> {
    let size = loader.preprocess().geometry.size;
    let mut waiting: Vec<Loaded> = Vec::with_capacity(batch_size);
    for (index, loaded) in loader.stream(samples) {
        match loaded {
            Ok(loaded) => waiting.push(loaded),
            Err(error) => unreadable(index, error)?,
        }
        if waiting.len() >= batch_size {
            let batch = Batch::from_loaded(&waiting, size, device).with_classes(&waiting, samples);
            use_batch(batch, std::mem::take(&mut waiting))?;
        }
    }
    if !waiting.is_empty() {
        let batch = Batch::from_loaded(&waiting, size, device).with_classes(&waiting, samples);
        use_batch(batch, waiting)?;
    }
    Ok(())
}
