//! Activations at the end of a kernel.

/// What follows a convolution or a normalisation.
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
