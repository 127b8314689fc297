//! A trained model of one scale: what it makes of images (eqs. 13 to 17).

use burn::prelude::*;
use rayon::prelude::*;

use super::config::{EncoderSource, IgdConfig, PATCH, PatchConfig, Scale};
use super::gaussian::Gaussian;
use super::network::{Generator, GeneratorPlan};
use super::objective::Objective;
use super::patches::{Mosaic, corners, cut};
use super::residual_map::residual_maps;
use crate::backbone::Backbone;
use crate::data::Batch;
use crate::error::{Error, Result};
use crate::network::{Init, load, save};
use crate::tensors::{HostTensor, TensorSet, to_vec};
use crate::train::stream_rng;

/// Patches that are looked at together.
const PATCHES_AT_ONCE: usize = 64;

/// Names of numbers beside the networks.
const CENTRE: &str = "centre";
const SCALE: &str = "scale";
const RANGE: &str = "range";

/// A trained model.
#[derive(Clone, Debug)]
pub(super) struct Eye<B: Backend> {
    pub(super) scale: Scale,
    pub(super) generator: Generator<B>,
    pub(super) gaussian: Gaussian,
    pub(super) objective: Objective,
    /// Of reconstruction and classifier in the score.
    pub(super) weights: [f64; 2],
    pub(super) patches: PatchConfig,
    /// Whether the backbone is the encoder.
    pub(super) frozen: bool,
    /// Side of the images.
    pub(super) size: usize,
}

/// Scores, one an image, and maps `[size, size]` where they are asked for.
pub(super) struct Seen {
    pub(super) scores: Vec<f32>,
    pub(super) maps: Vec<Vec<f32>>,
}

impl<B: Backend> Eye<B> {
    /// Adds all that was learnt, its names below that of the scale.
    pub(super) fn save(&self, tensors: &mut TensorSet) {
        let name = self.scale.name();
        save(&self.generator, &format!("{name}.generator"), tensors);
        let Gaussian { centre, scale } = &self.gaussian;
        let numbers = [
            (CENTRE, centre.clone()),
            (SCALE, vec![*scale as f32]),
            (RANGE, vec![self.objective.ssim.range as f32]),
        ];
        for (part, values) in numbers {
            let tensor = HostTensor::new([values.len()], values);
            tensors.insert(format!("{name}.{part}"), tensor);
        }
    }

    /// Takes what [`save`](Self::save) added.
    ///
    /// # Errors
    /// When a tensor is absent or has another shape.
    pub(super) fn load(
        config: &IgdConfig,
        scale: Scale,
        plan: &GeneratorPlan,
        size: usize,
        tensors: &mut TensorSet,
        device: &B::Device,
    ) -> Result<Self> {
        let name = scale.name();
        let mut unused = stream_rng(0, "zeros");
        let generator = config.generator(plan, Init::Zeros, &mut unused, device);
        let generator = load(generator, &format!("{name}.generator"), tensors)?;
        let mut numbers = |part: &str, count: usize| {
            let tensor = tensors.take(&format!("{name}.{part}"), &[Some(count)])?;
            Ok::<_, Error>(tensor.values)
        };
        let gaussian = Gaussian {
            centre: numbers(CENTRE, config.latent)?,
            scale: f64::from(numbers(SCALE, 1)?[0]),
        };
        let range = f64::from(numbers(RANGE, 1)?[0]);
        let objective = config.objective(scale, range);
        Ok(Self::new(
            config, scale, generator, gaussian, objective, size,
        ))
    }

    /// A model with what the settings say of it.
    pub(super) fn new(
        config: &IgdConfig,
        scale: Scale,
        generator: Generator<B>,
        gaussian: Gaussian,
        objective: Objective,
        size: usize,
    ) -> Self {
        Self {
            scale,
            generator,
            gaussian,
            objective,
            weights: config.score_weights(scale),
            patches: config.patches,
            frozen: config.scale(scale).encoder == EncoderSource::Backbone,
            size,
        }
    }

    /// Looks at the images of a batch; what one gets does not depend on the others.
    pub(super) fn look(&self, batch: &Batch<B>, backbone: &Backbone<B>, with_maps: bool) -> Seen {
        match self.scale {
            Scale::Global => {
                let (scores, maps) = self.see(batch.images.clone(), backbone, with_maps);
                Seen { scores, maps }
            }
            Scale::Local => self.look_at_patches(batch, backbone, with_maps),
        }
    }

    /// The greatest score of an image's patches; maps put together from theirs.
    fn look_at_patches(&self, batch: &Batch<B>, backbone: &Backbone<B>, with_maps: bool) -> Seen {
        let device = batch.images.device();
        let size = self.size;
        let pixels = to_vec(batch.images.clone());
        let images: Vec<&[f32]> = pixels.chunks_exact(3 * size * size).collect();
        let places: Vec<(usize, [usize; 2])> = batch
            .valid
            .iter()
            .enumerate()
            .flat_map(|(image, region)| {
                let corners = corners(self.patches, size, region).into_iter();
                corners.map(move |corner| (image, corner))
            })
            .collect();
        let mut scores = vec![f32::NEG_INFINITY; images.len()];
        let mut mosaics: Vec<Mosaic> = Vec::new();
        if with_maps {
            mosaics.extend(images.iter().map(|_| Mosaic::new(size)));
        }
        for places in places.chunks(PATCHES_AT_ONCE) {
            let mut values = Vec::with_capacity(places.len() * 3 * PATCH * PATCH);
            for &(image, corner) in places {
                cut(images[image], size, corner, &mut values);
            }
            let data = TensorData::new(values, [places.len(), 3, PATCH, PATCH]);
            let patches = Tensor::from_data(data, &device);
            let (found, maps) = self.see(patches, backbone, with_maps);
            for (&(image, _), score) in places.iter().zip(found) {
                // A score that is not a number must show.
                if score.is_nan() || score > scores[image] {
                    scores[image] = score;
                }
            }
            for (&(image, corner), map) in places.iter().zip(maps) {
                mosaics[image].add(corner, &map);
            }
        }
        Seen {
            scores,
            maps: mosaics.into_par_iter().map(Mosaic::finish).collect(),
        }
    }

    /// Scores and maps `[side, side]` of what the model sees at once.
    fn see(
        &self,
        images: Tensor<B, 4>,
        backbone: &Backbone<B>,
        with_maps: bool,
    ) -> (Vec<f32>, Vec<Vec<f32>>) {
        let vectors = self.frozen.then(|| backbone.pooled(images.clone()));
        let z = self.generator.encode(images.clone(), vectors);
        let found = self.generator.decode(z.clone());
        self.judge(images, &z, found, with_maps)
    }

    /// The same by their latent vectors and reconstructions.
    pub(super) fn judge(
        &self,
        images: Tensor<B, 4>,
        z: &Tensor<B, 2>,
        found: Option<Tensor<B, 4>>,
        with_maps: bool,
    ) -> (Vec<f32>, Vec<Vec<f32>>) {
        let losses = self
            .objective
            .losses(&images, z, found.as_ref(), &self.gaussian);
        let count = images.dims()[0];
        let mut scores = vec![0.0f64; count];
        for (part, weight) in [losses.reconstruction, losses.classifier]
            .into_iter()
            .zip(self.weights)
        {
            let Some(part) = part else { continue };
            for (score, value) in scores.iter_mut().zip(to_vec(part)) {
                *score += weight * f64::from(value);
            }
        }
        let scores: Vec<f32> = scores.into_iter().map(|score| score as f32).collect();
        let maps = match found {
            _ if !with_maps => Vec::new(),
            Some(found) => residual_maps(&self.objective, images, found),
            // Nothing says where: every position is as anomalous as the image.
            None => {
                let [_, _, height, width] = images.dims();
                let flat = scores.iter().map(|&score| vec![score; height * width]);
                flat.collect()
            }
        };
        (scores, maps)
    }
}
