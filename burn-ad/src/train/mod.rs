//! What a training run is given besides data: a seed, a device, somebody who watches.

mod run;
mod split;

pub use run::{Observer, Quiet, Run, Step, stream_rng};
pub use split::{hold_out, indices_by_seed};
