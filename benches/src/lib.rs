//! The work that `burn-ad bench` and the criterion benches measure: one definition, every backend.
//!
//! A [`Work`] names a piece of work and its size; [`Work::prepare`] makes its data, from fixed seeds,
//! and gives back what is to be timed.

pub mod ckaad;
pub mod flow;
pub mod igd;
pub mod maps;
pub mod noise;
pub mod resnet;
mod work;

pub use work::{Work, Workload};
