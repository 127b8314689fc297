//! Comparison of a tensor with reference values.

use burn::prelude::*;

/// Panics when a value differs from `expected` by more than `tolerance`.
pub(crate) fn assert_close<B: Backend, const D: usize>(
    actual: Tensor<B, D>,
    expected: &[f32],
    tolerance: f32,
) {
    let actual: Vec<f32> = actual.into_data().convert::<f32>().to_vec().expect("f32");
    assert_eq!(actual.len(), expected.len(), "number of values");
    for (index, (a, b)) in actual.iter().zip(expected).enumerate() {
        assert!(
            (a - b).abs() <= tolerance,
            "value {index}: {a} instead of {b}"
        );
    }
}
