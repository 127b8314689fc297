//! Auto-encoder and discriminator while they learn from one another.

use burn::module::Module;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;

use super::config::{CkaadConfig, LossConfig, ScheduleConfig, Strategy};
use super::network::{
    AutoEncoder, Discriminator, ImageDiscriminator, PatchDiscriminator, ReconstructionPlan,
};
use super::objective::{Objective, reconstruction_errors};
use crate::error::{Error, Result};
use crate::network::{Descent, Optimiser, load, save};
use crate::tensors::{TensorSet, to_vec};
use crate::train::{AdamSettings, stream_rng};

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
    generator: AutoEncoder<AB>,
    optimiser: Optimiser<AutoEncoder<AB>, AB>,
    adversary: Option<Adversary<AB>>,
    device: AB::Device,
}

/// A discriminator and its optimiser.
struct Adversary<AB: AutodiffBackend> {
    discriminator: Discriminator<AB>,
    optimiser: Optimiser<Discriminator<AB>, AB>,
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
#[derive(Clone, Copy, Debug, Default, PartialEq)]
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
            optimiser: Optimiser::new(&generator, ADAM, device),
            generator,
            adversary: discriminator.map(|discriminator| Adversary {
                optimiser: Optimiser::new(&discriminator, ADAM, device),
                discriminator,
            }),
            device: device.clone(),
        }
    }

    /// One step of the discriminator, then one of the auto-encoder.
    ///
    /// `features` are `[batch, channels, height, width]`, one a tap, shallowest first; the first
    /// `normals` images are normal, the others anomalous.
    ///
    /// # Errors
    /// When a loss is not finite; the step was not taken.
    pub fn step(
        &mut self,
        features: &[Tensor<AB::InnerBackend, 4>],
        normals: usize,
    ) -> Result<StepFigures> {
        let features: Vec<Tensor<AB, 4>> =
            features.iter().cloned().map(Tensor::from_inner).collect();
        let images = features[0].dims()[0];
        let reconstructions = self.generator.forward(&features);
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
                adversary.step(&objective, &features, &reconstructions, &self.schedule)?;
            // Its parameters are constants now.
            let discriminator = adversary.discriminator.clone().no_grad();
            let added = objective.of_generator(&discriminator.forward(&reconstructions));
            game.generator = scalar(&added);
            figures.game = Some(game);
            total = total + added * self.loss.lambda;
        }
        if !figures.is_finite() {
            return Err(not_finite("the auto-encoder"));
        }
        let descent = Descent {
            learning_rate: self.schedule.learning_rate,
            clip: None,
        };
        let generator = self.generator.clone();
        let gradients = total.backward();
        (self.generator, _) = self.optimiser.step(generator, gradients, descent);
        Ok(figures)
    }

    /// The auto-encoder as it is.
    pub fn generator(&self) -> &AutoEncoder<AB> {
        &self.generator
    }

    /// The discriminator as it is, where one takes part.
    pub fn discriminator(&self) -> Option<&Discriminator<AB>> {
        self.adversary
            .as_ref()
            .map(|adversary| &adversary.discriminator)
    }

    /// Names and contents of all that a checkpoint needs.
    ///
    /// # Errors
    /// When an optimiser cannot be serialised.
    pub(super) fn parts(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let mut networks = TensorSet::default();
        save(&self.generator, GENERATOR, &mut networks);
        let mut parts = vec![(format!("{GENERATOR}.adam"), self.optimiser.to_bytes()?)];
        if let Some(adversary) = &self.adversary {
            save(&adversary.discriminator, DISCRIMINATOR, &mut networks);
            let adam = adversary.optimiser.to_bytes()?;
            parts.push((format!("{DISCRIMINATOR}.adam"), adam));
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
        self.generator = load(self.generator, GENERATOR, &mut networks)?;
        let adam = take(&format!("{GENERATOR}.adam"))?;
        self.optimiser
            .restore(&self.generator, adam, &self.device)?;
        if let Some(mut adversary) = self.adversary.take() {
            adversary.discriminator = load(adversary.discriminator, DISCRIMINATOR, &mut networks)?;
            let adam = take(&format!("{DISCRIMINATOR}.adam"))?;
            let discriminator = &adversary.discriminator;
            adversary
                .optimiser
                .restore(discriminator, adam, &self.device)?;
            self.adversary = Some(adversary);
        }
        networks.finish()?;
        Ok(self)
    }
}

/// Names of the networks in checkpoints and models.
pub(super) const GENERATOR: &str = "generator";
const DISCRIMINATOR: &str = "discriminator";

fn scalar<B: Backend>(value: &Tensor<B, 1>) -> f64 {
    f64::from(to_vec(value.clone())[0])
}

fn not_finite(who: &str) -> Error {
    Error::numeric(format!("the loss of {who} is not finite"))
}

impl<AB: AutodiffBackend> Adversary<AB> {
    fn step(
        &mut self,
        objective: &Objective,
        features: &[Tensor<AB, 4>],
        reconstructions: &[Tensor<AB, 4>],
        schedule: &ScheduleConfig,
    ) -> Result<Game> {
        let fixed: Vec<Tensor<AB, 4>> =
            reconstructions.iter().map(|x| x.clone().detach()).collect();
        let real = self.discriminator.forward(features);
        let generated = self.discriminator.forward(&fixed);
        let loss = objective.of_discriminator(&real, &generated);
        let mut game = objective.means(&real, &generated);
        game.discriminator = scalar(&loss);
        if !game.discriminator.is_finite() {
            return Err(not_finite("the discriminator"));
        }
        let descent = Descent {
            learning_rate: schedule.discriminator_rate,
            clip: Some(schedule.clip),
        };
        let discriminator = self.discriminator.clone();
        let (discriminator, norm) = self.optimiser.step(discriminator, loss.backward(), descent);
        self.discriminator = discriminator;
        game.gradient = norm.unwrap_or_default();
        Ok(game)
    }
}
