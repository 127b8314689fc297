//! Normalisation of whole images, with a weight and a bias for each of their values, and an activation.

mod backward;
mod forward;

pub use backward::backward;
pub use forward::forward;

use crate::activation::Activation;
use crate::norm::Moments;

#[cfg(test)]
mod tests;

/// `activation((x - mean) * inv_std * weight + bias)` of images `[batch, positions, channels]`, each with
/// statistics of its own.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    /// Images.
    pub batch: usize,
    /// Channels of a position: they only say in which order an image is summed.
    pub channels: usize,
    /// Factor of each value of an image, `[positions, channels]`.
    pub weight: &'a [f32],
    /// Added to each value of an image, `[positions, channels]`.
    pub bias: &'a [f32],
    /// The activation.
    pub activation: Activation,
}

impl Layer<'_> {
    /// Values of an image.
    fn values(&self) -> usize {
        self.weight.len()
    }

    /// Values of all images.
    fn len(&self) -> usize {
        self.batch * self.values()
    }

    fn check(&self) {
        assert_eq!(self.weight.len(), self.bias.len(), "weights and biases");
        assert!(
            self.channels > 0 && self.values().is_multiple_of(self.channels),
            "{} values of an image do not have {} channels",
            self.values(),
            self.channels
        );
    }

    fn check_moments(&self, moments: &Moments) {
        let all = [&moments.mean, &moments.rest, &moments.inv_std];
        assert!(
            all.iter().all(|values| values.len() == self.batch),
            "moments of a layer normalisation"
        );
    }
}

/// The parts of a run of `count` values from value `first` of all images on that lie in one image each:
/// the image, where the part begins in the image, and its range in the run.
#[inline(always)]
fn parts(
    values: usize,
    first: usize,
    count: usize,
) -> impl Iterator<Item = (usize, usize, std::ops::Range<usize>)> {
    let images = first / values..(first + count).div_ceil(values);
    images.map(move |image| {
        let (start, end) = (image * values, (image + 1) * values);
        let range = start.max(first) - first..end.min(first + count) - first;
        (image, start.max(first) - start, range)
    })
}
