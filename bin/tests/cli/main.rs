//! The `burn-ad` command as a user meets it: what it prints, writes and returns.
#![allow(clippy::unwrap_used)]

mod augment;
mod bench;
mod ckaad;
mod classes;
mod data;
mod eval;
mod experiment;
mod hgad;
mod igd;
mod interrupt;
mod known;
mod predict;
mod pretrain;
mod robustness;
mod train;
mod usage;
mod weights;
mod world;
