//! The loss of contrastive learning.

use burn::prelude::*;

/// The square of a vector's length counts as at least this.
const SMALLEST: f64 = 1e-16;
/// Added to the likeness of a vector with itself, so that it is no candidate.
const NEVER: f64 = -1e9;

/// NT-Xent, the normalised temperature-scaled cross entropy: how far each vector is from being told that
/// its partner, by their cosine, is likelier its partner than any other one. The mean over all vectors,
/// `[1]`.
///
/// `z` is `[2 * pairs, values]`; rows `i` and `i + pairs` belong together.
///
/// Source: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", ICML
/// 2020 (SimCLR).
///
/// # Panics
/// If the number of rows is odd.
pub fn nt_xent<B: Backend>(z: Tensor<B, 2>, temperature: f64) -> Tensor<B, 1> {
    let (device, [rows, _]) = (z.device(), z.dims());
    assert!(rows.is_multiple_of(2), "{rows} rows are no pairs");
    let lengths = z.clone().square().sum_dim(1).clamp_min(SMALLEST).sqrt();
    let unit = z / lengths;
    let partners = Tensor::cat(
        vec![
            unit.clone().narrow(0, rows / 2, rows / 2),
            unit.clone().narrow(0, 0, rows / 2),
        ],
        0,
    );
    let of_partners = (unit.clone() * partners).sum_dim(1) / temperature;
    let likeness = unit.clone().matmul(unit.transpose()) / temperature;
    let likeness = likeness + Tensor::eye(rows, &device) * NEVER;
    let greatest = likeness.clone().detach().max_dim(1);
    let sums = (likeness - greatest.clone()).exp().sum_dim(1).log() + greatest;
    (sums - of_partners).mean()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tensors::to_vec;
    use burn_autodiff::Autodiff;
    use burn_flex::Flex;
    use serde::Deserialize;

    type AB = Autodiff<Flex>;

    #[derive(Deserialize)]
    struct Fixture {
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        pairs: usize,
        width: usize,
        temperature: f64,
        z: Vec<f32>,
        loss: f64,
        gradient: Vec<f32>,
    }

    /// `tests/reference/igd_small.py`.
    fn cases() -> Vec<Case> {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/fixtures/igd/ntxent.json"
        );
        let text = std::fs::read_to_string(path).unwrap();
        serde_json::from_str::<Fixture>(&text).unwrap().cases
    }

    #[test]
    fn loss_and_gradient_are_those_of_torch() {
        for case in cases() {
            let data = TensorData::new(case.z, [2 * case.pairs, case.width]);
            let z = Tensor::<AB, 2>::from_data(data, &Default::default()).require_grad();
            let loss = nt_xent(z.clone(), case.temperature);
            let found = f64::from(to_vec(loss.clone())[0]);
            // Cosines in f32, divided by the temperature.
            let tolerance = 2e-6 / case.temperature;
            assert!(
                (found - case.loss).abs() < tolerance,
                "{found}, {}",
                case.loss
            );
            let gradient = to_vec(z.grad(&loss.backward()).unwrap());
            for (found, expected) in gradient.iter().zip(&case.gradient) {
                let apart = f64::from((found - expected).abs());
                assert!(apart < tolerance, "{found}, {expected}");
            }
        }
    }

    #[test]
    fn pairs_that_agree_lose_less_and_zeros_are_no_accident() {
        let loss = |z: [[f32; 2]; 4]| {
            let z = Tensor::<AB, 2>::from_floats(z, &Default::default()).require_grad();
            let loss = nt_xent(z.clone(), 0.5);
            let gradient = to_vec(z.grad(&loss.backward()).unwrap());
            assert!(gradient.iter().all(|value| value.is_finite()));
            to_vec(loss)[0]
        };
        let agreed = loss([[1.0, 0.0], [0.0, 1.0], [2.0, 0.1], [0.1, 3.0]]);
        let crossed = loss([[1.0, 0.0], [0.0, 1.0], [0.1, 3.0], [2.0, 0.1]]);
        assert!(agreed < crossed, "{agreed} {crossed}");
        // Three candidates, all alike.
        assert!((loss([[0.0; 2]; 4]) - 3f32.ln()).abs() < 1e-6);
    }
}
