//! Parameter-free tensor functions, generic over the backend.
//!
//! Networks call these instead of the backend's own operations, so that one place decides how an
//! operation is carried out. No function here imports another part of the library.
//!
//! Per-channel scaling works on rows (`[batch * channels, positions]` by `[batch * channels, 1]`):
//! a four-dimensional broadcast at batch > 1 takes a scalar path on Burn's CPU backend, about forty
//! times slower.

mod activation;
mod angle;
mod arrange;
mod blur;
mod channels;
mod conv;
mod cpu;
mod halves;
mod layer_norm;
mod mahalanobis;
mod nearest;
mod norm;
mod orthogonal;
mod pad;
mod pool;
mod resize;
mod similarity;
mod stack;

pub use activation::Activation;
pub use angle::{map_cosines, position_cosines, unit_channels};
pub use arrange::{depth_to_space, join_channels};
pub use blur::gaussian_blur;
pub use channels::{position_mean, scale_channels};
pub use conv::{
    Convolution, Frozen, Prepared, Tail, conv2d, conv2d_with, expanded_depthwise, gated_conv2d,
};
pub(crate) use cpu::reuse;
pub use cpu::{KERNELS_VARIABLE, Kernels, Precision, computes_on_cpu, has_kernels};
pub use halves::{add, mean_pool_2x2, upsample_nearest_2x};
pub use layer_norm::layer_normalise;
pub(crate) use mahalanobis::mahalanobis_in_window;
pub use nearest::{Neighbours, distances};
pub use norm::{Statistics, channel_moments, normalise};
pub use orthogonal::{random_orthonormal, random_rotation};
pub use pad::{Padding, same_padding};
pub use pool::{average_pool_3x3, max_pool_3x3_stride_2};
pub use resize::resize_bilinear;
pub(crate) use similarity::Similarity;
pub(crate) use stack::Stack;

#[cfg(test)]
pub(crate) mod testing;
