//! Coupling blocks one after another.

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use super::{Condition, CouplingBlock, Flow, FlowConfig};
use crate::error::Result;
use crate::tensors::{HostTensor, TensorSet};

/// A stack of conditional coupling blocks; every block sees the condition.
#[derive(Module, Debug)]
pub struct ConditionalFlow<B: Backend> {
    blocks: Vec<CouplingBlock<B>>,
}

impl<B: Backend> ConditionalFlow<B> {
    /// # Panics
    /// If there is no block.
    pub(super) fn new(blocks: Vec<CouplingBlock<B>>) -> Self {
        assert!(!blocks.is_empty(), "a flow has at least one block");
        Self { blocks }
    }

    /// Channels of a vector.
    pub fn channels(&self) -> usize {
        self.blocks[0].channels()
    }

    /// Channels of the position code that is its condition; 0 without one.
    pub fn position_channels(&self) -> usize {
        self.blocks[0].condition_channels()
    }

    pub(super) fn blocks(&self) -> &[CouplingBlock<B>] {
        &self.blocks
    }

    pub(super) fn into_blocks(self) -> Vec<CouplingBlock<B>> {
        self.blocks
    }

    /// Puts all tensors into `tensors`, with names that begin with `prefix`.
    pub fn save(&self, prefix: &str, tensors: &mut TensorSet) {
        for (index, block) in self.blocks.iter().enumerate() {
            for (name, param) in block.named() {
                tensors.insert(
                    format!("{prefix}.{index}.{name}"),
                    HostTensor::from_tensor(param.val()),
                );
            }
        }
    }

    /// Takes back what [`save`](Self::save) put into `tensors`.
    ///
    /// # Errors
    /// When a tensor is absent or shaped otherwise.
    pub fn load(
        config: &FlowConfig,
        channels: usize,
        prefix: &str,
        tensors: &mut TensorSet,
        device: &B::Device,
    ) -> Result<Self> {
        let blocks = (0..config.blocks)
            .map(|index| {
                let take = |name: &str, shape: [usize; 2]| -> Result<Vec<f32>> {
                    let name = format!("{prefix}.{index}.{name}");
                    Ok(tensors.take(&name, &shape.map(Some))?.values)
                };
                CouplingBlock::from_named(config, channels, take, device)
            })
            .collect::<Result<_>>()?;
        Ok(Self::new(blocks))
    }
}

impl<B: Backend> Flow<B> for ConditionalFlow<B> {
    fn forward(&self, x: Tensor<B, 2>, condition: &Condition<B>) -> (Tensor<B, 2>, Tensor<B, 1>) {
        let mut blocks = self.blocks.iter();
        let first = blocks.next().expect("a flow has at least one block");
        let start = first.forward(x, condition);
        blocks.fold(start, |(x, log_det), block| {
            let (z, more) = block.forward(x, condition);
            (z, log_det + more)
        })
    }

    fn inverse(&self, z: Tensor<B, 2>, condition: &Condition<B>) -> Tensor<B, 2> {
        self.blocks
            .iter()
            .rev()
            .fold(z, |z, block| block.inverse(z, condition))
    }
}
