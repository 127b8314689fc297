//! The networks of IGD: encoder and decoder, and the critic of their training.
//!
//! Source: Chen et al., AAAI 2022, "Global and Local IGD Models", and the published code for what the text
//! leaves open. Names: [`Generator`] is encoder, linear head and decoder together.

mod count;
mod critic;
mod decoder;
mod generator;

pub use critic::Critic;
pub use decoder::Decoder;
pub use generator::{Generator, GeneratorPlan};
