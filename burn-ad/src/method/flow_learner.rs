//! One flow while it learns.

use burn::module::{AutodiffModule, Module};
use burn::optim::adaptor::OptimizerAdaptor;
use burn::optim::{Adam, AdamConfig, GradientsParams, Optimizer};
use burn::record::{BinBytesRecorder, FullPrecisionSettings, Record, Recorder};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};

use super::bgad::ChunkLoss;
use crate::error::{Error, Result};
use crate::flow::{
    Condition, ConditionalFlow, CpuFlow, Flow, OutputGradient, PositionCode, computes_on_cpu,
    log_likelihood,
};
use crate::tensors::to_vec;

/// Adam's epsilon in PyTorch; burn's own default is larger.
pub(super) const ADAM_EPSILON: f32 = 1e-8;

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

    /// Replaces the optimiser, before the first step.
    #[must_use]
    pub fn with_optimiser(mut self, config: &AdamConfig) -> Self {
        self.optimiser = config.init();
        self
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
        self.descend(gradients, learning_rate);
        found.expect("the likelihoods were given to the loss")
    }

    /// One optimiser step for a loss that is not a function of the likelihood alone.
    ///
    /// `loss` is given `z` `[vectors, channels]` and the log-determinants, and gives the gradients
    /// with respect to both, or `None` when no step is to be taken. Whether one was comes back.
    ///
    /// # Panics
    /// If there are not as many vectors as positions, or the gradients have other sizes.
    pub fn step_outputs(
        &mut self,
        vectors: &[f32],
        positions: &[usize],
        loss: impl FnOnce(&[f32], &[f32]) -> Option<OutputGradient>,
        learning_rate: f64,
    ) -> bool {
        let gradients = match &mut self.on_cpu {
            Some(steps) => steps.gradients_of_outputs(&self.flow, vectors, positions, loss),
            None => self.outputs_by_autodiff(vectors, positions, loss),
        };
        let takes_step = gradients.is_some();
        self.descend(gradients, learning_rate);
        takes_step
    }

    fn descend(&mut self, gradients: Option<GradientsParams>, learning_rate: f64) {
        let Some(gradients) = gradients else { return };
        let flow = self.flow.clone();
        self.flow = self.optimiser.step(learning_rate, flow, gradients);
        if self.on_cpu.is_some() {
            forget_unused_leaves::<AB>(&self.device);
        }
    }

    /// Gradients by the backend's own operations.
    fn by_autodiff(
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

    /// The same for a loss of `z` and the log-determinants.
    fn outputs_by_autodiff(
        &self,
        vectors: &[f32],
        positions: &[usize],
        loss: impl FnOnce(&[f32], &[f32]) -> Option<OutputGradient>,
    ) -> Option<GradientsParams> {
        let (z, log_det) = self.forward(vectors, positions);
        let found = loss(&to_vec(z.clone().inner()), &to_vec(log_det.clone().inner()))?;
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

    /// Vectors for more than one tile, the last one not full.
    fn data(channels: usize) -> (Vec<f32>, Vec<usize>) {
        let count = 700;
        let mut rng = stream_rng(2, "data");
        let vectors = (0..count * channels).map(|_| rng.random_range(-2.0..2.0));
        let vectors = vectors.collect();
        let positions = (0..count).map(|_| rng.random_range(0..99)).collect();
        (vectors, positions)
    }

    fn assert_same_flow(fast: FlowLearner<Autodiff<Flex>>, slow: FlowLearner<Autodiff<Flex>>) {
        let (mut fast, mut slow) = (tensors(fast), tensors(slow));
        for ((name, a), (_, b)) in fast.iter_mut().zip(slow.iter_mut()) {
            for (a, b) in a.values.iter().zip(&b.values) {
                assert!((a - b).abs() < 2e-4, "{name}: {a} and {b}");
            }
        }
    }

    #[test]
    fn a_loss_of_outputs_takes_the_same_steps_by_kernels_and_by_autodiff() {
        let device = Default::default();
        let channels = 12;
        let (vectors, positions) = data(channels);
        let learner = || {
            let config = FlowConfig {
                blocks: 3,
                position_channels: 8,
                ..FlowConfig::bgad()
            };
            let flow = config.init(channels, &mut stream_rng(1, "flow"), &device);
            let adam = AdamConfig::new()
                .with_epsilon(ADAM_EPSILON)
                .with_beta_2(0.99);
            FlowLearner::new(flow, [9, 11], 8, &device).with_optimiser(&adam)
        };
        // Pulls z to 1 in every channel, and weighs vectors and channels differently.
        let loss = |z: &[f32], log_det: &[f32]| {
            let z = z
                .iter()
                .enumerate()
                .map(|(i, z)| (z - 1.0) * (1 + i % 5) as f32 * 1e-4);
            let log_det = log_det
                .iter()
                .enumerate()
                .map(|(i, _)| -1e-4 * (i % 3) as f32);
            Some(OutputGradient {
                z: z.collect(),
                log_det: log_det.collect(),
            })
        };
        let (mut fast, mut slow) = (learner(), learner().without_kernels());
        for _ in 0..5 {
            assert!(fast.step_outputs(&vectors, &positions, loss, 1e-3));
            assert!(slow.step_outputs(&vectors, &positions, loss, 1e-3));
        }
        assert!(!fast.step_outputs(&vectors, &positions, |_, _| None, 1e-3));
        assert!(!slow.step_outputs(&vectors, &positions, |_, _| None, 1e-3));
        assert_same_flow(fast, slow);
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
            let (vectors, positions) = data(channels);
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
            assert_same_flow(fast, slow);
        }
    }
}
