//! Structural similarity of images, at one scale or several, with gradients on every backend.
//!
//! SSIM: Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004;
//! MS-SSIM: Wang, Simoncelli and Bovik, "Multiscale structural similarity for image quality assessment",
//! 2003; window and constants as theirs, sizes and borders as those of the package `pytorch-msssim`.
//!
//! With s = x + y and d = x - y, and mean and variance below the window, the structure term
//! `(2 cov(x, y) + C2) / (var x + var y + C2)` is `1 - var d / ((var s + var d) / 2 + C2)`, and the
//! luminance term `(2 mean x mean y + C1) / (mean x ^ 2 + mean y ^ 2 + C1)` is
//! `1 - mean d ^ 2 / ((mean s ^ 2 + mean d ^ 2) / 2 + C1)`. So computed, equal images have exactly 1, nearly
//! equal ones a distance from 1 with all its digits, and four maps are smoothed instead of five.

mod window;

#[cfg(test)]
mod parity;
#[cfg(test)]
mod tests;

use burn::prelude::*;
use burn::tensor::module::avg_pool2d;

use crate::error::{Error, Result};
use crate::ops::Similarity;
use window::{Moments, Window, gaussian};

/// Weights of five scales, for windows of 11 pixels (Wang et al. 2003).
pub const FIVE_SCALES: [f64; 5] = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333];
/// Weights of four scales, for small images and windows of 3 pixels (IGD's published code).
pub const FOUR_SCALES: [f64; 4] = [0.0516, 0.3295, 0.3463, 0.2726];

/// `C1` and `C2` are the squares of these times the range of the pixels.
const LUMINANCE: f64 = 0.01;
const STRUCTURE: f64 = 0.03;
/// A mean of this or less counts as zero: the slope of its power would leave the finite numbers.
const ZERO: f64 = 1e-12;

/// Multi-scale structural similarity.
///
/// Every scale has half the sides of the one before, rounded up: means over 2 x 2 pixels, where odd sides
/// get a row or column of zeros in front.
#[derive(Clone, Debug, PartialEq)]
pub struct MsSsim {
    /// Side of the window in pixels, odd.
    pub window: usize,
    /// Standard deviation of the window's weights in pixels.
    pub sigma: f64,
    /// Exponent of each scale, the finest first.
    pub weights: Vec<f64>,
    /// Range of the pixels: largest minus smallest possible value.
    pub range: f64,
}

impl MsSsim {
    /// Whether images of these sides can be compared.
    ///
    /// # Errors
    /// When a side at the last scale is smaller than the window; when a setting makes no sense.
    pub fn check(&self, height: usize, width: usize) -> Result<()> {
        let Self {
            window,
            sigma,
            weights,
            range,
        } = self;
        let positive = |value: f64| value > 0.0 && value.is_finite();
        if window.is_multiple_of(2) || !positive(*sigma) || !positive(*range) {
            return Err(Error::usage(format!(
                "MS-SSIM with a window of {window}, sigma {sigma} and range {range}"
            ))
            .help("choose an odd window, and sigma and range above 0"));
        }
        if weights.is_empty() || !weights.iter().all(|weight| positive(*weight)) {
            return Err(
                Error::usage(format!("MS-SSIM with the weights {weights:?}"))
                    .help("give each scale a weight above 0"),
            );
        }
        let last = weights.len() as u32 - 1;
        let smallest = 2usize
            .saturating_pow(last)
            .saturating_mul(window - 1)
            .saturating_add(1);
        if height.min(width) < smallest {
            return Err(Error::usage(format!(
                "images of {width} x {height} pixels are too small for MS-SSIM with a window of {window} \
                 at {} scales",
                weights.len()
            ))
            .help(format!(
                "sides from {smallest} pixels on work; or take a smaller window or fewer scales"
            )));
        }
        Ok(())
    }

    /// MS-SSIM of each image, `[batch]`: the mean over the channels of the product of powers, 1 for equal
    /// images. `x` and `y` are `[batch, channels, height, width]`.
    ///
    /// Factors are the mean structure term of each scale and, at the last, the mean SSIM. Where one is not
    /// positive, the channel counts 0 and has no gradient.
    ///
    /// # Panics
    /// When the images' sizes differ, or [`check`](Self::check) refuses them.
    pub fn similarity<B: Backend>(&self, x: Tensor<B, 4>, y: Tensor<B, 4>) -> Tensor<B, 1> {
        if let Some(similarity) = self.on_planes().of(&x, &y) {
            return similarity;
        }
        let [batch, channels, _, _] = x.dims();
        let device = x.device();
        let mut pair = self.open(x, y);
        let mut factors = Vec::with_capacity(self.weights.len());
        for scale in 0..self.weights.len() {
            if scale > 0 {
                pair = pair.map(half);
            }
            let terms = self.terms(&pair);
            let loss = if scale + 1 < self.weights.len() {
                terms.structure()
            } else {
                terms.ssim()
            };
            factors.push(mean(loss).neg() + 1.0);
        }
        // [batch * channels, scales]
        let factors = Tensor::cat(factors, 1);
        let zero = factors.clone().lower_equal_elem(ZERO);
        let weights = TensorData::from(self.weights.as_slice()).convert::<f32>();
        let weights = Tensor::<B, 1>::from_data(weights, &device).unsqueeze::<2>();
        let powers = factors.mask_fill(zero.clone(), 1.0).log() * weights;
        let product = powers.sum_dim(1).exp();
        let product = product.mask_fill(zero.any_dim(1), 0.0);
        product
            .reshape([batch, channels])
            .mean_dim(1)
            .squeeze_dim(1)
    }

    /// SSIM of each image at the first scale, `[batch]`: the mean over channels and positions, which may be
    /// negative.
    ///
    /// # Panics
    /// When the images' sizes differ or are smaller than the window.
    pub fn ssim<B: Backend>(&self, x: Tensor<B, 4>, y: Tensor<B, 4>) -> Tensor<B, 1> {
        let [batch, channels, _, _] = x.dims();
        let means = mean(self.terms(&self.open(x, y)).ssim());
        let means = means.reshape([batch, channels]).mean_dim(1);
        means.squeeze_dim(1).neg() + 1.0
    }

    /// The SSIM map of every scale, the finest first: `[batch, channels, h - window + 1, w - window + 1]` for
    /// a scale of h x w pixels.
    ///
    /// # Panics
    /// When the images' sizes differ, or [`check`](Self::check) refuses them.
    pub fn maps<B: Backend>(&self, x: Tensor<B, 4>, y: Tensor<B, 4>) -> Vec<Tensor<B, 4>> {
        if let Some(maps) = self.on_planes().maps(&x, &y) {
            return maps;
        }
        let [batch, channels, _, _] = x.dims();
        let mut pair = self.open(x, y);
        let mut maps = Vec::with_capacity(self.weights.len());
        for scale in 0..self.weights.len() {
            if scale > 0 {
                pair = pair.map(half);
            }
            let map = self.terms(&pair).ssim().neg() + 1.0;
            let [_, height, width] = map.dims();
            maps.push(map.reshape([batch, channels, height, width]));
        }
        maps
    }

    /// As our own kernels know it.
    fn on_planes(&self) -> Similarity {
        let window = gaussian(self.window, self.sigma);
        Similarity {
            window: window.into_iter().map(|weight| weight as f32).collect(),
            exponents: self.weights.clone(),
            constants: [LUMINANCE, STRUCTURE].map(|of| (of * self.range).powi(2) as f32),
        }
    }

    /// Sum and difference of the images, `[batch * channels, height, width]` each.
    fn open<B: Backend>(&self, x: Tensor<B, 4>, y: Tensor<B, 4>) -> [Tensor<B, 3>; 2] {
        let size @ [batch, channels, height, width] = x.dims();
        assert_eq!(size, y.dims(), "sizes of images to compare");
        let [x, y] = [x, y].map(|images| images.reshape([batch * channels, height, width]));
        [x.clone() + y.clone(), x - y]
    }

    /// Of sum and difference at one scale.
    fn terms<B: Backend>(&self, [sum, difference]: &[Tensor<B, 3>; 2]) -> Terms<B> {
        let [_, height, width] = sum.dims();
        let window = Window::new(self.window, self.sigma, [height, width], &sum.device());
        Terms {
            range: self.range,
            sum: window.moments(sum.clone()),
            difference: window.moments(difference.clone()),
        }
    }
}

/// Mean and variance below the window, of sum and difference of the images.
struct Terms<B: Backend> {
    range: f64,
    sum: Moments<B>,
    difference: Moments<B>,
}

impl<B: Backend> Terms<B> {
    /// 1 minus the structure term.
    fn structure(&self) -> Tensor<B, 3> {
        let (sum, difference) = (&self.sum.variance, &self.difference.variance);
        self.share(sum.clone(), difference.clone(), STRUCTURE)
    }

    /// 1 minus the luminance term.
    fn luminance(&self) -> Tensor<B, 3> {
        let [sum, difference] = [&self.sum, &self.difference].map(|of| of.mean.clone().square());
        self.share(sum, difference, LUMINANCE)
    }

    /// 1 minus the product of both.
    fn ssim(&self) -> Tensor<B, 3> {
        let (structure, luminance) = (self.structure(), self.luminance());
        structure.clone() + luminance.clone() - structure * luminance
    }

    /// `difference / ((sum + difference) / 2 + C)`
    fn share(&self, sum: Tensor<B, 3>, difference: Tensor<B, 3>, constant: f64) -> Tensor<B, 3> {
        let constant = (constant * self.range).powi(2);
        difference.clone() / ((sum + difference) * 0.5 + constant)
    }
}

/// Half the sides, rounded up, by means over 2 x 2 pixels; an odd side gets zeros in front, which count.
fn half<B: Backend>(images: Tensor<B, 3>) -> Tensor<B, 3> {
    let [_, height, width] = images.dims();
    let padding = [height % 2, width % 2];
    avg_pool2d(images.unsqueeze(), [2, 2], [2, 2], padding, true, false).squeeze_dim(0)
}

/// `[maps, height, width]` to `[maps, 1]`.
fn mean<B: Backend>(maps: Tensor<B, 3>) -> Tensor<B, 2> {
    let [count, height, width] = maps.dims();
    maps.reshape([count, height * width]).mean_dim(1)
}
