//! One flow while it learns.

use burn::module::{AutodiffModule, Module};
use burn::optim::adaptor::OptimizerAdaptor;
use burn::optim::{Adam, AdamConfig, GradientsParams, Optimizer};
use burn::record::{BinBytesRecorder, FullPrecisionSettings, Record, Recorder};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};

use super::loss::ChunkLoss;
use crate::error::{Error, Result};
use crate::flow::{
    Condition, ConditionalFlow, CpuFlow, Flow, PositionCode, computes_on_cpu, log_likelihood,
};
use crate::tensors::to_vec;

/// Adam's epsilon in PyTorch; burn's own default is larger.
const ADAM_EPSILON: f32 = 1e-8;

/// A flow with its optimiser (Adam) and the position code of its map.
pub struct FlowLearner<AB: AutodiffBackend> {
    flow: ConditionalFlow<AB>,
    optimiser: OptimizerAdaptor<Adam, ConditionalFlow<AB>, AB>,
    code: PositionCode<AB::InnerBackend>,
    device: AB::Device,
    on_cpu: Option<CpuFlow>,
}

impl<AB: AutodiffBackend> FlowLearner<AB> {
    /// Begins with `flow`, for vectors of a map of `grid` `[rows, columns]`.
    pub fn new(
        flow: ConditionalFlow<AB>,
        grid: [usize; 2],
        position_channels: usize,
        device: &AB::Device,
    ) -> Self {
        Self {
            flow,
            optimiser: AdamConfig::new().with_epsilon(ADAM_EPSILON).init(),
            code: PositionCode::new(grid, position_channels, device),
            device: device.clone(),
            on_cpu: computes_on_cpu::<AB>(device).then(|| CpuFlow::new(grid, position_channels)),
        }
    }

    /// One optimiser step on `vectors` (row-major, one for each of `positions`).
    ///
    /// `loss` is given the log-likelihood a dimension of each vector. No step is taken when it is not
    /// finite, or its gradient is zero.
    ///
    /// # Panics
    /// If there are not as many vectors as positions, or gradients as vectors.
    pub fn step(
        &mut self,
        vectors: &[f32],
        positions: &[usize],
        loss: impl FnOnce(&[f32]) -> ChunkLoss,
        learning_rate: f64,
    ) -> ChunkLoss {
        let mut found = None;
        let seed = |values: &[f32]| {
            let loss = found.insert(loss(values));
            let step = loss.is_finite() && !loss.is_flat();
            step.then(|| loss.gradient.clone())
        };
        let gradients = match &mut self.on_cpu {
            Some(steps) => steps.gradients(&self.flow, vectors, positions, seed),
            None => self.by_autodiff(vectors, positions, seed),
        };
        if let Some(gradients) = gradients {
            let flow = self.flow.clone();
            self.flow = self.optimiser.step(learning_rate, flow, gradients);
            if self.on_cpu.is_some() {
                forget_unused_leaves::<AB>(&self.device);
            }
        }
        found.expect("the likelihoods were given to the loss")
    }

    /// Gradients by the backend's own operations.
    fn by_autodiff(
        &self,
        vectors: &[f32],
        positions: &[usize],
        seed: impl FnOnce(&[f32]) -> Option<Vec<f32>>,
    ) -> Option<GradientsParams> {
        let count = positions.len();
        let condition = self.code.condition(positions, &self.device);
        let condition: Condition<AB> = Condition::from_inner(condition);
        let data = TensorData::new(vectors.to_vec(), [count, self.flow.channels()]);
        let x = Tensor::<AB, 2>::from_data(data, &self.device);
        let (z, log_det) = self.flow.forward(x, &condition);
        let likelihood = log_likelihood(z, log_det);
        let seed = seed(&to_vec(likelihood.clone().inner()))?;
        // The gradient with respect to the likelihoods is known; the flow's is the backend's work.
        let seed = Tensor::<AB, 1>::from_data(TensorData::new(seed, [count]), &self.device);
        let gradients = (likelihood * seed).sum().backward();
        Some(GradientsParams::from_grads(gradients, &self.flow))
    }

    /// The same without the kernels for the CPU: everything by the backend's own operations.
    #[must_use]
    pub fn without_kernels(mut self) -> Self {
        self.on_cpu = None;
        self
    }

    /// The flow as it is now.
    pub fn finish(self) -> ConditionalFlow<AB::InnerBackend> {
        self.flow.valid()
    }

    /// Parameters and optimiser, for a checkpoint.
    pub(super) fn to_bytes(&self) -> Result<[Vec<u8>; 2]> {
        let flow = bytes::<AB, _>(self.flow.clone().into_record())?;
        Ok([flow, bytes::<AB, _>(self.optimiser.to_record())?])
    }

    /// Takes over what [`to_bytes`](Self::to_bytes) gave.
    pub(super) fn with_bytes(mut self, flow: Vec<u8>, optimiser: Vec<u8>) -> Result<Self> {
        self.flow = self.flow.load_record(record::<AB, _>(flow, &self.device)?);
        let state = record::<AB, _>(optimiser, &self.device)?;
        self.optimiser = self.optimiser.load_record(state);
        Ok(self)
    }
}

/// Burn's autodiff notes every parameter that asks for gradients, and looks for those that are gone
/// only after a backward pass. Steps without one would fill the memory.
fn forget_unused_leaves<AB: AutodiffBackend>(device: &AB::Device) {
    let _ = Tensor::<AB, 1>::zeros([1], device)
        .require_grad()
        .backward();
}

type Bytes = BinBytesRecorder<FullPrecisionSettings>;

fn bytes<B: Backend, R: Record<B>>(record: R) -> Result<Vec<u8>> {
    Recorder::<B>::record(&Bytes::default(), record, ())
        .map_err(|error| Error::model(error.to_string()))
}

fn record<B: Backend, R: Record<B>>(bytes: Vec<u8>, device: &B::Device) -> Result<R> {
    Recorder::<B>::load(&Bytes::default(), bytes, device)
        .map_err(|error| Error::model(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Clamp, FlowConfig, Permutation};
    use crate::method::bgad::LossConfig;
    use crate::tensors::TensorSet;
    use crate::train::stream_rng;
    use burn_autodiff::Autodiff;
    use burn_flex::Flex;
    use rand::RngExt;

    fn tensors(learner: FlowLearner<Autodiff<Flex>>) -> TensorSet {
        let mut tensors = TensorSet::default();
        learner.finish().save("flow", &mut tensors);
        tensors
    }

    #[test]
    fn kernels_and_autodiff_take_the_same_steps() {
        let device = Default::default();
        for (channels, position_channels, clamp, permutation) in [
            (12, 8, Clamp::Tanh, Permutation::Soft),
            (7, 0, Clamp::ScaledTanh, Permutation::Hard),
            (40, 16, Clamp::ScaledTanh, Permutation::Soft),
        ] {
            let config = FlowConfig {
                blocks: 3,
                position_channels,
                clamp,
                permutation,
                ..FlowConfig::bgad()
            };
            let learner = || {
                let flow = config.init(channels, &mut stream_rng(1, "flow"), &device);
                FlowLearner::new(flow, [9, 11], position_channels, &device)
            };
            // More than one tile, and a last one that is not full.
            let count = 700;
            let mut rng = stream_rng(2, "data");
            let vectors: Vec<f32> = (0..count * channels)
                .map(|_| rng.random_range(-2.0..2.0))
                .collect();
            let positions: Vec<usize> = (0..count).map(|_| rng.random_range(0..99)).collect();
            let (mut fast, mut slow) = (learner(), learner().without_kernels());
            for step in 0..5 {
                let loss = |values: &[f32]| {
                    let (normal, anomalous) = values.split_at(600);
                    LossConfig::bgad().evaluate(normal, anomalous, true)
                };
                // Plain gradient descent would show gradients as they are; Adam's first steps have
                // the size of the learning rate whatever the gradient, so they must agree in sign.
                let a = fast.step(&vectors, &positions, loss, 1e-3);
                let b = slow.step(&vectors, &positions, loss, 1e-3);
                let difference = (a.total() - b.total()).abs();
                assert!(
                    difference < 1e-4 * b.total().abs(),
                    "step {step}: {difference}"
                );
            }
            let (mut fast, slow) = (tensors(fast), tensors(slow));
            let mut slow = slow;
            for ((name, a), (_, b)) in fast.iter_mut().zip(slow.iter_mut()) {
                for (a, b) in a.values.iter().zip(&b.values) {
                    assert!((a - b).abs() < 2e-4, "{name}: {a} and {b}");
                }
            }
        }
    }
}
