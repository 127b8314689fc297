//! Computations on the CPU that Burn's backends do in many small steps: slices in, slices out.
//!
//! Nothing here knows Burn. `burn-ad` calls these functions for backends that compute on the CPU,
//! and does the same with tensor operations everywhere else.
//!
//! Feature maps are channels-last: `[batch, height, width, channels]`, dense. Functions take the
//! [`Isa`] they are to use ([`flow`] and [`matrix`] choose by themselves); results of one set do not depend on the number of threads.

mod activation;
pub mod adam;
pub mod arrange;
pub mod channels;
pub mod conv;
pub mod cosine;
pub mod depthwise;
pub mod flow;
pub mod halves;
mod isa;
pub mod layer_norm;
pub mod layout;
pub mod mahalanobis;
mod math;
pub mod matrix;
pub mod memory;
pub mod nearest;
pub mod norm;
mod parallel;
pub mod pool;
mod rows;
mod simd_math;
pub mod ssim;
mod sums;
#[cfg(test)]
mod testing;
pub mod unit;
mod vector;
mod window;

pub use activation::Activation;
pub use isa::Isa;
pub use window::{Map, Window};
