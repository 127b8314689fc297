//! Time of training steps of conditional flows on Flex.
//!
//! `benches/python/flow_step.py` runs this program in turn with FrEIA on PyTorch; by itself it prints
//! a JSON line a measurement:
//! ```text
//! flow_step --channels 72 --steps 5         one optimiser step on 4096 vectors, five times
//! flow_step --sub-epoch --images 32         one pass over random features of 32 images at 256 x 256
//! ```

#![allow(missing_docs)]

use std::time::Instant;

use burn_ad::flow::{ConditionalFlow, FlowConfig};
use burn_ad::method::bgad::{FlowLearner, LossConfig};
use burn_ad::train::stream_rng;
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use rand::RngExt;
use rand::seq::SliceRandom;

type Backend = Autodiff<Flex>;

const CHUNK: usize = 4096;
const BATCH: usize = 32;
const LEARNING_RATE: f64 = 2e-4;
/// Side of the feature map and channels of tf_efficientnet_b6's taps at 256 x 256.
const LEVELS: [(usize, usize); 3] = [(64, 40), (32, 72), (16, 200)];

fn learner(side: usize, channels: usize) -> FlowLearner<Backend> {
    let (config, device) = (FlowConfig::bgad(), Default::default());
    let flow: ConditionalFlow<Backend> = config.init(channels, &mut stream_rng(0, "flow"), &device);
    FlowLearner::new(flow, [side; 2], config.position_channels, &device)
}

fn features(vectors: usize, channels: usize) -> Vec<f32> {
    let mut rng = stream_rng(1, "features");
    (0..vectors * channels)
        .map(|_| (0..3).map(|_| rng.random_range(-1.0f32..1.0)).sum())
        .collect()
}

fn step(learner: &mut FlowLearner<Backend>, vectors: &[f32], positions: &[usize]) {
    let loss = |values: &[f32]| LossConfig::nfad().evaluate(values, &[], false);
    let loss = learner.step(vectors, positions, loss, LEARNING_RATE);
    assert!(loss.is_finite());
}

fn steps(channels: usize, count: usize) {
    let level = LEVELS.iter().find(|level| level.1 == channels);
    let side = level.map_or(64, |level| level.0);
    let mut learner = learner(side, channels);
    let vectors = features(CHUNK, channels);
    let mut rng = stream_rng(2, "positions");
    let positions: Vec<usize> = (0..CHUNK)
        .map(|_| rng.random_range(0..side * side))
        .collect();
    step(&mut learner, &vectors, &positions);
    for _ in 0..count {
        let started = Instant::now();
        step(&mut learner, &vectors, &positions);
        let seconds = started.elapsed().as_secs_f64();
        println!("{{\"channels\": {channels}, \"seconds\": {seconds}}}");
    }
}

fn sub_epoch(images: usize) {
    let mut learners = LEVELS.map(|(side, channels)| learner(side, channels));
    let maps = LEVELS.map(|(side, channels)| features(images * side * side, channels));
    let mut rng = stream_rng(3, "order");
    let mut order: Vec<usize> = (0..images).collect();
    order.shuffle(&mut rng);
    let started = Instant::now();
    let mut count = 0;
    for batch in order.chunks(BATCH) {
        for (level, &(side, channels)) in LEVELS.iter().enumerate() {
            let positions = side * side;
            let mut picks: Vec<usize> = batch
                .iter()
                .flat_map(|image| image * positions..(image + 1) * positions)
                .collect();
            picks.shuffle(&mut rng);
            for chunk in picks.chunks_exact(CHUNK) {
                let mut vectors = Vec::with_capacity(CHUNK * channels);
                for pick in chunk {
                    vectors.extend_from_slice(&maps[level][pick * channels..][..channels]);
                }
                let positions: Vec<usize> = chunk.iter().map(|pick| pick % positions).collect();
                step(&mut learners[level], &vectors, &positions);
                count += 1;
            }
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{{\"images\": {images}, \"steps\": {count}, \"seconds\": {seconds}}}");
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str, otherwise: usize| {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1)?.parse().ok())
            .unwrap_or(otherwise)
    };
    if arguments.iter().any(|argument| argument == "--sub-epoch") {
        sub_epoch(value("--images", BATCH));
    } else {
        steps(value("--channels", 72), value("--steps", 5));
    }
}
