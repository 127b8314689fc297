//! Convolutions and gradients by their definition, in `f64`, and the shapes they are tested on.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{Geometry, Padding};
use crate::Activation;
use crate::testing::affordable;

/// A convolution to test.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) geometry: Geometry,
    /// `[outputs, inputs, height, width]`.
    pub(super) shape: [usize; 4],
    pub(super) x: Vec<f32>,
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
    /// Of the output's shape; a residual, or a gradient.
    pub(super) other: Vec<f32>,
}

pub(super) fn values(rng: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
}

impl Case {
    pub(super) fn new(rng: &mut ChaCha8Rng, geometry: Geometry, channels: [usize; 2]) -> Self {
        let [outputs, inputs] = channels;
        let [height, width] = geometry.kernel;
        let pixels = geometry.batch * geometry.height * geometry.width;
        Self {
            geometry,
            shape: [outputs, inputs, height, width],
            x: values(rng, pixels * inputs),
            weight: values(rng, outputs * inputs * height * width),
            bias: values(rng, outputs),
            other: values(rng, geometry.positions() * outputs),
        }
    }

    /// The kernels, strides, sizes and channels of networks, and odd ones.
    pub(super) fn all(rng: &mut ChaCha8Rng) -> Vec<Self> {
        let kernels = [
            ([1, 1], 1, Padding::all(0)),
            ([1, 1], 2, Padding::all(0)),
            ([1, 1], 1, Padding::all(2)),
            ([3, 3], 1, Padding::all(1)),
            ([3, 3], 1, Padding::all(0)),
            ([3, 3], 2, Padding::all(1)),
            // TensorFlow's SAME of an even size.
            (
                [3, 3],
                2,
                Padding {
                    top: 0,
                    bottom: 1,
                    left: 0,
                    right: 1,
                },
            ),
            (
                [3, 3],
                1,
                Padding {
                    top: 2,
                    bottom: 0,
                    left: 1,
                    right: 3,
                },
            ),
            (
                [3, 3],
                3,
                Padding {
                    top: 1,
                    bottom: 0,
                    left: 0,
                    right: 2,
                },
            ),
            ([7, 7], 2, Padding::all(3)),
            (
                [5, 2],
                1,
                Padding {
                    top: 2,
                    bottom: 2,
                    left: 1,
                    right: 0,
                },
            ),
            ([2, 3], 3, Padding::all(1)),
        ];
        let channels = [3, 1, 16, 24, 40, 72, 17, 64, 144, 5, 130];
        let mut cases = Vec::new();
        for (kernel, stride, padding) in kernels {
            for size in [[1, 1], [2, 5], [7, 7], [9, 4], [16, 13]] {
                let fits = size[0] + padding.top + padding.bottom >= kernel[0]
                    && size[1] + padding.left + padding.right >= kernel[1];
                if !fits {
                    continue;
                }
                let geometry = Geometry {
                    batch: rng.random_range(1..4),
                    height: size[0],
                    width: size[1],
                    kernel,
                    stride,
                    padding,
                };
                let mut channel = || channels[rng.random_range(0..channels.len())];
                let channels = [channel(), channel()];
                let case = Self::new(rng, geometry, channels);
                // Each product is computed a dozen times.
                if affordable(6 * case.other.len() * case.weight.len() / channels[0]) {
                    cases.push(case);
                }
            }
        }
        // Miri, a thousand times as slow, takes some.
        let step = if cfg!(miri) { 8 } else { 1 };
        cases.into_iter().step_by(step).collect()
    }

    /// Calls `each` with the places in output, input and weight of every product.
    fn products(&self, mut each: impl FnMut(usize, usize, usize)) {
        let [outputs, inputs, rows, columns] = self.shape;
        let Geometry {
            height,
            width,
            stride,
            padding,
            ..
        } = self.geometry;
        let [out_height, out_width] = self.geometry.output();
        for image in 0..self.geometry.batch {
            for (y, x) in pairs(out_height, out_width) {
                let position = (image * out_height + y) * out_width + x;
                for (ky, kx) in pairs(rows, columns) {
                    let row = (y * stride + ky).wrapping_sub(padding.top);
                    let column = (x * stride + kx).wrapping_sub(padding.left);
                    if row >= height || column >= width {
                        continue;
                    }
                    let from = (image * height + row) * width + column;
                    for (o, i) in pairs(outputs, inputs) {
                        let weight = ((o * inputs + i) * rows + ky) * columns + kx;
                        each(position * outputs + o, from * inputs + i, weight);
                    }
                }
            }
        }
    }

    /// The convolution, and for each value the sum of magnitudes, which rounding is relative to.
    pub(super) fn forward(&self) -> Vec<(f64, f64)> {
        let mut out = vec![(0.0, 0.0); self.other.len()];
        self.products(|o, i, w| add(&mut out[o], self.x[i], self.weight[w]));
        out
    }

    /// Gradient with respect to the input, where [`other`](Self::other) is that of the output.
    pub(super) fn input_gradient(&self) -> Vec<(f64, f64)> {
        let mut out = vec![(0.0, 0.0); self.x.len()];
        self.products(|o, i, w| add(&mut out[i], self.other[o], self.weight[w]));
        out
    }

    /// Gradient with respect to the weights.
    pub(super) fn weight_gradient(&self) -> Vec<(f64, f64)> {
        let mut out = vec![(0.0, 0.0); self.weight.len()];
        self.products(|o, i, w| add(&mut out[w], self.other[o], self.x[i]));
        out
    }
}

fn pairs(a: usize, b: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..a).flat_map(move |a| (0..b).map(move |b| (a, b)))
}

fn add((sum, size): &mut (f64, f64), a: f32, b: f32) {
    let product = f64::from(a) * f64::from(b);
    *sum += product;
    *size += product.abs();
}

pub(super) fn activation(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Identity => x,
        Activation::Relu => x.max(0.0),
        Activation::Relu6 => x.clamp(0.0, 6.0),
        Activation::Swish => x / (1.0 + (-x).exp()),
        Activation::LeakyRelu(slope) => x.max(f64::from(slope) * x),
    }
}

/// Asserts that each of `found` is within `tolerance` of the value expected, relative to the sum of
/// magnitudes that it is a sum of.
pub(super) fn close(found: &[f32], expected: &[(f64, f64)], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (found, (expected, size))) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(*found) - expected).abs();
        assert!(
            error <= tolerance * (size + 1.0),
            "{what}, value {at}: {found} instead of {expected}"
        );
    }
}
