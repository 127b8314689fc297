//! Gradients of a convolution with respect to its input, weights and bias.

mod bias;
mod input;
mod narrow;
pub(super) mod outer;
mod weight;

pub use bias::bias;
pub use input::input;
pub use weight::weight;

use super::geometry::Geometry;
use crate::Isa;

/// A convolution whose gradients are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Layer {
    /// Instructions to use.
    pub isa: Isa,
    /// Whether only algorithms as exact as plain summation may be used.
    pub precise: bool,
    /// Sizes of its input, kernel and step.
    pub geometry: Geometry,
    /// `[outputs, inputs, kernel height, kernel width]` of its weights.
    pub shape: [usize; 4],
}

impl Layer {
    /// Asserts that lengths fit; `None` is not checked.
    fn check(&self, x: Option<&[f32]>, dy: &[f32], weight: Option<&[f32]>) {
        let [outputs, inputs, height, width] = self.shape;
        let geometry = &self.geometry;
        assert_eq!(
            geometry.kernel,
            [height, width],
            "kernel of geometry and weights"
        );
        assert_eq!(
            dy.len(),
            geometry.positions() * outputs,
            "length of the output's gradient for {self:?}"
        );
        if let Some(x) = x {
            let positions = geometry.batch * geometry.height * geometry.width;
            assert_eq!(
                x.len(),
                positions * inputs,
                "length of the input of {self:?}"
            );
        }
        if let Some(weight) = weight {
            let length: usize = self.shape.iter().product();
            assert_eq!(weight.len(), length, "length of the weights of {self:?}");
        }
    }
}

#[cfg(test)]
mod tests;
