//! Likelihoods and gradients of a flow by `burn-ad-kernels`, for backends that compute on the CPU.
//!
//! The kernels compute what [`ConditionalFlow`] and Burn's autodiff compute, in a few passes over
//! vectors that stay in the cache instead of some hundred tensor operations.

use burn::module::Param;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use burn_ad_kernels::flow::{self, Block, Clamp as KernelClamp, Condition, Pass, Shape, Workspace};

use super::coupling::CouplingBlock;
use super::position::axis_tables;
use super::{Clamp, ConditionalFlow, HALF_LN_TAU};
use crate::tensors::to_vec;

/// Gradient of a loss with respect to what a flow gives.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OutputGradient {
    /// With respect to `z`, `[vectors, channels]` row-major.
    pub z: Vec<f32>,
    /// With respect to the log-determinants, `[vectors]`.
    pub log_det: Vec<f32>,
}

/// A flow's parameters in main memory, with what it takes to compute with them there; keeps the
/// memory of gradient steps.
#[derive(Clone, Debug)]
pub struct CpuFlow {
    shape: Shape,
    blocks: Vec<Block>,
    tables: Vec<(Vec<f32>, usize)>,
    columns: usize,
    workspace: Workspace,
}

impl CpuFlow {
    /// A copy of `flow`, for vectors of a map of `grid` `[rows, columns]`.
    pub fn new<B: Backend>(flow: &ConditionalFlow<B>, grid: [usize; 2]) -> Self {
        let first = &flow.blocks()[0];
        let position_channels = flow.position_channels();
        Self {
            shape: Shape {
                channels: flow.channels(),
                condition: position_channels,
                hidden: first.bias_hidden.dims()[1],
                clamp: match first.clamp {
                    Clamp::Tanh => KernelClamp::Tanh,
                    Clamp::ScaledTanh => KernelClamp::ScaledTanh,
                },
                alpha: first.alpha as f32,
            },
            blocks: flow.blocks().iter().map(to_host).collect(),
            tables: axis_tables(grid, position_channels),
            columns: grid[1],
            workspace: Workspace::default(),
        }
    }

    /// `flow` with these parameters, which ask for no gradients.
    ///
    /// # Panics
    /// If it is shaped otherwise than the one this is a copy of.
    #[must_use]
    pub fn write_to<B: Backend>(&self, flow: ConditionalFlow<B>) -> ConditionalFlow<B> {
        let blocks = flow.into_blocks().into_iter().zip(&self.blocks);
        ConditionalFlow::new(
            blocks
                .map(|(block, values)| from_host(block, values))
                .collect(),
        )
    }

    /// The parameters.
    pub(crate) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// The parameters, to be changed.
    pub(crate) fn blocks_mut(&mut self) -> &mut [Block] {
        &mut self.blocks
    }

    /// Log-likelihoods a dimension of `vectors`, row-major, one for each of `positions`.
    ///
    /// # Panics
    /// If there are not as many vectors as positions.
    pub fn likelihoods(&self, vectors: &[f32], positions: &[usize]) -> Vec<f32> {
        let (tables, indices) = (&self.tables, &self.indices(positions));
        let condition = Condition { tables, indices };
        let values = flow::likelihoods(self.shape, &self.blocks, vectors, condition);
        per_dimension(values, self.shape.channels)
    }

    /// `z` (row-major) and log-determinants of `vectors`, row-major, one for each of `positions`.
    ///
    /// # Panics
    /// If there are not as many vectors as positions.
    pub fn outputs(&self, vectors: &[f32], positions: &[usize]) -> (Vec<f32>, Vec<f32>) {
        let (tables, indices) = (&self.tables, &self.indices(positions));
        let condition = Condition { tables, indices };
        flow::outputs(self.shape, &self.blocks, vectors, condition)
    }

    /// Log-likelihoods a dimension of `vectors` (row-major, one for each of `positions`) go to
    /// `seed`, which gives the gradient of a loss with respect to each of them, or `None` when no
    /// step is to be taken; the gradients of all parameters come back.
    ///
    /// # Panics
    /// If there are not as many vectors as positions, or gradients as vectors.
    pub(crate) fn gradients(
        &mut self,
        vectors: &[f32],
        positions: &[usize],
        seed: impl FnOnce(&[f32]) -> Option<Vec<f32>>,
    ) -> Option<Vec<Block>> {
        let channels = self.shape.channels;
        self.pass(vectors, positions, |pass| {
            let values = per_dimension(pass.likelihoods(), channels);
            let seed = seed(&values)?.into_iter();
            let seed: Vec<f32> = seed.map(|value| value / channels as f32).collect();
            Some(pass.backward(&seed))
        })
    }

    /// As [`gradients`](Self::gradients) for a loss of `z` and the log-determinants: these go to
    /// `seed`, which gives the gradients with respect to both.
    ///
    /// # Panics
    /// If there are not as many vectors as positions, or the gradients have other sizes.
    pub(crate) fn gradients_of_outputs(
        &mut self,
        vectors: &[f32],
        positions: &[usize],
        seed: impl FnOnce(&[f32], &[f32]) -> Option<OutputGradient>,
    ) -> Option<Vec<Block>> {
        self.pass(vectors, positions, |pass| {
            let (z, log_det) = pass.outputs();
            let OutputGradient { z, log_det } = seed(&z, &log_det)?;
            Some(pass.backward_outputs(&z, &log_det))
        })
    }

    /// Goes forward, and has the way back gone by `back`.
    fn pass<T>(
        &mut self,
        vectors: &[f32],
        positions: &[usize],
        back: impl FnOnce(Pass<'_>) -> T,
    ) -> T {
        let Self { shape, blocks, .. } = self;
        let expected = positions.len() * shape.channels;
        assert_eq!(vectors.len(), expected, "one vector a position");
        let indices = indices(&self.tables, self.columns, positions);
        let (tables, indices) = (&self.tables, &indices);
        let condition = Condition { tables, indices };
        back(flow::forward(
            *shape,
            blocks,
            vectors,
            condition,
            &mut self.workspace,
        ))
    }

    fn indices(&self, positions: &[usize]) -> Vec<Vec<u32>> {
        indices(&self.tables, self.columns, positions)
    }
}

/// The entry of each position in the tables of columns and rows.
fn indices(tables: &[(Vec<f32>, usize)], columns: usize, positions: &[usize]) -> Vec<Vec<u32>> {
    let index = |of: &dyn Fn(usize) -> usize| -> Vec<u32> {
        positions.iter().map(|&at| of(at) as u32).collect()
    };
    if tables.is_empty() {
        return Vec::new();
    }
    vec![index(&|at| at % columns), index(&|at| at / columns)]
}

fn per_dimension(mut values: Vec<f32>, channels: usize) -> Vec<f32> {
    for value in &mut values {
        *value = *value / channels as f32 - HALF_LN_TAU as f32;
    }
    values
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

fn from_host<B: Backend>(block: CouplingBlock<B>, values: &Block) -> CouplingBlock<B> {
    let write = |param: Param<Tensor<B, 2>>, values: &[f32]| {
        param.map(|tensor| {
            let data = TensorData::new(values.to_vec(), tensor.dims());
            Tensor::from_data(data, &tensor.device())
        })
    };
    CouplingBlock {
        weight_x: write(block.weight_x, &values.weight_x),
        weight_condition: block
            .weight_condition
            .map(|weight| write(weight, &values.weight_condition)),
        bias_hidden: write(block.bias_hidden, &values.bias_hidden),
        weight_out: write(block.weight_out, &values.weight_out),
        bias_out: write(block.bias_out, &values.bias_out),
        scale: write(block.scale, &values.scale),
        offset: write(block.offset, &values.offset),
        ..block
    }
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
            let found = CpuFlow::new(&flow, grid).likelihoods(&vectors, &positions);

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
        let flow: ConditionalFlow<Flex> =
            config.init(channels, &mut stream_rng(4, "flow"), &device);
        let mut rng = stream_rng(5, "data");
        let vectors: Vec<f32> = (0..count * channels)
            .map(|_| rng.random_range(-3.0..3.0))
            .collect();
        let positions: Vec<usize> = (0..count).map(|_| rng.random_range(0..42)).collect();
        let seeds: Vec<f32> = (0..count).map(|_| rng.random_range(-1.0..1.0)).collect();
        let mut cpu = CpuFlow::new(&flow, [6, 7]);
        let by_likelihood = cpu.gradients(&vectors, &positions, |_| {
            Some(seeds.iter().map(|seed| seed * channels as f32).collect())
        });
        let mut outputs = None;
        let by_outputs = cpu.gradients_of_outputs(&vectors, &positions, |z, log_det| {
            outputs = Some((z.to_vec(), log_det.to_vec()));
            let z = z.chunks(channels).zip(&seeds);
            Some(OutputGradient {
                z: z.flat_map(|(z, seed)| z.iter().map(move |z| -seed * z))
                    .collect(),
                log_det: seeds.clone(),
            })
        });
        assert_eq!(outputs, Some(cpu.outputs(&vectors, &positions)));
        let (a, b) = (by_likelihood.expect("given"), by_outputs.expect("given"));
        for (index, (a, b)) in a.iter().zip(&b).enumerate() {
            assert!(a.rotation.is_empty() && a.trained().iter().all(|part| !part.is_empty()));
            for (a, b) in a.trained().concat().iter().zip(b.trained().concat()) {
                // Seeds are divided by the channels and multiplied again.
                assert!(
                    (a - b).abs() <= 1e-4 * b.abs().max(1e-2),
                    "block {index}: {a}, {b}"
                );
            }
        }
        let nothing = cpu.gradients_of_outputs(&vectors, &positions, |_, _| None);
        assert!(nothing.is_none());
    }
}
