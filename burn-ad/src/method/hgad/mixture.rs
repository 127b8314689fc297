//! The latent distribution: Gaussians of unit covariance, one for each class, and a mixture of them
//! within each class.

use burn_ad_kernels::matrix::{Layout, product};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::error::Result;
use crate::tensors::{HostTensor, TensorSet};

/// Distance between the initial centres of two classes (published code).
const INITIAL_DISTANCE: f64 = 5.0;

/// Centres and weights of one flow's latent distribution, or gradients with respect to them.
///
/// Class `y` lies around its main centre `mu_y`. Within a class the centres are `mu_y` itself and
/// `mu_y + delta_i`. Weights are the softmax of logits.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixture {
    /// Classes.
    pub classes: usize,
    /// Centres of a class, the main one included: at least 1.
    pub centres: usize,
    /// Values of a vector.
    pub channels: usize,
    /// Main centres, `[classes, channels]`.
    pub mu: Vec<f32>,
    /// The other centres of a class, relative to its main centre, `[classes, centres - 1, channels]`.
    pub deltas: Vec<f32>,
    /// Logits of the classes, `[classes]`.
    pub inter: Vec<f32>,
    /// Logits of the centres of each class, `[classes, centres]`.
    pub intra: Vec<f32>,
}

impl Mixture {
    /// Zero everywhere.
    pub(super) fn zeros(classes: usize, centres: usize, channels: usize) -> Self {
        Self {
            classes,
            centres,
            channels,
            mu: vec![0.0; classes * channels],
            deltas: vec![0.0; classes * (centres - 1) * channels],
            inter: vec![0.0; classes],
            intra: vec![0.0; classes * centres],
        }
    }

    /// Main centres as a tiled identity matrix, deltas from a standard normal distribution, logits 0
    /// (published code).
    ///
    /// Differs from the published code where there are more classes than channels, for which a
    /// tiled identity has no room: main centres are then random directions of the same length.
    pub fn init(classes: usize, centres: usize, channels: usize, rng: &mut ChaCha8Rng) -> Self {
        let mut mixture = Self::zeros(classes, centres, channels);
        if classes <= channels {
            let scale = INITIAL_DISTANCE / ((2 * channels / classes) as f64).sqrt();
            for (class, row) in mixture.mu.chunks_exact_mut(channels).enumerate() {
                let places = row.iter_mut().skip(class).step_by(classes);
                places
                    .take(channels / classes)
                    .for_each(|value| *value = scale as f32);
            }
        } else {
            for row in mixture.mu.chunks_exact_mut(channels) {
                let direction: Vec<f64> = (0..channels).map(|_| normal(rng)).collect();
                let length = direction.iter().map(|v| v * v).sum::<f64>().sqrt();
                let scale = INITIAL_DISTANCE / 2f64.sqrt() / length.max(f64::MIN_POSITIVE);
                for (value, direction) in row.iter_mut().zip(direction) {
                    *value = (direction * scale) as f32;
                }
            }
        }
        for value in &mut mixture.deltas {
            *value = normal(rng) as f32;
        }
        mixture
    }

    /// The same mixture with as many `classes`: old ones keep what they are, the new ones are as
    /// [`init`](Self::init) makes them.
    ///
    /// # Panics
    /// If there are fewer classes than before.
    #[must_use]
    pub fn with_classes(&self, classes: usize, rng: &mut ChaCha8Rng) -> Self {
        let mut wider = Self::init(classes, self.centres, self.channels, rng);
        let parts = wider.parts_mut().into_iter().zip(self.parts());
        for (place, (_, _, old)) in parts {
            place[..old.len()].copy_from_slice(old);
        }
        wider
    }

    /// The parts with their names.
    pub(super) fn parts(&self) -> [(&'static str, Vec<usize>, &Vec<f32>); 4] {
        let (y, m, c) = (self.classes, self.centres, self.channels);
        [
            ("mu", vec![y, c], &self.mu),
            ("deltas", vec![y, m - 1, c], &self.deltas),
            ("inter", vec![y], &self.inter),
            ("intra", vec![y, m], &self.intra),
        ]
    }

    /// The parts, in the order of [`parts`](Self::parts).
    pub(super) fn parts_mut(&mut self) -> [&mut Vec<f32>; 4] {
        [
            &mut self.mu,
            &mut self.deltas,
            &mut self.inter,
            &mut self.intra,
        ]
    }

    /// Euclidean distances between the main centres, `[classes][classes]`.
    pub fn distances(&self) -> Vec<Vec<f32>> {
        let centres = || self.mu.chunks_exact(self.channels);
        let distance = |a: &[f32], b: &[f32]| {
            let squares = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2));
            squares.sum::<f64>().sqrt() as f32
        };
        centres()
            .map(|a| centres().map(|b| distance(a, b)).collect())
            .collect()
    }

    /// Parameters that training changes.
    pub fn parameters(classes: usize, centres: usize, channels: usize) -> usize {
        classes * (centres * channels + centres + 1)
    }

    /// Puts all tensors into `tensors`, with names that begin with `prefix`.
    pub fn save(&self, prefix: &str, tensors: &mut TensorSet) {
        for (name, shape, values) in self.parts() {
            // Without further centres there is no tensor: not every reader takes empty ones.
            if !values.is_empty() {
                let tensor = HostTensor::new(shape, values.clone());
                tensors.insert(format!("{prefix}.{name}"), tensor);
            }
        }
    }

    /// Takes back what [`save`](Self::save) put into `tensors`.
    ///
    /// # Errors
    /// When a tensor is absent or shaped otherwise.
    pub fn load(
        classes: usize,
        centres: usize,
        channels: usize,
        prefix: &str,
        tensors: &mut TensorSet,
    ) -> Result<Self> {
        let mut mixture = Self::zeros(classes, centres, channels);
        let parts = mixture.parts().map(|(name, shape, _)| (name, shape));
        for ((name, shape), values) in parts.into_iter().zip(mixture.parts_mut()) {
            if !values.is_empty() {
                let shape: Vec<Option<usize>> = shape.into_iter().map(Some).collect();
                *values = tensors.take(&format!("{prefix}.{name}"), &shape)?.values;
            }
        }
        Ok(mixture)
    }
}

/// A draw from the standard normal distribution (Box and Muller).
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

/// Some Gaussians of unit covariance with their weights, as vectors meet them.
///
/// `-||z - m||^2 / 2 = z m - ||m||^2 / 2 - ||z||^2 / 2`: the products of all vectors with all
/// centres are one matrix product, and what all centres share cancels in every softmax.
#[derive(Clone, Debug)]
pub(super) struct Gaussians {
    channels: usize,
    /// `[count, channels]`.
    pub(super) centres: Vec<f32>,
    /// `-||m||^2 / 2` of each.
    offsets: Vec<f64>,
    /// Logarithm of each weight.
    pub(super) log_weights: Vec<f64>,
}

impl Gaussians {
    fn new(channels: usize, centres: Vec<f32>, logits: &[f32]) -> Self {
        let offsets = centres
            .chunks_exact(channels)
            .map(|centre| -half_square(centre))
            .collect();
        Self {
            channels,
            centres,
            offsets,
            log_weights: log_softmax(logits),
        }
    }

    /// The main centres of all classes.
    pub(super) fn inter(mixture: &Mixture) -> Self {
        Self::new(mixture.channels, mixture.mu.clone(), &mixture.inter)
    }

    /// All centres of one class.
    pub(super) fn intra(mixture: &Mixture, class: usize) -> Self {
        let (channels, others) = (mixture.channels, mixture.centres - 1);
        let main = &mixture.mu[class * channels..][..channels];
        let deltas = &mixture.deltas[class * others * channels..][..others * channels];
        let mut centres = main.to_vec();
        for delta in deltas.chunks_exact(channels) {
            centres.extend(main.iter().zip(delta).map(|(main, delta)| main + delta));
        }
        let logits = &mixture.intra[class * mixture.centres..][..mixture.centres];
        Self::new(channels, centres, logits)
    }

    pub(super) fn count(&self) -> usize {
        self.offsets.len()
    }

    /// `z m` of `vectors` `[rows, channels]` with every centre, `[rows, count]`.
    pub(super) fn products(&self, vectors: &[f32], out: &mut Vec<f32>) {
        let (count, channels) = (self.count(), self.channels);
        let rows = vectors.len() / channels;
        out.resize(rows * count, 0.0);
        product(
            (out, Layout::rows(rows, count, count)),
            (vectors, Layout::rows(rows, channels, channels)),
            (
                &self.centres,
                Layout::rows(count, channels, channels).transposed(),
            ),
            false,
        );
    }

    /// Adds `weights * centres` to `out` `[rows, channels]`; `weights` is `[rows, count]`.
    pub(super) fn combine(&self, weights: &[f32], out: &mut [f32], add: bool) {
        let (count, channels) = (self.count(), self.channels);
        let rows = weights.len() / count;
        product(
            (out, Layout::rows(rows, channels, channels)),
            (weights, Layout::rows(rows, count, count)),
            (&self.centres, Layout::rows(count, channels, channels)),
            add,
        );
    }

    /// `-||z - m||^2 / 2 + ||z||^2 / 2` of one vector, from its row of [`products`](Self::products).
    pub(super) fn logits(&self, products: &[f32], out: &mut Vec<f64>) {
        out.clear();
        let products = products.iter().map(|&value| f64::from(value));
        out.extend(products.zip(&self.offsets).map(|(a, b)| a + b));
    }
}

/// `||v||^2 / 2`.
pub(super) fn half_square(vector: &[f32]) -> f64 {
    0.5 * vector.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>()
}

/// Logarithms of the softmax.
pub(super) fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let logits: Vec<f64> = logits.iter().map(|&logit| f64::from(logit)).collect();
    let total = log_sum_exp(&logits);
    logits.into_iter().map(|logit| logit - total).collect()
}

/// `ln sum exp`, without overflow.
pub(super) fn log_sum_exp(values: &[f64]) -> f64 {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if !largest.is_finite() {
        // NaN is not lost: `max` skips it, a sum does not.
        return largest + values.iter().sum::<f64>();
    }
    largest + values.iter().map(|v| (v - largest).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::train::stream_rng;

    #[test]
    fn classes_begin_apart_whatever_their_number() {
        for (classes, channels) in [
            (2, 200),
            (15, 200),
            (40, 112),
            (100, 112),
            (100, 40),
            (41, 40),
        ] {
            let mixture = Mixture::init(classes, 10, channels, &mut stream_rng(1, "mixture"));
            let distances = mixture.distances();
            assert_eq!(distances.len(), classes);
            for (a, distances) in distances.iter().enumerate() {
                for (b, distance) in distances.iter().enumerate() {
                    assert!(
                        (2.0..9.0).contains(distance) || (a == b && *distance == 0.0),
                        "{classes} {channels}: {distance}"
                    );
                }
            }
            let spread = mixture.deltas.iter().map(|v| v * v).sum::<f32>();
            let variance = spread / mixture.deltas.len() as f32;
            assert!((variance - 1.0).abs() < 0.1, "{variance}");
        }
    }

    #[test]
    fn more_classes_leave_the_old_ones_as_they_are() {
        for centres in [1, 4] {
            let mut rng = stream_rng(1, "mixture");
            let mut old = Mixture::init(3, centres, 8, &mut rng);
            old.inter = vec![0.1, 0.2, 0.3];
            let new = old.with_classes(5, &mut rng);
            assert_eq!((new.classes, new.parts()[0].1.as_slice()), (5, &[5, 8][..]));
            for ((_, shape, a), (_, _, b)) in new.parts().into_iter().zip(old.parts()) {
                assert_eq!(a.len(), shape.iter().product::<usize>());
                assert_eq!(a[..b.len()], b[..]);
            }
            assert_eq!(new.inter[3..], [0.0, 0.0]);
            assert!(
                new.distances()[4]
                    .iter()
                    .take(4)
                    .all(|&distance| distance > 1.0)
            );
        }
    }

    #[test]
    fn a_saved_mixture_loads_equal_and_another_size_is_refused() {
        for centres in [1, 4] {
            let mixture = Mixture::init(3, centres, 8, &mut stream_rng(1, "mixture"));
            let mut tensors = TensorSet::default();
            mixture.save("m", &mut tensors);
            let again = Mixture::load(3, centres, 8, "m", &mut tensors.clone()).unwrap();
            assert_eq!(again, mixture);
            assert!(Mixture::load(4, centres, 8, "m", &mut tensors.clone()).is_err());
            let count: usize = mixture
                .parts()
                .iter()
                .map(|(_, _, values)| values.len())
                .sum();
            assert_eq!(count, Mixture::parameters(3, centres, 8));
        }
    }

    #[test]
    fn sums_of_exponentials_neither_overflow_nor_vanish() {
        assert_eq!(log_sum_exp(&[-1e6, -1e6]), -1e6 + 2f64.ln());
        assert_eq!(log_sum_exp(&[1e6, 0.0]), 1e6);
        assert_eq!(log_sum_exp(&[f64::NEG_INFINITY; 2]), f64::NEG_INFINITY);
        assert!(log_sum_exp(&[f64::NAN, 1.0]).is_nan());
        assert!(log_sum_exp(&[f64::NAN]).is_nan());
    }
}
