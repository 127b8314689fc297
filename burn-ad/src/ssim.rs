//! Structural similarity of images, of one scale (SSIM) and of several (MS-SSIM), with gradients.
//!
//! Source: Wang, Simoncelli, Bovik, "Multiscale structural similarity for image quality assessment", 2003;
//! conventions (a valid Gaussian window, rectified terms, padding of odd sides) as in the Python package
//! pytorch-msssim, whose values and gradients these are.

use burn::prelude::*;
use burn::tensor::activation::relu;

use crate::error::{Error, Result};

/// Stabilise means and variances, times the squared range.
const K: [f64; 2] = [0.01, 0.03];
/// Below this a rectified term has no gradient: a power of zero would have an infinite one.
const SMALLEST: f64 = 1e-12;

/// How images are compared.
#[derive(Clone, Debug, PartialEq)]
pub struct MsSsim {
    /// Side of the Gaussian window in pixels.
    pub window: usize,
    /// Standard deviation of the window in pixels (1.5 as published).
    pub sigma: f64,
    /// What the scales weigh, finest first; each has half the side of the one before.
    pub weights: Vec<f64>,
    /// Span of the pixels' values: 1 for pixels in [0, 1].
    pub range: f64,
}

/// Similarity maps of one scale, `[images * channels, height', width']`.
struct Maps<B: Backend> {
    /// Of contrast and structure.
    structure: Tensor<B, 3>,
    /// Of luminance, contrast and structure: SSIM.
    whole: Tensor<B, 3>,
}

impl MsSsim {
    /// Whether images of this size can be compared.
    ///
    /// # Errors
    /// When the window does not fit into the coarsest scale.
    pub fn check(&self, height: usize, width: usize) -> Result<()> {
        let halvings = self.weights.len().saturating_sub(1);
        let coarsest = (0..halvings).fold(height.min(width), |side, _| side.div_ceil(2));
        if coarsest >= self.window && !self.weights.is_empty() {
            return Ok(());
        }
        let smallest = (1..).find(|&side| {
            (0..halvings).fold(side, |side: usize, _| side.div_ceil(2)) >= self.window
        });
        Err(Error::usage(format!(
            "images of {height} x {width} pixels are too small for MS-SSIM of {} scales with a window of {}: \
             the smaller side must be at least {}",
            self.weights.len(),
            self.window,
            smallest.unwrap_or(self.window),
        )))
    }

    /// MS-SSIM of each pair of images, `[batch]`, the mean over channels; 1 for equal ones.
    ///
    /// `x` and `y` are `[batch, channels, height, width]`.
    ///
    /// # Panics
    /// If the images are too small ([`check`](Self::check)), or sizes differ.
    pub fn similarity<B: Backend>(&self, x: Tensor<B, 4>, y: Tensor<B, 4>) -> Tensor<B, 1> {
        let [batch, channels, _, _] = x.dims();
        let last = self.weights.len() - 1;
        let scales = self.scales(x, y).into_iter().zip(&self.weights);
        let terms = scales.enumerate().map(|(scale, (maps, &weight))| {
            let map = match scale == last {
                true => maps.whole,
                false => maps.structure,
            };
            power(relu(mean(map)), weight)
        });
        let product = terms.reduce(|product, term| product * term);
        let product = product.expect("there is at least one scale");
        product
            .reshape([batch, channels])
            .mean_dim(1)
            .squeeze_dim(1)
    }

    /// SSIM of each pair of images, `[batch]`, the mean over channels and positions of the finest scale.
    ///
    /// # Panics
    /// If the images are smaller than the window, or sizes differ.
    pub fn ssim<B: Backend>(&self, x: Tensor<B, 4>, y: Tensor<B, 4>) -> Tensor<B, 1> {
        let [batch, channels, _, _] = x.dims();
        let [x, y] = [x, y].map(planes);
        let ssim = mean(self.compare(&x, &y).whole);
        ssim.reshape([batch, channels]).mean_dim(1).squeeze_dim(1)
    }

    /// The SSIM map of each scale, finest first, `[batch, channels, height', width']`: positions at the
    /// border where the window does not fit are missing.
    ///
    /// # Panics
    /// If the images are too small ([`check`](Self::check)), or sizes differ.
    pub fn maps<B: Backend>(&self, x: Tensor<B, 4>, y: Tensor<B, 4>) -> Vec<Tensor<B, 4>> {
        let [batch, channels, _, _] = x.dims();
        let scales = self.scales(x, y).into_iter();
        let maps = scales.map(|maps| {
            let [_, height, width] = maps.whole.dims();
            maps.whole.reshape([batch, channels, height, width])
        });
        maps.collect()
    }

    fn scales<B: Backend>(&self, x: Tensor<B, 4>, y: Tensor<B, 4>) -> Vec<Maps<B>> {
        assert_eq!(x.dims(), y.dims(), "sizes of images");
        let [mut x, mut y] = [x, y].map(planes);
        let mut scales = Vec::with_capacity(self.weights.len());
        for scale in 0..self.weights.len() {
            if scale > 0 {
                [x, y] = [x, y].map(halve);
            }
            scales.push(self.compare(&x, &y));
        }
        scales
    }

    /// Similarity by the means, variances and covariance in each window.
    fn compare<B: Backend>(&self, x: &Tensor<B, 3>, y: &Tensor<B, 3>) -> Maps<B> {
        let [planes, height, width] = x.dims();
        let (x, y) = (x.clone(), y.clone());
        // In one product: x, y, x^2, y^2, x y.
        let products = vec![
            x.clone(),
            y.clone(),
            x.clone().square(),
            y.clone().square(),
            x * y,
        ];
        let sides = [height, width].map(|side| self.blur(side));
        let blurred = separable(Tensor::cat(products, 0), &sides);
        let part = |index: usize| blurred.clone().narrow(0, index * planes, planes);
        let (mean_x, mean_y) = (part(0), part(1));
        let between = mean_x.clone() * mean_y.clone();
        let (mean_x, mean_y) = (mean_x.square(), mean_y.square());
        let variance_x = part(2) - mean_x.clone();
        let variance_y = part(3) - mean_y.clone();
        let covariance = part(4) - between.clone();
        let [c1, c2] = K.map(|k| (k * self.range).powi(2));
        let structure = (covariance * 2.0 + c2) / (variance_x + variance_y + c2);
        let luminance = (between * 2.0 + c1) / (mean_x + mean_y + c1);
        Maps {
            whole: luminance * structure.clone(),
            structure,
        }
    }

    /// The valid Gaussian window along a side, as a matrix.
    fn blur(&self, side: usize) -> Matrix {
        let centre = (self.window / 2) as f64;
        let density =
            |tap: usize| (-(tap as f64 - centre).powi(2) / (2.0 * self.sigma.powi(2))).exp();
        let taps: Vec<f64> = (0..self.window).map(density).collect();
        let sum: f64 = taps.iter().sum();
        let outputs = side + 1 - self.window;
        Matrix::new(side, outputs, |from, to| {
            let tap = from.checked_sub(to).and_then(|tap| taps.get(tap));
            tap.map_or(0.0, |tap| tap / sum)
        })
    }
}

/// A linear map along one side, `[inputs, outputs]` row-major.
struct Matrix {
    inputs: usize,
    outputs: usize,
    values: Vec<f32>,
}

impl Matrix {
    fn new(inputs: usize, outputs: usize, value: impl Fn(usize, usize) -> f64) -> Self {
        let places = (0..inputs).flat_map(|from| (0..outputs).map(move |to| (from, to)));
        Self {
            inputs,
            outputs,
            values: places.map(|(from, to)| value(from, to) as f32).collect(),
        }
    }

    /// Of the last dimension.
    fn apply<B: Backend>(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let [first, second, _] = x.dims();
        let matrix = TensorData::new(self.values.clone(), [self.inputs, self.outputs]);
        let matrix = Tensor::<B, 2>::from_data(matrix, &x.device());
        let rows: Tensor<B, 2> = x.reshape([first * second, self.inputs]);
        rows.matmul(matrix).reshape([first, second, self.outputs])
    }
}

/// One map along the rows, one along the columns of `[planes, height, width]`.
fn separable<B: Backend>(x: Tensor<B, 3>, [rows, columns]: &[Matrix; 2]) -> Tensor<B, 3> {
    let x = columns.apply(x).swap_dims(1, 2);
    rows.apply(x).swap_dims(1, 2)
}

/// Means of 2 x 2 pixels; an odd side has a zero at both of its ends.
fn halve<B: Backend>(x: Tensor<B, 3>) -> Tensor<B, 3> {
    let [_, height, width] = x.dims();
    let matrix = |side: usize| {
        Matrix::new(side, side.div_ceil(2), |from, to| {
            let reached = (from + side % 2) / 2 == to;
            if reached { 0.5 } else { 0.0 }
        })
    };
    separable(x, &[matrix(height), matrix(width)])
}

/// `[batch * channels, height, width]`.
fn planes<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 3> {
    let [batch, channels, height, width] = x.dims();
    x.reshape([batch * channels, height, width])
}

/// Of each plane, `[planes]`.
fn mean<B: Backend>(maps: Tensor<B, 3>) -> Tensor<B, 1> {
    let rows: Tensor<B, 2> = maps.flatten(1, 2);
    rows.mean_dim(1).squeeze_dim(1)
}

/// `x ^ exponent` for `x` that is not negative; 0, with gradient 0, where `x` is 0.
fn power<B: Backend>(x: Tensor<B, 1>, exponent: f64) -> Tensor<B, 1> {
    let present = x.clone().detach().greater_elem(0.0).float();
    x.clamp_min(SMALLEST).powf_scalar(exponent) * present
}
