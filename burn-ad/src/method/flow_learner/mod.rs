//! One flow while it learns.

mod device;
mod host;

use burn::module::AutodiffModule;
use burn::tensor::backend::AutodiffBackend;

use self::device::DeviceLearner;
use self::host::HostLearner;
use super::bgad::ChunkLoss;
use crate::error::Result;
use crate::flow::{ConditionalFlow, OutputGradient};
use crate::ops::computes_on_cpu;
use crate::train::AdamSettings;

/// A flow with its optimiser (Adam) and the position code of its map.
pub struct FlowLearner<AB: AutodiffBackend>(Place<AB>);

/// Where parameters and optimiser are.
enum Place<AB: AutodiffBackend> {
    Host(Box<HostLearner<AB::InnerBackend>>),
    Device(Box<DeviceLearner<AB>>),
}

impl<AB: AutodiffBackend> FlowLearner<AB> {
    /// Begins with `flow`, for vectors of a map of `grid` `[rows, columns]`.
    pub fn new(
        flow: ConditionalFlow<AB>,
        grid: [usize; 2],
        adam: AdamSettings,
        device: &AB::Device,
    ) -> Self {
        if !computes_on_cpu::<AB>(device) {
            return Self::without_kernels(flow, grid, adam, device);
        }
        let learner = HostLearner::new(flow.valid(), grid, adam);
        Self(Place::Host(Box::new(learner)))
    }

    /// The same without the kernels for the CPU: everything by the backend's own operations.
    pub fn without_kernels(
        flow: ConditionalFlow<AB>,
        grid: [usize; 2],
        adam: AdamSettings,
        device: &AB::Device,
    ) -> Self {
        let learner = DeviceLearner::new(flow, grid, adam, device);
        Self(Place::Device(Box::new(learner)))
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
        match &mut self.0 {
            Place::Host(learner) => {
                if let Some(gradients) = learner.gradients(vectors, positions, seed) {
                    learner.descend(&gradients, learning_rate);
                }
            }
            Place::Device(learner) => {
                if let Some(gradients) = learner.gradients(vectors, positions, seed) {
                    learner.descend(gradients, learning_rate);
                }
            }
        }
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
        match &mut self.0 {
            Place::Host(learner) => learner
                .gradients_of_outputs(vectors, positions, loss)
                .map(|gradients| learner.descend(&gradients, learning_rate)),
            Place::Device(learner) => learner
                .gradients_of_outputs(vectors, positions, loss)
                .map(|gradients| learner.descend(gradients, learning_rate)),
        }
        .is_some()
    }

    /// Whether steps use the CPU's cores from within one thread of the caller, so that several
    /// learners may take theirs at once.
    pub(super) fn is_on_host(&self) -> bool {
        matches!(self.0, Place::Host(_))
    }

    /// The flow as it is now.
    pub fn finish(self) -> ConditionalFlow<AB::InnerBackend> {
        match self.0 {
            Place::Host(learner) => learner.finish(),
            Place::Device(learner) => learner.finish(),
        }
    }

    /// Parameters and optimiser, for a checkpoint.
    pub(super) fn to_bytes(&self) -> Result<[Vec<u8>; 2]> {
        match &self.0 {
            Place::Host(learner) => Ok(learner.to_bytes()),
            Place::Device(learner) => learner.to_bytes(),
        }
    }

    /// Takes over what [`to_bytes`](Self::to_bytes) gave.
    ///
    /// # Errors
    /// When it belongs to another flow, or to a backend of the other kind.
    pub(super) fn with_bytes(mut self, flow: Vec<u8>, optimiser: Vec<u8>) -> Result<Self> {
        match &mut self.0 {
            Place::Host(learner) => learner.restore(&flow, &optimiser)?,
            Place::Device(learner) => learner.restore(flow, optimiser)?,
        }
        Ok(self)
    }
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
        let config = FlowConfig {
            blocks: 3,
            position_channels: 8,
            ..FlowConfig::bgad()
        };
        let flow = || config.init(channels, &mut stream_rng(1, "flow"), &device);
        let adam = AdamSettings {
            betas: [0.9, 0.99],
            weight_decay: 1e-2,
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
        let mut fast = FlowLearner::new(flow(), [9, 11], adam, &device);
        let mut slow = FlowLearner::without_kernels(flow(), [9, 11], adam, &device);
        assert!(fast.is_on_host() && !slow.is_on_host());
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
            let flow = || config.init(channels, &mut stream_rng(1, "flow"), &device);
            let adam = AdamSettings::default();
            let (vectors, positions) = data(channels);
            let mut fast = FlowLearner::new(flow(), [9, 11], adam, &device);
            let mut slow = FlowLearner::without_kernels(flow(), [9, 11], adam, &device);
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
