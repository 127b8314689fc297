//! Detection and localisation metrics: plain functions on slices, exact, in `f64`.
//!
//! What holds for all of them:
//! - a higher score means more anomalous; `true` labels and mask pixels are anomalous;
//! - a prediction at threshold `t` is `score >= t`, and equal scores are one step of every curve;
//!   `-0.0` and `0.0` are equal, infinities are ordinary scores;
//! - a NaN score or slices of different lengths are an error, never a number;
//! - `Ok(None)` means that the quantity is not defined on this data, such as a ROC curve of one class.
//!
//! The image-level functions and [`pixel_metrics`] sort once and read every curve from that order;
//! results do not depend on the order of equal scores nor on the number of threads.

mod aupro;
mod aupro_sampled;
mod auroc;
mod pixel;
mod precision_recall;
mod ranking;
mod regions;
mod score_map;

pub use aupro::aupro;
pub use aupro_sampled::{ThresholdGrid, aupro_sampled, mean_image_aupro_sampled};
pub use auroc::auroc;
pub use pixel::{PixelMetrics, pixel_metrics};
pub use precision_recall::{BestF1, accuracy_at, average_precision, best_f1};
pub use score_map::ScoreMap;
