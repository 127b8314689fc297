//! Statistics and scaling of whole channels by `burn-ad-kernels`, without gradients.

use burn_ad_kernels::channels;

use super::buffers;
use super::settings::Kernels;
use super::tensor::{Cpu, Map, contiguous, size, values};
use super::tracking::without_history;

/// `[batch, channels, 1, 1]`.
pub(crate) fn position_mean(kernels: Kernels, x: Cpu) -> Cpu {
    let tracked = matches!(x, Cpu::Tracked(_));
    let x = Map::of(kernels, x.into_primitive());
    let [batch, channels, _, _] = x.dims();
    let mut out = vec![0.0; batch * channels];
    channels::mean(kernels.isa, x.values(), size(x.dims()), &mut out);
    let out = Map::new(out, [batch, channels, 1, 1]);
    without_history(tracked, out.into_tensor())
}

/// `x * scale`, where `scale` is `[batch, channels, 1, 1]`.
pub(crate) fn scale(kernels: Kernels, x: Cpu, scale: Cpu) -> Cpu {
    let tracked = matches!(x, Cpu::Tracked(_));
    let x = Map::of(kernels, x.into_primitive());
    let scale = contiguous(scale.into_primitive());
    let mut out = buffers::take(x.values().len());
    let size = size(x.dims());
    channels::scale(kernels.isa, x.values(), size, values(&scale), &mut out);
    let out = Map::new(out, x.dims());
    x.give_back();
    without_history(tracked, out.into_tensor())
}
