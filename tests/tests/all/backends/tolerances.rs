//! How far a backend may be from the truth, with the reason.
//!
//! Every figure is a share of the largest value of the tensor compared, so that a zero beside large
//! values is not asked to be exact. f32 resolves 6e-8 of a value; a wrong padding, index, epsilon or
//! sign is off by more than 1e-2 in all of these claims.

/// The tolerances of one backend.
pub(crate) struct Tolerances {
    /// Values of one operation.
    pub(crate) values: f64,
    /// Gradients of one operation.
    pub(crate) gradients: f64,
    /// Feature maps.
    pub(crate) features: f64,
    /// Values, likelihoods, gradients and inverses of a flow.
    pub(crate) flow: f64,
    /// How far a parameter may end from where Flex moves it in a step, in learning rates.
    pub(crate) step: f64,
    /// Scores, of the largest score.
    pub(crate) scores: f64,
}

/// Flex and NdArray: IEEE arithmetic in f32, in whatever order the products are summed and with
/// whatever `exp` the backend has. One operation sums at most some hundred products (1e-6 leaves a
/// factor of ten), a network some thousand in each of up to fifty layers, a flow divides by scales
/// and exponentials. A step of Adam is `learning rate * g / |g|` however small the gradient `g`, so
/// the rounding of `g` counts against its smallest entries, not its largest. Scores subtract and
/// square features, which costs two digits.
pub(crate) const CPU: Tolerances = Tolerances {
    values: 2e-6,
    gradients: 5e-6,
    features: 1e-5,
    flow: 2e-5,
    step: 2e-2,
    scores: 1e-3,
};

/// WGPU: shaders may fuse and reorder, and WGSL grants `exp`, `tanh`, `sqrt` and division errors of
/// several units in the last place, `exp` more with the size of its argument.
#[cfg(feature = "wgpu")]
pub(crate) const WGPU: Tolerances = Tolerances {
    values: 1e-5,
    gradients: 2e-5,
    features: 1e-4,
    flow: 1e-4,
    ..CPU
};

/// CUDA: fused products, fast exponentials, and matrix products that may run on tensor cores with
/// inputs of 10 or 11 significant bits (TF32).
#[cfg(feature = "cuda")]
pub(crate) const CUDA: Tolerances = Tolerances {
    values: 2e-3,
    gradients: 2e-3,
    features: 5e-3,
    flow: 5e-3,
    step: 0.2,
    scores: 2e-2,
};
