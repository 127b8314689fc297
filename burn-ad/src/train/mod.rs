//! What a training run is given besides data: a seed, a device, somebody who watches.

mod adam;
mod checkpoint;
mod features;
mod record;
mod run;
mod schedule;
mod split;
#[cfg(test)]
pub(crate) mod testing;

use std::time::Duration;

use crate::error::Error;

/// A checkpoint is written where the last one is older.
pub(crate) const BETWEEN_CHECKPOINTS: Duration = Duration::from_secs(30);
/// What to do about a loss that is not finite.
pub(crate) const AFTER_DIVERGENCE: &str = "lower method.schedule.learning_rate and start afresh with --overwrite: \
                                           from its checkpoint the run would diverge again";

/// What the loss of one of several networks is that a step is not taken by.
pub(crate) fn loss_not_finite(whose: &str) -> Error {
    Error::numeric(format!("the loss of {whose} is not finite"))
}

pub use adam::{Adam, AdamSettings};
pub use checkpoint::{Checkpoint, Checkpoints};
pub use features::{CacheStatistics, FeatureCache, Levels};
pub(crate) use record::{record_from_bytes, record_to_bytes};
pub use run::{Observer, Quiet, Run, Step, stream_rng};
pub use schedule::CosineSchedule;
pub(crate) use split::cycled;
pub use split::{hold_out, indices_by_seed};
