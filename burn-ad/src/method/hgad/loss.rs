//! What an HGAD flow and its mixture minimise, and the gradients with respect to both.
//!
//! All terms are functions of the flow's output `z`, its log-determinant `J` and the mixture. They
//! are computed on the host: products with centres in f32, everything else in f64, tile by tile.
//! No tensor has more than two of the axes vectors, classes, centres and channels.

use burn_ad_kernels::matrix::{Layout, product};
use rayon::prelude::*;

use super::mixture::{Gaussians, Mixture, half_square, log_sum_exp};
use crate::error::{Error, Result};

/// Vectors whose gradients are summed in one buffer: a fixed number, so that sums do not depend on
/// the number of threads.
const TILE: usize = 512;

/// `ln(2 pi) / 2`.
const HALF_LN_TAU: f64 = 0.918_938_533_204_672_8;

/// Settings of the loss. Each term can be left out for ablations.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossConfig {
    /// Factor on the negative log-likelihood under the mixture of classes, `L_g` (paper's lambda 1).
    pub lambda_likelihood: f64,
    /// Factor on the mutual information of vector and class, which is maximised, `L_mi` (paper's
    /// lambda 2); 0 leaves it out.
    pub lambda_information: f64,
    /// Factor on the entropy of the class given the vector, `L_e`; 0 leaves it out.
    pub lambda_entropy: f64,
    /// Whether the centres within classes are learnt, `L_in` and `L_z`, after the first epochs.
    pub intra: bool,
    /// How much of a class label is spread over all classes.
    pub label_smoothing: f64,
}

impl LossConfig {
    /// The published code's.
    pub fn hgad() -> Self {
        Self {
            lambda_likelihood: 1.0,
            lambda_information: 100.0,
            lambda_entropy: 1.0,
            intra: true,
            label_smoothing: 0.02,
        }
    }

    /// # Errors
    /// When a field is out of its range.
    pub fn validate(&self) -> Result<()> {
        let wrong = |message: String| Err(Error::usage(message));
        for (name, value) in [
            ("lambda_likelihood", self.lambda_likelihood),
            ("lambda_information", self.lambda_information),
            ("lambda_entropy", self.lambda_entropy),
        ] {
            if !(value >= 0.0 && value.is_finite()) {
                return wrong(format!("'loss.{name}' must be 0 or more, not {value}"));
            }
        }
        if self.lambda_likelihood == 0.0 {
            return wrong(
                "'loss.lambda_likelihood' must be above 0: a flow without it learns no density"
                    .into(),
            );
        }
        if !(0.0..1.0).contains(&self.label_smoothing) {
            return wrong(format!(
                "'loss.label_smoothing' must be in [0, 1), not {}",
                self.label_smoothing
            ));
        }
        Ok(())
    }

    /// The loss of a batch and its gradients.
    ///
    /// `z` is `[vectors, channels]`, `log_det` and `labels` (the class of each) `[vectors]`; vectors of one class
    /// that follow each other cost least. `intra_phase` is `false` in the first meta epochs.
    ///
    /// ```text
    /// d_y  = ||z - mu_y||^2,  c = log softmax(inter),  t = (1 - smoothing) one-hot + smoothing / classes
    /// L_g  = mean(-logsumexp_y(c_y - d_y / 2) - J) / channels
    /// L_mi = mean(sum_y t_y (log softmax_y(c - d / 2) - c_y)),  c without gradient
    /// L_e  = mean(entropy of softmax(-d / 2))
    /// q    = logsumexp_i(log softmax(intra_y)_i - ||z - mu_y - delta_i||^2 / 2) + J,  mu without gradient
    /// L_in = mean(-q) / channels,  L_z = mean(-log sigmoid(q / channels - ln(2 pi) / 2))
    /// ```
    /// Source: paper eqs 6 to 11, appendix E, published code.
    ///
    /// # Panics
    /// If sizes do not fit, or a label is no class.
    pub fn evaluate(
        &self,
        mixture: &Mixture,
        z: &[f32],
        log_det: &[f32],
        labels: &[u32],
        intra_phase: bool,
        workspace: &mut Workspace,
    ) -> BatchLoss {
        let channels = mixture.channels;
        let vectors = labels.len();
        assert_eq!(z.len(), vectors * channels, "values of the vectors");
        assert_eq!(log_det.len(), vectors, "one determinant a vector");
        let batch = Batch {
            config: self,
            mixture,
            inter: Gaussians::inter(mixture),
            intra: (self.intra && intra_phase).then(|| classes_of(mixture, labels)),
            share: 1.0 / vectors.max(1) as f64,
        };
        let tiles = vectors.div_ceil(TILE);
        workspace.tiles.resize_with(tiles, Tile::default);
        let mut loss = BatchLoss {
            gradient_z: vec![0.0; z.len()],
            gradient_log_det: vec![0.0; vectors],
            gradient: Mixture::zeros(mixture.classes, mixture.centres, channels),
            terms: Terms::default(),
            config: self.clone(),
            finite: false,
        };
        workspace
            .tiles
            .par_iter_mut()
            .zip(z.par_chunks(TILE * channels))
            .zip(log_det.par_chunks(TILE))
            .zip(labels.par_chunks(TILE))
            .zip(loss.gradient_z.par_chunks_mut(TILE * channels))
            .zip(loss.gradient_log_det.par_chunks_mut(TILE))
            .for_each(|(((((tile, z), log_det), labels), grad_z), grad_log_det)| {
                tile.evaluate(&batch, z, log_det, labels, grad_z, grad_log_det);
            });
        batch.gather(&workspace.tiles[..tiles], &mut loss);
        loss.finite = loss.all_finite();
        loss
    }
}

/// The centres of those classes that are among `labels`.
fn classes_of(mixture: &Mixture, labels: &[u32]) -> Vec<Option<Gaussians>> {
    let mut classes = vec![None; mixture.classes];
    for &label in labels {
        let place = &mut classes[label as usize];
        if place.is_none() {
            *place = Some(Gaussians::intra(mixture, label as usize));
        }
    }
    classes
}

/// The terms of the loss, each a mean over the vectors of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Terms {
    /// `L_g`.
    pub likelihood: f64,
    /// `L_mi`, which is maximised.
    pub information: f64,
    /// `L_e`.
    pub entropy: f64,
    /// `L_in`; 0 in the first epochs.
    pub intra: f64,
    /// `L_z`; 0 in the first epochs.
    pub intra_sigmoid: f64,
    /// Share of vectors whose most likely class is their own.
    pub accuracy: f64,
}

impl Terms {
    /// Adds `other`, term by term.
    pub(super) fn add(&mut self, other: &Self) {
        self.likelihood += other.likelihood;
        self.information += other.information;
        self.entropy += other.entropy;
        self.intra += other.intra;
        self.intra_sigmoid += other.intra_sigmoid;
        self.accuracy += other.accuracy;
    }
}

/// The loss of one batch.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchLoss {
    /// Its terms.
    pub terms: Terms,
    /// Gradient with respect to `z`, `[vectors, channels]`.
    pub gradient_z: Vec<f32>,
    /// Gradient with respect to the log-determinants.
    pub gradient_log_det: Vec<f32>,
    /// Gradient with respect to the mixture.
    pub gradient: Mixture,
    config: LossConfig,
    finite: bool,
}

impl BatchLoss {
    /// What is minimised.
    pub fn total(&self) -> f64 {
        let LossConfig {
            lambda_likelihood,
            lambda_information,
            lambda_entropy,
            ..
        } = self.config;
        let terms = &self.terms;
        lambda_likelihood * terms.likelihood - lambda_information * terms.information
            + lambda_entropy * terms.entropy
            + terms.intra
            + terms.intra_sigmoid
    }

    /// Whether a step along the gradient makes sense.
    pub fn is_finite(&self) -> bool {
        self.finite
    }

    fn all_finite(&self) -> bool {
        let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
        self.total().is_finite()
            && finite(&self.gradient_z)
            && finite(&self.gradient_log_det)
            && self
                .gradient
                .parts()
                .iter()
                .all(|(_, _, values)| finite(values))
    }
}

/// Memory that evaluations use again and again.
#[derive(Clone, Debug, Default)]
pub struct Workspace {
    tiles: Vec<Tile>,
}

/// What is the same for all vectors.
struct Batch<'a> {
    config: &'a LossConfig,
    mixture: &'a Mixture,
    inter: Gaussians,
    /// Of the classes that occur; `None` in the first epochs.
    intra: Option<Vec<Option<Gaussians>>>,
    /// `1 / vectors`.
    share: f64,
}

/// Gradients with respect to some Gaussians, summed over vectors: with `g` the gradient with
/// respect to a logit, `sum(g z)` and `sum(g)` for each centre, and what its weight gets.
#[derive(Clone, Debug, Default)]
struct Sums {
    by_vector: Vec<f32>,
    plain: Vec<f64>,
    log_weights: Vec<f64>,
}

impl Sums {
    fn clear(&mut self, count: usize, channels: usize) {
        self.by_vector.clear();
        self.by_vector.resize(count * channels, 0.0);
        for values in [&mut self.plain, &mut self.log_weights] {
            values.clear();
            values.resize(count, 0.0);
        }
    }

    /// Adds `weights^T vectors`; `weights` is `[rows, count]`.
    fn add(&mut self, weights: &[f32], vectors: &[f32], channels: usize) {
        let count = self.plain.len();
        let rows = vectors.len() / channels;
        product(
            (&mut self.by_vector, Layout::rows(count, channels, channels)),
            (weights, Layout::rows(rows, count, count).transposed()),
            (vectors, Layout::rows(rows, channels, channels)),
            true,
        );
    }
}

/// Buffers and sums of one tile, kept from step to step.
#[derive(Clone, Debug, Default)]
struct Tile {
    products: Vec<f32>,
    weights: Vec<f32>,
    logits: Vec<f64>,
    weighted: Vec<f64>,
    terms: Terms,
    inter: Sums,
    /// Of the classes in this tile, in order of appearance.
    intra: Vec<(usize, Sums)>,
    /// How many of them are in use.
    used: usize,
}

impl Tile {
    fn evaluate(
        &mut self,
        batch: &Batch<'_>,
        z: &[f32],
        log_det: &[f32],
        labels: &[u32],
        grad_z: &mut [f32],
        grad_log_det: &mut [f32],
    ) {
        self.terms = Terms::default();
        self.used = 0;
        self.inter_terms(batch, z, log_det, labels, grad_z, grad_log_det);
        let Some(classes) = &batch.intra else {
            return;
        };
        let channels = batch.mixture.channels;
        let mut first = 0;
        for run in labels.chunk_by(|a, b| a == b) {
            let gaussians = classes[run[0] as usize]
                .as_ref()
                .expect("prepared for all labels of the batch");
            let rows = first..first + run.len();
            let values = first * channels..rows.end * channels;
            self.intra_terms(
                batch,
                (run[0] as usize, gaussians),
                &z[values.clone()],
                &log_det[rows.clone()],
                &mut grad_z[values],
                &mut grad_log_det[rows.clone()],
            );
            first = rows.end;
        }
    }

    /// `L_g`, `L_mi` and `L_e`.
    fn inter_terms(
        &mut self,
        batch: &Batch<'_>,
        z: &[f32],
        log_det: &[f32],
        labels: &[u32],
        grad_z: &mut [f32],
        grad_log_det: &mut [f32],
    ) {
        let (config, gaussians, share) = (batch.config, &batch.inter, batch.share);
        let (channels, classes) = (batch.mixture.channels, gaussians.count());
        let by_likelihood = config.lambda_likelihood * share / channels as f64;
        let by_information = config.lambda_information * share;
        let by_entropy = config.lambda_entropy * share;
        let spread = config.label_smoothing / classes as f64;
        gaussians.products(z, &mut self.products);
        self.weights.resize(self.products.len(), 0.0);
        self.inter.clear(classes, channels);
        let rows = self
            .products
            .chunks_exact(classes)
            .zip(self.weights.chunks_exact_mut(classes));
        for (row, (products, weights)) in rows.enumerate() {
            let half = half_square(&z[row * channels..][..channels]);
            gaussians.logits(products, &mut self.logits);
            let log_weights = &gaussians.log_weights;
            self.weighted.clear();
            self.weighted
                .extend(self.logits.iter().zip(log_weights).map(|(a, c)| a + c));
            let total = log_sum_exp(&self.logits);
            let total_weighted = log_sum_exp(&self.weighted);
            let label = labels[row] as usize;
            let mut entropy = 0.0;
            let mut information = 0.0;
            let mut likeliest = 0;
            for (class, log_weight) in log_weights.iter().enumerate() {
                let log_p = self.logits[class] - total;
                entropy -= log_p.exp() * log_p;
                let target = target(class, label, config.label_smoothing, spread);
                information += target * (self.weighted[class] - total_weighted - log_weight);
                if self.weighted[class] > self.weighted[likeliest] {
                    likeliest = class;
                }
            }
            let mut sum = 0.0;
            for (class, weight) in weights.iter_mut().enumerate() {
                let log_p = self.logits[class] - total;
                let posterior = (self.weighted[class] - total_weighted).exp();
                let target = target(class, label, config.label_smoothing, spread);
                let gradient = -by_likelihood * posterior
                    - by_information * (target - posterior)
                    - by_entropy * log_p.exp() * (log_p + entropy);
                // In f32 already here, so that what cancels against the product does so exactly.
                *weight = gradient as f32;
                let gradient = f64::from(*weight);
                sum += gradient;
                self.inter.plain[class] += gradient;
                self.inter.log_weights[class] -= by_likelihood * posterior;
            }
            // The product with the centres is added below.
            let values = row * channels..(row + 1) * channels;
            for (grad, z) in grad_z[values.clone()].iter_mut().zip(&z[values]) {
                *grad = (-sum * f64::from(*z)) as f32;
            }
            grad_log_det[row] = -by_likelihood as f32;
            self.terms.likelihood -=
                (total_weighted - half + f64::from(log_det[row])) * share / channels as f64;
            self.terms.information += information * share;
            self.terms.entropy += entropy * share;
            self.terms.accuracy += if likeliest == label { share } else { 0.0 };
        }
        gaussians.combine(&self.weights, grad_z, true);
        self.inter.add(&self.weights, z, channels);
    }

    /// `L_in` and `L_z` of vectors of one class.
    fn intra_terms(
        &mut self,
        batch: &Batch<'_>,
        (class, gaussians): (usize, &Gaussians),
        z: &[f32],
        log_det: &[f32],
        grad_z: &mut [f32],
        grad_log_det: &mut [f32],
    ) {
        let (channels, centres, share) = (batch.mixture.channels, gaussians.count(), batch.share);
        let width = channels as f64;
        gaussians.products(z, &mut self.products);
        self.weights.resize(self.products.len(), 0.0);
        let place = self.place_of(class, centres, channels);
        let sums = &mut self.intra[place].1;
        let rows = self
            .products
            .chunks_exact(centres)
            .zip(self.weights.chunks_exact_mut(centres));
        for (row, (products, weights)) in rows.enumerate() {
            let half = half_square(&z[row * channels..][..channels]);
            gaussians.logits(products, &mut self.logits);
            let log_weights = &gaussians.log_weights;
            self.logits
                .iter_mut()
                .zip(log_weights)
                .for_each(|(a, c)| *a += c);
            let total = log_sum_exp(&self.logits);
            let q = total - half + f64::from(log_det[row]);
            let l = q / width - HALF_LN_TAU;
            self.terms.intra -= q * share / width;
            self.terms.intra_sigmoid += softplus(-l) * share;
            // Of both terms with respect to q.
            let by_q = -(1.0 + sigmoid(-l)) * share / width;
            let mut sum = 0.0;
            for (centre, weight) in weights.iter_mut().enumerate() {
                *weight = (by_q * (self.logits[centre] - total).exp()) as f32;
                let gradient = f64::from(*weight);
                sum += gradient;
                sums.plain[centre] += gradient;
                sums.log_weights[centre] += gradient;
            }
            let values = row * channels..(row + 1) * channels;
            for (grad, z) in grad_z[values.clone()].iter_mut().zip(&z[values]) {
                *grad -= (sum * f64::from(*z)) as f32;
            }
            grad_log_det[row] += by_q as f32;
        }
        gaussians.combine(&self.weights, grad_z, true);
        sums.add(&self.weights, z, channels);
    }

    /// Where the sums of a class are; cleared when it is the class's first run in this tile.
    fn place_of(&mut self, class: usize, centres: usize, channels: usize) -> usize {
        let found = self.intra[..self.used]
            .iter()
            .position(|(known, _)| *known == class);
        found.unwrap_or_else(|| {
            if self.used == self.intra.len() {
                self.intra.push((class, Sums::default()));
            }
            let (known, sums) = &mut self.intra[self.used];
            *known = class;
            sums.clear(centres, channels);
            self.used += 1;
            self.used - 1
        })
    }
}

/// The smoothed label: `(1 - smoothing) one-hot + smoothing / classes`.
fn target(class: usize, label: usize, smoothing: f64, spread: f64) -> f64 {
    spread + if class == label { 1.0 - smoothing } else { 0.0 }
}

impl Batch<'_> {
    /// Sums over tiles, and from gradients of logits to those of centres and weights.
    fn gather(&self, tiles: &[Tile], loss: &mut BatchLoss) {
        let (channels, others) = (self.mixture.channels, self.mixture.centres - 1);
        tiles.iter().for_each(|tile| loss.terms.add(&tile.terms));
        let inter: Vec<&Sums> = tiles.iter().map(|tile| &tile.inter).collect();
        let (centres, log_weights) = self.inter.gradients(&inter, channels);
        loss.gradient.mu = centres;
        loss.gradient.inter = log_weights;
        let Some(classes) = &self.intra else {
            return;
        };
        for (class, gaussians) in classes.iter().enumerate() {
            let Some(gaussians) = gaussians else { continue };
            let used = tiles.iter().flat_map(|tile| &tile.intra[..tile.used]);
            let of_class: Vec<&Sums> = used
                .filter(|(known, _)| *known == class)
                .map(|(_, sums)| sums)
                .collect();
            let (centres, log_weights) = gaussians.gradients(&of_class, channels);
            // The main centre stands still here.
            loss.gradient.deltas[class * others * channels..][..others * channels]
                .copy_from_slice(&centres[channels..]);
            loss.gradient.intra[class * (others + 1)..][..others + 1].copy_from_slice(&log_weights);
        }
    }
}

impl Gaussians {
    /// Gradients with respect to centres and to the logits of their weights.
    fn gradients(&self, parts: &[&Sums], channels: usize) -> (Vec<f32>, Vec<f32>) {
        let total = |of: &dyn Fn(&Sums, usize) -> f64, index: usize| -> f64 {
            parts.iter().map(|sums| of(sums, index)).sum()
        };
        let centres = self.centres.iter().enumerate().map(|(index, &centre)| {
            let by_vector = total(&|sums, index| f64::from(sums.by_vector[index]), index);
            let plain = total(&|sums, centre| sums.plain[centre], index / channels);
            (by_vector - plain * f64::from(centre)) as f32
        });
        let centres = centres.collect();
        let count = self.count();
        let by_weight: Vec<f64> = (0..count)
            .map(|centre| total(&|sums, centre| sums.log_weights[centre], centre))
            .collect();
        let sum: f64 = by_weight.iter().sum();
        let logits = by_weight.iter().zip(&self.log_weights);
        let logits =
            logits.map(|(gradient, log_weight)| (gradient - log_weight.exp() * sum) as f32);
        (centres, logits.collect())
    }
}

/// `ln(1 + exp(x))` without overflow; `-log sigmoid(l)` is `softplus(-l)`.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

#[cfg(test)]
#[path = "loss_tests.rs"]
mod tests;
