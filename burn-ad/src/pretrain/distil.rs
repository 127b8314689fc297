//! Distillation: an encoder learns what a larger network says of images.

use burn::module::{AutodiffModule, Module};
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use image::{RgbImage, imageops};
use rand::RngExt;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::course::{Course, Lesson, finite};
use super::pictures::{Pictures, to_tensor};
use super::{ENCODER, Recipe, encoder, validate, weights};
use crate::backbone::{Backbone, Pixels, StudentConfig, WeightsFile};
use crate::data::{Geometry, Normalisation, Region, Sample};
use crate::error::{Error, Result};
use crate::method::fingerprint::{identity, names};
use crate::network::residual::Encoder;
use crate::network::{Descent, Init, Linear, Player};
use crate::ops::computes_on_cpu;
use crate::tensors::{TensorSet, to_vec};
use crate::train::{AdamSettings, Run, cycled, stream_rng};

/// Settings of a distillation. Defaults are the paper's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DistilConfig {
    /// Side of the images that the encoder is for: 32, 64, 128 or 256.
    pub side: usize,
    /// Steps of the optimiser.
    pub steps: usize,
    /// Images a step.
    pub batch: usize,
    /// Adam's learning rate.
    pub learning_rate: f64,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
    /// Whether squares of the side are cut out of larger images at random, for an encoder of patches.
    pub crops: bool,
    /// Whether images are mirrored left-right at random.
    pub flip: bool,
    /// The loss is recorded after so many steps.
    pub log_every: usize,
}

impl Default for DistilConfig {
    fn default() -> Self {
        Self {
            side: 256,
            steps: 50_000,
            batch: 64,
            learning_rate: 1e-4,
            weight_decay: 1e-5,
            crops: false,
            flip: true,
            log_every: 100,
        }
    }
}

impl DistilConfig {
    /// # Errors
    /// When a setting is out of its range.
    pub fn validate(&self) -> Result<()> {
        StudentConfig::of_side(self.side)?;
        validate(
            &[
                ("steps", self.steps),
                ("batch", self.batch),
                ("log_every", self.log_every),
            ],
            &[
                ("learning_rate", self.learning_rate),
                ("weight_decay", self.weight_decay),
            ],
        )
    }

    /// # Errors
    /// When images of `size` pixels are not what is learnt from.
    fn check_size(&self, size: usize) -> Result<()> {
        let side = self.side;
        let (fits, what) = match self.crops {
            true => (size >= side, "at least "),
            false => (size == side, ""),
        };
        if fits {
            return Ok(());
        }
        Err(Error::usage(format!(
            "an encoder for {side} pixels cannot learn from images of {size}"
        ))
        .help(format!(
            "the size of images must be {what}{side}; larger ones are cut with crops"
        )))
    }
}

/// What is learnt from.
#[derive(Debug)]
pub struct Teacher<'a, B: Backend> {
    /// The frozen network.
    pub backbone: &'a Backbone<B>,
    /// The pixels it was trained on, which are the student's, too.
    pub pixels: Pixels,
    /// Where its weights come from, for the recipe.
    pub source: &'a str,
}

/// Teaches an encoder the vectors of a larger network, the means over the positions of its deepest tap,
/// plain: the loss is the mean over the images of the squared distance between the encoder's vector and
/// the teacher's.
///
/// Where the teacher's vector has not the encoder's 512 values, a linear map from these to those is
/// learnt along; it is no part of the result.
///
/// Images go through `geometry`, whose size is the side of the encoder, or with
/// [`crops`](DistilConfig::crops) a larger one.
///
/// # Errors
/// When a setting is out of its range, no image can be read, the loss is not finite, the checkpoint
/// cannot be used, or the run is interrupted (after a checkpoint was written).
pub fn distil<AB: AutodiffBackend>(
    config: &DistilConfig,
    teacher: &Teacher<'_, AB::InnerBackend>,
    samples: &[Sample],
    geometry: Geometry,
    run: &mut Run<'_, AB>,
) -> Result<WeightsFile> {
    let learnt = learn(config, teacher, samples, geometry, run)?;
    let recipe = Recipe {
        kind: "distil",
        source: format!("distilled from {}", teacher.backbone.config()),
        settings: config,
        teacher: json!({
            "name": teacher.backbone.config().name(),
            "digest": teacher.backbone.digest(),
            "source": teacher.source,
        }),
        images: learnt.images,
        seed: run.seed,
        loss: learnt.loss,
    };
    let student = StudentConfig::of_side(config.side)?;
    weights(student, &learnt.encoder, teacher.pixels, recipe)
}

/// What comes out of a distillation.
pub(super) struct Learnt<B: Backend> {
    pub(super) encoder: Encoder<B>,
    pub(super) loss: f64,
    pub(super) images: usize,
}

pub(super) fn learn<AB: AutodiffBackend>(
    config: &DistilConfig,
    teacher: &Teacher<'_, AB::InnerBackend>,
    samples: &[Sample],
    geometry: Geometry,
    run: &mut Run<'_, AB>,
) -> Result<Learnt<AB::InnerBackend>> {
    config.validate()?;
    config.check_size(geometry.size)?;
    let student = StudentConfig::of_side(config.side)?;
    let info = teacher.backbone.config().feature_info();
    let width = info.last().map(|tap| tap.channels);
    let width = width.ok_or_else(|| {
        Error::usage("without a network there is nothing to distil").help("choose a teacher")
    })?;
    let pictures = Pictures::read(samples, geometry, run)?;
    let on_cpu = computes_on_cpu::<AB>(&run.device);
    let course = Course {
        steps: config.steps,
        record_every: config.log_every,
        in_epochs: false,
        fingerprint: identity(&(
            "distil",
            config,
            teacher.backbone.digest(),
            teacher.pixels,
            geometry,
            names(samples),
            on_cpu,
            run.seed,
        ))?,
    };
    let Pixels { mean, std, .. } = teacher.pixels;
    let pupil = Pupil {
        encoder: encoder::<AB>(student, run.seed, &run.device),
        projection: (width != student.outputs()).then(|| {
            let mut rng = stream_rng(run.seed, "projection");
            Linear::new(
                student.outputs(),
                width,
                Init::Uniform,
                &mut rng,
                &run.device,
            )
        }),
    };
    let settings = AdamSettings {
        weight_decay: config.weight_decay,
        ..AdamSettings::default()
    };
    let lesson = Distillation {
        config,
        teacher: teacher.backbone,
        normalisation: Normalisation { mean, std },
        pictures: &pictures,
        pupil: Player::new(pupil, settings, &run.device),
        seed: run.seed,
        device: run.device.clone(),
    };
    let (lesson, loss) = course.pass(lesson, run)?;
    Ok(Learnt {
        encoder: lesson.pupil.network().encoder.valid(),
        loss,
        images: pictures.len(),
    })
}

/// What learns.
#[derive(Module, Debug)]
struct Pupil<B: Backend> {
    encoder: Encoder<B>,
    /// To a teacher's vector of another size.
    projection: Option<Linear<B>>,
}

impl<B: Backend> Pupil<B> {
    fn forward(&self, images: Tensor<B, 4>) -> Tensor<B, 2> {
        let found = self.encoder.forward(images);
        match &self.projection {
            Some(projection) => projection.forward(found),
            None => found,
        }
    }
}

struct Distillation<'a, AB: AutodiffBackend> {
    config: &'a DistilConfig,
    teacher: &'a Backbone<AB::InnerBackend>,
    normalisation: Normalisation,
    pictures: &'a Pictures<'a>,
    pupil: Player<Pupil<AB>, AB>,
    seed: u64,
    device: AB::Device,
}

/// What is seen of an image, by two numbers in [0, 1) for the corner, and whether it is mirrored.
type View = (usize, [f64; 2], bool);

impl<AB: AutodiffBackend> Distillation<'_, AB> {
    /// The images of a step, `[batch, 3, side, side]`.
    fn images(&self, step: usize) -> Result<Tensor<AB::InnerBackend, 4>> {
        let DistilConfig { batch, side, .. } = *self.config;
        let (images, seed) = (self.pictures.len(), self.seed);
        let places = cycled(images, step * batch, batch, seed, "images");
        let mut rng = stream_rng(seed, &format!("views {step}"));
        let views: Vec<View> = places
            .into_iter()
            .map(|place| (place, [rng.random(), rng.random()], rng.random()))
            .collect();
        let views = views.par_iter().map(|view| self.view(*view));
        let views: Vec<RgbImage> = views.collect::<Result<_>>()?;
        Ok(to_tensor(&views, side, &self.normalisation, &self.device))
    }

    fn view(&self, (place, corner, mirrored): View) -> Result<RgbImage> {
        let picture = self.pictures.picture(place)?;
        let side = self.config.side;
        let size = picture.pixels.width() as usize;
        let [top, left] = corner_of(picture.region, corner, side, size);
        let cut = imageops::crop_imm(
            picture.pixels.as_ref(),
            left as u32,
            top as u32,
            side as u32,
            side as u32,
        );
        let mut view = cut.to_image();
        if self.config.flip && mirrored {
            imageops::flip_horizontal_in_place(&mut view);
        }
        Ok(view)
    }
}

/// Row and column of a square of `side` on an image of `size` pixels, by numbers in [0, 1): inside the
/// part that shows picture where it fits.
fn corner_of(region: Region, share: [f64; 2], side: usize, size: usize) -> [usize; 2] {
    let along = |start: usize, length: usize, share: f64| {
        let (start, length) = match length >= side {
            true => (start, length),
            false => (0, size),
        };
        let free = length - side;
        start + ((share * (free + 1) as f64) as usize).min(free)
    };
    [
        along(region.top, region.height, share[0]),
        along(region.left, region.width, share[1]),
    ]
}

impl<AB: AutodiffBackend> Lesson for Distillation<'_, AB> {
    fn step(&mut self, step: usize) -> Result<f64> {
        let images = self.images(step)?;
        let wanted = Tensor::<AB, 2>::from_inner(self.teacher.pooled(images.clone()));
        let found = self.pupil.network().forward(Tensor::from_inner(images));
        let loss = (found - wanted).square().sum_dim(1).mean();
        let value = finite(f64::from(to_vec(loss.clone())[0]))?;
        let descent = Descent {
            learning_rate: self.config.learning_rate,
            clip: None,
        };
        self.pupil.step(loss.backward(), descent);
        Ok(value)
    }

    fn parts(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let mut networks = TensorSet::default();
        let adam = self.pupil.part(ENCODER, &mut networks)?;
        Ok(vec![adam, ("networks".to_owned(), networks.to_bytes()?)])
    }

    fn restored(mut self, take: &mut dyn FnMut(&str) -> Result<Vec<u8>>) -> Result<Self> {
        let mut networks = TensorSet::from_bytes(&take("networks")?)?;
        self.pupil = self
            .pupil
            .restored(ENCODER, &mut networks, take, &self.device)?;
        networks.finish()?;
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_lie_in_the_picture_where_they_fit() {
        let region = Region {
            top: 10,
            left: 0,
            height: 44,
            width: 64,
        };
        let least = corner_of(region, [0.0; 2], 32, 64);
        let greatest = corner_of(region, [1.0 - 1e-12; 2], 32, 64);
        assert_eq!((least, greatest), ([10, 0], [22, 32]));
        let narrow = Region {
            height: 20,
            ..region
        };
        assert_eq!(corner_of(narrow, [0.999; 2], 32, 64), [32, 32]);
    }
}
