//! Auto-encoder and discriminator while they learn from one another.

use burn::module::Module;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use serde::{Deserialize, Serialize};

use super::config::{CkaadConfig, LossConfig, ScheduleConfig, Strategy};
use super::network::{
    AutoEncoder, Discriminator, ImageDiscriminator, PatchDiscriminator, ReconstructionPlan,
};
use super::objective::{Objective, reconstruction_errors};
use crate::error::Result;
use crate::network::{Descent, Player};
use crate::tensors::{TensorSet, scalar, to_vec};
use crate::train::{AdamSettings, loss_not_finite, stream_rng};

/// Both Adams' (the paper's).
const ADAM: AdamSettings = AdamSettings {
    betas: [0.5, 0.999],
    weight_decay: 0.0,
};

/// An auto-encoder that learns, and the discriminator it learns from.
pub struct Learner<AB: AutodiffBackend> {
    strategy: Strategy,
    loss: LossConfig,
    schedule: ScheduleConfig,
    generator: Player<AutoEncoder<AB>, AB>,
    adversary: Option<Player<Discriminator<AB>, AB>>,
    device: AB::Device,
}

/// Figures of one step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepFigures {
    /// Reconstruction of normal images (eq. 2).
    pub reconstruction: f64,
    /// That of anomalous images; `None` without any.
    pub of_anomalies: Option<f64>,
    /// The losses of the two players; `None` without a discriminator, or without anomalies.
    pub game: Option<Game>,
}

/// Figures of the discriminator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Game {
    /// What the discriminator minimises, before its step.
    pub discriminator: f64,
    /// What the generator adds to its loss, after the discriminator's step.
    pub generator: f64,
    /// Mean energy of normal features; under `gan` the mean probability of being real.
    pub normal: f64,
    /// Of reconstructions.
    pub generated: f64,
    /// Of anomalous features.
    pub anomalous: f64,
    /// Norm of the discriminator's gradient before it is clipped.
    pub gradient: f64,
}

impl Game {
    fn all(&mut self) -> [&mut f64; 6] {
        [
            &mut self.discriminator,
            &mut self.generator,
            &mut self.normal,
            &mut self.generated,
            &mut self.anomalous,
            &mut self.gradient,
        ]
    }

    /// Adds the figures of another step.
    pub(super) fn add(&mut self, mut other: Self) {
        for (sum, value) in self.all().into_iter().zip(other.all()) {
            *sum += *value;
        }
    }

    /// Each figure divided by `count`.
    #[must_use]
    pub(super) fn divided(mut self, count: f64) -> Self {
        for sum in self.all() {
            *sum /= count;
        }
        self
    }
}

impl StepFigures {
    fn is_finite(&self) -> bool {
        let game = self.game.unwrap_or_default();
        let all = [
            self.reconstruction,
            self.of_anomalies.unwrap_or(0.0),
            game.discriminator,
            game.generator,
            game.gradient,
        ];
        all.iter().all(|value| value.is_finite())
    }
}

impl<AB: AutodiffBackend> Learner<AB> {
    /// Fresh networks, drawn from the seed. `side` is that of the deepest map, at least 2.
    pub fn new(
        config: &CkaadConfig,
        plan: &ReconstructionPlan,
        side: usize,
        seed: u64,
        device: &AB::Device,
    ) -> Self {
        let mut rng = stream_rng(seed, "generator");
        let generator = AutoEncoder::new(plan, &mut rng, device);
        let mut rng = stream_rng(seed, "discriminator");
        let discriminator = match config.strategy {
            Strategy::Recon | Strategy::ReconSub => None,
            Strategy::CkaPatch => Some(Discriminator::Patch(PatchDiscriminator::new(
                plan, &mut rng, device,
            ))),
            Strategy::Gan | Strategy::CkaImg => Some(Discriminator::Image(
                ImageDiscriminator::new(plan, side, &mut rng, device),
            )),
        };
        Self::of(config, generator, discriminator, device)
    }

    /// The given networks; without a discriminator the strategy is not adversarial.
    pub fn of(
        config: &CkaadConfig,
        generator: AutoEncoder<AB>,
        discriminator: Option<Discriminator<AB>>,
        device: &AB::Device,
    ) -> Self {
        Self {
            strategy: config.strategy,
            loss: config.loss,
            schedule: config.schedule,
            generator: Player::new(generator, ADAM, device),
            adversary: discriminator.map(|discriminator| Player::new(discriminator, ADAM, device)),
            device: device.clone(),
        }
    }

    /// One step of the discriminator, then one of the auto-encoder.
    ///
    /// `features` are `[batch, channels, height, width]`, one a tap, shallowest first; the first
    /// `normals` images are normal, the others anomalous.
    ///
    /// # Errors
    /// When a loss is not finite: the step of that player was not taken (the discriminator goes first).
    pub fn step(
        &mut self,
        features: &[Tensor<AB::InnerBackend, 4>],
        normals: usize,
    ) -> Result<StepFigures> {
        let features: Vec<Tensor<AB, 4>> =
            features.iter().cloned().map(Tensor::from_inner).collect();
        let images = features[0].dims()[0];
        let reconstructions = self.generator.network().forward(&features);
        let objective = Objective {
            strategy: self.strategy,
            loss: self.loss,
            normals,
        };
        let errors = reconstruction_errors(&features, &reconstructions);
        let mut total = objective.of_reconstruction(&errors);
        let found = to_vec(errors);
        let mean = |errors: &[f32]| {
            let sum: f64 = errors.iter().map(|&error| f64::from(error)).sum();
            sum / errors.len() as f64
        };
        let mut figures = StepFigures {
            reconstruction: mean(&found[..normals]),
            of_anomalies: (images > normals).then(|| mean(&found[normals..])),
            game: None,
        };
        if images > normals
            && let Some(adversary) = &mut self.adversary
        {
            let mut game =
                adversary.judge(&objective, &features, &reconstructions, &self.schedule)?;
            // Its parameters are constants now.
            let discriminator = adversary.network().clone().no_grad();
            let added = objective.of_generator(&discriminator.forward(&reconstructions));
            game.generator = scalar(&added);
            figures.game = Some(game);
            total = total + added * self.loss.lambda;
        }
        if !figures.is_finite() {
            return Err(loss_not_finite("the auto-encoder"));
        }
        let descent = Descent {
            learning_rate: self.schedule.learning_rate,
            clip: None,
        };
        // The maps hold parameters in the graph, and the graph goes with the backward pass.
        drop(reconstructions);
        self.generator.step(total.backward(), descent);
        Ok(figures)
    }

    /// The auto-encoder as it is.
    pub fn generator(&self) -> &AutoEncoder<AB> {
        self.generator.network()
    }

    /// The discriminator as it is, where one takes part.
    pub fn discriminator(&self) -> Option<&Discriminator<AB>> {
        self.adversary.as_ref().map(Player::network)
    }

    /// Names and contents of all that a checkpoint needs.
    ///
    /// # Errors
    /// When an optimiser cannot be serialised.
    pub(super) fn parts(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let mut networks = TensorSet::default();
        let mut parts = vec![self.generator.part(GENERATOR, &mut networks)?];
        if let Some(adversary) = &self.adversary {
            parts.push(adversary.part(DISCRIMINATOR, &mut networks)?);
        }
        parts.push(("networks".to_owned(), networks.to_bytes()?));
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
        let mut networks = TensorSet::from_bytes(&take("networks")?)?;
        self.generator = self
            .generator
            .restored(GENERATOR, &mut networks, take, &self.device)?;
        if let Some(adversary) = self.adversary.take() {
            let restored = adversary.restored(DISCRIMINATOR, &mut networks, take, &self.device)?;
            self.adversary = Some(restored);
        }
        networks.finish()?;
        Ok(self)
    }
}

/// Names of the networks in checkpoints and models.
pub(super) const GENERATOR: &str = "generator";
const DISCRIMINATOR: &str = "discriminator";

impl<AB: AutodiffBackend> Player<Discriminator<AB>, AB> {
    /// A step of the discriminator, on reconstructions that stay as they are.
    fn judge(
        &mut self,
        objective: &Objective,
        features: &[Tensor<AB, 4>],
        reconstructions: &[Tensor<AB, 4>],
        schedule: &ScheduleConfig,
    ) -> Result<Game> {
        let fixed = reconstructions.iter().map(|x| x.clone().detach());
        let fixed: Vec<Tensor<AB, 4>> = fixed.collect();
        let real = self.network().forward(features);
        let generated = self.network().forward(&fixed);
        let loss = objective.of_discriminator(&real, &generated);
        let mut game = objective.means(&real, &generated);
        game.discriminator = scalar(&loss);
        if !game.discriminator.is_finite() {
            return Err(loss_not_finite("the discriminator"));
        }
        let descent = Descent {
            learning_rate: schedule.discriminator_rate,
            clip: Some(schedule.clip),
        };
        drop((real, generated, fixed));
        game.gradient = self.step(loss.backward(), descent).unwrap_or_default();
        Ok(game)
    }
}
