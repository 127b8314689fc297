//! The activations of the networks.

use burn::prelude::*;
use burn::tensor::activation::{leaky_relu, relu, silu};

/// What follows a convolution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// Nothing.
    Identity,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `x * sigmoid(x)`, also called SiLU.
    Swish,
    /// `x` where positive, else this slope times `x`.
    LeakyRelu(f32),
}

impl Activation {
    /// Whether the slope can be told from the result.
    pub(crate) fn shows_its_slope(self) -> bool {
        !matches!(self, Self::Swish)
    }

    /// Applies the activation to every value.
    pub fn apply<B: Backend, const D: usize>(self, x: Tensor<B, D>) -> Tensor<B, D> {
        match self {
            Self::Identity => x,
            Self::Relu => relu(x),
            Self::Relu6 => x.clamp(0.0, 6.0),
            Self::Swish => silu(x),
            Self::LeakyRelu(slope) => leaky_relu(x, f64::from(slope)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::assert_close;
    use burn_flex::Flex;

    #[test]
    fn activations_follow_their_formulas() {
        let device = Default::default();
        let x = || Tensor::<Flex, 1>::from_floats([-2.0, 0.5, 7.0], &device);
        assert_close(Activation::Identity.apply(x()), &[-2.0, 0.5, 7.0], 0.0);
        assert_close(Activation::Relu.apply(x()), &[0.0, 0.5, 7.0], 0.0);
        assert_close(Activation::Relu6.apply(x()), &[0.0, 0.5, 6.0], 0.0);
        assert_close(
            Activation::LeakyRelu(0.1).apply(x()),
            &[-0.2, 0.5, 7.0],
            1e-7,
        );
        // torch.nn.functional.silu
        let swish = [-0.238_405_84, 0.311_229_67, 6.993_623];
        assert_close(Activation::Swish.apply(x()), &swish, 1e-6);
    }
}
