//! Visual anomaly detection on the Burn framework.
#![deny(missing_docs)]

pub mod backbone;
pub mod error;
pub mod files;
pub mod ops;

pub use error::{Error, Result};
