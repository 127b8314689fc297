//! Visual anomaly detection on the Burn framework.
#![deny(missing_docs)]

pub mod backbone;
pub mod data;
pub mod error;
pub mod files;
pub mod method;
pub mod metrics;
pub mod ops;
pub mod report;
pub mod train;

pub use error::{Error, Result};
