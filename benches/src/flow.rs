//! Training steps of conditional flows, the way BGAD takes them.

use burn::tensor::backend::AutodiffBackend;
use burn_ad::flow::{ConditionalFlow, FlowConfig};
use burn_ad::method::bgad::{FlowLearner, LossConfig};
use burn_ad::train::{AdamSettings, stream_rng};
use rand::RngExt;

/// Vectors of one step.
pub const CHUNK: usize = 4096;
const LEARNING_RATE: f64 = 2e-4;

/// A flow of BGAD's size for maps of `side` x `side` positions, with its optimiser.
pub fn learner<AB: AutodiffBackend>(
    side: usize,
    channels: usize,
    device: &AB::Device,
) -> FlowLearner<AB> {
    let config = FlowConfig::bgad();
    let flow: ConditionalFlow<AB> = config.init(channels, &mut stream_rng(0, "flow"), device);
    FlowLearner::new(flow, [side; 2], AdamSettings::default(), device)
}

/// Features, nearly normal: `count` vectors, row-major.
pub fn vectors(count: usize, channels: usize) -> Vec<f32> {
    let mut rng = stream_rng(1, "features");
    (0..count * channels)
        .map(|_| (0..3).map(|_| rng.random_range(-1.0f32..1.0)).sum())
        .collect()
}

/// A position on the map for each of `count` vectors.
pub fn positions(count: usize, side: usize) -> Vec<usize> {
    let mut rng = stream_rng(2, "positions");
    (0..count)
        .map(|_| rng.random_range(0..side * side))
        .collect()
}

/// One optimiser step on the likelihood of normal vectors (NFAD).
///
/// # Panics
/// If the loss is not finite.
pub fn step<AB: AutodiffBackend>(
    learner: &mut FlowLearner<AB>,
    vectors: &[f32],
    positions: &[usize],
) {
    let loss = |values: &[f32]| LossConfig::nfad().evaluate(values, &[], false);
    let loss = learner.step(vectors, positions, loss, LEARNING_RATE);
    assert!(loss.is_finite());
}
