//! The flow and the mixture of one scale while they learn.

use burn::tensor::backend::AutodiffBackend;

use super::config::HgadConfig;
use super::loss::{BatchLoss, LossConfig, Workspace};
use super::mixture::Mixture;
use super::scales::ScaleMap;
use crate::error::{Error, Result};
use crate::flow::{ConditionalFlow, OutputGradient};
use crate::method::flow_learner::FlowLearner;
use crate::train::{Adam, AdamSettings};

/// Adam's betas (published code).
const BETAS: [f64; 2] = [0.95, 0.99];

const BYTES: usize = size_of::<f32>();

/// A flow and its mixture, each with its optimiser.
pub(super) struct ScaleLearner<AB: AutodiffBackend> {
    pub(super) map: ScaleMap,
    flow: FlowLearner<AB>,
    mixture: Mixture,
    /// One for each part of the mixture, in the order of [`Mixture::parts`].
    optimisers: [Adam; 4],
    loss: LossConfig,
    center_lr_scale: f64,
    workspace: Workspace,
}

impl<AB: AutodiffBackend> ScaleLearner<AB> {
    /// Begins with `flow` and `mixture`.
    pub(super) fn new(
        config: &HgadConfig,
        map: ScaleMap,
        flow: ConditionalFlow<AB>,
        mixture: Mixture,
        device: &AB::Device,
    ) -> Self {
        let adam = |weight_decay: f64| AdamSettings {
            betas: BETAS,
            weight_decay,
        };
        let optimisers = mixture
            .parts()
            .map(|(_, _, values)| Adam::new(values.len(), adam(0.0)));
        let flow_adam = adam(config.schedule.weight_decay);
        Self {
            map,
            flow: FlowLearner::new(flow, map.grid, flow_adam, device),
            mixture,
            optimisers,
            loss: config.loss.clone(),
            center_lr_scale: config.schedule.center_lr_scale,
            workspace: Workspace::default(),
        }
    }

    /// Whether several may take their steps at once.
    pub(super) fn is_on_host(&self) -> bool {
        self.flow.is_on_host()
    }

    /// One step on `vectors` (row-major), each with its position and the class of its image. None is
    /// taken when the loss is not finite.
    pub(super) fn step(
        &mut self,
        vectors: &[f32],
        positions: &[usize],
        labels: &[u32],
        intra_phase: bool,
        learning_rate: f64,
    ) -> BatchLoss {
        let Self {
            flow,
            mixture,
            optimisers,
            loss: config,
            center_lr_scale,
            workspace,
            ..
        } = self;
        let mut found = None;
        let seed = |z: &[f32], log_det: &[f32]| {
            let loss = config.evaluate(mixture, z, log_det, labels, intra_phase, workspace);
            let loss = found.insert(loss);
            loss.is_finite().then(|| OutputGradient {
                z: std::mem::take(&mut loss.gradient_z),
                log_det: std::mem::take(&mut loss.gradient_log_det),
            })
        };
        let takes_step = flow.step_outputs(vectors, positions, seed, learning_rate);
        let loss = found.expect("the outputs were given to the loss");
        if takes_step {
            // What takes no part in the loss has no gradient: its optimiser does not step.
            let intra = intra_phase && config.intra;
            let moves = [true, intra, true, intra];
            let gradients = loss.gradient.parts().map(|(_, _, gradient)| gradient);
            let parts = mixture.parts_mut().into_iter().zip(optimisers);
            for (((values, optimiser), gradient), moves) in parts.zip(gradients).zip(moves) {
                if moves {
                    optimiser.step(values, gradient, learning_rate * *center_lr_scale);
                }
            }
        }
        loss
    }

    /// Flow and mixture as they are now.
    pub(super) fn finish(self) -> (ConditionalFlow<AB::InnerBackend>, Mixture) {
        (self.flow.finish(), self.mixture)
    }

    /// Parameters and optimisers with their names, for a checkpoint.
    pub(super) fn to_parts(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let [flow, adam] = self.flow.to_bytes()?;
        let mut parts = vec![(self.map.name("flow"), flow), (self.map.name("adam"), adam)];
        for ((name, _, values), optimiser) in self.mixture.parts().iter().zip(&self.optimisers) {
            let bytes = values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            parts.push((self.map.name(name), bytes));
            parts.push((self.map.name(&format!("adam_{name}")), optimiser.to_bytes()));
        }
        Ok(parts)
    }

    /// Takes over what [`to_parts`](Self::to_parts) gave.
    pub(super) fn with_parts(
        mut self,
        mut take: impl FnMut(&str) -> Result<Vec<u8>>,
    ) -> Result<Self> {
        let (flow, adam) = (take(&self.map.name("flow"))?, take(&self.map.name("adam"))?);
        self.flow = self.flow.with_bytes(flow, adam)?;
        let names = self.mixture.parts().map(|(name, _, _)| name);
        let places = self
            .mixture
            .parts_mut()
            .into_iter()
            .zip(&mut self.optimisers);
        for (name, (values, optimiser)) in names.into_iter().zip(places) {
            let misfit = || Error::model(format!("'{name}' has another size"));
            let bytes = take(&self.map.name(name))?;
            let (found, rest) = bytes.as_chunks::<BYTES>();
            if found.len() != values.len() || !rest.is_empty() {
                return Err(misfit());
            }
            for (value, bytes) in values.iter_mut().zip(found) {
                *value = f32::from_le_bytes(*bytes);
            }
            let state = take(&self.map.name(&format!("adam_{name}")))?;
            *optimiser = optimiser.clone().with_bytes(&state).ok_or_else(misfit)?;
        }
        Ok(self)
    }
}
