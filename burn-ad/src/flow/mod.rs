//! Conditional normalizing flows: invertible maps from feature vectors to a standard Gaussian.
//!
//! A flow sends a vector `x` to `z` and says by which factor it changes volumes there, so that
//! `log p(x) = log N(z; 0, I) + log|det dz/dx|`. The block is FrEIA's "all in one" coupling block,
//! as BGAD (CVPR 2023) and HGAD (ECCV 2024) use it.

mod condition;
mod config;
mod coupling;
mod freia;
mod on_cpu;
mod on_map;
#[cfg(test)]
mod parity;
mod position;
mod stack;
#[cfg(test)]
mod tests;

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

pub use condition::Condition;
pub use config::{Clamp, FlowConfig, Permutation};
pub use coupling::CouplingBlock;
pub use freia::StateDict;
pub use on_cpu::{CpuFlow, OutputGradient};
pub(crate) use on_map::MapFlow;
pub use position::PositionCode;
pub use stack::ConditionalFlow;

/// An invertible, differentiable map of vectors.
pub trait Flow<B: Backend>: Module<B> {
    /// `x` `[vectors, channels]` to `z` of the same shape, and `log|det dz/dx|`, `[vectors]`.
    fn forward(&self, x: Tensor<B, 2>, condition: &Condition<B>) -> (Tensor<B, 2>, Tensor<B, 1>);

    /// `z` back to `x`: `inverse(forward(x)) = x` up to rounding.
    fn inverse(&self, z: Tensor<B, 2>, condition: &Condition<B>) -> Tensor<B, 2>;
}

/// `ln(2 pi) / 2`.
const HALF_LN_TAU: f64 = 0.918_938_533_204_672_8;

/// Log-likelihood a dimension, `log p(x) / channels`, `[vectors]`, from what [`Flow::forward`] gave.
///
/// Source: BGAD eq. 2; the division by the number of channels is the published code's and makes
/// levels of different width comparable.
pub fn log_likelihood<B: Backend>(z: Tensor<B, 2>, log_det: Tensor<B, 1>) -> Tensor<B, 1> {
    let channels = z.dims()[1] as f64;
    let squares = z.square().sum_dim(1).squeeze_dim::<1>(1);
    (log_det - squares.mul_scalar(0.5)).div_scalar(channels) - HALF_LN_TAU
}
