//! Burn's records as bytes, for checkpoints.

use burn::record::{BinBytesRecorder, FullPrecisionSettings, Record, Recorder};
use burn::tensor::backend::Backend;

use crate::error::{Error, Result};

type Bytes = BinBytesRecorder<FullPrecisionSettings>;

/// The bytes of a record.
///
/// # Errors
/// When it cannot be serialised.
pub(crate) fn record_to_bytes<B: Backend, R: Record<B>>(record: R) -> Result<Vec<u8>> {
    Recorder::<B>::record(&Bytes::default(), record, ())
        .map_err(|error| Error::model(error.to_string()))
}

/// The record that [`record_to_bytes`] wrote.
///
/// # Errors
/// When the bytes are of something else, or damaged.
pub(crate) fn record_from_bytes<B: Backend, R: Record<B>>(
    bytes: Vec<u8>,
    device: &B::Device,
) -> Result<R> {
    Recorder::<B>::load(&Bytes::default(), bytes, device)
        .map_err(|error| Error::model(error.to_string()))
}
