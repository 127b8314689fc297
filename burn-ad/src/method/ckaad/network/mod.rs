//! The networks of CKAAD: an auto-encoder of feature maps, and the discriminators of its training.
//!
//! Source: Fang et al., AAAI 2025, "Complete Implementation Details", and the published code for what
//! the text leaves open.

mod autoencoder;
mod block;
mod discriminator;
mod plan;

pub use autoencoder::AutoEncoder;
pub use discriminator::{Discriminator, ImageDiscriminator, PatchDiscriminator};
pub use plan::{BlockKind, ReconstructionPlan};
