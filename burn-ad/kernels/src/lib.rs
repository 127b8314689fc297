//! Computations on the CPU that Burn's backends do in many small steps: slices in, slices out.
//!
//! Nothing here knows Burn. `burn-ad` calls these functions for backends that compute on the CPU,
//! and does the same with tensor operations everywhere else.

pub mod flow;
mod math;
pub mod matrix;
