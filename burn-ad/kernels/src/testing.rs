//! What tests of several kernels draw.

use std::ops::Range;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::window::{Map, Window};

/// Numbers of `count` random cases. Miri, some thousand times as slow, takes few of them.
pub(crate) fn cases(count: usize) -> impl Iterator<Item = usize> {
    let (step, most) = if cfg!(miri) { (7, 4) } else { (1, count) };
    (0..count).step_by(step).take(most)
}

/// A bound of random sizes, or under Miri about an eighth of it.
pub(crate) fn most(size: usize) -> usize {
    if cfg!(miri) { size / 8 + 2 } else { size }
}

/// Whether a case of so many values, or products, can be afforded: any but under Miri.
pub(crate) fn affordable(work: usize) -> bool {
    !cfg!(miri) || work <= 6_000
}

/// Every step, or under Miri one of a thousand.
pub(crate) fn steps(range: Range<i32>) -> impl Iterator<Item = i32> {
    range.step_by(if cfg!(miri) { 1009 } else { 1 })
}

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
