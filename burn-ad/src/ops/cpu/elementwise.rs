//! Activations and sums of feature maps.

use burn_ad_kernels::{Activation as KernelActivation, channels};
use burn_flex::FlexTensor;

use super::buffers;
use super::settings::Kernels;
use super::tensor::Map;
use crate::ops::Activation;

/// The activation as the kernels name it.
pub(crate) fn of(activation: Activation) -> KernelActivation {
    match activation {
        Activation::Identity => KernelActivation::Identity,
        Activation::Relu => KernelActivation::Relu,
        Activation::Relu6 => KernelActivation::Relu6,
        Activation::Swish => KernelActivation::Swish,
        Activation::LeakyRelu(slope) => KernelActivation::LeakyRelu(slope),
    }
}

/// `left + right`, which lies channels-last.
pub(crate) fn sum(kernels: Kernels, left: FlexTensor, right: FlexTensor) -> FlexTensor {
    let (left, right) = (Map::of(kernels, left), Map::of(kernels, right));
    let mut out = buffers::take(left.values().len());
    channels::add(kernels.isa, left.values(), right.values(), &mut out);
    let result = Map::new(out, left.dims());
    left.give_back();
    right.give_back();
    result.into_tensor()
}
