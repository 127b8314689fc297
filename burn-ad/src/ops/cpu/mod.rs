//! Our own kernels under the functions of [`ops`](super), for Burn's CPU backend Flex, plain or
//! under autodiff.
//!
//! The functions of `ops` ask [`kernels_for`] first and take the backend's own operations where it
//! says no; both ways are tested equal.

pub(crate) mod angle;
pub(crate) mod arrange;
mod buffers;
pub(crate) mod channels;
pub(crate) mod conv;
mod elementwise;
pub(crate) mod halves;
pub(crate) mod layer_norm;
pub(crate) mod mahalanobis;
pub(crate) mod nearest;
pub(crate) mod norm;
pub(crate) mod pool;
mod settings;
pub(crate) mod similarity;
pub(crate) mod stack;
mod tensor;
#[cfg(test)]
mod tests;
mod tracking;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use tensor::Cpu;

pub(crate) use buffers::keep as reuse;
pub use settings::{KERNELS_VARIABLE, Kernels, Precision};
pub(crate) use tensor::{close, is_f32, kernels_for, open, row_major};
pub(crate) use tracking::needs_gradient;

/// The settings and the tensor, for a kernel without a backward pass; the tensor itself where that
/// must not compute.
pub(crate) fn open_without_gradient<B: Backend, const D: usize>(
    tensor: Tensor<B, D>,
) -> Result<(Kernels, Cpu), Tensor<B, D>> {
    match kernels_for::<B>() {
        Some(kernels) if is_f32(&tensor) => {
            let tensor = open(tensor);
            if needs_gradient(&tensor) {
                Err(close(tensor))
            } else {
                Ok((kernels, tensor))
            }
        }
        _ => Err(tensor),
    }
}

/// Whether a gradient flows to a tensor of a backend that has kernels.
pub(crate) fn is_tracked<B: Backend, const D: usize>(tensor: &Tensor<B, D>) -> bool {
    needs_gradient(&open(tensor.clone()))
}

/// Whether tensors of this backend lie in main memory.
pub fn computes_on_cpu<B: Backend>(device: &B::Device) -> bool {
    let name = B::name(device);
    ["flex", "ndarray"].iter().any(|cpu| name.contains(cpu))
}

/// Whether our own kernels compute for this backend, as things are set now.
pub fn has_kernels<B: Backend>() -> bool {
    kernels_for::<B>().is_some()
}
