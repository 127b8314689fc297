//! Functions of whole maps: resizing and smoothing.

use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn_ad::ops::{gaussian_blur, resize_bilinear};

use super::{at, indices};
use crate::backends::Place;
use crate::backends::compare::{Operation, assert_operation};

struct Resize {
    input: [usize; 4],
    size: [usize; 2],
    align_corners: bool,
}

impl Resize {
    /// The two positions that an output lies between, and the weight of the second.
    fn between(&self, output: usize, from: usize, to: usize) -> (usize, usize, f64) {
        let (output, from_f, to_f) = (output as f64, from as f64, to as f64);
        let source = if self.align_corners {
            output * (from_f - 1.0) / (to_f - 1.0)
        } else {
            ((output + 0.5) * from_f / to_f - 0.5).clamp(0.0, from_f - 1.0)
        };
        let first = (source.floor() as usize).min(from - 1);
        (first, (first + 1).min(from - 1), source - first as f64)
    }
}

impl Operation for Resize {
    fn name(&self) -> String {
        let Self {
            input,
            size,
            align_corners,
        } = self;
        format!("resize {input:?} to {size:?}, corners {align_corners}")
    }

    fn shapes(&self) -> Vec<Vec<usize>> {
        vec![self.input.to_vec()]
    }

    fn run<B: Backend>(&self, mut inputs: Vec<Tensor<B, 1>>) -> Tensor<B, 1> {
        let x = inputs.remove(0).reshape(self.input);
        resize_bilinear(x, self.size, self.align_corners).flatten(0, 3)
    }

    fn formula(&self, inputs: &[Vec<f64>]) -> Vec<f64> {
        let [batch, channels, height, width] = self.input;
        let [rows, columns] = self.size;
        indices([batch, channels, rows, columns])
            .map(|[n, c, row, column]| {
                let (top, bottom, down) = self.between(row, height, rows);
                let (left, right, across) = self.between(column, width, columns);
                let value = |y, x| inputs[0][at(self.input, [n, c, y, x])];
                let upper = value(top, left) * (1.0 - across) + value(top, right) * across;
                let lower = value(bottom, left) * (1.0 - across) + value(bottom, right) * across;
                upper * (1.0 - down) + lower * down
            })
            .collect()
    }
}

struct Blur {
    input: [usize; 3],
    sigma: f64,
}

impl Operation for Blur {
    fn name(&self) -> String {
        format!("blur {:?} by {}", self.input, self.sigma)
    }

    fn shapes(&self) -> Vec<Vec<usize>> {
        vec![self.input.to_vec()]
    }

    fn run<B: Backend>(&self, mut inputs: Vec<Tensor<B, 1>>) -> Tensor<B, 1> {
        gaussian_blur(inputs.remove(0).reshape(self.input), self.sigma).flatten(0, 2)
    }

    fn formula(&self, inputs: &[Vec<f64>]) -> Vec<f64> {
        let [batch, height, width] = self.input;
        let radius = (4.0 * self.sigma + 0.5) as i64;
        let weight = |offset: i64| (-0.5 * (offset as f64 / self.sigma).powi(2)).exp();
        let total: f64 = (-radius..=radius).map(weight).sum();
        // Reflected at the outer edge as often as it takes.
        let inside = |mut position: i64, size: usize| -> usize {
            let size = size as i64;
            while !(0..size).contains(&position) {
                position = if position < 0 {
                    -1 - position
                } else {
                    2 * size - 1 - position
                };
            }
            position as usize
        };
        indices([batch, 1, height, width])
            .map(|[n, _, row, column]| {
                let mut sum = 0.0;
                for down in -radius..=radius {
                    for across in -radius..=radius {
                        let y = inside(row as i64 + down, height);
                        let x = inside(column as i64 + across, width);
                        let value = inputs[0][(n * height + y) * width + x];
                        sum += weight(down) * weight(across) * value;
                    }
                }
                sum / (total * total)
            })
            .collect()
    }
}

pub(crate) fn resizing_and_blurring_equal_their_definition<AB: AutodiffBackend>(place: &Place<AB>) {
    // Larger in one direction, smaller in the other.
    for align_corners in [true, false] {
        let resize = Resize {
            input: [2, 3, 3, 6],
            size: [6, 3],
            align_corners,
        };
        assert_operation(&resize, place);
    }
    // A kernel that is wider than the map, too.
    for sigma in [0.6, 1.5] {
        let input = [2, 3, 6];
        assert_operation(&Blur { input, sigma }, place);
    }
}
