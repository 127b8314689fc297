//! HGAD: one flow model for all product classes, with a hierarchical Gaussian mixture behind it.
//!
//! Source: Yao, Li, Qian, Wang, Zhang, "Hierarchical Gaussian Mixture Normalizing Flow Modeling for
//! Unified Anomaly Detection", ECCV 2024, supplementary and published code.

mod loss;
mod mixture;
#[cfg(test)]
mod parity;

pub use loss::{BatchLoss, LossConfig, Terms, Workspace};
pub use mixture::Mixture;
