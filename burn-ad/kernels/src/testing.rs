//! What tests of several kernels draw.

use std::ops::Range;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::window::{Map, Window};

/// Values between -1 and 1.
pub(crate) fn draw(rng: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// A window with any padding up to the size of its kernel, which is `kernel` or as much as fits the map.
pub(crate) fn window_on(
    map: Map,
    kernel: usize,
    strides: Range<usize>,
    rng: &mut ChaCha8Rng,
) -> Window {
    let padding: [usize; 4] = std::array::from_fn(|_| rng.random_range(0..=kernel));
    Window {
        kernel: [
            kernel.min(map.height + padding[0] + padding[1]),
            kernel.min(map.width + padding[2] + padding[3]),
        ],
        stride: [rng.random_range(strides.clone()), rng.random_range(strides)],
        padding,
    }
}
