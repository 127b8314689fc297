//! One coupling block: half of the channels is scaled and shifted by what the other half says.

use burn::module::{Module, Param};
use burn::tensor::activation::relu;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::{Clamp, Condition, Flow, FlowConfig, Permutation};
use crate::error::Result;
use crate::ops;

/// Factor on the subnet's output (FrEIA): a fresh block is near the identity.
const SUBNET_SCALE: f64 = 0.1;
/// Factor on the softplus of the global scale (FrEIA).
const GLOBAL_SCALE: f64 = 0.1;
/// Sharpness of that softplus (FrEIA).
const SOFTPLUS_BETA: f64 = 0.5;
/// Beyond this the softplus is linear, as in PyTorch: `exp` would overflow first.
const SOFTPLUS_LINEAR: f64 = 20.0;

/// FrEIA's "all in one" block.
///
/// With `x = [x1, x2]` (the first `channels - channels / 2` channels, and the others) and the
/// condition `p`:
/// ```text
/// [a_s, a_t] = 0.1 (relu([x1, p] W1 + b1) W2 + b2)
/// s  = clamp(a_s)                        y2 = x2 exp(s) + a_t
/// z  = ([x1, y2] g + b) R^T              g  = 0.1 softplus(theta)
/// log|det| = sum(s) + sum(ln g)          R is a rotation or a permutation: log|det R| = 0
/// ```
#[derive(Module, Debug)]
pub struct CouplingBlock<B: Backend> {
    /// Rows of `W1` for `x1`, `[channels - channels / 2, hidden]`.
    pub(super) weight_x: Param<Tensor<B, 2>>,
    /// Rows of `W1` for the condition, `[condition, hidden]`; `None` without a condition.
    pub(super) weight_condition: Option<Param<Tensor<B, 2>>>,
    /// `b1`, `[1, hidden]`.
    pub(super) bias_hidden: Param<Tensor<B, 2>>,
    /// `W2`, `[hidden, 2 (channels / 2)]`.
    pub(super) weight_out: Param<Tensor<B, 2>>,
    /// `b2`, `[1, 2 (channels / 2)]`.
    pub(super) bias_out: Param<Tensor<B, 2>>,
    /// `theta`, `[1, channels]`.
    pub(super) scale: Param<Tensor<B, 2>>,
    /// `b`, `[1, channels]`.
    pub(super) offset: Param<Tensor<B, 2>>,
    /// `R`, `[channels, channels]`; not trained.
    pub(super) rotation: Param<Tensor<B, 2>>,
    /// The bound of the scaling.
    #[module(skip)]
    pub(super) alpha: f64,
    /// How it is kept.
    #[module(skip)]
    pub(super) clamp: Clamp,
}

/// The tensors of a block on the host, row-major, named as its fields.
pub(super) struct BlockValues {
    pub(super) weight_x: Vec<f32>,
    pub(super) weight_condition: Vec<f32>,
    pub(super) bias_hidden: Vec<f32>,
    pub(super) weight_out: Vec<f32>,
    pub(super) bias_out: Vec<f32>,
    pub(super) scale: Vec<f32>,
    pub(super) offset: Vec<f32>,
    pub(super) rotation: Vec<f32>,
}

impl<B: Backend> CouplingBlock<B> {
    pub(super) fn init(
        config: &FlowConfig,
        channels: usize,
        rng: &mut ChaCha8Rng,
        device: &B::Device,
    ) -> Self {
        assert!(channels >= 2, "a coupling block needs at least 2 channels");
        let inputs = config.subnet_inputs(channels);
        let (hidden, outputs) = (2 * inputs, 2 * (channels / 2));
        let mut uniform = |count: usize, fan_in: usize| -> Vec<f32> {
            let bound = 1.0 / (fan_in as f32).sqrt();
            (0..count)
                .map(|_| rng.random_range(-bound..=bound))
                .collect()
        };
        let kept = channels - channels / 2;
        let values = BlockValues {
            weight_x: uniform(kept * hidden, inputs),
            weight_condition: uniform(config.position_channels * hidden, inputs),
            bias_hidden: uniform(hidden, inputs),
            weight_out: uniform(hidden * outputs, hidden),
            bias_out: uniform(outputs, hidden),
            scale: vec![initial_scale(); channels],
            offset: vec![0.0; channels],
            rotation: draw_permutation(config.permutation, channels, rng),
        };
        Self::from_values(config, channels, values, device)
    }

    pub(super) fn from_values(
        config: &FlowConfig,
        channels: usize,
        values: BlockValues,
        device: &B::Device,
    ) -> Self {
        let hidden = 2 * config.subnet_inputs(channels);
        let outputs = 2 * (channels / 2);
        let param = |values: Vec<f32>, shape: [usize; 2]| {
            Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), device))
        };
        let kept = channels - channels / 2;
        Self {
            weight_x: param(values.weight_x, [kept, hidden]),
            // Not every backend has tensors without values.
            weight_condition: (config.position_channels > 0)
                .then(|| param(values.weight_condition, [config.position_channels, hidden])),
            bias_hidden: param(values.bias_hidden, [1, hidden]),
            weight_out: param(values.weight_out, [hidden, outputs]),
            bias_out: param(values.bias_out, [1, outputs]),
            scale: param(values.scale, [1, channels]),
            offset: param(values.offset, [1, channels]),
            rotation: param(values.rotation, [channels, channels]).set_require_grad(false),
            alpha: config.alpha,
            clamp: config.clamp,
        }
    }

    /// Reads the tensors through `take`, which is given a name and a shape.
    pub(super) fn from_named(
        config: &FlowConfig,
        channels: usize,
        mut take: impl FnMut(&str, [usize; 2]) -> Result<Vec<f32>>,
        device: &B::Device,
    ) -> Result<Self> {
        let inputs = config.subnet_inputs(channels);
        let (hidden, outputs) = (2 * inputs, 2 * (channels / 2));
        let values = BlockValues {
            weight_x: take("weight_x", [channels - channels / 2, hidden])?,
            weight_condition: match config.position_channels {
                0 => Vec::new(),
                width => take("weight_condition", [width, hidden])?,
            },
            bias_hidden: take("bias_hidden", [1, hidden])?,
            weight_out: take("weight_out", [hidden, outputs])?,
            bias_out: take("bias_out", [1, outputs])?,
            scale: take("scale", [1, channels])?,
            offset: take("offset", [1, channels])?,
            rotation: take("rotation", [channels, channels])?,
        };
        Ok(Self::from_values(config, channels, values, device))
    }

    /// All tensors, each with its name.
    pub(super) fn named(&self) -> Vec<(&'static str, &Param<Tensor<B, 2>>)> {
        let mut all = vec![
            ("weight_x", &self.weight_x),
            ("bias_hidden", &self.bias_hidden),
            ("weight_out", &self.weight_out),
            ("bias_out", &self.bias_out),
            ("scale", &self.scale),
            ("offset", &self.offset),
            ("rotation", &self.rotation),
        ];
        all.extend(
            self.weight_condition
                .iter()
                .map(|weight| ("weight_condition", weight)),
        );
        all
    }

    /// Channels of a vector.
    pub fn channels(&self) -> usize {
        self.scale.dims()[1]
    }

    /// Channels of the condition; 0 without one.
    pub(super) fn condition_channels(&self) -> usize {
        let weight = self.weight_condition.as_ref();
        weight.map_or(0, |weight| weight.dims()[0])
    }

    /// `(s, a_t)`, each `[vectors, channels / 2]`, from the untransformed half.
    fn scale_and_shift(
        &self,
        x1: Tensor<B, 2>,
        condition: &Condition<B>,
    ) -> (Tensor<B, 2>, Tensor<B, 2>) {
        let half = self.channels() / 2;
        let from_x = x1.matmul(self.weight_x.val());
        let bias = self.bias_hidden.val();
        let hidden = match &self.weight_condition {
            Some(weight) => from_x + condition.project(&weight.val(), bias),
            None => from_x + bias,
        };
        // The factor goes to the weights: they are fewer than the outputs.
        let weight = self.weight_out.val().mul_scalar(SUBNET_SCALE);
        let bias = self.bias_out.val().mul_scalar(SUBNET_SCALE);
        let out = relu(hidden).matmul(weight) + bias;
        let raw = out.clone().narrow(1, 0, half);
        let shift = out.narrow(1, half, half);
        let scale = match self.clamp {
            Clamp::Tanh => raw.tanh(),
            Clamp::ScaledTanh => raw.div_scalar(self.alpha).tanh(),
        };
        (scale.mul_scalar(self.alpha), shift)
    }

    /// `g`, `[1, channels]`.
    fn global_scale(&self) -> Tensor<B, 2> {
        let u = self.scale.val().mul_scalar(SOFTPLUS_BETA);
        let beyond = relu(u.clone() - SOFTPLUS_LINEAR);
        let softplus = u.clamp_max(SOFTPLUS_LINEAR).exp().log1p() + beyond;
        softplus.mul_scalar(GLOBAL_SCALE / SOFTPLUS_BETA)
    }
}

impl<B: Backend> Flow<B> for CouplingBlock<B> {
    fn forward(&self, x: Tensor<B, 2>, condition: &Condition<B>) -> (Tensor<B, 2>, Tensor<B, 1>) {
        let channels = self.channels();
        let half = channels / 2;
        let kept = channels - half;
        let x1 = x.clone().narrow(1, 0, kept);
        let x2 = x.narrow(1, kept, half);
        let (scale, shift) = self.scale_and_shift(x1.clone(), condition);
        let y2 = x2 * scale.clone().exp() + shift;
        let g = self.global_scale();
        let log_det =
            scale.sum_dim(1).squeeze_dim::<1>(1) + g.clone().log().sum_dim(1).squeeze_dim::<1>(1);
        // (y g + b) R^T = y (diag(g) R^T) + b R^T: scaling the matrix is cheaper than the vectors.
        let turn = self.rotation.val().transpose();
        let matrix = g.reshape([channels, 1]) * turn.clone();
        let z = Tensor::cat(vec![x1, y2], 1).matmul(matrix) + self.offset.val().matmul(turn);
        (z, log_det)
    }

    fn inverse(&self, z: Tensor<B, 2>, condition: &Condition<B>) -> Tensor<B, 2> {
        let half = self.channels() / 2;
        let kept = self.channels() - half;
        let y = (z.matmul(self.rotation.val()) - self.offset.val()) / self.global_scale();
        let x1 = y.clone().narrow(1, 0, kept);
        let y2 = y.narrow(1, kept, half);
        let (scale, shift) = self.scale_and_shift(x1.clone(), condition);
        let x2 = (y2 - shift) * scale.neg().exp();
        Tensor::cat(vec![x1, x2], 1)
    }
}

/// The `theta` whose scale is 1: `2 ln(e^5 - 1)`.
fn initial_scale() -> f32 {
    (((1.0 / GLOBAL_SCALE * SOFTPLUS_BETA).exp() - 1.0).ln() / SOFTPLUS_BETA) as f32
}

fn draw_permutation(kind: Permutation, channels: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    match kind {
        Permutation::Soft => ops::random_rotation(channels, rng)
            .into_iter()
            .map(|value| value as f32)
            .collect(),
        Permutation::Hard => {
            let mut targets: Vec<usize> = (0..channels).collect();
            targets.shuffle(rng);
            let mut matrix = vec![0.0; channels * channels];
            for (row, column) in targets.into_iter().enumerate() {
                matrix[row * channels + column] = 1.0;
            }
            matrix
        }
    }
}
