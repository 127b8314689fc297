//! Checkpoint import for burn-ad: from files of PyTorch and safetensors to frozen backbones.
//!
//! [`Checkpoint`] reads a file (nothing in it is ever executed), [`import()`] checks it strictly
//! against an architecture and folds its BatchNorms, [`catalogue`] knows published weights and
//! [`fetch`] gets them:
//!
//! ```no_run
//! # fn main() -> burn_ad::Result<()> {
//! let arch = "resnet18".parse()?;
//! let weights = burn_ad_weights::import("resnet18-f37072fd.pth".as_ref(), Some(arch))?;
//! weights.write("resnet18.safetensors".as_ref())?;
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]

pub mod cache;
pub mod catalogue;
pub mod checkpoint;
pub mod fetch;
pub mod flows;
pub mod keys;

mod detect;
mod import;
mod info;

pub use checkpoint::Checkpoint;
pub use detect::detect_arch;
pub use fetch::{fetch_and_import, resolve};
pub use flows::{FlowStateDict, read_flows};
pub use import::import;
pub use info::{Detected, Imported, Info, info};
pub use keys::KeyStyle;
