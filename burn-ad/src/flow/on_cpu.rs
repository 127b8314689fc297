//! Likelihoods and gradients of a flow by `burn-ad-kernels`, for backends that compute on the CPU.
//!
//! The kernels compute what [`ConditionalFlow`] and Burn's autodiff compute, in a few passes over
//! vectors that stay in the cache instead of some hundred tensor operations.

use burn::module::Param;
use burn::optim::GradientsParams;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use burn_ad_kernels::flow::{self, Block, Clamp as KernelClamp, Condition, Shape, Workspace};

use super::coupling::CouplingBlock;
use super::position::axis_tables;
use super::{Clamp, ConditionalFlow, HALF_LN_TAU};
use crate::tensors::to_vec;

/// Whether tensors of a backend lie in main memory, so that reading them costs little.
pub fn computes_on_cpu<B: Backend>(device: &B::Device) -> bool {
    let name = B::name(device);
    ["flex", "ndarray"].iter().any(|cpu| name.contains(cpu))
}

/// Gradient of a loss with respect to what a flow gives.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OutputGradient {
    /// With respect to `z`, `[vectors, channels]` row-major.
    pub z: Vec<f32>,
    /// With respect to the log-determinants, `[vectors]`.
    pub log_det: Vec<f32>,
}

/// One flow's likelihoods and gradients on the CPU; keeps the memory of gradient steps.
#[derive(Clone, Debug, Default)]
pub struct CpuFlow {
    tables: Vec<(Vec<f32>, usize)>,
    columns: usize,
    workspace: Workspace,
}

impl CpuFlow {
    /// For vectors of a map of `grid` `[rows, columns]`.
    pub fn new(grid: [usize; 2], position_channels: usize) -> Self {
        Self {
            tables: axis_tables(grid, position_channels),
            columns: grid[1],
            workspace: Workspace::default(),
        }
    }

    /// Log-likelihoods a dimension of `vectors`, row-major, one for each of `positions`.
    ///
    /// # Panics
    /// If there are not as many vectors as positions.
    pub fn likelihoods<B: Backend>(
        &self,
        flow: &ConditionalFlow<B>,
        vectors: &[f32],
        positions: &[usize],
    ) -> Vec<f32> {
        let blocks = blocks_of(flow);
        let shape = self.shape(flow, &blocks);
        let indices = self.indices(positions);
        let (tables, indices) = (&self.tables, &indices);
        let condition = Condition { tables, indices };
        let values = flow::likelihoods(shape, &blocks, vectors, condition);
        per_dimension(values, flow.channels())
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
        let blocks = blocks_of(flow);
        let shape = self.shape(flow, &blocks);
        let indices = self.indices(positions);
        let (tables, indices) = (&self.tables, &indices);
        let condition = Condition { tables, indices };
        let pass = flow::forward(shape, &blocks, vectors, condition, &mut self.workspace);
        let values = per_dimension(pass.likelihoods(), channels);
        let seed: Vec<f32> = seed(&values)?
            .into_iter()
            .map(|value| value / channels as f32)
            .collect();
        Some(registered(flow, pass.backward(&seed)))
    }

    /// `z` (row-major) and log-determinants of `vectors`, row-major, one for each of `positions`.
    ///
    /// # Panics
    /// If there are not as many vectors as positions.
    pub fn outputs<B: Backend>(
        &self,
        flow: &ConditionalFlow<B>,
        vectors: &[f32],
        positions: &[usize],
    ) -> (Vec<f32>, Vec<f32>) {
        let blocks = blocks_of(flow);
        let shape = self.shape(flow, &blocks);
        let indices = self.indices(positions);
        let (tables, indices) = (&self.tables, &indices);
        let condition = Condition { tables, indices };
        flow::outputs(shape, &blocks, vectors, condition)
    }

    /// As [`gradients`](Self::gradients) for a loss of `z` and the log-determinants: these go to
    /// `seed`, which gives the gradients with respect to both.
    ///
    /// # Panics
    /// If there are not as many vectors as positions, or the gradients have other sizes.
    pub fn gradients_of_outputs<AB: AutodiffBackend>(
        &mut self,
        flow: &ConditionalFlow<AB>,
        vectors: &[f32],
        positions: &[usize],
        seed: impl FnOnce(&[f32], &[f32]) -> Option<OutputGradient>,
    ) -> Option<GradientsParams> {
        assert_eq!(
            vectors.len(),
            positions.len() * flow.channels(),
            "one vector a position"
        );
        let blocks = blocks_of(flow);
        let shape = self.shape(flow, &blocks);
        let indices = self.indices(positions);
        let (tables, indices) = (&self.tables, &indices);
        let condition = Condition { tables, indices };
        let pass = flow::forward(shape, &blocks, vectors, condition, &mut self.workspace);
        let (z, log_det) = pass.outputs();
        let OutputGradient { z, log_det } = seed(&z, &log_det)?;
        Some(registered(flow, pass.backward_outputs(&z, &log_det)))
    }

    fn shape<B: Backend>(&self, flow: &ConditionalFlow<B>, blocks: &[Block]) -> Shape {
        let (alpha, clamp) = flow.blocks()[0].bound();
        Shape {
            channels: flow.channels(),
            condition: self.tables.iter().map(|(_, width)| width).sum(),
            hidden: blocks[0].bias_hidden.len(),
            clamp: match clamp {
                Clamp::Tanh => KernelClamp::Tanh,
                Clamp::ScaledTanh => KernelClamp::ScaledTanh,
            },
            alpha: alpha as f32,
        }
    }

    /// The entry of each position in the tables of columns and rows.
    fn indices(&self, positions: &[usize]) -> Vec<Vec<u32>> {
        let index = |of: &dyn Fn(usize) -> usize| -> Vec<u32> {
            positions.iter().map(|&at| of(at) as u32).collect()
        };
        if self.tables.is_empty() {
            return Vec::new();
        }
        vec![
            index(&|at| at % self.columns),
            index(&|at| at / self.columns),
        ]
    }
}

fn per_dimension(mut values: Vec<f32>, channels: usize) -> Vec<f32> {
    for value in &mut values {
        *value = *value / channels as f32 - HALF_LN_TAU as f32;
    }
    values
}

fn blocks_of<B: Backend>(flow: &ConditionalFlow<B>) -> Vec<Block> {
    flow.blocks().iter().map(to_host).collect()
}

fn to_host<B: Backend>(block: &CouplingBlock<B>) -> Block {
    let read = |param: &Param<Tensor<B, 2>>| to_vec(param.val());
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

fn registered<AB: AutodiffBackend>(
    flow: &ConditionalFlow<AB>,
    blocks: Vec<Block>,
) -> GradientsParams {
    let mut gradients = GradientsParams::new();
    let device = flow.blocks()[0].scale.device();
    for (block, values) in flow.blocks().iter().zip(blocks) {
        register(block, values, &device, &mut gradients);
    }
    gradients
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Condition as FlowCondition, Flow, FlowConfig, log_likelihood};
    use crate::flow::{Permutation, PositionCode};
    use crate::train::stream_rng;
    use burn_flex::Flex;
    use rand::RngExt;

    #[test]
    fn likelihoods_equal_those_of_tensor_operations() {
        let device = Default::default();
        // Fewer and more vectors than a tile; with and without a code.
        for (count, position_channels) in [(1, 8), (255, 0), (600, 16)] {
            let config = FlowConfig {
                blocks: 4,
                position_channels,
                permutation: Permutation::Hard,
                ..FlowConfig::bgad()
            };
            let (channels, grid) = (9, [6, 7]);
            let flow: ConditionalFlow<Flex> =
                config.init(channels, &mut stream_rng(4, "flow"), &device);
            let mut rng = stream_rng(5, "data");
            let vectors: Vec<f32> = (0..count * channels)
                .map(|_| rng.random_range(-3.0..3.0))
                .collect();
            let positions: Vec<usize> = (0..count).map(|_| rng.random_range(0..42)).collect();
            let found =
                CpuFlow::new(grid, position_channels).likelihoods(&flow, &vectors, &positions);

            let code = PositionCode::new(grid, position_channels, &device);
            let condition: FlowCondition<Flex> = code.condition(&positions, &device);
            let x = Tensor::from_data(TensorData::new(vectors, [count, channels]), &device);
            let (z, log_det) = flow.forward(x, &condition);
            let expected = to_vec(log_likelihood(z, log_det));
            assert_eq!(found.len(), count);
            for (a, b) in found.iter().zip(&expected) {
                assert!((a - b).abs() < 1e-5 * b.abs().max(1.0), "{a} and {b}");
            }
        }
    }

    /// The likelihood's gradient is one of the outputs' gradients, and the way there is the same.
    #[test]
    fn gradients_of_outputs_include_those_of_likelihoods() {
        let device = Default::default();
        let config = FlowConfig {
            blocks: 2,
            position_channels: 8,
            ..FlowConfig::bgad()
        };
        let (channels, count) = (6, 600);
        let flow: ConditionalFlow<burn_autodiff::Autodiff<Flex>> =
            config.init(channels, &mut stream_rng(4, "flow"), &device);
        let mut rng = stream_rng(5, "data");
        let vectors: Vec<f32> = (0..count * channels)
            .map(|_| rng.random_range(-3.0..3.0))
            .collect();
        let positions: Vec<usize> = (0..count).map(|_| rng.random_range(0..42)).collect();
        let seeds: Vec<f32> = (0..count).map(|_| rng.random_range(-1.0..1.0)).collect();
        let mut cpu = CpuFlow::new([6, 7], 8);
        let by_likelihood = cpu.gradients(&flow, &vectors, &positions, |_| {
            Some(seeds.iter().map(|seed| seed * channels as f32).collect())
        });
        let mut outputs = None;
        let by_outputs = cpu.gradients_of_outputs(&flow, &vectors, &positions, |z, log_det| {
            outputs = Some((z.to_vec(), log_det.to_vec()));
            let z = z.chunks(channels).zip(&seeds);
            Some(OutputGradient {
                z: z.flat_map(|(z, seed)| z.iter().map(move |z| -seed * z))
                    .collect(),
                log_det: seeds.clone(),
            })
        });
        assert_eq!(outputs, Some(cpu.outputs(&flow, &vectors, &positions)));
        let (a, b) = (by_likelihood.expect("given"), by_outputs.expect("given"));
        for block in flow.blocks() {
            for (name, param) in block.named() {
                let of =
                    |gradients: &GradientsParams| gradients.get::<Flex, 2>(param.id).map(to_vec);
                assert_eq!(of(&a).is_some(), name != "rotation");
                // Seeds are divided by the channels and multiplied again.
                for (a, b) in of(&a).iter().flatten().zip(of(&b).iter().flatten()) {
                    assert!(
                        (a - b).abs() <= 1e-4 * b.abs().max(1e-2),
                        "{name}: {a}, {b}"
                    );
                }
            }
        }
        let nothing = cpu.gradients_of_outputs(&flow, &vectors, &positions, |_, _| None);
        assert!(nothing.is_none());
    }
}
