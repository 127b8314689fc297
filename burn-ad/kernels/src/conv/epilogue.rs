//! What is added to and done with the result of a convolution before it is stored.

use pulp::Simd;

use crate::Activation;

/// `out = activation(convolution + bias + residual)`.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue<'a> {
    /// One value for each output channel.
    pub bias: Option<&'a [f32]>,
    /// Of the output's shape.
    pub residual: Option<&'a [f32]>,
    /// What comes last.
    pub activation: Activation,
}

impl Default for Epilogue<'_> {
    /// The bare convolution.
    fn default() -> Self {
        Self {
            bias: None,
            residual: None,
            activation: Activation::Identity,
        }
    }
}

impl Epilogue<'_> {
    /// The activation, if it takes more than two limits.
    #[inline(always)]
    pub(super) fn curve(&self) -> Option<Activation> {
        match self.activation {
            Activation::Identity | Activation::Relu | Activation::Relu6 => None,
            curve => Some(curve),
        }
    }
}

/// An activation as two limits, cheap enough for the end of every tile.
#[derive(Clone, Copy)]
pub(super) struct Limits<S: Simd> {
    low: S::f32s,
    high: S::f32s,
}

impl<S: Simd> Limits<S> {
    #[inline(always)]
    pub(super) fn of(simd: S, activation: Activation) -> Self {
        let (low, high) = match activation {
            Activation::Relu => (0.0, f32::INFINITY),
            Activation::Relu6 => (0.0, 6.0),
            _ => (f32::NEG_INFINITY, f32::INFINITY),
        };
        Self {
            low: simd.splat_f32s(low),
            high: simd.splat_f32s(high),
        }
    }

    /// NaN stays NaN.
    #[inline(always)]
    pub(super) fn apply(self, simd: S, x: S::f32s) -> S::f32s {
        if S::F32_LANES > 4 {
            // On x86 both give their second operand where one is NaN.
            return simd.max_f32s(self.low, simd.min_f32s(self.high, x));
        }
        // Elsewhere they may give the one that is a number.
        let x = simd.select_f32s(simd.less_than_f32s(x, self.low), self.low, x);
        simd.select_f32s(simd.greater_than_f32s(x, self.high), self.high, x)
    }
}
