//! Likelihoods and gradients of a flow by `burn-ad-kernels`, for backends that compute on the CPU.
//!
//! The kernels compute what [`ConditionalFlow`] and Burn's autodiff compute, in a few passes over
//! vectors that stay in the cache instead of some hundred tensor operations.

use burn::module::Param;
use burn::optim::GradientsParams;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use burn_ad_kernels::flow::{self, Block, Clamp as KernelClamp, Condition, Pass, Shape, Workspace};

use super::coupling::CouplingBlock;
use super::position::axis_tables;
use super::{Clamp, ConditionalFlow, HALF_LN_TAU};
use crate::tensors::to_vec;

/// Whether tensors of a backend lie in main memory, so that reading them costs little.
pub fn computes_on_cpu<B: Backend>(device: &B::Device) -> bool {
    let name = B::name(device);
    ["flex", "ndarray"].iter().any(|cpu| name.contains(cpu))
}

/// Gradient steps of one flow on the CPU; keeps their memory from step to step.
#[derive(Debug, Default)]
pub struct CpuSteps {
    tables: Vec<(Vec<f32>, usize)>,
    columns: usize,
    workspace: Workspace,
}

impl CpuSteps {
    /// For vectors of a map of `grid` `[rows, columns]`.
    pub fn new(grid: [usize; 2], position_channels: usize) -> Self {
        Self {
            tables: axis_tables(grid, position_channels),
            columns: grid[1],
            workspace: Workspace::default(),
        }
    }

    /// Log-likelihoods a dimension of `vectors` (row-major, one for each of `positions`) go to
    /// `seed`, which gives the gradient of a loss with respect to each of them, or `None` when no
    /// step is to be taken; the flow's gradients come back.
    ///
    /// # Panics
    /// If there are not as many vectors as positions, or gradients as vectors.
    pub fn gradients<AB: AutodiffBackend>(
        &mut self,
        flow: &ConditionalFlow<AB>,
        vectors: &[f32],
        positions: &[usize],
        seed: impl FnOnce(&[f32]) -> Option<Vec<f32>>,
    ) -> Option<GradientsParams> {
        let channels = flow.channels();
        assert_eq!(vectors.len(), positions.len() * channels, "vectors");
        let blocks: Vec<Block> = flow.blocks().iter().map(to_host).collect();
        let first = &flow.blocks()[0];
        let (alpha, clamp) = first.bound();
        let shape = Shape {
            channels,
            condition: self.tables.iter().map(|(_, width)| width).sum(),
            hidden: blocks[0].bias_hidden.len(),
            clamp: match clamp {
                Clamp::Tanh => KernelClamp::Tanh,
                Clamp::ScaledTanh => KernelClamp::ScaledTanh,
            },
            alpha: alpha as f32,
        };
        let index = |of: &dyn Fn(usize) -> usize| -> Vec<u32> {
            positions.iter().map(|&at| of(at) as u32).collect()
        };
        let indices = match self.tables.is_empty() {
            true => Vec::new(),
            false => vec![
                index(&|at| at % self.columns),
                index(&|at| at / self.columns),
            ],
        };
        let condition = Condition {
            tables: &self.tables,
            indices: &indices,
        };
        let pass: Pass<'_> = flow::forward(shape, &blocks, vectors, condition, &mut self.workspace);
        let values: Vec<f32> = pass
            .likelihoods()
            .into_iter()
            .map(|value| value / channels as f32 - HALF_LN_TAU as f32)
            .collect();
        let seed: Vec<f32> = seed(&values)?
            .into_iter()
            .map(|value| value / channels as f32)
            .collect();
        let mut gradients = GradientsParams::new();
        let device = first.scale.device();
        for (block, values) in flow.blocks().iter().zip(pass.backward(&seed)) {
            register(block, values, &device, &mut gradients);
        }
        Some(gradients)
    }
}

fn to_host<AB: AutodiffBackend>(block: &CouplingBlock<AB>) -> Block {
    let read = |param: &Param<Tensor<AB, 2>>| to_vec(param.val().inner());
    Block {
        weight_x: read(&block.weight_x),
        weight_condition: block
            .weight_condition
            .as_ref()
            .map(read)
            .unwrap_or_default(),
        bias_hidden: read(&block.bias_hidden),
        weight_out: read(&block.weight_out),
        bias_out: read(&block.bias_out),
        scale: read(&block.scale),
        offset: read(&block.offset),
        rotation: read(&block.rotation),
    }
}

fn register<AB: AutodiffBackend>(
    block: &CouplingBlock<AB>,
    values: Block,
    device: &AB::Device,
    gradients: &mut GradientsParams,
) {
    let mut put = |param: &Param<Tensor<AB, 2>>, values: Vec<f32>| {
        let data = TensorData::new(values, param.dims());
        gradients.register(
            param.id,
            Tensor::<AB::InnerBackend, 2>::from_data(data, device),
        );
    };
    put(&block.weight_x, values.weight_x);
    if let Some(weight) = &block.weight_condition {
        put(weight, values.weight_condition);
    }
    put(&block.bias_hidden, values.bias_hidden);
    put(&block.weight_out, values.weight_out);
    put(&block.bias_out, values.bias_out);
    put(&block.scale, values.scale);
    put(&block.offset, values.offset);
}
