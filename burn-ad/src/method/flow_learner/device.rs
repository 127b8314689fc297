//! A learning flow by the backend's own operations and Burn's autodiff and Adam.

use burn::module::{AutodiffModule, Module};
use burn::optim::adaptor::OptimizerAdaptor;
use burn::optim::{Adam, GradientsParams, Optimizer};
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Tensor, TensorData};

use crate::error::Result;
use crate::flow::{Condition, ConditionalFlow, Flow, OutputGradient, PositionCode, log_likelihood};
use crate::tensors::to_vec;
use crate::train::{AdamSettings, record_from_bytes, record_to_bytes};

pub(super) struct DeviceLearner<AB: AutodiffBackend> {
    flow: ConditionalFlow<AB>,
    optimiser: OptimizerAdaptor<Adam, ConditionalFlow<AB>, AB>,
    code: PositionCode<AB::InnerBackend>,
    device: AB::Device,
}

impl<AB: AutodiffBackend> DeviceLearner<AB> {
    pub(super) fn new(
        flow: ConditionalFlow<AB>,
        grid: [usize; 2],
        adam: AdamSettings,
        device: &AB::Device,
    ) -> Self {
        Self {
            code: PositionCode::new(grid, flow.position_channels(), device),
            flow,
            optimiser: adam.to_burn().init(),
            device: device.clone(),
        }
    }

    pub(super) fn gradients(
        &self,
        vectors: &[f32],
        positions: &[usize],
        seed: impl FnOnce(&[f32]) -> Option<Vec<f32>>,
    ) -> Option<GradientsParams> {
        let count = positions.len();
        let (z, log_det) = self.forward(vectors, positions);
        let likelihood = log_likelihood(z, log_det);
        let seed = seed(&to_vec(likelihood.clone().inner()))?;
        // The gradient with respect to the likelihoods is known; the flow's is the backend's work.
        let seed = Tensor::<AB, 1>::from_data(TensorData::new(seed, [count]), &self.device);
        let gradients = (likelihood * seed).sum().backward();
        Some(GradientsParams::from_grads(gradients, &self.flow))
    }

    pub(super) fn gradients_of_outputs(
        &self,
        vectors: &[f32],
        positions: &[usize],
        seed: impl FnOnce(&[f32], &[f32]) -> Option<OutputGradient>,
    ) -> Option<GradientsParams> {
        let (z, log_det) = self.forward(vectors, positions);
        let found = seed(&to_vec(z.clone().inner()), &to_vec(log_det.clone().inner()))?;
        // A function with these gradients.
        let by_z = TensorData::new(found.z, z.dims());
        let by_log_det = TensorData::new(found.log_det, log_det.dims());
        let by_z = (z * Tensor::from_data(by_z, &self.device)).sum();
        let by_log_det = (log_det * Tensor::from_data(by_log_det, &self.device)).sum();
        let gradients = (by_z + by_log_det).backward();
        Some(GradientsParams::from_grads(gradients, &self.flow))
    }

    fn forward(&self, vectors: &[f32], positions: &[usize]) -> (Tensor<AB, 2>, Tensor<AB, 1>) {
        let condition = self.code.condition(positions, &self.device);
        let condition: Condition<AB> = Condition::from_inner(condition);
        let data = TensorData::new(vectors.to_vec(), [positions.len(), self.flow.channels()]);
        let x = Tensor::<AB, 2>::from_data(data, &self.device);
        self.flow.forward(x, &condition)
    }

    pub(super) fn descend(&mut self, gradients: GradientsParams, learning_rate: f64) {
        let flow = self.flow.clone();
        self.flow = self.optimiser.step(learning_rate, flow, gradients);
    }

    pub(super) fn finish(self) -> ConditionalFlow<AB::InnerBackend> {
        self.flow.valid()
    }

    /// Parameters, and optimiser.
    pub(super) fn to_bytes(&self) -> Result<[Vec<u8>; 2]> {
        let flow = record_to_bytes::<AB, _>(self.flow.clone().into_record())?;
        Ok([flow, record_to_bytes::<AB, _>(self.optimiser.to_record())?])
    }

    /// Takes over what [`to_bytes`](Self::to_bytes) gave.
    pub(super) fn restore(&mut self, flow: Vec<u8>, optimiser: Vec<u8>) -> Result<()> {
        let flow = record_from_bytes::<AB, _>(flow, &self.device)?;
        let state = record_from_bytes::<AB, _>(optimiser, &self.device)?;
        self.flow = self.flow.clone().load_record(flow);
        self.optimiser = self.optimiser.clone().load_record(state);
        Ok(())
    }
}
