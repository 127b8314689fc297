//! Every function of `burn_ad::ops` that computes on tensors, against plain loops in f64: values
//! with and without autodiff, and gradients against central differences of the loops.

mod convolution;
mod maps;
mod pooling;
mod rows;

pub(crate) use convolution::convolutions_equal_their_definition;
pub(crate) use maps::resizing_and_blurring_equal_their_definition;
pub(crate) use pooling::pools_equal_their_definition;
pub(crate) use rows::{
    distances_and_nearest_rows_equal_an_exhaustive_search,
    means_scales_and_activations_equal_their_definition,
};

/// Index of a value in a dense `[_, channels, height, width]`.
fn at([_, channels, height, width]: [usize; 4], [n, c, y, x]: [usize; 4]) -> usize {
    ((n * channels + c) * height + y) * width + x
}

/// Every index of a dense tensor, in the order of its values.
fn indices([batch, channels, height, width]: [usize; 4]) -> impl Iterator<Item = [usize; 4]> {
    let plane = move |n, c| (0..height).flat_map(move |y| (0..width).map(move |x| [n, c, y, x]));
    (0..batch).flat_map(move |n| (0..channels).flat_map(move |c| plane(n, c)))
}
