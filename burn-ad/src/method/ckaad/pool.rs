//! The images of a training run as feature maps, each computed once where it is seen again.

use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

use super::config::CkaadConfig;
use crate::augment::Elastic;
use crate::backbone::Backbone;
use crate::data::{Batch, Loaded, Loader, Region, Sample};
use crate::error::Result;
use crate::method::TrainingData;
use crate::method::padding::blank_padding;
use crate::method::reading::{nothing_readable, read_features};
use crate::method::taps::{Taps, levels_of, refuse_not_finite, rows_of};
use crate::train::{CacheStatistics, FeatureCache, Levels, Run, stream_rng};

/// An image whose features are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Normal(usize),
    Anomaly(usize),
    Twin { normal: usize, version: usize },
}

/// An image of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// A normal image.
    Normal(usize),
    /// A known anomaly.
    Anomaly(usize),
    /// A normal image, distorted.
    Twin(usize),
}

/// All images of a run.
pub(super) struct Pool<'a, B: Backend> {
    backbone: &'a Backbone<B>,
    taps: &'a Taps,
    loader: &'a Loader,
    normals: Vec<Image<'a>>,
    anomalies: Vec<Image<'a>>,
    cache: FeatureCache<Key>,
    elastic: Elastic,
    versions: usize,
    seed: u64,
    batch_size: usize,
    device: B::Device,
}

/// A readable image.
struct Image<'a> {
    sample: &'a Sample,
    region: Region,
}

impl<'a, B: Backend> Pool<'a, B> {
    /// Computes the features of all normal images, and of known anomalies where these are learnt from.
    ///
    /// # Errors
    /// When no normal image can be read, or the run is interrupted.
    pub(super) fn fill<AB: AutodiffBackend<InnerBackend = B, Device = B::Device>>(
        config: &CkaadConfig,
        backbone: &'a Backbone<B>,
        taps: &'a Taps,
        data: &TrainingData<'a>,
        run: &mut Run<'_, AB>,
    ) -> Result<Self> {
        let mut pool = Self {
            backbone,
            taps,
            loader: data.loader,
            normals: Vec::new(),
            anomalies: Vec::new(),
            cache: FeatureCache::new(run.feature_memory),
            elastic: config.elastic,
            versions: config.versions,
            seed: run.seed,
            batch_size: run.batch_size,
            device: run.device.clone(),
        };
        let anomalies: &[Sample] = match config.uses_anomalies() {
            true => data.anomalous,
            false => &[],
        };
        pool.normals = pool.read(data.fit, Key::Normal, run)?;
        if pool.normals.is_empty() {
            return Err(nothing_readable());
        }
        pool.anomalies = pool.read(anomalies, Key::Anomaly, run)?;
        Ok(pool)
    }

    /// Computes the features of samples; the readable ones.
    fn read<AB: AutodiffBackend<InnerBackend = B, Device = B::Device>>(
        &mut self,
        samples: &'a [Sample],
        key: fn(usize) -> Key,
        run: &mut Run<'_, AB>,
    ) -> Result<Vec<Image<'a>>> {
        let (backbone, taps, loader) = (self.backbone, self.taps, self.loader);
        let size = loader.preprocess().geometry.size;
        let mut images = Vec::new();
        let features = |pictures, items: &[Loaded]| features(backbone, taps, pictures, items, size);
        read_features(loader, samples, run, features, |item, levels| {
            self.cache.insert(key(images.len()), levels)?;
            images.push(Image {
                sample: &samples[item.index],
                region: item.placement.valid,
            });
            Ok(())
        })?;
        Ok(images)
    }

    /// Readable normal images.
    pub(super) fn normals(&self) -> usize {
        self.normals.len()
    }

    /// Readable known anomalies.
    pub(super) fn anomalies(&self) -> usize {
        self.anomalies.len()
    }

    /// Where the picture lies in an image.
    pub(super) fn region(&self, item: Item) -> Region {
        match item {
            Item::Normal(index) | Item::Twin(index) => self.normals[index].region,
            Item::Anomaly(index) => self.anomalies[index].region,
        }
    }

    /// How the cache of features fares.
    pub(super) fn statistics(&self) -> CacheStatistics {
        self.cache.statistics()
    }

    /// The features of some images in epoch `epoch`: one tensor `[batch, channels, height, width]` a
    /// tap.
    ///
    /// # Errors
    /// When an image cannot be read again, or the cache cannot be used.
    pub(super) fn batch(&mut self, items: &[Item], epoch: usize) -> Result<Vec<Tensor<B, 4>>> {
        let made = self.twins(items, epoch)?;
        let mut made = made.into_iter();
        let mut features = Vec::with_capacity(items.len());
        for &item in items {
            features.push(match self.key(item, epoch) {
                Some(key) if self.cache.contains(&key) => {
                    self.cache.get(&key)?.expect("it was there just now")
                }
                key => {
                    let levels = made.next().expect("one for each that is not kept");
                    match key {
                        Some(key) => self.cache.insert(key, levels)?,
                        None => {
                            self.cache.count_miss();
                            levels.into()
                        }
                    }
                }
            });
        }
        let taps = self.taps.maps.iter().enumerate();
        Ok(taps
            .map(|(tap, map)| {
                let values: Vec<f32> = features
                    .iter()
                    .flat_map(|f| f[tap].iter().copied())
                    .collect();
                let [rows, columns] = map.grid;
                let shape = [features.len(), rows, columns, map.channels];
                let data = TensorData::new(values, shape);
                // Channels last in memory, as the kernels want them.
                Tensor::<B, 4>::from_data(data, &self.device).permute([0, 3, 1, 2])
            })
            .collect())
    }

    /// Where the features of an image are kept; `None` for a distortion that is used once.
    fn key(&self, item: Item, epoch: usize) -> Option<Key> {
        match item {
            Item::Normal(index) => Some(Key::Normal(index)),
            Item::Anomaly(index) => Some(Key::Anomaly(index)),
            Item::Twin(normal) => (self.versions > 0).then(|| Key::Twin {
                normal,
                version: epoch % self.versions,
            }),
        }
    }

    /// The features of distorted images that are not there yet, in order.
    fn twins(&self, items: &[Item], epoch: usize) -> Result<Vec<Levels>> {
        let absent: Vec<(usize, usize)> = items
            .iter()
            .filter_map(|&item| match (item, self.key(item, epoch)) {
                (Item::Twin(normal), Some(key @ Key::Twin { version, .. })) => {
                    (!self.cache.contains(&key)).then_some((normal, version))
                }
                (Item::Twin(normal), _) => Some((normal, epoch)),
                _ => None,
            })
            .collect();
        // Every image has a random stream of its own, so the order of the threads changes nothing.
        let loaded: Vec<Loaded> = absent
            .par_iter()
            .map(|&(normal, version)| self.distorted(normal, version))
            .collect::<Result<_>>()?;
        let size = self.loader.preprocess().geometry.size;
        let mut features = Vec::with_capacity(loaded.len());
        for part in loaded.chunks(self.batch_size) {
            let images = Batch::<B>::from_loaded(part, size, &self.device).images;
            let (backbone, taps) = (self.backbone, self.taps);
            features.extend(self::features(backbone, taps, images, part, size));
        }
        for (levels, (normal, _)) in features.iter().zip(&absent) {
            refuse_not_finite(levels, self.normals[*normal].sample)?;
        }
        Ok(features)
    }

    /// A normal image under an elastic distortion; what comes from outside the picture is black.
    fn distorted(&self, normal: usize, version: usize) -> Result<Loaded> {
        let preprocess = self.loader.preprocess();
        let mut loaded = preprocess.load(normal, self.normals[normal].sample)?;
        let (region, size) = (loaded.placement.valid, preprocess.geometry.size);
        let mut rng = stream_rng(self.seed, &format!("elastic {normal} {version}"));
        let displacement = self.elastic.draw([region.height, region.width], &mut rng);
        let normalisation = &preprocess.normalisation;
        for (channel, plane) in loaded.pixels.chunks_exact_mut(size * size).enumerate() {
            let black = -normalisation.mean[channel] / normalisation.std[channel];
            let found = displacement.apply(&region.values(plane, size), black);
            for (row, values) in found.chunks_exact(region.width).enumerate() {
                let start = (region.top + row) * size + region.left;
                plane[start..][..region.width].copy_from_slice(values);
            }
        }
        Ok(loaded)
    }
}

/// The features of each image of a batch; those of letterbox padding are zero, so that it is neither
/// reconstructed nor judged.
fn features<B: Backend>(
    backbone: &Backbone<B>,
    taps: &Taps,
    images: Tensor<B, 4>,
    items: &[Loaded],
    size: usize,
) -> Vec<Levels> {
    let valid: Vec<Region> = items.iter().map(|item| item.placement.valid).collect();
    let features = blank_padding(taps.features(backbone, images), &valid, size);
    levels_of(features.into_iter().map(rows_of).collect())
}
