//! Parity with Python references and conformance of every method.
//!
//! One binary, so that each backend is compiled once.

#![allow(missing_docs)]

mod backbone_parity;
mod backends;
mod bgad_conformance;
mod ckaad_metrics;
mod ckaad_parity;
mod data_check;
mod data_geometry;
mod data_image;
mod data_layout;
mod data_loader;
mod data_pillow;
mod flow_import;
mod gradients;
mod igd_parity;
mod metrics_parity;
mod metrics_properties;
mod npad_conformance;
mod weights_checkpoint;
mod weights_fetch;
mod weights_import;
mod world;
