//! The images of a training run as feature vectors, each computed once.

use std::collections::HashMap;
use std::sync::Arc;

use burn::tensor::backend::{AutodiffBackend, Backend};
use image::RgbImage;
use rand::RngExt;
use rayon::prelude::*;

use super::config::BgadConfig;
use super::plan::Item;
use crate::augment::{AugmentConfig, Foreground, Known, pseudo_anomaly};
use crate::backbone::Backbone;
use crate::data::{Batch, ImageSource, Label, Loaded, Loader, MaskSource, Region, Sample};
use crate::error::Result;
use crate::method::TrainingData;
use crate::method::padding::valid_cells;
use crate::method::reading::{nothing_readable, read_features};
use crate::method::taps::{Taps, refuse_not_finite};
use crate::train::{CacheStatistics, FeatureCache, Levels, Run, stream_rng};

/// An image that features can be kept of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Normal(usize),
    Anomaly(usize),
    /// A version of an augmented anomaly, by its place in the list of anomalous images.
    Version {
        entry: usize,
        version: usize,
    },
}

/// Positions of one map that count, by what they show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cells {
    pub(super) normal: Vec<u32>,
    pub(super) anomalous: Vec<u32>,
}

/// One image, ready to be learnt from: features and cells of every tap.
#[derive(Clone)]
pub(super) struct Vectors {
    pub(super) features: Arc<Levels>,
    pub(super) cells: Arc<Vec<Cells>>,
}

/// All images of a run.
pub(super) struct Pool<'a, B: Backend> {
    backbone: &'a Backbone<B>,
    taps: &'a Taps,
    loader: &'a Loader,
    samples: &'a [Sample],
    /// Readable normal images, as positions in `samples`.
    pub(super) normals: Vec<usize>,
    /// Where the picture lies in each normal image's input.
    regions: HashMap<usize, Region>,
    anomalies: Vec<Known>,
    cells: HashMap<Key, Arc<Vec<Cells>>>,
    cache: FeatureCache<Key>,
    augment: AugmentConfig,
    foreground: Foreground,
    plain: usize,
    versions: usize,
    makes_anomalies: bool,
    seed: u64,
}

impl<'a, B: Backend> Pool<'a, B> {
    /// Computes the features of all normal images and of the known anomalies.
    ///
    /// # Errors
    /// When no normal image can be read, or the run is interrupted.
    pub(super) fn fill<AB: AutodiffBackend<InnerBackend = B, Device = B::Device>>(
        config: &BgadConfig,
        backbone: &'a Backbone<B>,
        taps: &'a Taps,
        data: &TrainingData<'a>,
        run: &mut Run<'_, AB>,
    ) -> Result<Self> {
        let schedule = &config.schedule;
        let mut pool = Self {
            backbone,
            taps,
            loader: data.loader,
            samples: data.fit,
            normals: Vec::new(),
            regions: HashMap::new(),
            anomalies: Vec::new(),
            cells: HashMap::new(),
            cache: FeatureCache::new(run.feature_memory),
            augment: config.augment.clone(),
            foreground: config.foreground,
            plain: match config.augment {
                AugmentConfig::None => schedule.repeats,
                _ => schedule.plain_repeats,
            },
            versions: schedule.versions,
            makes_anomalies: config.uses_anomalies(),
            seed: run.seed,
        };
        pool.add_normals(run)?;
        if config.uses_anomalies() {
            pool.add_anomalies(data.anomalous, run)?;
        }
        Ok(pool)
    }

    fn add_normals<AB>(&mut self, run: &mut Run<'_, AB>) -> Result<()>
    where
        AB: AutodiffBackend<InnerBackend = B, Device = B::Device>,
    {
        let (backbone, taps) = (self.backbone, self.taps);
        let features = |images, _: &[Loaded]| taps.levels(backbone, images);
        read_features(self.loader, self.samples, run, features, |item, levels| {
            let key = Key::Normal(item.index);
            let cells = self.shared_cells(item);
            self.cells.insert(key, cells);
            self.regions.insert(item.index, item.placement.valid);
            self.normals.push(item.index);
            self.cache.insert(key, levels)?;
            Ok(())
        })?;
        if self.normals.is_empty() {
            return Err(nothing_readable());
        }
        Ok(())
    }

    fn add_anomalies<AB>(&mut self, samples: &[Sample], run: &mut Run<'_, AB>) -> Result<()>
    where
        AB: AutodiffBackend<InnerBackend = B, Device = B::Device>,
    {
        for sample in samples {
            if sample.mask.is_none() {
                run.warn(&format!(
                    "left out of training: {}: a known anomaly needs a mask of its defective pixels",
                    sample.image.name()
                ));
                continue;
            }
            let loaded = self.loader.preprocess().load(self.anomalies.len(), sample);
            let known = loaded.and_then(|loaded| Ok((loaded, Known::load(sample)?)));
            match known {
                Ok((loaded, known)) => {
                    let key = Key::Anomaly(self.anomalies.len());
                    let levels = self.features_of(&[&loaded], &run.device).swap_remove(0);
                    refuse_not_finite(&levels, sample)?;
                    self.cells.insert(key, Arc::new(self.cells_of(&loaded)));
                    self.cache.insert(key, levels)?;
                    self.anomalies.push(known);
                }
                Err(error) => run.warn(&format!("left out of training: {error}")),
            }
        }
        Ok(())
    }

    /// Sources of anomalous images: the readable known anomalies. Without any, one stands for all that
    /// is made from other images, where the augmentation can do that.
    pub(super) fn anomalies(&self) -> usize {
        let made_from_nothing = self.makes_anomalies && !self.augment.needs_anomaly();
        self.anomalies.len().max(usize::from(made_from_nothing))
    }

    /// How the cache of features fares.
    pub(super) fn statistics(&self) -> CacheStatistics {
        self.cache.statistics()
    }

    /// Where the picture lies in a normal image's input.
    pub(super) fn region(&self, normal: usize) -> Region {
        self.regions[&self.normals[normal]]
    }

    /// A normal image.
    ///
    /// # Errors
    /// When the cache cannot be read.
    pub(super) fn normal(&mut self, normal: usize) -> Result<Vectors> {
        self.cached(Key::Normal(self.normals[normal]))
    }

    /// The images of one batch in pass `pass` of the run.
    ///
    /// # Errors
    /// When an image cannot be made or the cache cannot be used.
    pub(super) fn batch<AB>(
        &mut self,
        items: &[Item],
        pass: usize,
        run: &Run<'_, AB>,
    ) -> Result<Vec<Vectors>>
    where
        AB: AutodiffBackend<InnerBackend = B, Device = B::Device>,
    {
        let wanted: Vec<Wanted> = items.iter().map(|&item| self.wanted(item, pass)).collect();
        // Every image has a random stream of its own, so the order of the threads changes nothing.
        let made: Vec<Option<Loaded>> = wanted
            .par_iter()
            .map(|wanted| match &wanted.stream {
                Some(stream) if wanted.key.is_none_or(|key| !self.cache.contains(&key)) => {
                    self.make(wanted.anomaly, stream).map(Some)
                }
                _ => Ok(None),
            })
            .collect::<Result<_>>()?;
        let new: Vec<&Loaded> = made.iter().flatten().collect();
        let mut features = Vec::with_capacity(new.len());
        for group in new.chunks(run.batch_size) {
            features.extend(self.features_of(group, &run.device));
        }
        let mut features = features.into_iter();
        wanted
            .iter()
            .zip(&made)
            .map(|(wanted, made)| match (made, wanted.key) {
                (None, Some(key)) => self.cached(key),
                (None, None) => unreachable!("an image without a key is made"),
                (Some(loaded), key) => {
                    let levels = features.next().expect("one for each image made");
                    let cells = Arc::new(self.cells_of(loaded));
                    let features = match key {
                        Some(key) => {
                            self.cells.insert(key, Arc::clone(&cells));
                            self.cache.insert(key, levels)?
                        }
                        None => {
                            self.cache.count_miss();
                            Arc::new(levels)
                        }
                    };
                    Ok(Vectors { features, cells })
                }
            })
            .collect()
    }

    fn wanted(&self, item: Item, pass: usize) -> Wanted {
        let (entry, turn) = match item {
            Item::Normal(normal) => {
                return Wanted {
                    key: Some(Key::Normal(self.normals[normal])),
                    anomaly: 0,
                    stream: None,
                };
            }
            Item::Anomaly { entry, turn } => (entry, turn),
        };
        let anomaly = entry % self.anomalies();
        let repeat = entry / self.anomalies();
        if repeat < self.plain && anomaly < self.anomalies.len() {
            return Wanted {
                key: Some(Key::Anomaly(anomaly)),
                anomaly,
                stream: None,
            };
        }
        let (key, name) = if self.versions == 0 {
            (None, format!("{pass} {turn}"))
        } else {
            // Turns of one pass are different versions as long as there are enough.
            let version = (pass + turn) % self.versions;
            (Some(Key::Version { entry, version }), version.to_string())
        };
        Wanted {
            key,
            anomaly,
            stream: Some(format!("pseudo-anomaly {entry} {name}")),
        }
    }

    /// Makes a pseudo-anomaly from a known one and a random normal image.
    fn make(&self, anomaly: usize, stream: &str) -> Result<Loaded> {
        let mut rng = stream_rng(self.seed, stream);
        let normals = &self.normals;
        let mut any_normal = || &self.samples[normals[rng.random_range(0..normals.len())]];
        let normal = any_normal();
        let picture: Arc<RgbImage> = normal.image.read()?;
        let other = if self.augment.needs_anomaly() {
            None
        } else {
            Some(Known::unmarked(
                any_normal().image.read()?.as_ref().clone(),
            )?)
        };
        let source = other.as_ref().unwrap_or_else(|| &self.anomalies[anomaly]);
        let foreground = self.foreground.mask(&picture);
        let made = pseudo_anomaly(
            &self.augment,
            &picture,
            foreground.as_ref(),
            source,
            &mut rng,
        )?;
        let sample = Sample {
            image: ImageSource::Memory {
                name: format!("pseudo-anomaly on {}", normal.image.name()),
                image: Arc::new(made.image),
            },
            label: Label::Anomalous,
            kind: "pseudo-anomaly".into(),
            mask: Some(MaskSource::Memory(Arc::new(made.mask))),
        };
        self.loader.preprocess().load(0, &sample)
    }

    fn cached(&mut self, key: Key) -> Result<Vectors> {
        let cells = Arc::clone(&self.cells[&key]);
        let features = self.cache.get(&key)?.expect("kept when its cells were");
        Ok(Vectors { features, cells })
    }

    fn features_of(&self, items: &[&Loaded], device: &B::Device) -> Vec<Levels> {
        let size = self.loader.preprocess().geometry.size;
        let items: Vec<Loaded> = items.iter().map(|&item| item.clone()).collect();
        self.taps.levels(
            self.backbone,
            Batch::<B>::from_loaded(&items, size, device).images,
        )
    }

    /// Cells of a normal image; images of the same shape share them.
    fn shared_cells(&self, item: &Loaded) -> Arc<Vec<Cells>> {
        let same = self
            .regions
            .iter()
            .find(|(_, region)| **region == item.placement.valid);
        match same {
            Some((index, _)) => Arc::clone(&self.cells[&Key::Normal(*index)]),
            None => Arc::new(self.cells_of(item)),
        }
    }

    fn cells_of(&self, item: &Loaded) -> Vec<Cells> {
        let size = self.loader.preprocess().geometry.size;
        let of_map = self.taps.maps.iter().map(|map| {
            let valid = valid_cells(map.grid, &item.placement.valid, size);
            let mask = item.mask.as_ref().map(|mask| map.mask(mask, size));
            let mut cells = Cells::default();
            for (position, _) in valid.iter().enumerate().filter(|(_, valid)| **valid) {
                let anomalous = mask.as_ref().is_some_and(|mask| mask[position]);
                let list = if anomalous {
                    &mut cells.anomalous
                } else {
                    &mut cells.normal
                };
                list.push(position as u32);
            }
            cells
        });
        of_map.collect()
    }
}

/// An image of a batch: where its features are kept, and how it is made if it must be.
struct Wanted {
    /// `None`: its features are used once.
    key: Option<Key>,
    anomaly: usize,
    /// The random stream of a pseudo-anomaly; `None` for an image that is there from the start.
    stream: Option<String>,
}
