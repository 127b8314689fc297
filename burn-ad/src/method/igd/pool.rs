//! The images of a training run as the models see them.

use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use rand::RngExt;

use super::config::{EncoderSource, IgdConfig, Scale};
use super::learner::Views;
use super::patches::{corners, cut};
use crate::backbone::Backbone;
use crate::data::Region;
use crate::error::Result;
use crate::method::TrainingData;
use crate::method::reading::{nothing_readable, read_features};
use crate::train::{FeatureCache, Run, indices_by_seed, stream_rng};

/// What a model sees of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct View {
    image: usize,
    /// Upper left corner of a patch; `None` for the whole image.
    corner: Option<[usize; 2]>,
    mirrored: bool,
}

/// All images of a run.
pub(super) struct Pool<'a, B: Backend> {
    config: &'a IgdConfig,
    backbone: &'a Backbone<B>,
    /// Normalised pixels `[3, size, size]`.
    pixels: FeatureCache<usize>,
    /// Where the picture lies in each image.
    regions: Vec<Region>,
    /// Vectors of whole images, plain or mirrored.
    vectors: FeatureCache<(usize, bool)>,
    size: usize,
    device: B::Device,
}

impl<'a, B: Backend> Pool<'a, B> {
    /// Reads all normal images.
    ///
    /// # Errors
    /// When none can be read, or the run is interrupted.
    pub(super) fn fill<AB: AutodiffBackend<InnerBackend = B, Device = B::Device>>(
        config: &'a IgdConfig,
        backbone: &'a Backbone<B>,
        data: &TrainingData<'_>,
        run: &mut Run<'_, AB>,
    ) -> Result<Self> {
        let mut pool = Self {
            config,
            backbone,
            pixels: FeatureCache::new(run.feature_memory),
            regions: Vec::new(),
            vectors: FeatureCache::new(run.feature_memory),
            size: data.loader.preprocess().geometry.size,
            device: run.device.clone(),
        };
        let (pixels, regions) = (&mut pool.pixels, &mut pool.regions);
        read_features(
            data.loader,
            data.fit,
            run,
            |_, items| {
                let items = items.iter();
                items.map(|item| vec![item.pixels.clone()]).collect()
            },
            |item, levels| {
                pixels.insert(regions.len(), levels)?;
                regions.push(item.placement.valid);
                Ok(())
            },
        )?;
        if pool.regions.is_empty() {
            return Err(nothing_readable());
        }
        Ok(pool)
    }

    /// Readable images.
    pub(super) fn len(&self) -> usize {
        self.regions.len()
    }

    /// What a model sees of an image in an epoch, not mirrored: the whole, or patches, which are drawn
    /// anew in each epoch where not all are taken.
    pub(super) fn views(&self, scale: Scale, image: usize, epoch: usize, seed: u64) -> Vec<View> {
        let view = |corner| View {
            image,
            corner,
            mirrored: false,
        };
        if scale == Scale::Global {
            return vec![view(None)];
        }
        let corners = corners(self.config.patches, self.size, &self.regions[image]);
        let drawn = match self.config.patches.drawn {
            0 => corners.len(),
            some => some.min(corners.len()),
        };
        if drawn == corners.len() {
            return corners
                .into_iter()
                .map(|corner| view(Some(corner)))
                .collect();
        }
        let stream = format!("patches {epoch} {image}");
        let order = indices_by_seed(corners.len(), seed, &stream);
        let order = order.into_iter().take(drawn);
        order.map(|place| view(Some(corners[place]))).collect()
    }

    /// Mirrors views at random, where the settings say so.
    pub(super) fn mirror(&self, views: &mut [View], seed: u64, stream: &str) {
        if !self.config.flip {
            return;
        }
        let mut rng = stream_rng(seed, stream);
        for view in views {
            view.mirrored = rng.random();
        }
    }

    /// Views as tensors.
    ///
    /// # Errors
    /// When images kept on disk cannot be read.
    pub(super) fn batch(&mut self, scale: Scale, views: &[View]) -> Result<Views<B>> {
        let side = IgdConfig::side(scale, self.size);
        let mut values = Vec::with_capacity(views.len() * 3 * side * side);
        for view in views {
            let levels = self.pixels.get(&view.image)?;
            let levels = levels.expect("every image was read");
            let start = values.len();
            match view.corner {
                Some(corner) => cut(&levels[0], self.size, corner, &mut values),
                None => values.extend_from_slice(&levels[0]),
            }
            if view.mirrored {
                values[start..]
                    .chunks_exact_mut(side)
                    .for_each(<[f32]>::reverse);
            }
        }
        let data = TensorData::new(values, [views.len(), 3, side, side]);
        let images = Tensor::<B, 4>::from_data(data, &self.device);
        let vectors = match self.config.scale(scale).encoder {
            EncoderSource::Scratch => None,
            EncoderSource::Backbone if scale == Scale::Local => {
                Some(self.backbone.pooled(images.clone()))
            }
            EncoderSource::Backbone => Some(self.whole(&images, views)?),
        };
        Ok(Views { images, vectors })
    }

    /// The frozen backbone's vectors of whole images, each computed once.
    fn whole(&mut self, images: &Tensor<B, 4>, views: &[View]) -> Result<Tensor<B, 2>> {
        let key = |view: &View| (view.image, view.mirrored);
        let absent: Vec<usize> = (0..views.len())
            .filter(|&place| !self.vectors.contains(&key(&views[place])))
            .collect();
        if !absent.is_empty() {
            let parts = absent
                .iter()
                .map(|&place| images.clone().narrow(0, place, 1));
            let found = self.backbone.pooled(Tensor::cat(parts.collect(), 0));
            let width = found.dims()[1];
            let found = crate::tensors::to_vec(found);
            for (&place, vector) in absent.iter().zip(found.chunks_exact(width)) {
                self.vectors
                    .insert(key(&views[place]), vec![vector.to_vec()])?;
            }
        }
        let mut values = Vec::new();
        for view in views {
            let levels = self.vectors.get(&key(view))?;
            values.extend_from_slice(&levels.expect("computed above")[0]);
        }
        let width = values.len() / views.len();
        let data = TensorData::new(values, [views.len(), width]);
        Ok(Tensor::from_data(data, &self.device))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashSet;

    use burn_flex::Flex;

    use super::super::tests::{Cpu, SEED, Training, both, frozen, product};
    use super::*;
    use crate::tensors::to_vec;

    /// Hands over a pool of some images.
    fn with_pool(training: &Training<'_>, work: impl FnOnce(&mut Pool<'_, Flex>)) {
        let backbone = training.backbone();
        training.with_data(|data, run| {
            let pool = Pool::fill::<Cpu>(&training.config, &backbone, data, run);
            work(&mut pool.unwrap());
        });
    }

    #[test]
    fn patches_are_drawn_anew_in_each_epoch_and_the_same_for_a_seed() {
        let (normal, _) = product(2, 1);
        let mut training = Training::new(both(), &normal);
        training.config.patches.drawn = 4;
        with_pool(&training, |pool| {
            let drawn = |epoch, seed| pool.views(Scale::Local, 1, epoch, seed);
            let first = drawn(0, SEED);
            assert_eq!(first, drawn(0, SEED));
            let others = [drawn(1, SEED), drawn(2, SEED), drawn(0, SEED + 1)];
            assert!(others.iter().all(|other| *other != first));
            let distinct: HashSet<_> = first.iter().map(|view| view.corner).collect();
            assert_eq!(distinct.len(), 4);
            assert_eq!(pool.views(Scale::Global, 1, 0, SEED).len(), 1);
        });
        for (drawn, expected) in [(0, 9), (9, 9), (50, 9), (8, 8)] {
            training.config.patches.drawn = drawn;
            with_pool(&training, |pool| {
                let views = pool.views(Scale::Local, 0, 0, SEED);
                assert_eq!(views.len(), expected);
            });
        }
    }

    #[test]
    fn a_patch_is_a_part_of_the_image_and_may_be_mirrored() {
        let (normal, _) = product(2, 1);
        let training = Training::new(both(), &normal);
        with_pool(&training, |pool| {
            let whole = pool.views(Scale::Global, 1, 0, SEED);
            let whole = pool.batch(Scale::Global, &whole).unwrap();
            assert!(whole.vectors.is_none());
            let plain = View {
                image: 1,
                corner: Some([16, 32]),
                mirrored: false,
            };
            let mirrored = View {
                mirrored: true,
                ..plain
            };
            let found = pool.batch(Scale::Local, &[plain, mirrored]).unwrap();
            let patch = whole.images.slice([0..1, 0..3, 16..48, 32..64]);
            let expected = Tensor::cat(vec![patch.clone(), patch.flip([3])], 0);
            assert_eq!(to_vec(found.images), to_vec(expected));
        });
    }

    #[test]
    fn views_are_mirrored_at_random_where_that_is_asked_for() {
        let (normal, _) = product(2, 1);
        let mut training = Training::new(both(), &normal);
        let mirrored = |training: &Training<'_>, stream: &str| {
            let mut views = [View {
                image: 0,
                corner: None,
                mirrored: false,
            }; 100];
            with_pool(training, |pool| pool.mirror(&mut views, SEED, stream));
            views.map(|view| view.mirrored)
        };
        let first = mirrored(&training, "first");
        let count = first.iter().filter(|mirrored| **mirrored).count();
        assert!((30..70).contains(&count), "{count}");
        assert_eq!(first, mirrored(&training, "first"));
        assert_ne!(first, mirrored(&training, "second"));
        training.config.flip = false;
        assert_eq!(mirrored(&training, "first"), [false; 100]);
    }

    #[test]
    fn vectors_of_whole_images_are_those_of_the_backbone_and_computed_once() {
        let (normal, _) = product(3, 1);
        let training = Training::new(frozen(), &normal);
        let other = "resnet18"
            .parse::<crate::backbone::BackboneConfig>()
            .unwrap();
        let other = other.random(SEED + 1, &Default::default());
        let view = |image, mirrored| View {
            image,
            corner: None,
            mirrored,
        };
        let apart = |a: &Tensor<Flex, 2>, b: Tensor<Flex, 2>| {
            let difference = to_vec((a.clone() - b).abs());
            difference.into_iter().fold(0.0, f32::max)
        };
        let backbone = training.backbone();
        training.with_data(|data, run| {
            let pool = Pool::fill::<Cpu>(&training.config, &backbone, data, run);
            let mut pool = pool.unwrap();
            let views = [view(0, false), view(2, false), view(0, true)];
            let found = pool.batch(Scale::Global, &views).unwrap();
            let vectors = found.vectors.unwrap();
            assert!(apart(&vectors, backbone.pooled(found.images.clone())) < 1e-5);
            // Whoever computes them again now gets others.
            pool.backbone = &other;
            let again = pool.batch(Scale::Global, &views).unwrap().vectors.unwrap();
            assert_eq!(to_vec(again), to_vec(vectors.clone()));
            // Only what was not seen yet is computed.
            let views = [view(0, true), view(2, true)];
            let mixed = pool.batch(Scale::Global, &views).unwrap();
            let mixed_vectors = mixed.vectors.unwrap();
            let known = vectors.narrow(0, 2, 1);
            assert_eq!(to_vec(mixed_vectors.clone().narrow(0, 0, 1)), to_vec(known));
            let new = other.pooled(mixed.images.narrow(0, 1, 1));
            assert!(apart(&new, mixed_vectors.narrow(0, 1, 1)) < 1e-5);
        });
    }
}
