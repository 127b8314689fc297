//! A trained flow and the feature map whose vectors it looks at.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

use super::{ConditionalFlow, CpuFlow, Flow, PositionCode, log_likelihood};
use crate::ops::computes_on_cpu;
use crate::tensors::to_vec;

/// Vectors that go through a flow at once: bounds the memory of its hidden layers.
const VECTORS_AT_ONCE: usize = 16_384;

/// A trained flow, ready for all positions of maps of one size.
#[derive(Clone, Debug)]
pub(crate) struct MapFlow<B: Backend> {
    flow: ConditionalFlow<B>,
    grid: [usize; 2],
    place: Place<B>,
}

#[derive(Clone, Debug)]
enum Place<B: Backend> {
    /// For backends that compute on the CPU.
    Host(CpuFlow),
    Device(PositionCode<B>),
}

impl<B: Backend> MapFlow<B> {
    /// For maps of `grid` `[rows, columns]`.
    pub(crate) fn new(flow: ConditionalFlow<B>, grid: [usize; 2], device: &B::Device) -> Self {
        if !computes_on_cpu::<B>(device) {
            return Self::without_kernels(flow, grid, device);
        }
        let place = Place::Host(CpuFlow::new(&flow, grid));
        Self { flow, grid, place }
    }

    /// The same without the kernels for the CPU: everything by the backend's own operations.
    pub(crate) fn without_kernels(
        flow: ConditionalFlow<B>,
        grid: [usize; 2],
        device: &B::Device,
    ) -> Self {
        let code = PositionCode::new(grid, flow.position_channels(), device);
        let place = Place::Device(code);
        Self { flow, grid, place }
    }

    /// The flow itself.
    pub(crate) fn flow(&self) -> &ConditionalFlow<B> {
        &self.flow
    }

    /// Whether the kernels for the CPU compute.
    #[cfg(test)]
    pub(crate) fn has_kernels(&self) -> bool {
        matches!(self.place, Place::Host(_))
    }

    /// Log-likelihoods a dimension, `[batch, rows, columns]`, of vectors `[batch, positions, channels]`.
    pub(crate) fn likelihoods(&self, vectors: Tensor<B, 3>) -> Tensor<B, 3> {
        let (device, batch) = (vectors.device(), vectors.dims()[0]);
        let [rows, columns] = self.grid;
        match &self.place {
            Place::Host(flow) => {
                let values = flow.likelihoods(&to_vec(vectors), &self.positions(batch));
                Tensor::from_data(TensorData::new(values, [batch, rows, columns]), &device)
            }
            Place::Device(code) => {
                let mut parts = Vec::new();
                self.by_operations(code, &vectors, |z, log_det| {
                    let values = log_likelihood(z, log_det);
                    let images = values.dims()[0] / (rows * columns);
                    parts.push(values.reshape([images, rows, columns]));
                });
                Tensor::cat(parts, 0)
            }
        }
    }

    /// Hands `z` `[vectors, channels]` and log-determinants of vectors `[batch, positions, channels]` to
    /// `each`, in order, in one or several parts.
    pub(crate) fn outputs(&self, vectors: Tensor<B, 3>, mut each: impl FnMut(&[f32], &[f32])) {
        match &self.place {
            Place::Host(flow) => {
                let positions = self.positions(vectors.dims()[0]);
                let (z, log_det) = flow.outputs(&to_vec(vectors), &positions);
                each(&z, &log_det);
            }
            Place::Device(code) => self.by_operations(code, &vectors, |z, log_det| {
                each(&to_vec(z), &to_vec(log_det));
            }),
        }
    }

    fn by_operations(
        &self,
        code: &PositionCode<B>,
        vectors: &Tensor<B, 3>,
        mut each: impl FnMut(Tensor<B, 2>, Tensor<B, 1>),
    ) {
        let device = vectors.device();
        let [batch, positions, channels] = vectors.dims();
        let images_at_once = (VECTORS_AT_ONCE / positions).max(1);
        for first in (0..batch).step_by(images_at_once) {
            let images = images_at_once.min(batch - first);
            let part = vectors.clone().narrow(0, first, images);
            let rows = part.reshape([images * positions, channels]);
            let condition = code.condition(&self.positions(images), &device);
            let (z, log_det) = self.flow.forward(rows, &condition);
            each(z, log_det);
        }
    }

    /// The position of each vector of so many images.
    fn positions(&self, images: usize) -> Vec<usize> {
        let [rows, columns] = self.grid;
        (0..images).flat_map(|_| 0..rows * columns).collect()
    }
}
