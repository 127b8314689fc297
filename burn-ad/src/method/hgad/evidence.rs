//! What single vectors say: how likely they are under each class, and how uncertain the class is.

use rayon::prelude::*;

use super::mixture::{Gaussians, Mixture, half_square, log_sum_exp};

/// `ln(2 pi) / 2`.
const HALF_LN_TAU: f64 = 0.918_938_533_204_672_8;

/// Vectors that share buffers.
const TILE: usize = 512;

/// A mixture, ready to look at vectors.
#[derive(Clone, Debug)]
pub(super) struct Posterior {
    channels: usize,
    inter: Gaussians,
    /// One entry a class.
    intra: Vec<Gaussians>,
}

/// What a number of vectors say.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Votes {
    /// Log-likelihood a dimension under the mixture of each class, `[vectors, classes]`.
    pub(super) likelihoods: Vec<f32>,
    /// Entropy of `softmax(-||z - mu||^2 / 2)` over the classes, `[vectors]`.
    pub(super) entropies: Vec<f32>,
}

impl Posterior {
    pub(super) fn new(mixture: &Mixture) -> Self {
        Self {
            channels: mixture.channels,
            inter: Gaussians::inter(mixture),
            intra: (0..mixture.classes)
                .map(|class| Gaussians::intra(mixture, class))
                .collect(),
        }
    }

    /// For what a flow gave: `z` `[vectors, channels]` and log-determinants.
    pub(super) fn votes(&self, z: &[f32], log_det: &[f32]) -> Votes {
        let (channels, classes) = (self.channels, self.intra.len());
        let mut votes = Votes {
            likelihoods: vec![0.0; log_det.len() * classes],
            entropies: vec![0.0; log_det.len()],
        };
        z.par_chunks(TILE * channels)
            .zip(log_det.par_chunks(TILE))
            .zip(votes.likelihoods.par_chunks_mut(TILE * classes))
            .zip(votes.entropies.par_chunks_mut(TILE))
            .for_each(|(((z, log_det), likelihoods), entropies)| {
                self.tile(z, log_det, likelihoods, entropies);
            });
        votes
    }

    fn tile(&self, z: &[f32], log_det: &[f32], likelihoods: &mut [f32], entropies: &mut [f32]) {
        let (channels, classes) = (self.channels, self.intra.len());
        let (mut products, mut logits) = (Vec::new(), Vec::new());
        self.inter.products(z, &mut products);
        for (products, entropy) in products.chunks_exact(classes).zip(entropies) {
            self.inter.logits(products, &mut logits);
            let total = log_sum_exp(&logits);
            let terms = logits.iter().map(|logit| {
                let log_p = logit - total;
                -log_p.exp() * log_p
            });
            *entropy = terms.sum::<f64>() as f32;
        }
        let halves: Vec<f64> = z.chunks_exact(channels).map(half_square).collect();
        for (class, gaussians) in self.intra.iter().enumerate() {
            gaussians.products(z, &mut products);
            for (row, products) in products.chunks_exact(gaussians.count()).enumerate() {
                gaussians.logits(products, &mut logits);
                let weights = &gaussians.log_weights;
                logits.iter_mut().zip(weights).for_each(|(a, c)| *a += c);
                let q = log_sum_exp(&logits) - halves[row] + f64::from(log_det[row]);
                likelihoods[row * classes + class] = (q / channels as f64 - HALF_LN_TAU) as f32;
            }
        }
    }
}
