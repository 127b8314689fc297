//! Our own kernels under the functions of [`ops`](super), for Burn's CPU backend Flex, plain or
//! under autodiff.
//!
//! The functions of `ops` ask [`kernels_for`] first and take the backend's own operations where it
//! says no; both ways are tested equal.

mod buffers;
pub(crate) mod channels;
pub(crate) mod conv;
mod elementwise;
pub(crate) mod mahalanobis;
pub(crate) mod nearest;
pub(crate) mod norm;
pub(crate) mod pool;
mod settings;
pub(crate) mod stack;
mod tensor;
#[cfg(test)]
mod tests;
mod tracking;

pub use settings::{KERNELS_VARIABLE, Kernels, Precision};
pub(crate) use tensor::{close, is_f32, kernels_for, open, row_major};
pub(crate) use tracking::needs_gradient;

/// Whether our own kernels compute for this backend, as things are set now.
pub fn has_kernels<B: burn::tensor::backend::Backend>() -> bool {
    kernels_for::<B>().is_some()
}
