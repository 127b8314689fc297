//! From files to normalised pixels: index, decode, place, normalise, load ahead.

mod batch;
pub mod check;
pub mod contamination;
pub mod geometry;
pub mod image;
pub mod kinds;
pub mod known;
pub mod layout;
pub mod loader;
pub mod normalise;
pub mod packed;
pub mod placement;
mod resample;
pub mod sample;
pub mod share;
pub mod synthetic;

pub use batch::{Batch, for_each_batch};
pub use check::{CheckReport, check};
pub use contamination::contaminate;
pub use geometry::{Filter, Fit, Geometry};
pub use kinds::Kinds;
pub use known::{KnownAnomalies, KnownCount, KnownSplit};
pub use layout::{IndexOptions, Layout, index, index_products, training_images};
pub use loader::{Loaded, Loader, Preprocess};
pub use normalise::Normalisation;
pub use packed::{PackedImage, PackedImages};
pub use placement::{Placement, Region};
pub(crate) use resample::resample;
pub use sample::{Dataset, ImageSource, Label, MaskSource, Sample};
pub use share::TrainLimit;
