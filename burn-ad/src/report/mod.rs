//! What a run leaves behind for people and for other programs; burn-free.
//!
//! - [`eval`]: all numbers of an evaluation, as JSON and as text tables.
//! - [`experiment`]: a grid of runs, mean and deviation over seeds.
//! - [`predictions`]: one row per image, as CSV or JSON lines, written while the run goes on.
//! - [`overlay`]: image, heat map and contours side by side; colours from [`colour`].
//! - [`raw`]: anomaly maps as `.npy` or 16-bit PNG for further processing.
//! - [`html`]: one self-contained page with metrics, histogram and gallery.
//! - [`likelihoods`]: histograms of log-likelihoods, distances of class centres.
//! - [`curves`]: the figures of a training run over time.
//! - [`table`]: aligned text and markdown; [`memory`]: peak resident memory.

pub mod colour;
pub mod curves;
pub mod eval;
pub mod experiment;
mod histogram;
pub mod html;
pub mod likelihoods;
pub mod memory;
pub mod overlay;
pub mod predictions;
pub mod raw;
pub mod table;

pub use eval::EvalReport;
pub use predictions::{Decision, PredictionRow};
