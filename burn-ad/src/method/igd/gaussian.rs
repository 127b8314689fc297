//! The Gaussian that latent vectors of normal images are drawn to: what the E-step estimates.

use serde::{Deserialize, Serialize};

/// Components of a centre are at least this far from zero, where a network without offsets could reach
/// them by giving nothing.
const SMALLEST: f32 = 0.1;
/// The scale is never smaller.
const SMALLEST_SCALE: f64 = 1.0;

/// Centre and scale.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Gaussian {
    /// One value a latent dimension.
    pub centre: Vec<f32>,
    /// Mean squared distance to the centre, at least 1: the square of sigma in eq. 5.
    pub scale: f64,
}

impl Gaussian {
    /// From the latent vectors of all training images, each batch `[images, latent]` row-major: the centre is
    /// their mean, the scale the mean over batches of `max(1, mean squared distance)`.
    ///
    /// # Panics
    /// If there is no vector.
    pub fn of(batches: &[Vec<f32>], latent: usize) -> Self {
        let mut centre = vec![0.0; latent];
        let vectors = || batches.iter().flat_map(|batch| batch.chunks_exact(latent));
        for vector in vectors() {
            for (sum, &value) in centre.iter_mut().zip(vector) {
                *sum += f64::from(value);
            }
        }
        let count = vectors().count();
        assert!(count > 0, "latent vectors");
        let centre = centre.into_iter().map(|sum| (sum / count as f64) as f32);
        let mut gaussian = Self {
            centre: centre.map(away_from_zero).collect(),
            scale: 0.0,
        };
        let scales = batches.iter().map(|batch| {
            let distances = gaussian.distances(batch);
            let mean = distances.iter().sum::<f64>() / distances.len() as f64;
            mean.max(SMALLEST_SCALE)
        });
        gaussian.scale = scales.sum::<f64>() / batches.len() as f64;
        gaussian
    }

    /// Squared distances of vectors to the centre.
    pub fn distances(&self, vectors: &[f32]) -> Vec<f64> {
        let square = |vector: &[f32]| {
            let pairs = vector.iter().zip(&self.centre);
            pairs
                .map(|(&value, &centre)| f64::from(value - centre).powi(2))
                .sum()
        };
        vectors
            .chunks_exact(self.centre.len())
            .map(square)
            .collect()
    }
}

fn away_from_zero(value: f32) -> f32 {
    match value {
        _ if value.abs() >= SMALLEST => value,
        _ if value < 0.0 => -SMALLEST,
        _ => SMALLEST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn centres_keep_away_from_zero_with_their_sign() {
        let batches = [vec![0.05, -0.05, 0.0, 2.0], vec![0.05, -0.05, 0.0, 4.0]];
        let found = Gaussian::of(&batches, 4);
        assert_eq!(found.centre, [0.1, -0.1, 0.1, 3.0]);
        // Both batches: 3 * 0.05^2 or 0.1^2 and 1 from the last component.
        let expected = 1.0 + 2.0 * 0.05f64.powi(2) + 0.01;
        assert!((found.scale - expected).abs() < 1e-6);
    }

    #[test]
    fn scales_are_means_of_batches_and_at_least_one() {
        let batches = [vec![1.0, 1.0], vec![7.0]];
        // The centre is 3: batches have mean squares 4 and 16.
        assert!((Gaussian::of(&batches, 1).scale - 10.0).abs() < 1e-9);
        let near = [vec![1.0, 1.1]];
        assert_eq!(Gaussian::of(&near, 1).scale, 1.0);
    }
}
