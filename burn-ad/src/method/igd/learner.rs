//! Encoder, decoder and critic while they learn: the M-step, and the step of the critic.

use burn::module::{AutodiffModule, Module};
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;

use super::config::{IgdConfig, Scale, ScheduleConfig};
use super::gaussian::Gaussian;
use super::network::{Critic, Generator, GeneratorPlan};
use super::objective::{Losses, Objective};
use crate::error::Result;
use crate::network::residual::{Maker, Normalisation};
use crate::network::{Descent, Init, Player};
use crate::tensors::{TensorSet, scalar, to_vec};
use crate::train::{AdamSettings, loss_not_finite, stream_rng};

/// Both Adams' decay of moments.
const BETAS: [f64; 2] = [0.0, 0.9];

/// Images of a batch as a model sees them.
#[derive(Clone, Debug)]
pub struct Views<B: Backend> {
    /// `[batch, 3, side, side]`.
    pub images: Tensor<B, 4>,
    /// `[batch, features]`, where a frozen backbone is the encoder.
    pub vectors: Option<Tensor<B, 2>>,
}

/// What a step draws at random, one a view.
#[derive(Clone, Debug, PartialEq)]
pub struct Draws {
    /// Shares of a latent vector in its interpolation with another one, in [0, 0.5).
    pub alpha: Vec<f32>,
    /// Shares of an image in the mixture with its reconstruction, in [0, 1].
    pub zeta: Vec<f32>,
}

/// Means over the views of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepFigures {
    /// Squared distance to the centre.
    pub distance: f64,
    /// The classifier's loss (eq. 8).
    pub classifier: Option<f64>,
    /// The reconstruction's loss (eq. 12).
    pub reconstruction: Option<f64>,
    /// MS-SSIM of images and reconstructions.
    pub similarity: Option<f64>,
    /// Figures of the critic.
    pub game: Option<Game>,
}

/// Figures of the critic.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Game {
    /// Mean square of what it says of interpolations, before its step: what the generator lowers.
    pub fooled: f64,
    /// What it minimises (eq. 10).
    pub critic: f64,
}

/// The networks of one model while they learn.
pub struct Learner<AB: AutodiffBackend> {
    objective: Objective,
    generator: Player<Generator<AB>, AB>,
    critic: Option<Player<Critic<AB>, AB>>,
    /// What the last E-step found.
    pub gaussian: Gaussian,
    device: AB::Device,
}

impl<AB: AutodiffBackend> Learner<AB> {
    /// Fresh networks, drawn from the seed.
    pub fn new(
        config: &IgdConfig,
        scale: Scale,
        plan: &GeneratorPlan,
        range: f64,
        seed: u64,
        device: &AB::Device,
    ) -> Self {
        let mut rng = stream_rng(seed, &format!("{} generator", scale.name()));
        let generator = config.generator(plan, Init::Uniform, &mut rng, device);
        let mut rng = stream_rng(seed, &format!("{} critic", scale.name()));
        let mut maker = Maker {
            norm: Normalisation::Layer,
            init: Init::Uniform,
            offsets: true,
            rng: &mut rng,
            device,
        };
        let critic = config
            .strategy
            .interpolates()
            .then(|| Critic::new(plan.side, plan.width, &mut maker));
        let objective = config.objective(scale, range);
        Self::of(objective, generator, critic, config.schedule, device)
    }

    /// The given networks. A critic takes part where the strategy interpolates.
    pub fn of(
        objective: Objective,
        generator: Generator<AB>,
        critic: Option<Critic<AB>>,
        schedule: ScheduleConfig,
        device: &AB::Device,
    ) -> Self {
        let adam = |weight_decay: f64| AdamSettings {
            betas: BETAS,
            weight_decay,
        };
        Self {
            objective,
            generator: Player::new(generator, adam(schedule.weight_decay), device),
            critic: critic.map(|critic| Player::new(critic, adam(0.0), device)),
            gaussian: Gaussian::default(),
            device: device.clone(),
        }
    }

    /// One step of encoder and decoder, then one of the critic.
    ///
    /// # Errors
    /// When a loss is not finite: the step of that player was not taken (the critic goes last).
    pub fn step(
        &mut self,
        views: &Views<AB::InnerBackend>,
        draws: &Draws,
        learning_rate: f64,
    ) -> Result<StepFigures> {
        let descent = Descent {
            learning_rate,
            clip: None,
        };
        let images = Tensor::<AB, 4>::from_inner(views.images.clone());
        let vectors = views.vectors.clone().map(Tensor::from_inner);
        let generator = self.generator.network();
        let z = generator.encode(images.clone(), vectors);
        let found = generator.decode(z.clone());
        let losses = self
            .objective
            .losses(&images, &z, found.as_ref(), &self.gaussian);
        let mut figures = StepFigures::of(&losses);
        let mut total = match (losses.classifier, losses.reconstruction) {
            (Some(a), Some(b)) => (a + b).mean(),
            (Some(loss), None) | (None, Some(loss)) => loss.mean(),
            (None, None) => unreachable!("every strategy has a loss"),
        };
        let mut pictures = None;
        if let (Some(critic), Some(found)) = (&self.critic, &found) {
            let alpha = Tensor::<AB, 1>::from_floats(draws.alpha.as_slice(), &self.device);
            let between = interpolated(z.clone(), alpha.unsqueeze_dim(1));
            let between = generator.decode(between).expect("there is a decoder");
            // Its parameters are constants now.
            let judge = critic.network().clone().no_grad();
            let fooled = judge.forward(between.clone()).square().mean();
            figures.game = Some(Game {
                fooled: scalar(&fooled),
                critic: 0.0,
            });
            total = total + fooled * self.objective.loss.lambda;
            pictures = Some((between.inner(), found.clone().inner()));
        }
        if !figures.is_finite() {
            return Err(loss_not_finite("encoder and decoder"));
        }
        // The maps hold parameters in the graph, and the graph goes with the backward pass.
        drop((z, found, images));
        self.generator.step(total.backward(), descent);
        if let (Some(critic), Some((between, found)), Some(game)) =
            (&mut self.critic, pictures, &mut figures.game)
        {
            let mixed = mixed(&views.images, found, &draws.zeta);
            let [between, mixed] = [between, mixed].map(Tensor::<AB, 4>::from_inner);
            let alpha = Tensor::<AB, 1>::from_floats(draws.alpha.as_slice(), &self.device);
            let of_between = critic.network().forward(between) - alpha;
            let of_mixed = critic.network().forward(mixed);
            let loss = of_between.square().mean() + of_mixed.square().mean();
            game.critic = scalar(&loss);
            if !game.critic.is_finite() {
                return Err(loss_not_finite("the critic"));
            }
            critic.step(loss.backward(), descent);
        }
        Ok(figures)
    }

    /// Encoder and decoder as they are, for use without gradients.
    pub fn trained(&self) -> Generator<AB::InnerBackend> {
        self.generator.network().valid()
    }

    /// Encoder and decoder as they are.
    pub fn generator(&self) -> &Generator<AB> {
        self.generator.network()
    }

    /// The critic as it is, where one takes part.
    pub fn critic(&self) -> Option<&Critic<AB>> {
        self.critic.as_ref().map(Player::network)
    }

    /// How views are judged.
    pub fn objective(&self) -> &Objective {
        &self.objective
    }

    /// Names and contents of all that a checkpoint needs beside the Gaussian.
    ///
    /// # Errors
    /// When an optimiser cannot be serialised.
    pub(super) fn parts(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let mut networks = TensorSet::default();
        let mut parts = vec![self.generator.part(GENERATOR, &mut networks)?];
        if let Some(critic) = &self.critic {
            parts.push(critic.part(CRITIC, &mut networks)?);
        }
        parts.push((NETWORKS.to_owned(), networks.to_bytes()?));
        Ok(parts)
    }

    /// Takes over what [`parts`](Self::parts) gave.
    ///
    /// # Errors
    /// When a part is missing or belongs to another network.
    pub(super) fn restored(
        mut self,
        take: &mut dyn FnMut(&str) -> Result<Vec<u8>>,
    ) -> Result<Self> {
        let mut networks = TensorSet::from_bytes(&take(NETWORKS)?)?;
        self.generator = self
            .generator
            .restored(GENERATOR, &mut networks, take, &self.device)?;
        if let Some(critic) = self.critic.take() {
            let restored = critic.restored(CRITIC, &mut networks, take, &self.device)?;
            self.critic = Some(restored);
        }
        networks.finish()?;
        Ok(self)
    }
}

/// Names in checkpoints.
const GENERATOR: &str = "generator";
const CRITIC: &str = "critic";
const NETWORKS: &str = "networks";

/// `alpha z + (1 - alpha) z'`, where `z'` is `z` in reversed order; `alpha` is `[batch, 1]`.
fn interpolated<B: Backend>(z: Tensor<B, 2>, alpha: Tensor<B, 2>) -> Tensor<B, 2> {
    let other = z.clone().flip([0]);
    other.clone() + (z - other) * alpha
}

/// `zeta x + (1 - zeta) y` for images.
fn mixed<B: Backend>(x: &Tensor<B, 4>, y: Tensor<B, 4>, zeta: &[f32]) -> Tensor<B, 4> {
    let shape @ [batch, channels, height, width] = x.dims();
    // Rows: a broadcast over four dimensions is slow on some backends.
    let rows = |x: Tensor<B, 4>| x.reshape([batch, channels * height * width]);
    let zeta = Tensor::<B, 1>::from_floats(zeta, &x.device()).unsqueeze_dim::<2>(1);
    let (x, y) = (rows(x.clone()), rows(y));
    (y.clone() + (x - y) * zeta).reshape(shape)
}

impl StepFigures {
    fn of<B: Backend>(losses: &Losses<B>) -> Self {
        let mean = |values: &Tensor<B, 1>| {
            let values = to_vec(values.clone());
            values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len() as f64
        };
        Self {
            distance: mean(&losses.distance),
            classifier: losses.classifier.as_ref().map(mean),
            reconstruction: losses.reconstruction.as_ref().map(mean),
            similarity: losses.similarity.as_ref().map(mean),
            game: None,
        }
    }

    fn is_finite(&self) -> bool {
        let all = [
            Some(self.distance),
            self.classifier,
            self.reconstruction,
            self.game.map(|game| game.fooled),
        ];
        all.into_iter().flatten().all(f64::is_finite)
    }
}
