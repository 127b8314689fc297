//! Visual anomaly detection on the Burn framework: find the defective product, and the defective
//! pixels, after training on normal images.
//!
//! ```text
//! data  ->  backbone  ->  method  ->  scores  ->  metrics  ->  report
//! (files,   (frozen       (N-pad,     (image      (AUROC,      (tables, CSV,
//!  resize,   features,     PaDiM,      score,      AP, F1,      heat maps,
//!  batches)  any Backend)  PatchCore)  map)        AUPRO)       HTML)
//! ```
//!
//! Everything that touches tensors is generic over [`Backend`](burn::tensor::backend::Backend):
//! the same code trains on CUDA and runs on WGPU or a CPU. The library enables no backend; an app
//! picks its own.
//!
//! # Example
//!
//! Train on a procedural product with a random-weight backbone, on Burn's CPU backend, and score
//! one image. For real weights see [`backbone::WeightsFile`]; the example `train_and_score` shows
//! the whole path on a folder of images.
//!
//! ```
//! use burn_ad::backbone::BackboneConfig;
//! use burn_ad::data::synthetic::{Product, SyntheticConfig, in_memory};
//! use burn_ad::data::{Batch, Filter, Fit, Geometry, Loader, Normalisation, Preprocess};
//! use burn_ad::method::{MethodConfig, Model, TrainOptions, TrainingImages};
//! use burn_ad::train::{Quiet, Run};
//! use burn_flex::Flex;
//!
//! # fn main() -> burn_ad::Result<()> {
//! let product = in_memory(&SyntheticConfig::mini(Product::MetalPlate))?;
//! let loader = Loader::new(Preprocess {
//!     geometry: Geometry { fit: Fit::Letterbox, size: 64, filter: Filter::Bilinear },
//!     normalisation: Normalisation::IMAGENET,
//! });
//! let device = Default::default();
//! let backbone = "resnet18".parse::<BackboneConfig>()?.random::<Flex>(7, &device);
//! let options = TrainOptions {
//!     dataset: product.name.clone(),
//!     backend: "flex".into(),
//!     weights_source: "random".into(),
//!     random_seed: Some(7),
//!     known_anomalies: Vec::new(),
//!     contamination: Vec::new(),
//!     calibration_share: 0.2,
//!     target_fpr: 0.05,
//! };
//! let mut observer = Quiet;
//! let mut run = Run::<burn_autodiff::Autodiff<Flex>>::new(device, 0, &mut observer);
//! let method = MethodConfig::preset("padim")?;
//! let images = TrainingImages::of_normal(&product.train);
//! let model = Model::train(&method, backbone, &images, &loader, &options, &mut run)?;
//!
//! let image = loader.preprocess().load(0, &product.test[0])?;
//! let prediction = model.predict(&Batch::from_loaded(&[image], 64, &device));
//! assert_eq!(prediction.anomaly_maps.dims(), [1, 64, 64]);
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]

pub mod augment;
pub mod backbone;
pub mod data;
pub mod error;
pub mod files;
pub mod flow;
pub mod method;
pub mod metrics;
pub mod network;
pub mod ops;
pub mod pretrain;
pub mod report;
pub mod ssim;
pub mod tensors;
pub mod train;

pub use error::{Error, Result};
