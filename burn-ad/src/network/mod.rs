//! Layers that learn, for the methods that train convolutional networks: parameters, their names,
//! and the optimiser.

mod conv;
mod init;
mod linear;
mod momentum;
mod norm;
mod optimiser;
mod parameters;
mod player;
pub mod residual;

pub use conv::{Conv, ConvShape, Layer};
pub use init::Init;
pub use linear::Linear;
pub use momentum::{Momentum, MomentumSettings};
pub use norm::{Norm, NormKind, NormMode};
pub use optimiser::{Descent, Optimiser};
pub use parameters::{load, save};
pub use player::Player;
