//! The activations of the frozen networks.

use burn::prelude::*;
use burn::tensor::activation::{relu, silu};

/// What follows a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    Identity,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `x * sigmoid(x)`, also called SiLU.
    Swish,
}

impl Activation {
    /// Applies the activation to every value.
    pub fn apply<B: Backend, const D: usize>(self, x: Tensor<B, D>) -> Tensor<B, D> {
        match self {
            Self::Identity => x,
            Self::Relu => relu(x),
            Self::Relu6 => x.clamp(0.0, 6.0),
            Self::Swish => silu(x),
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
        // torch.nn.functional.silu
        let swish = [-0.238_405_84, 0.311_229_67, 6.993_623];
        assert_close(Activation::Swish.apply(x()), &swish, 1e-6);
    }
}
