//! The images of a training run as feature vectors, each computed once.

use std::sync::Arc;

use burn::tensor::backend::{AutodiffBackend, Backend};

use super::classes::Classes;
use super::scales::Scales;
use crate::backbone::Backbone;
use crate::data::{Loaded, Region};
use crate::error::Result;
use crate::method::TrainingData;
use crate::method::padding::valid_cells;
use crate::method::reading::{nothing_readable, read_features};
use crate::method::taps::levels_of;
use crate::train::{CacheStatistics, FeatureCache, Levels, Run};

/// All images of a run.
pub(super) struct Pool {
    images: Vec<Entry>,
    cache: FeatureCache<usize>,
}

struct Entry {
    label: usize,
    region: Region,
    cells: Arc<Vec<Vec<u32>>>,
}

/// One image, ready to be learnt from.
pub(super) struct Vectors {
    /// One entry a scale, `[positions, channels]`.
    pub(super) features: Arc<Levels>,
    /// Positions of each scale that show picture.
    pub(super) cells: Arc<Vec<Vec<u32>>>,
    /// Its class.
    pub(super) label: usize,
    /// Where the picture lies in the input.
    pub(super) region: Region,
}

impl Pool {
    /// Computes the features of all readable training images.
    ///
    /// # Errors
    /// When no image can be read, or the run is interrupted.
    pub(super) fn fill<B, AB>(
        backbone: &Backbone<B>,
        scales: &Scales,
        classes: &Classes,
        data: &TrainingData<'_>,
        run: &mut Run<'_, AB>,
    ) -> Result<Self>
    where
        B: Backend,
        AB: AutodiffBackend<InnerBackend = B, Device = B::Device>,
    {
        let mut pool = Self {
            images: Vec::new(),
            cache: FeatureCache::new(run.feature_memory),
        };
        let size = data.loader.preprocess().geometry.size;
        let features = |images, _: &[Loaded]| levels_of(scales.rows(backbone, images));
        read_features(data.loader, data.fit, run, features, |item, levels| {
            let label = classes
                .label(&data.fit[item.index])
                .expect("the index holds the classes of all training images");
            let region = item.placement.valid;
            let cells = pool.cells(scales, region, size);
            pool.cache.insert(pool.images.len(), levels)?;
            pool.images.push(Entry {
                label,
                region,
                cells,
            });
            Ok(())
        })?;
        if pool.images.is_empty() {
            return Err(nothing_readable());
        }
        Ok(pool)
    }

    /// Positions that show picture; images of the same shape share them.
    fn cells(&self, scales: &Scales, region: Region, size: usize) -> Arc<Vec<Vec<u32>>> {
        if let Some(same) = self.images.iter().find(|entry| entry.region == region) {
            return Arc::clone(&same.cells);
        }
        let of_map = scales.maps.iter().map(|map| {
            let valid = valid_cells(map.grid, &region, size);
            let positions = valid.iter().enumerate().filter(|(_, valid)| **valid);
            positions.map(|(position, _)| position as u32).collect()
        });
        Arc::new(of_map.collect())
    }

    /// Readable images.
    pub(super) fn count(&self) -> usize {
        self.images.len()
    }

    /// The class of each image.
    pub(super) fn labels(&self) -> Vec<usize> {
        self.images.iter().map(|entry| entry.label).collect()
    }

    /// How the cache of features fares.
    pub(super) fn statistics(&self) -> CacheStatistics {
        self.cache.statistics()
    }

    /// One image.
    ///
    /// # Errors
    /// When the cache cannot be read.
    pub(super) fn image(&mut self, index: usize) -> Result<Vectors> {
        let entry = &self.images[index];
        let features = self.cache.get(&index)?;
        Ok(Vectors {
            features: features.expect("kept when the image was read"),
            cells: Arc::clone(&entry.cells),
            label: entry.label,
            region: entry.region,
        })
    }
}
