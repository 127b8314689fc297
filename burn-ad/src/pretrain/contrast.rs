//! Contrastive learning: two random views of an image are told from those of others.

use burn::module::{AutodiffModule, Module};
use burn::prelude::*;
use burn::tensor::activation::relu;
use burn::tensor::backend::AutodiffBackend;
use image::RgbImage;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::course::{Course, Lesson, finite};
use super::nt_xent::nt_xent;
use super::pictures::{Pictures, to_tensor};
use super::{ENCODER, Recipe, encoder, validate, weights};
use crate::augment::RandomView;
use crate::backbone::{Pixels, StudentConfig, WeightsFile};
use crate::data::{Geometry, Normalisation, Sample};
use crate::error::{Error, Result};
use crate::method::fingerprint::{identity, names};
use crate::network::residual::Encoder;
use crate::network::{Init, Linear, Momentum, MomentumSettings, load, save};
use crate::tensors::{TensorSet, scalar};
use crate::train::{Run, indices_by_seed, stream_rng};

/// Values of a vector that is compared.
const COMPARED: usize = 128;
/// The lowest temperature at which f32 still tells cosines apart.
const COLDEST: f64 = 0.01;

/// Settings of contrastive learning. Defaults are the paper's, and SimCLR's for what it leaves open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContrastConfig {
    /// Side of the images that the encoder is for: 32, 64, 128 or 256.
    pub side: usize,
    /// Passes over the images.
    pub epochs: usize,
    /// Images a step; each is seen twice.
    pub batch: usize,
    /// Rate of the gradient descent.
    pub learning_rate: f64,
    /// Share of the last step's velocity in the next one's.
    pub momentum: f64,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
    /// What cosines are divided by.
    pub temperature: f64,
    /// What makes two views of an image differ.
    pub view: RandomView,
}

impl Default for ContrastConfig {
    fn default() -> Self {
        Self {
            side: 256,
            epochs: 2000,
            batch: 32,
            learning_rate: 0.01,
            momentum: 0.9,
            weight_decay: 0.1,
            temperature: 0.5,
            view: RandomView::default(),
        }
    }
}

impl ContrastConfig {
    /// # Errors
    /// When a setting is out of its range.
    pub fn validate(&self) -> Result<()> {
        StudentConfig::of_side(self.side)?;
        self.view.validate()?;
        validate(
            &[("epochs", self.epochs)],
            &[
                ("learning_rate", self.learning_rate),
                ("momentum", self.momentum),
                ("weight_decay", self.weight_decay),
                ("temperature", self.temperature),
            ],
        )?;
        if self.batch < 2 {
            return Err(Error::usage("batch must be at least 2")
                .help("views are told from those of other images in the batch"));
        }
        if self.temperature < COLDEST {
            let temperature = self.temperature;
            return Err(Error::usage(format!(
                "temperature must be at least {COLDEST}, not {temperature}"
            )));
        }
        Ok(())
    }
}

/// Teaches an encoder to tell views of an image from those of other images. Behind the encoder there are
/// two layers, 512 -> 512 -> 128 with a rectifier between, whose vectors are compared
/// ([`nt_xent`]); they are no part of the result.
///
/// Images go through `geometry`, whose size may be larger than the encoder's side: views are resized.
/// The encoder takes pixels normalised by the statistics of ImageNet.
///
/// # Errors
/// When a setting is out of its range, fewer than two images can be read, the loss is not finite, the
/// checkpoint cannot be used, or the run is interrupted (after a checkpoint was written).
pub fn contrast<AB: AutodiffBackend>(
    config: &ContrastConfig,
    samples: &[Sample],
    geometry: Geometry,
    run: &mut Run<'_, AB>,
) -> Result<WeightsFile> {
    config.validate()?;
    let student = StudentConfig::of_side(config.side)?;
    let pictures = Pictures::read(samples, geometry, run)?;
    if pictures.len() < 2 {
        return Err(Error::data(
            "there is only one image, and nothing to tell it from",
        ));
    }
    let steps_an_epoch = steps_an_epoch(pictures.len(), config.batch);
    let course = Course {
        steps: config.epochs * steps_an_epoch,
        record_every: steps_an_epoch,
        in_epochs: true,
        fingerprint: identity(&("contrast", config, geometry, names(samples), run.seed))?,
    };
    let settings = MomentumSettings {
        momentum: config.momentum,
        weight_decay: config.weight_decay,
    };
    let lesson = Contrast {
        config,
        pictures: &pictures,
        steps_an_epoch,
        network: Some(Projected::<AB>::new(student, run.seed, &run.device)),
        momentum: Momentum::new(settings),
        seed: run.seed,
        device: run.device.clone(),
    };
    let (lesson, loss) = course.pass(lesson, run)?;
    let recipe = Recipe {
        kind: "contrast",
        source: "contrastive learning".to_owned(),
        settings: config,
        teacher: serde_json::Value::Null,
        images: pictures.len(),
        seed: run.seed,
        loss,
    };
    let encoder = lesson.network().encoder.valid();
    weights(student, &encoder, Pixels::IMAGENET, recipe)
}

/// The last images of an epoch make a step of their own, unless it is one alone, which had nothing to be
/// told from.
fn steps_an_epoch(images: usize, batch: usize) -> usize {
    images / batch + usize::from(images % batch > 1)
}

/// An encoder, and the layers whose vectors are compared.
#[derive(Module, Debug)]
struct Projected<B: Backend> {
    encoder: Encoder<B>,
    first: Linear<B>,
    second: Linear<B>,
}

impl<B: Backend> Projected<B> {
    fn new(student: StudentConfig, seed: u64, device: &B::Device) -> Self {
        let mut rng = stream_rng(seed, "projection");
        let (width, init) = (student.outputs(), Init::Uniform);
        Self {
            encoder: encoder(student, seed, device),
            first: Linear::new(width, width, init, &mut rng, device),
            second: Linear::new(width, COMPARED, init, &mut rng, device),
        }
    }

    fn forward(&self, images: Tensor<B, 4>) -> Tensor<B, 2> {
        let hidden = relu(self.first.forward(self.encoder.forward(images)));
        self.second.forward(hidden)
    }
}

struct Contrast<'a, AB: AutodiffBackend> {
    config: &'a ContrastConfig,
    pictures: &'a Pictures<'a>,
    steps_an_epoch: usize,
    /// Absent only while a step changes it.
    network: Option<Projected<AB>>,
    momentum: Momentum<AB>,
    seed: u64,
    device: AB::Device,
}

impl<AB: AutodiffBackend> Contrast<'_, AB> {
    fn network(&self) -> &Projected<AB> {
        self.network.as_ref().expect("it is back after each step")
    }

    /// The first views of a step's images, then their second ones, `[2 * images, 3, side, side]`.
    fn views(&self, step: usize) -> Result<Tensor<AB, 4>> {
        let ContrastConfig { batch, side, .. } = *self.config;
        let (epoch, index) = (step / self.steps_an_epoch, step % self.steps_an_epoch);
        let images = self.pictures.len();
        let order = indices_by_seed(images, self.seed, &format!("epoch {epoch}"));
        let first = index * batch;
        let places = &order[first..(first + batch).min(images)];
        let views: Vec<(usize, usize)> = (0..2)
            .flat_map(|view| places.iter().map(move |&place| (place, view)))
            .collect();
        // Every view has a random stream of its own, so the order of the threads changes nothing.
        let views = views.par_iter().map(|&(place, view)| {
            let picture = self.pictures.picture(place)?;
            let mut rng = stream_rng(self.seed, &format!("view {epoch} {place} {view}"));
            let (pixels, region) = (&picture.pixels, picture.region);
            Ok(self.config.view.apply(pixels, region, side, &mut rng))
        });
        let views: Vec<RgbImage> = views.collect::<Result<_>>()?;
        Ok(to_tensor(
            &views,
            side,
            &Normalisation::IMAGENET,
            &self.device,
        ))
    }
}

impl<AB: AutodiffBackend> Lesson for Contrast<'_, AB> {
    fn step(&mut self, step: usize) -> Result<f64> {
        let views = self.views(step)?;
        let loss = nt_xent(self.network().forward(views), self.config.temperature);
        let value = finite(scalar(&loss))?;
        let network = self.network.take().expect("it is back after each step");
        let rate = self.config.learning_rate;
        let network = self.momentum.step(network, loss.backward(), rate);
        self.network = Some(network);
        Ok(value)
    }

    fn parts(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let mut networks = TensorSet::default();
        save(self.network(), ENCODER, &mut networks);
        Ok(vec![
            ("networks".to_owned(), networks.to_bytes()?),
            ("momentum".to_owned(), self.momentum.to_bytes()?),
        ])
    }

    fn restored(mut self, take: &mut dyn FnMut(&str) -> Result<Vec<u8>>) -> Result<Self> {
        let mut networks = TensorSet::from_bytes(&take("networks")?)?;
        let network = self.network.take().expect("it is back after each step");
        self.network = Some(load(network, ENCODER, &mut networks)?);
        networks.finish()?;
        self.momentum.restore(&take("momentum")?, &self.device)?;
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_step_has_one_image_alone() {
        let steps = [(33, 32), (34, 32), (32, 32), (2, 32), (64, 32), (5, 2)];
        let steps = steps.map(|(images, batch)| steps_an_epoch(images, batch));
        assert_eq!(steps, [1, 2, 1, 1, 2, 2]);
    }
}
