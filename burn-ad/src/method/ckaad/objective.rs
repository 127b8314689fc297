//! The losses of the two players, as functions of what networks give.

use burn::prelude::*;
use burn::tensor::activation::{relu, softplus};

use super::config::{LossConfig, Strategy};
use super::learner::Game;
use crate::ops::map_cosines;
use crate::tensors::to_vec;

/// For each image the sum over taps of `1 - cos` between whole maps (eq. 2), `[batch]`.
///
/// # Panics
/// If there is no tap, or sizes differ.
pub fn reconstruction_errors<B: Backend>(
    features: &[Tensor<B, 4>],
    reconstructions: &[Tensor<B, 4>],
) -> Tensor<B, 1> {
    let taps = features.iter().zip(reconstructions);
    let errors =
        taps.map(|(feature, found)| map_cosines(feature.clone(), found.clone()).neg() + 1.0);
    errors
        .reduce(|sum, error| sum + error)
        .expect("there is at least one tap")
}

/// What is minimised in a batch whose first images are normal and whose others are anomalous.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective {
    /// What anomalous images are used for.
    pub strategy: Strategy,
    /// The numbers in the losses.
    pub loss: LossConfig,
    /// Normal images of the batch.
    pub normals: usize,
}

impl Objective {
    /// The auto-encoder's loss without its adversarial part, of the [errors](reconstruction_errors) of all
    /// images.
    pub fn of_reconstruction<B: Backend>(&self, errors: &Tensor<B, 1>) -> Tensor<B, 1> {
        let images = errors.dims()[0];
        let of_normal = errors.clone().narrow(0, 0, self.normals).mean();
        if self.strategy != Strategy::ReconSub || images == self.normals {
            return of_normal;
        }
        let anomalous = errors
            .clone()
            .narrow(0, self.normals, images - self.normals);
        of_normal - anomalous.mean() * self.loss.lambda
    }

    /// The sum over taps of the mean of `of(output)` over images `first..first + count`.
    fn mean<B: Backend>(
        outputs: &[Tensor<B, 4>],
        first: usize,
        count: usize,
        of: impl Fn(Tensor<B, 4>) -> Tensor<B, 4>,
    ) -> Tensor<B, 1> {
        outputs
            .iter()
            .map(|output| of(output.clone().narrow(0, first, count)).mean())
            .reduce(|sum, mean| sum + mean)
            .expect("there is at least one output")
    }

    fn is_plain(&self) -> bool {
        self.strategy == Strategy::Gan
    }

    /// The discriminator's loss, of what it makes of features and of reconstructions: eqs. 8 and 11; for a
    /// plain discriminator the negative of eq. 7.
    pub fn of_discriminator<B: Backend>(
        &self,
        real: &[Tensor<B, 4>],
        generated: &[Tensor<B, 4>],
    ) -> Tensor<B, 1> {
        let (normals, images) = (self.normals, real[0].dims()[0]);
        if self.is_plain() {
            let of_normal = Self::mean(real, 0, normals, |logit| softplus(logit.neg(), 1.0));
            let of_generated = Self::mean(generated, 0, images, |logit| softplus(logit, 1.0));
            return of_normal + of_generated;
        }
        let LossConfig { margin, gamma, .. } = self.loss;
        let below = |output: Tensor<B, 4>| relu(output.abs().neg() + margin);
        let of_normal = Self::mean(real, 0, normals, Tensor::abs);
        let of_generated = Self::mean(generated, 0, images, below);
        let of_anomalous = Self::mean(real, normals, images - normals, below);
        of_normal + of_generated * gamma + of_anomalous * (1.0 - gamma)
    }

    /// What the auto-encoder adds to its loss, times lambda: what of eqs. 9 and 12 depends on it; for a
    /// plain discriminator `-log D`, whose gradient does not fade where eq. 7's does.
    pub fn of_generator<B: Backend>(&self, generated: &[Tensor<B, 4>]) -> Tensor<B, 1> {
        let images = generated[0].dims()[0];
        if self.is_plain() {
            return Self::mean(generated, 0, images, |logit| softplus(logit.neg(), 1.0));
        }
        Self::mean(generated, 0, images, Tensor::abs)
    }

    /// Mean energies, or probabilities of being real.
    pub(super) fn means<B: Backend>(
        &self,
        real: &[Tensor<B, 4>],
        generated: &[Tensor<B, 4>],
    ) -> Game {
        let images = real[0].dims()[0];
        let of = |outputs: &[Tensor<B, 4>], first: usize, count: usize| {
            let sum = outputs.iter().map(|output| {
                let part = to_vec(output.clone().narrow(0, first, count));
                let size = part.len().max(1) as f64;
                let value = |output: f32| match self.is_plain() {
                    true => 1.0 / (1.0 + (-f64::from(output)).exp()),
                    false => f64::from(output.abs()),
                };
                part.into_iter().map(value).sum::<f64>() / size
            });
            sum.sum::<f64>() / outputs.len() as f64
        };
        Game {
            normal: of(real, 0, self.normals),
            generated: of(generated, 0, images),
            anomalous: of(real, self.normals, images - self.normals),
            ..Game::default()
        }
    }
}
