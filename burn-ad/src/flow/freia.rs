//! Flows trained with FrEIA in PyTorch.

use std::collections::BTreeMap;

use burn::tensor::backend::Backend;

use super::coupling::BlockValues;
use super::{ConditionalFlow, CouplingBlock, FlowConfig};
use crate::error::{Error, Result};
use crate::tensors::HostTensor;

/// The tensors of one `AllInOneBlock`, by FrEIA's names: `global_scale`, `global_offset`, `w_perm`,
/// `subnet.0.weight`, `subnet.0.bias`, `subnet.2.weight`, `subnet.2.bias`.
pub type StateDict = BTreeMap<String, HostTensor>;

impl<B: Backend> ConditionalFlow<B> {
    /// Takes over a stack of `AllInOneBlock`s. `clamp`, `alpha` and the kind of permutation of
    /// `config` must be those it was trained with; its sizes are checked.
    ///
    /// # Errors
    /// When the number of blocks or a shape differs from `config`.
    pub fn from_freia(
        config: &FlowConfig,
        channels: usize,
        blocks: &[StateDict],
        device: &B::Device,
    ) -> Result<Self> {
        if blocks.len() != config.blocks {
            return Err(Error::weights(format!(
                "the checkpoint has {} coupling blocks, the configuration {}",
                blocks.len(),
                config.blocks
            ))
            .help(format!("set method.flow.blocks={}", blocks.len())));
        }
        let blocks = blocks
            .iter()
            .enumerate()
            .map(|(index, state)| {
                block(config, channels, state, device)
                    .map_err(|error| error.context(format!("coupling block {index}")))
            })
            .collect::<Result<_>>()?;
        Ok(Self::new(blocks))
    }
}

fn block<B: Backend>(
    config: &FlowConfig,
    channels: usize,
    state: &StateDict,
    device: &B::Device,
) -> Result<CouplingBlock<B>> {
    let inputs = config.subnet_inputs(channels);
    let (hidden, outputs) = (2 * inputs, 2 * (channels / 2));
    let take = |name: &str, sizes: &[usize]| -> Result<&[f32]> {
        let tensor = state
            .get(name)
            .ok_or_else(|| Error::weights(format!("the tensor '{name}' is missing")))?;
        // FrEIA appends dimensions of size 1 to fit the rank of its inputs.
        let significant = |shape: &[usize]| -> Vec<usize> {
            shape.iter().copied().filter(|&size| size != 1).collect()
        };
        if significant(&tensor.shape) != significant(sizes) {
            return Err(Error::weights(format!(
                "the tensor '{name}' has shape {:?}, not {sizes:?}",
                tensor.shape
            ))
            .help(
                "method.flow.position_channels and the backbone must be those of the checkpoint",
            ));
        }
        Ok(&tensor.values)
    };
    let first = transpose(take("subnet.0.weight", &[hidden, inputs])?, inputs);
    let kept = channels - channels / 2;
    let values = BlockValues {
        weight_x: first[..kept * hidden].to_vec(),
        weight_condition: first[kept * hidden..].to_vec(),
        bias_hidden: take("subnet.0.bias", &[hidden])?.to_vec(),
        weight_out: transpose(take("subnet.2.weight", &[outputs, hidden])?, hidden),
        bias_out: take("subnet.2.bias", &[outputs])?.to_vec(),
        scale: take("global_scale", &[channels])?.to_vec(),
        offset: take("global_offset", &[channels])?.to_vec(),
        rotation: take("w_perm", &[channels, channels])?.to_vec(),
    };
    Ok(CouplingBlock::from_values(config, channels, values, device))
}

/// A row-major matrix of `columns` columns, transposed.
fn transpose(values: &[f32], columns: usize) -> Vec<f32> {
    (0..columns)
        .flat_map(|column| values.iter().skip(column).step_by(columns).copied())
        .collect()
}
