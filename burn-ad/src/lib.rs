//! Visual anomaly detection on the Burn framework.
#![deny(missing_docs)]

pub mod error;
pub mod files;
pub mod report;

pub use error::{Error, Result};
