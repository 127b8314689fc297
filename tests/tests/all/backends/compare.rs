//! Comparison of tensors, and of operations with their formulas.

use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use burn_ad::tensors::to_vec;
use burn_ad_tests::reference_fill::uniform;

use super::Place;

/// Step of the central differences: their error is of the order of its square.
const STEP: f64 = 1e-4;

/// Numbers in [-1, 1), the same for one `name`.
pub(crate) fn draw(name: &str, count: usize) -> Vec<f32> {
    uniform(name, count)
        .map(|u| (2.0 * u - 1.0) as f32)
        .collect()
}

pub(crate) fn tensor<B: Backend, const D: usize>(
    values: &[f32],
    shape: [usize; D],
    device: &B::Device,
) -> Tensor<B, D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

/// Panics where `found` and `expected` differ by more than `tolerance` of the largest expected value.
pub(crate) fn assert_close(what: &str, found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}: number of values");
    let largest = expected
        .iter()
        .fold(f64::MIN_POSITIVE, |a, b| a.max(b.abs()));
    let mut worst = 0.0f64;
    for (index, (&a, &b)) in found.iter().zip(expected).enumerate() {
        let difference = (f64::from(a) - b).abs() / largest;
        // A NaN is not close to anything.
        assert!(
            difference <= tolerance,
            "{what}, value {index}: {a} instead of {b} (largest {largest})"
        );
        worst = worst.max(difference);
    }
    println!("{what}: {worst:.1e}");
}

pub(crate) fn doubles(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// A function of tensors, and what it is by definition.
pub(crate) trait Operation {
    /// What this is.
    fn name(&self) -> String;

    /// Shapes of its inputs.
    fn shapes(&self) -> Vec<Vec<usize>>;

    /// The operation, of flat inputs; its result flattened.
    fn run<B: Backend>(&self, inputs: Vec<Tensor<B, 1>>) -> Tensor<B, 1>;

    /// The definition.
    fn formula(&self, inputs: &[Vec<f64>]) -> Vec<f64>;
}

/// Values with and without autodiff, and the gradient of every input, against the formula.
pub(crate) fn assert_operation<AB: AutodiffBackend>(operation: &impl Operation, place: &Place<AB>) {
    let name = operation.name();
    let inputs: Vec<Vec<f32>> = (0..)
        .zip(operation.shapes())
        .map(|(index, shape)| draw(&format!("{name} {index}"), shape.iter().product()))
        .collect();
    let exact: Vec<Vec<f64>> = inputs.iter().map(|values| doubles(values)).collect();
    let expected = operation.formula(&exact);

    let values = place.tolerances.values;
    let plain: Vec<_> = inputs
        .iter()
        .map(|values| tensor::<AB::InnerBackend, 1>(values, [values.len()], &place.device))
        .collect();
    assert_close(&name, &to_vec(operation.run(plain)), &expected, values);

    let leaves: Vec<_> = inputs
        .iter()
        .map(|values| tensor::<AB, 1>(values, [values.len()], &place.device).require_grad())
        .collect();
    let result = operation.run(leaves.clone());
    let what = format!("{name}, with autodiff");
    assert_close(&what, &to_vec(result.clone()), &expected, values);

    let seed = draw("seed", expected.len());
    let weighted = result * tensor(&seed, [seed.len()], &place.device);
    let gradients = weighted.sum().backward();
    let mut at = exact;
    for (index, leaf) in leaves.iter().enumerate() {
        let found = leaf.grad(&gradients).expect("each input has a gradient");
        let expected = (0..at[index].len())
            .map(|position| slope(operation, &mut at, index, position, &seed))
            .collect::<Vec<f64>>();
        let what = format!("{name}, gradient of input {index}");
        assert_close(&what, &to_vec(found), &expected, place.tolerances.gradients);
    }
}

/// The derivative of the formula's result, weighted by `seed`, with respect to one value.
fn slope(
    operation: &impl Operation,
    at: &mut [Vec<f64>],
    input: usize,
    position: usize,
    seed: &[f32],
) -> f64 {
    let start = at[input][position];
    let mut weighted = |offset: f64| -> f64 {
        at[input][position] = start + offset;
        let result = operation.formula(at);
        let products = result.iter().zip(seed).map(|(y, s)| y * f64::from(*s));
        products.sum()
    };
    let slope = (weighted(STEP) - weighted(-STEP)) / (2.0 * STEP);
    at[input][position] = start;
    slope
}
