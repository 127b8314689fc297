//! Time of training steps of conditional flows on Flex.
//!
//! `benches/pytorch/flow_step.py` runs this program in turn with FrEIA on PyTorch; by itself it prints
//! a JSON line a measurement:
//! ```text
//! flow_step --channels 72 --steps 5         one optimiser step on 4096 vectors, five times
//! flow_step --sub-epoch --images 32         one pass over random features of 32 images at 256 x 256
//! ```

#![allow(missing_docs)]

use std::time::Instant;

use burn_ad::method::bgad::FlowLearner;
use burn_ad::train::stream_rng;
use burn_ad_benches::flow::{self, CHUNK, step};
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use rand::seq::SliceRandom;

type Backend = Autodiff<Flex>;

const BATCH: usize = 32;
/// Side of the feature map and channels of tf_efficientnet_b6's taps at 256 x 256.
const LEVELS: [(usize, usize); 3] = [(64, 40), (32, 72), (16, 200)];

fn learner(side: usize, channels: usize) -> FlowLearner<Backend> {
    flow::learner(side, channels, &Default::default())
}

fn steps(channels: usize, count: usize) {
    let level = LEVELS.iter().find(|level| level.1 == channels);
    let side = level.map_or(64, |level| level.0);
    let mut learner = learner(side, channels);
    let vectors = flow::vectors(CHUNK, channels);
    let positions = flow::positions(CHUNK, side);
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
    let maps = LEVELS.map(|(side, channels)| flow::vectors(images * side * side, channels));
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
