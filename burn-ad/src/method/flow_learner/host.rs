//! A learning flow in main memory: one copy of its parameters, which the kernels read and Adam changes.

use rayon::prelude::*;

use burn::tensor::backend::Backend;
use burn_ad_kernels::flow::Block;

use crate::error::{Error, Result};
use crate::flow::{ConditionalFlow, CpuFlow, OutputGradient};
use crate::train::{Adam, AdamSettings};

const BYTES: usize = size_of::<f32>();

pub(super) struct HostLearner<B: Backend> {
    /// What the finished flow is made from; its trained parameters are not kept up to date.
    template: ConditionalFlow<B>,
    flow: CpuFlow,
    /// For each block one for each parameter, in the order of [`Block::trained`].
    optimisers: Vec<[Adam; 7]>,
}

impl<B: Backend> HostLearner<B> {
    pub(super) fn new(template: ConditionalFlow<B>, grid: [usize; 2], adam: AdamSettings) -> Self {
        let flow = CpuFlow::new(&template, grid);
        let optimisers = |block: &Block| block.trained().map(|part| Adam::new(part.len(), adam));
        Self {
            optimisers: flow.blocks().iter().map(optimisers).collect(),
            template,
            flow,
        }
    }

    pub(super) fn gradients(
        &mut self,
        vectors: &[f32],
        positions: &[usize],
        seed: impl FnOnce(&[f32]) -> Option<Vec<f32>>,
    ) -> Option<Vec<Block>> {
        self.flow.gradients(vectors, positions, seed)
    }

    pub(super) fn gradients_of_outputs(
        &mut self,
        vectors: &[f32],
        positions: &[usize],
        seed: impl FnOnce(&[f32], &[f32]) -> Option<OutputGradient>,
    ) -> Option<Vec<Block>> {
        self.flow.gradients_of_outputs(vectors, positions, seed)
    }

    pub(super) fn descend(&mut self, gradients: &[Block], learning_rate: f64) {
        self.flow
            .blocks_mut()
            .par_iter_mut()
            .zip(&mut self.optimisers)
            .zip(gradients)
            .for_each(|((block, optimisers), gradient)| {
                let parts = block.trained_mut().into_iter().zip(gradient.trained());
                for ((values, gradient), optimiser) in parts.zip(optimisers) {
                    optimiser.step(values, gradient, learning_rate);
                }
            });
    }

    pub(super) fn finish(self) -> ConditionalFlow<B> {
        self.flow.write_to(self.template)
    }

    /// Parameters, and optimisers.
    pub(super) fn to_bytes(&self) -> [Vec<u8>; 2] {
        let parts = self.flow.blocks().iter().flat_map(Block::trained);
        let values = parts.flatten().flat_map(|value| value.to_le_bytes());
        let optimisers = self.optimisers.iter().flatten();
        [
            values.collect(),
            optimisers.flat_map(Adam::to_bytes).collect(),
        ]
    }

    /// Takes over what [`to_bytes`](Self::to_bytes) gave.
    pub(super) fn restore(&mut self, flow: &[u8], optimisers: &[u8]) -> Result<()> {
        let misfit = || Error::model("the flow has another size");
        let (values, rest) = flow.as_chunks::<BYTES>();
        let blocks = self.flow.blocks_mut();
        let places = || blocks.iter().flat_map(Block::trained).map(<[f32]>::len);
        if places().sum::<usize>() != values.len() || !rest.is_empty() {
            return Err(misfit());
        }
        let mut values = values.iter().map(|bytes| f32::from_le_bytes(*bytes));
        for part in blocks.iter_mut().flat_map(Block::trained_mut) {
            part.iter_mut()
                .zip(&mut values)
                .for_each(|(place, value)| *place = value);
        }
        let mut rest = optimisers;
        for optimiser in self.optimisers.iter_mut().flatten() {
            let (state, after) = rest.split_at_checked(optimiser.size()).ok_or_else(misfit)?;
            *optimiser = optimiser.clone().with_bytes(state).ok_or_else(misfit)?;
            rest = after;
        }
        if rest.is_empty() {
            Ok(())
        } else {
            Err(misfit())
        }
    }
}
