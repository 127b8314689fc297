//! Dense convolutions of channels-last maps, and their gradients.
//!
//! A map is `[batch, height, width, channels]`, weights are `[outputs, inputs, kernel height, kernel
//! width]` as PyTorch has them. Weights are packed once ([`Weights`]), then [`forward`] computes any
//! number of convolutions with them.
//!
//! All algorithms come down to products of rows with panels of packed weights, whose sums stay in
//! registers. An image gives the same bits alone and in any batch.

mod ahead;
mod algorithm;
mod direct;
mod epilogue;
pub mod expanded;
pub mod gated;
mod geometry;
pub mod gradient;
mod narrow;
mod product;
mod tile;
mod turn;
mod weights;
mod windows;
mod winograd;

pub use algorithm::Algorithm;
pub use epilogue::Epilogue;
pub use geometry::{Geometry, Padding};
pub use weights::Weights;

use crate::Isa;
use weights::Packed;
use windows::Windows;

/// `out = activation(convolution(x) + bias + residual)`.
///
/// `x` is `[batch, height, width, inputs]`, `out` and the residual are `[batch, output height, output
/// width, outputs]`.
///
/// # Panics
/// If lengths do not fit `geometry` and `weights`, or the weights' algorithm does not fit the stride.
pub fn forward(
    x: &[f32],
    geometry: &Geometry,
    weights: &Weights,
    epilogue: Epilogue<'_>,
    out: &mut [f32],
) {
    let (shape, algorithm) = (weights.shape(), weights.algorithm());
    check_all(x, geometry, shape, algorithm, &epilogue, out);
    compute(x, geometry, weights.packed(), epilogue, out);
}

/// The same with a weight `[outputs, inputs, kernel height, kernel width]` that is used once: packed in
/// memory that the thread keeps.
///
/// # Panics
/// As [`forward`]; if `weight` is not of `shape`.
pub fn forward_once(
    (isa, algorithm): (Isa, Algorithm),
    x: &[f32],
    geometry: &Geometry,
    (weight, shape): (&[f32], [usize; 4]),
    epilogue: Epilogue<'_>,
    out: &mut [f32],
) {
    check_all(x, geometry, shape, algorithm, &epilogue, out);
    weights::packed_once(isa, algorithm, weight, shape, |weights| {
        compute(x, geometry, weights, epilogue, out);
    });
}

fn check_all(
    x: &[f32],
    geometry: &Geometry,
    [outputs, inputs, height, width]: [usize; 4],
    algorithm: Algorithm,
    epilogue: &Epilogue<'_>,
    out: &[f32],
) {
    assert_eq!(
        geometry.kernel,
        [height, width],
        "kernel of geometry and weights"
    );
    check(geometry, [outputs, inputs], x, out);
    assert!(
        algorithm.fits(geometry.kernel, geometry.stride),
        "{algorithm:?} does not compute a stride of {}",
        geometry.stride
    );
    if let Some(bias) = epilogue.bias {
        assert_eq!(bias.len(), outputs, "length of the bias");
    }
    if let Some(residual) = epilogue.residual {
        assert_eq!(residual.len(), out.len(), "length of the residual");
    }
}

/// [`forward`], checked.
fn compute(
    x: &[f32],
    geometry: &Geometry,
    weights: Packed<'_>,
    epilogue: Epilogue<'_>,
    out: &mut [f32],
) {
    match weights.algorithm {
        Algorithm::Direct => {
            let windows = Windows::of(geometry, weights.inputs, weights.outputs);
            direct::convolve(weights.isa, x, &windows, weights.values, epilogue, out);
        }
        Algorithm::Winograd2
        | Algorithm::Winograd2Stride2
        | Algorithm::Winograd4
        | Algorithm::Winograd4Stride2 => {
            winograd::convolve(x, geometry, weights, epilogue, out);
        }
    }
}

/// Lengths of a convolution's input and output.
fn check(geometry: &Geometry, [outputs, inputs]: [usize; 2], x: &[f32], out: &[f32]) {
    let positions = geometry.batch * geometry.height * geometry.width;
    assert_eq!(
        x.len(),
        positions * inputs,
        "length of {geometry:?} with {inputs} input channels"
    );
    assert_eq!(
        out.len(),
        geometry.positions() * outputs,
        "length of the output of {geometry:?} with {outputs} channels"
    );
}

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
