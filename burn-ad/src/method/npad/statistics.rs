//! Streaming moments on the device.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

use super::gaussian::Moments;
use crate::tensors::to_vec;

/// Collects features image by image and keeps sums only: memory does not grow with the images.
pub(super) struct MomentStream<B: Backend> {
    grid: [usize; 2],
    width: usize,
    device: B::Device,
    waiting: Vec<(Tensor<B, 3>, Vec<bool>)>,
    waiting_images: usize,
    sums: Option<Sums<B>>,
}

struct Sums<B: Backend> {
    /// About which moments are taken: the mean of the first images, so that 32-bit sums of
    /// squares do not cancel. `[positions, 1, width]`.
    shift: Tensor<B, 3>,
    counts: Vec<f32>,
    /// `[positions, 1, width]`.
    first: Tensor<B, 3>,
    /// `[positions, width, width]`.
    second: Tensor<B, 3>,
}

/// Images whose features are summed in one matrix product.
const IMAGES_PER_PRODUCT: usize = 32;

impl<B: Backend> MomentStream<B> {
    pub(super) fn new(grid: [usize; 2], width: usize, device: &B::Device) -> Self {
        Self {
            grid,
            width,
            device: device.clone(),
            waiting: Vec::new(),
            waiting_images: 0,
            sums: None,
        }
    }

    /// Adds features `[batch, positions, width]`; `valid` is `[batch, positions]`, row-major.
    pub(super) fn add(&mut self, features: Tensor<B, 3>, valid: Vec<bool>) {
        self.waiting_images += features.dims()[0];
        self.waiting.push((features, valid));
        if self.waiting_images >= IMAGES_PER_PRODUCT {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        self.waiting_images = 0;
        let (features, valid): (Vec<_>, Vec<_>) = self.waiting.drain(..).unzip();
        let valid = valid.concat();
        // [positions, images, width]
        let rows = Tensor::cat(features, 0).swap_dims(0, 1);
        let [positions, images, _] = rows.dims();
        let mut counts = vec![0.0f32; positions];
        let mut weights = vec![0.0f32; positions * images];
        for (index, _) in valid.iter().enumerate().filter(|&(_, &valid)| valid) {
            let (image, position) = (index / positions, index % positions);
            counts[position] += 1.0;
            weights[position * images + image] = 1.0;
        }
        let all_valid = valid.iter().all(|&valid| valid);
        let weights = Tensor::from_data(
            TensorData::new(weights, [positions, images, 1]),
            &self.device,
        );
        let weigh = |rows: Tensor<B, 3>| {
            if all_valid {
                rows
            } else {
                rows * weights.clone()
            }
        };

        let (positions, width) = (self.grid[0] * self.grid[1], self.width);
        let sums = self.sums.take().unwrap_or_else(|| {
            let divisors = counts
                .iter()
                .map(|&count| 1.0 / count.max(1.0))
                .collect::<Vec<f32>>();
            let divisors =
                Tensor::from_data(TensorData::new(divisors, [positions, 1, 1]), &self.device);
            Sums {
                shift: weigh(rows.clone()).sum_dim(1) * divisors,
                counts: vec![0.0; positions],
                first: Tensor::zeros([positions, 1, width], &self.device),
                second: Tensor::zeros([positions, width, width], &self.device),
            }
        });
        let centred = weigh(rows - sums.shift.clone());
        let first = sums.first + centred.clone().sum_dim(1);
        let second = sums.second + centred.clone().swap_dims(1, 2).matmul(centred);
        let counts = sums
            .counts
            .iter()
            .zip(&counts)
            .map(|(a, b)| a + b)
            .collect();
        self.sums = Some(Sums {
            shift: sums.shift,
            counts,
            first,
            second,
        });
    }

    /// Brings the sums to the host; `None` when nothing was added.
    pub(super) fn finish(mut self) -> Option<Moments> {
        self.flush();
        let sums = self.sums?;
        Some(Moments {
            grid: self.grid,
            width: self.width,
            counts: sums.counts,
            shift: to_vec(sums.shift),
            sums: to_vec(sums.first),
            scatter: to_vec(sums.second),
        })
    }
}
