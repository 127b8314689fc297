//! Multi-scale structural similarity where our own kernels compute; the definition, and the way by tensor
//! operations, are those of [`ssim`](crate::ssim).

use burn::prelude::*;

use super::cpu;

/// What similarity means.
#[derive(Clone, Debug)]
pub(crate) struct Similarity {
    /// Weights of the window along one side; their sum is 1.
    pub(crate) window: Vec<f32>,
    /// Exponent of each scale, the finest first.
    pub(crate) exponents: Vec<f64>,
    /// `C1`, of luminance, and `C2`, of structure.
    pub(crate) constants: [f32; 2],
}

impl Similarity {
    /// The similarity of each image of `x` to that of `y`, `[batch]`; `None` where the backend's own
    /// operations must compute.
    ///
    /// Both are `[batch, channels, height, width]`.
    pub(crate) fn of<B: Backend>(self, x: &Tensor<B, 4>, y: &Tensor<B, 4>) -> Option<Tensor<B, 1>> {
        let kernels = cpu::kernels_for::<B>()?;
        (cpu::is_f32(x) && cpu::is_f32(y)).then(|| {
            let pair = [cpu::open(x.clone()), cpu::open(y.clone())];
            cpu::close(cpu::similarity::similarity(kernels, &self, pair))
        })
    }

    /// The SSIM map of each scale, as [`of`](Self::of); also `None` where a gradient is needed.
    pub(crate) fn maps<B: Backend>(
        self,
        x: &Tensor<B, 4>,
        y: &Tensor<B, 4>,
    ) -> Option<Vec<Tensor<B, 4>>> {
        let (kernels, x) = cpu::open_without_gradient(x.clone()).ok()?;
        let (_, y) = cpu::open_without_gradient(y.clone()).ok()?;
        let maps = cpu::similarity::maps(kernels, &self, [x, y]);
        Some(maps.into_iter().map(cpu::close).collect())
    }
}
