//! A stack of conditional coupling blocks, forward and backward, on row tiles that stay in a core's
//! cache.
//!
//! The block is the one documented in `burn_ad::flow::CouplingBlock`. The condition of a vector is
//! the sum of rows of a few small tables ([`Condition`]); their product with the first layer's
//! weights is computed once a step.

use rayon::prelude::*;

use crate::math::{exp, tanh};
use crate::matrix::{Layout, product};

/// Rows that go through the whole stack together.
const TILE: usize = 256;
/// Tiles whose gradients are summed in one buffer: a fixed number, so that sums do not depend on the
/// number of threads.
const TILES_PER_GROUP: usize = 2;

/// How the scaling of a block is kept in bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clamp {
    /// `alpha tanh(a)`.
    Tanh,
    /// `alpha tanh(a / alpha)`.
    ScaledTanh,
}

/// Sizes of a stack.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Values of a vector, at least 2.
    pub channels: usize,
    /// Values of its condition.
    pub condition: usize,
    /// Values of a subnet's hidden layer.
    pub hidden: usize,
    /// See [`Clamp`].
    pub clamp: Clamp,
    /// The bound of the scaling.
    pub alpha: f32,
}

impl Shape {
    fn moved(&self) -> usize {
        self.channels / 2
    }

    fn kept(&self) -> usize {
        self.channels - self.moved()
    }
}

/// Parameters of one block, or gradients with respect to them; matrices row-major, inputs by outputs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Block {
    /// First layer, for the channels that are kept.
    pub weight_x: Vec<f32>,
    /// First layer, for the condition.
    pub weight_condition: Vec<f32>,
    /// First layer.
    pub bias_hidden: Vec<f32>,
    /// Second layer, to scaling and shift.
    pub weight_out: Vec<f32>,
    /// Second layer.
    pub bias_out: Vec<f32>,
    /// `theta` of the global scale `0.1 softplus(theta)`.
    pub scale: Vec<f32>,
    /// Global offset.
    pub offset: Vec<f32>,
    /// Rotation, not trained: its gradient stays empty.
    pub rotation: Vec<f32>,
}

impl Block {
    /// The parameters that training changes, in the order of the fields.
    pub fn trained(&self) -> [&[f32]; 7] {
        [
            &self.weight_x,
            &self.weight_condition,
            &self.bias_hidden,
            &self.weight_out,
            &self.bias_out,
            &self.scale,
            &self.offset,
        ]
    }

    /// The same, to be changed.
    pub fn trained_mut(&mut self) -> [&mut [f32]; 7] {
        [
            &mut self.weight_x,
            &mut self.weight_condition,
            &mut self.bias_hidden,
            &mut self.weight_out,
            &mut self.bias_out,
            &mut self.scale,
            &mut self.offset,
        ]
    }
}

/// Conditions of all vectors: row `indices[i]` of each table, side by side.
#[derive(Clone, Copy, Debug)]
pub struct Condition<'a> {
    /// For each part its table, row-major, and how many values a row has.
    pub tables: &'a [(Vec<f32>, usize)],
    /// For each part the row of each vector.
    pub indices: &'a [Vec<u32>],
}

/// Factor on the subnet's output.
const SUBNET_SCALE: f32 = 0.1;
/// `0.1 / 0.5`: factor and sharpness of the global scale's softplus.
const SOFTPLUS_FACTOR: f64 = 0.2;
const SOFTPLUS_BETA: f64 = 0.5;
const SOFTPLUS_LINEAR: f64 = 20.0;

/// A block's parameters in the form that vectors meet them.
struct Prepared<'a> {
    block: &'a Block,
    /// Tables times first layer; the first one includes the bias. Without a condition one row, the
    /// bias.
    tables: Vec<Vec<f32>>,
    weight_out: Vec<f32>,
    bias_out: Vec<f32>,
    /// `diag(g) R^T`.
    matrix: Vec<f32>,
    /// `b R^T`.
    offset: Vec<f32>,
    log_scale_sum: f32,
    scale: Vec<f64>,
}

fn global_scale(theta: f32) -> f64 {
    let u = f64::from(theta) * SOFTPLUS_BETA;
    let softplus = if u > SOFTPLUS_LINEAR {
        u
    } else {
        u.exp().ln_1p()
    };
    SOFTPLUS_FACTOR * softplus
}

impl<'a> Prepared<'a> {
    fn new(shape: &Shape, block: &'a Block, condition: &Condition<'_>) -> Self {
        let (channels, hidden) = (shape.channels, shape.hidden);
        let mut first = 0;
        let mut tables: Vec<Vec<f32>> = condition
            .tables
            .iter()
            .map(|(table, width)| {
                let rows = table.len() / width;
                let mut out = vec![0.0; rows * hidden];
                let weights = &block.weight_condition[first * hidden..];
                first += width;
                product(
                    (&mut out, Layout::rows(rows, hidden, hidden)),
                    (table, Layout::rows(rows, *width, *width)),
                    (weights, Layout::rows(*width, hidden, hidden)),
                    false,
                );
                out
            })
            .collect();
        match tables.first_mut() {
            None => tables.push(block.bias_hidden.clone()),
            Some(table) => {
                for row in table.chunks_exact_mut(hidden) {
                    add(row, &block.bias_hidden);
                }
            }
        }
        let scale: Vec<f64> = block
            .scale
            .iter()
            .map(|&theta| global_scale(theta))
            .collect();
        let mut matrix = vec![0.0; channels * channels];
        let mut offset = vec![0.0f32; channels];
        for out in 0..channels {
            let row = &block.rotation[out * channels..][..channels];
            for (channel, &turn) in row.iter().enumerate() {
                matrix[channel * channels + out] = (scale[channel] * f64::from(turn)) as f32;
                offset[out] += block.offset[channel] * turn;
            }
        }
        let scaled = |values: &[f32]| values.iter().map(|value| value * SUBNET_SCALE).collect();
        Self {
            block,
            tables,
            weight_out: scaled(&block.weight_out),
            bias_out: scaled(&block.bias_out),
            matrix,
            offset,
            log_scale_sum: scale.iter().map(|scale| scale.ln()).sum::<f64>() as f32,
            scale,
        }
    }
}

/// What a block leaves behind for the backward pass, for the rows of a tile.
#[derive(Clone, Debug, Default)]
struct Trace {
    /// Input; the first channels stay, the others are moved.
    x: Vec<f32>,
    /// Hidden layer after the ReLU.
    hidden: Vec<f32>,
    /// Hyperbolic tangent, and exponential of the scaling.
    tanh: Vec<f32>,
    exp: Vec<f32>,
    /// Output before scale and rotation.
    y: Vec<f32>,
}

/// Buffers of one tile, kept from step to step.
#[derive(Clone, Debug, Default)]
struct Tile {
    traces: Vec<Trace>,
    z: Vec<f32>,
    log_det: Vec<f32>,
    out: Vec<f32>,
    grad_z: Vec<f32>,
    grad_y: Vec<f32>,
    grad_hidden: Vec<f32>,
    grad_out: Vec<f32>,
}

/// Gradients that the tiles of a group add to, in the form of [`Prepared`].
#[derive(Clone, Debug, Default)]
struct Sums {
    blocks: Vec<BlockSums>,
}

#[derive(Clone, Debug, Default)]
struct BlockSums {
    weight_x: Vec<f32>,
    tables: Vec<Vec<f32>>,
    weight_out: Vec<f32>,
    bias_out: Vec<f32>,
    matrix: Vec<f32>,
    offset: Vec<f32>,
}

/// Memory that steps of the same stack use again and again.
#[derive(Clone, Debug, Default)]
pub struct Workspace {
    tiles: Vec<Tile>,
    sums: Vec<Sums>,
}

/// One forward pass, ready for a backward pass.
pub struct Pass<'a> {
    shape: Shape,
    prepared: Vec<Prepared<'a>>,
    condition: Condition<'a>,
    workspace: &'a mut Workspace,
    vectors: usize,
}

/// Sends `x` `[vectors, channels]` through the stack.
///
/// # Panics
/// If sizes do not fit `shape`.
pub fn forward<'a>(
    shape: Shape,
    blocks: &'a [Block],
    x: &[f32],
    condition: Condition<'a>,
    workspace: &'a mut Workspace,
) -> Pass<'a> {
    let vectors = x.len() / shape.channels;
    let prepared = prepare(&shape, blocks, x, &condition);
    workspace
        .tiles
        .resize(vectors.div_ceil(TILE), Tile::default());
    let tiles = workspace.tiles.par_iter_mut().enumerate();
    tiles
        .zip(x.par_chunks(TILE * shape.channels))
        .for_each(|((index, tile), x)| {
            tile.forward(&shape, &prepared, x, &condition, index * TILE, true);
        });
    Pass {
        shape,
        prepared,
        condition,
        workspace,
        vectors,
    }
}

/// What [`Pass::likelihoods`] gives, without memory for a backward pass.
///
/// # Panics
/// If sizes do not fit `shape`.
pub fn likelihoods(
    shape: Shape,
    blocks: &[Block],
    x: &[f32],
    condition: Condition<'_>,
) -> Vec<f32> {
    let vectors = x.len() / shape.channels;
    let prepared = prepare(&shape, blocks, x, &condition);
    let mut values = vec![0.0; vectors];
    values
        .par_chunks_mut(TILE)
        .zip(x.par_chunks(TILE * shape.channels))
        .enumerate()
        .for_each_init(Tile::default, |tile, (index, (values, x))| {
            tile.forward(&shape, &prepared, x, &condition, index * TILE, false);
            for (value, found) in values.iter_mut().zip(tile.likelihoods(shape.channels)) {
                *value = found;
            }
        });
    values
}

/// What [`Pass::outputs`] gives, without memory for a backward pass.
///
/// # Panics
/// If sizes do not fit `shape`.
pub fn outputs(
    shape: Shape,
    blocks: &[Block],
    x: &[f32],
    condition: Condition<'_>,
) -> (Vec<f32>, Vec<f32>) {
    let vectors = x.len() / shape.channels;
    let prepared = prepare(&shape, blocks, x, &condition);
    let mut z = vec![0.0; x.len()];
    let mut log_det = vec![0.0; vectors];
    z.par_chunks_mut(TILE * shape.channels)
        .zip(log_det.par_chunks_mut(TILE))
        .zip(x.par_chunks(TILE * shape.channels))
        .enumerate()
        .for_each_init(Tile::default, |tile, (index, ((z, log_det), x))| {
            tile.forward(&shape, &prepared, x, &condition, index * TILE, false);
            z.copy_from_slice(&tile.z);
            log_det.copy_from_slice(&tile.log_det);
        });
    (z, log_det)
}

fn prepare<'a>(
    shape: &Shape,
    blocks: &'a [Block],
    x: &[f32],
    condition: &Condition<'_>,
) -> Vec<Prepared<'a>> {
    let vectors = x.len() / shape.channels;
    assert_eq!(x.len(), vectors * shape.channels, "values of the vectors");
    assert!(
        condition.indices.iter().all(|rows| rows.len() == vectors),
        "one condition a vector"
    );
    blocks
        .par_iter()
        .map(|block| Prepared::new(shape, block, condition))
        .collect()
}

impl Pass<'_> {
    /// Logarithms of the determinant, less half the squared norm of `z`: the log-likelihood up to the
    /// Gaussian's constant, `[vectors]`.
    pub fn likelihoods(&self) -> Vec<f32> {
        let tiles = self.workspace.tiles.iter();
        tiles
            .flat_map(|tile| tile.likelihoods(self.shape.channels))
            .collect()
    }

    /// `z`, `[vectors, channels]`, and logarithms of the determinant, `[vectors]`.
    pub fn outputs(&self) -> (Vec<f32>, Vec<f32>) {
        let mut z = Vec::with_capacity(self.vectors * self.shape.channels);
        let mut log_det = Vec::with_capacity(self.vectors);
        for tile in &self.workspace.tiles {
            z.extend_from_slice(&tile.z);
            log_det.extend_from_slice(&tile.log_det);
        }
        (z, log_det)
    }

    /// Gradients with respect to all parameters; `seed` is the gradient with respect to each of
    /// [`likelihoods`](Self::likelihoods).
    ///
    /// # Panics
    /// If `seed` has not one value a vector.
    pub fn backward(self, seed: &[f32]) -> Vec<Block> {
        self.gradients(seed, None)
    }

    /// Gradients with respect to all parameters; `z` and `log_det` are the gradients with respect
    /// to the [`outputs`](Self::outputs).
    ///
    /// # Panics
    /// If their sizes are not those of the outputs.
    pub fn backward_outputs(self, z: &[f32], log_det: &[f32]) -> Vec<Block> {
        let values = self.vectors * self.shape.channels;
        assert_eq!(z.len(), values, "one seed a value of z");
        self.gradients(log_det, Some(z))
    }

    /// `seed` is the gradient with respect to the log-determinants; `z` that with respect to `z`,
    /// where it is not that of half the negative squared norm times `seed`.
    fn gradients(self, seed: &[f32], z: Option<&[f32]>) -> Vec<Block> {
        assert_eq!(seed.len(), self.vectors, "one seed a vector");
        let Self {
            shape,
            prepared,
            condition,
            workspace,
            ..
        } = self;
        let Workspace { tiles, sums } = workspace;
        let groups = tiles.len().div_ceil(TILES_PER_GROUP);
        sums.resize(groups, Sums::default());
        let seeds = seed.par_chunks(TILE * TILES_PER_GROUP);
        sums.par_iter_mut()
            .zip(tiles.par_chunks_mut(TILES_PER_GROUP))
            .zip(seeds)
            .enumerate()
            .for_each(|(group, ((sums, tiles), seed))| {
                sums.clear(&shape, &prepared);
                for (index, (tile, seed)) in tiles.iter_mut().zip(seed.chunks(TILE)).enumerate() {
                    let first = (group * TILES_PER_GROUP + index) * TILE;
                    match z {
                        None => tile.seed_likelihood(&shape, seed),
                        Some(z) => {
                            let z = &z[first * shape.channels..][..seed.len() * shape.channels];
                            tile.grad_z.clear();
                            tile.grad_z.extend_from_slice(z);
                        }
                    }
                    tile.backward(&shape, &prepared, &condition, first, seed, sums);
                }
            });
        let log_det_seed: f64 = seed.iter().map(|&seed| f64::from(seed)).sum();
        let sums: &[Sums] = sums;
        prepared
            .par_iter()
            .enumerate()
            .map(|(index, prepared)| {
                let parts: Vec<&BlockSums> = sums.iter().map(|sums| &sums.blocks[index]).collect();
                prepared.gradients(&shape, &condition, &parts, log_det_seed)
            })
            .collect()
    }
}

impl Tile {
    fn likelihoods(&self, channels: usize) -> impl Iterator<Item = f32> {
        let z = self.z.chunks_exact(channels).zip(&self.log_det);
        z.map(|(z, log_det)| log_det - 0.5 * z.iter().map(|z| z * z).sum::<f32>())
    }

    fn forward(
        &mut self,
        shape: &Shape,
        prepared: &[Prepared<'_>],
        x: &[f32],
        condition: &Condition<'_>,
        first: usize,
        keep: bool,
    ) {
        let (channels, kept, moved) = (shape.channels, shape.kept(), shape.moved());
        let hidden = shape.hidden;
        let rows = x.len() / channels;
        // Without a backward pass to come, all blocks leave their traces in one place.
        let traces = if keep { prepared.len() } else { 1 };
        self.traces.resize(traces, Trace::default());
        self.z.clear();
        self.z.extend_from_slice(x);
        self.log_det.clear();
        self.log_det.resize(rows, 0.0);
        self.out.resize(rows * 2 * moved, 0.0);
        for (index, prepared) in prepared.iter().enumerate() {
            let trace = &mut self.traces[index % traces];
            std::mem::swap(&mut trace.x, &mut self.z);
            trace.hidden.resize(rows * hidden, 0.0);
            for (row, values) in trace.hidden.chunks_exact_mut(hidden).enumerate() {
                let entry = |part: usize| {
                    let at = condition
                        .indices
                        .get(part)
                        .map_or(0, |rows| rows[first + row]);
                    &prepared.tables[part][at as usize * hidden..][..hidden]
                };
                values.copy_from_slice(entry(0));
                for part in 1..prepared.tables.len() {
                    add(values, entry(part));
                }
            }
            product(
                (&mut trace.hidden, Layout::rows(rows, hidden, hidden)),
                (&trace.x, Layout::rows(rows, kept, channels)),
                (&prepared.block.weight_x, Layout::rows(kept, hidden, hidden)),
                true,
            );
            trace
                .hidden
                .iter_mut()
                .for_each(|value| *value = value.max(0.0));
            for values in self.out.chunks_exact_mut(2 * moved) {
                values.copy_from_slice(&prepared.bias_out);
            }
            product(
                (&mut self.out, Layout::rows(rows, 2 * moved, 2 * moved)),
                (&trace.hidden, Layout::rows(rows, hidden, hidden)),
                (
                    &prepared.weight_out,
                    Layout::rows(hidden, 2 * moved, 2 * moved),
                ),
                true,
            );
            trace.tanh.resize(rows * moved, 0.0);
            trace.exp.resize(rows * moved, 0.0);
            trace.y.resize(rows * channels, 0.0);
            let inner = match shape.clamp {
                Clamp::Tanh => 1.0,
                Clamp::ScaledTanh => 1.0 / shape.alpha,
            };
            for row in 0..rows {
                let out = &self.out[row * 2 * moved..][..2 * moved];
                let (raw, shift) = out.split_at(moved);
                let tanhs = &mut trace.tanh[row * moved..][..moved];
                let exps = &mut trace.exp[row * moved..][..moved];
                let x = &trace.x[row * channels..][..channels];
                let y = &mut trace.y[row * channels..][..channels];
                y[..kept].copy_from_slice(&x[..kept]);
                let (x, y) = (&x[kept..], &mut y[kept..]);
                for (value, &raw) in tanhs.iter_mut().zip(raw) {
                    *value = tanh(raw * inner);
                }
                for (value, &tanh) in exps.iter_mut().zip(tanhs.iter()) {
                    *value = exp(shape.alpha * tanh);
                }
                for channel in 0..moved {
                    y[channel] = x[channel] * exps[channel] + shift[channel];
                }
                self.log_det[row] +=
                    shape.alpha * tanhs.iter().sum::<f32>() + prepared.log_scale_sum;
            }
            self.z.resize(rows * channels, 0.0);
            for values in self.z.chunks_exact_mut(channels) {
                values.copy_from_slice(&prepared.offset);
            }
            product(
                (&mut self.z, Layout::rows(rows, channels, channels)),
                (&trace.y, Layout::rows(rows, channels, channels)),
                (&prepared.matrix, Layout::rows(channels, channels, channels)),
                true,
            );
        }
    }

    /// The likelihood has -|z|^2 / 2.
    fn seed_likelihood(&mut self, shape: &Shape, seed: &[f32]) {
        let channels = shape.channels;
        self.grad_z.resize(seed.len() * channels, 0.0);
        let values = self.grad_z.chunks_exact_mut(channels);
        for ((grad, z), seed) in values.zip(self.z.chunks_exact(channels)).zip(seed) {
            for (grad, z) in grad.iter_mut().zip(z) {
                *grad = -seed * z;
            }
        }
    }

    /// `seed` is the gradient with respect to the log-determinants; that with respect to `z` is in
    /// place.
    fn backward(
        &mut self,
        shape: &Shape,
        prepared: &[Prepared<'_>],
        condition: &Condition<'_>,
        first: usize,
        seed: &[f32],
        sums: &mut Sums,
    ) {
        let (channels, kept, moved) = (shape.channels, shape.kept(), shape.moved());
        let (hidden, rows) = (shape.hidden, seed.len());
        self.grad_y.resize(rows * channels, 0.0);
        self.grad_out.resize(rows * 2 * moved, 0.0);
        self.grad_hidden.resize(rows * hidden, 0.0);
        let (by_channels, by_hidden) = (
            Layout::rows(rows, channels, channels),
            Layout::rows(rows, hidden, hidden),
        );
        let by_out = Layout::rows(rows, 2 * moved, 2 * moved);
        let blocks = self.traces.iter().zip(prepared).zip(&mut sums.blocks).rev();
        for ((trace, prepared), sums) in blocks {
            let square = Layout::rows(channels, channels, channels);
            product(
                (&mut sums.matrix, square),
                (&trace.y, by_channels.transposed()),
                (&self.grad_z, by_channels),
                true,
            );
            for row in self.grad_z.chunks_exact(channels) {
                add(&mut sums.offset, row);
            }
            product(
                (&mut self.grad_y, by_channels),
                (&self.grad_z, by_channels),
                (&prepared.matrix, square.transposed()),
                false,
            );
            // With `alpha tanh(a / alpha)` the two alphas cancel.
            let slope = match shape.clamp {
                Clamp::Tanh => shape.alpha,
                Clamp::ScaledTanh => 1.0,
            };
            for (row, &seed) in seed.iter().enumerate() {
                let grad_y = &mut self.grad_y[row * channels + kept..][..moved];
                let x = &trace.x[row * channels + kept..][..moved];
                let tanhs = &trace.tanh[row * moved..][..moved];
                let exps = &trace.exp[row * moved..][..moved];
                let (raw, shift) =
                    self.grad_out[row * 2 * moved..][..2 * moved].split_at_mut(moved);
                for channel in 0..moved {
                    let grad = grad_y[channel];
                    let through = grad * exps[channel];
                    let log_scale = through * x[channel] + seed;
                    raw[channel] = log_scale * slope * (1.0 - tanhs[channel] * tanhs[channel]);
                    shift[channel] = grad;
                    grad_y[channel] = through;
                }
                add(&mut sums.bias_out[..moved], raw);
                add(&mut sums.bias_out[moved..], shift);
            }
            product(
                (
                    &mut sums.weight_out,
                    Layout::rows(hidden, 2 * moved, 2 * moved),
                ),
                (&trace.hidden, by_hidden.transposed()),
                (&self.grad_out, by_out),
                true,
            );
            let weights = Layout::rows(hidden, 2 * moved, 2 * moved).transposed();
            product(
                (&mut self.grad_hidden, by_hidden),
                (&self.grad_out, by_out),
                (&prepared.weight_out, weights),
                false,
            );
            for (grad, &value) in self.grad_hidden.iter_mut().zip(&trace.hidden) {
                *grad = if value > 0.0 { *grad } else { 0.0 };
            }
            product(
                (&mut sums.weight_x, Layout::rows(kept, hidden, hidden)),
                (&trace.x, Layout::rows(rows, kept, channels).transposed()),
                (&self.grad_hidden, by_hidden),
                true,
            );
            for (part, table) in sums.tables.iter_mut().enumerate() {
                for (row, grad) in self.grad_hidden.chunks_exact(hidden).enumerate() {
                    let at = condition
                        .indices
                        .get(part)
                        .map_or(0, |rows| rows[first + row]);
                    add(&mut table[at as usize * hidden..][..hidden], grad);
                }
            }
            product(
                (&mut self.grad_y, Layout::rows(rows, kept, channels)),
                (&self.grad_hidden, by_hidden),
                (
                    &prepared.block.weight_x,
                    Layout::rows(kept, hidden, hidden).transposed(),
                ),
                true,
            );
            std::mem::swap(&mut self.grad_z, &mut self.grad_y);
        }
    }
}

impl Sums {
    fn clear(&mut self, shape: &Shape, prepared: &[Prepared<'_>]) {
        let (channels, hidden, moved) = (shape.channels, shape.hidden, shape.moved());
        self.blocks.resize(prepared.len(), BlockSums::default());
        let zero = |values: &mut Vec<f32>, count: usize| {
            values.clear();
            values.resize(count, 0.0);
        };
        for (sums, prepared) in self.blocks.iter_mut().zip(prepared) {
            zero(&mut sums.weight_x, shape.kept() * hidden);
            zero(&mut sums.weight_out, hidden * 2 * moved);
            zero(&mut sums.bias_out, 2 * moved);
            zero(&mut sums.matrix, channels * channels);
            zero(&mut sums.offset, channels);
            sums.tables.resize(prepared.tables.len(), Vec::new());
            for (values, table) in sums.tables.iter_mut().zip(&prepared.tables) {
                zero(values, table.len());
            }
        }
    }
}

impl Prepared<'_> {
    /// From sums over vectors to gradients with respect to parameters.
    fn gradients(
        &self,
        shape: &Shape,
        condition: &Condition<'_>,
        parts: &[&BlockSums],
        log_det_seed: f64,
    ) -> Block {
        let (channels, hidden) = (shape.channels, shape.hidden);
        let total = |of: &dyn Fn(&BlockSums) -> &[f32]| -> Vec<f32> {
            let mut parts = parts.iter();
            let mut sum = parts.next().map_or_else(Vec::new, |part| of(part).to_vec());
            parts.for_each(|part| add(&mut sum, of(part)));
            sum
        };
        let scaled = |mut values: Vec<f32>| {
            values.iter_mut().for_each(|value| *value *= SUBNET_SCALE);
            values
        };
        let mut weight_condition = vec![0.0; shape.condition * hidden];
        let mut bias_hidden = vec![0.0; hidden];
        let mut first = 0;
        for part in 0..self.tables.len() {
            let grad = total(&|sums| &sums.tables[part]);
            if part == 0 {
                grad.chunks_exact(hidden)
                    .for_each(|row| add(&mut bias_hidden, row));
            }
            if let Some((table, width)) = condition.tables.get(part) {
                let rows = table.len() / width;
                product(
                    (
                        &mut weight_condition[first * hidden..],
                        Layout::rows(*width, hidden, hidden),
                    ),
                    (table, Layout::rows(rows, *width, *width).transposed()),
                    (&grad, Layout::rows(rows, hidden, hidden)),
                    false,
                );
                first += width;
            }
        }
        let (matrix, offset) = (total(&|sums| &sums.matrix), total(&|sums| &sums.offset));
        let mut grad_scale = vec![0.0; channels];
        let mut grad_offset = vec![0.0; channels];
        for channel in 0..channels {
            let (mut scale, mut shift) = (log_det_seed / self.scale[channel], 0.0f64);
            for out in 0..channels {
                let turn = f64::from(self.block.rotation[out * channels + channel]);
                scale += f64::from(matrix[channel * channels + out]) * turn;
                shift += f64::from(offset[out]) * turn;
            }
            let u = f64::from(self.block.scale[channel]) * SOFTPLUS_BETA;
            let slope = SOFTPLUS_FACTOR * SOFTPLUS_BETA / (1.0 + (-u).exp());
            grad_scale[channel] = (scale * slope) as f32;
            grad_offset[channel] = shift as f32;
        }
        Block {
            weight_x: total(&|sums| &sums.weight_x),
            weight_condition,
            bias_hidden,
            weight_out: scaled(total(&|sums| &sums.weight_out)),
            bias_out: scaled(total(&|sums| &sums.bias_out)),
            scale: grad_scale,
            offset: grad_offset,
            rotation: Vec::new(),
        }
    }
}

/// `sum += values`, element by element.
fn add(sum: &mut [f32], values: &[f32]) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += value;
    }
}
