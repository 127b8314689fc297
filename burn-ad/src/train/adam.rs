//! Adam for parameters in host memory.

/// Adam with `torch.optim.Adam`'s semantics for one parameter: decay is added to the gradient (L2),
/// epsilon to the root.
#[derive(Clone, Debug, PartialEq)]
pub struct Adam {
    betas: [f64; 2],
    weight_decay: f64,
    steps: u64,
    /// Running means of gradients, and of their squares.
    moments: [Vec<f32>; 2],
}

/// PyTorch's default.
const EPSILON: f64 = 1e-8;

const BYTES: usize = size_of::<f32>();

impl Adam {
    /// For a parameter of `count` values, before its first step.
    pub fn new(count: usize, betas: [f64; 2], weight_decay: f64) -> Self {
        Self {
            betas,
            weight_decay,
            steps: 0,
            moments: [vec![0.0; count], vec![0.0; count]],
        }
    }

    /// One step down the gradient.
    ///
    /// # Panics
    /// If there are more or fewer values or gradients than the optimiser was made for.
    pub fn step(&mut self, values: &mut [f32], gradient: &[f32], learning_rate: f64) {
        let [means, squares] = &mut self.moments;
        assert_eq!(values.len(), means.len(), "values of the parameter");
        assert_eq!(gradient.len(), means.len(), "values of the gradient");
        self.steps += 1;
        let [beta_1, beta_2] = self.betas;
        let correction = |beta: f64| 1.0 - beta.powf(self.steps as f64);
        let step = learning_rate / correction(beta_1);
        let root = correction(beta_2).sqrt();
        let moments = means.iter_mut().zip(squares);
        for ((value, &gradient), (mean, square)) in values.iter_mut().zip(gradient).zip(moments) {
            let gradient = f64::from(gradient) + self.weight_decay * f64::from(*value);
            *mean = (beta_1 * f64::from(*mean) + (1.0 - beta_1) * gradient) as f32;
            *square = (beta_2 * f64::from(*square) + (1.0 - beta_2) * gradient * gradient) as f32;
            let deviation = f64::from(*square).sqrt() / root + EPSILON;
            *value = (f64::from(*value) - step * f64::from(*mean) / deviation) as f32;
        }
    }

    /// What steps have left behind, for a checkpoint.
    pub fn to_bytes(&self) -> Vec<u8> {
        let moments = self.moments.iter().flatten();
        let mut bytes = self.steps.to_le_bytes().to_vec();
        bytes.extend(moments.flat_map(|value| value.to_le_bytes()));
        bytes
    }

    /// Takes over what [`to_bytes`](Self::to_bytes) gave; `None` when that belongs to a parameter of
    /// another size.
    #[must_use]
    pub fn with_bytes(mut self, bytes: &[u8]) -> Option<Self> {
        let (steps, moments) = bytes.split_first_chunk()?;
        let count = self.moments[0].len();
        if moments.len() != 2 * count * BYTES {
            return None;
        }
        self.steps = u64::from_le_bytes(*steps);
        let (values, _) = moments.as_chunks::<BYTES>();
        let places = self.moments.iter_mut().flatten();
        for (place, value) in places.zip(values) {
            *place = f32::from_le_bytes(*value);
        }
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Trace {
        weight_decay: f64,
        start: Vec<f32>,
        steps: Vec<Step>,
    }

    #[derive(Deserialize)]
    struct Step {
        learning_rate: f64,
        gradient: Vec<f32>,
        values: Vec<f32>,
    }

    /// `tests/reference/hgad.py`.
    fn traces() -> Vec<Trace> {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/fixtures/hgad/adam.json"
        );
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    #[test]
    fn steps_equal_those_of_torch() {
        for trace in traces() {
            let mut values = trace.start.clone();
            let mut adam = Adam::new(values.len(), [0.95, 0.99], trace.weight_decay);
            for step in &trace.steps {
                adam.step(&mut values, &step.gradient, step.learning_rate);
                for (index, (a, b)) in values.iter().zip(&step.values).enumerate() {
                    // Two or three roundings of the value; a step is 1e-3.
                    assert!((a - b).abs() <= 5e-7, "value {index}: {a}, expected {b}");
                }
            }
            assert_ne!(values, trace.start);
        }
    }

    #[test]
    fn a_saved_state_goes_on_as_if_nothing_had_happened() {
        let Trace { start, steps, .. } = traces().swap_remove(0);
        let fresh = || Adam::new(start.len(), [0.95, 0.99], 1e-4);
        let mut values = start.clone();
        let mut adam = fresh();
        for step in &steps {
            adam.step(&mut values, &step.gradient, step.learning_rate);
            let again = fresh().with_bytes(&adam.to_bytes()).unwrap();
            assert_eq!(again, adam);
            adam = again;
        }
        assert_eq!(fresh().with_bytes(&adam.to_bytes()[1..]), None);
        assert_eq!(fresh().with_bytes(&[1, 2]), None);
        assert_eq!(
            Adam::new(3, [0.9, 0.9], 0.0).with_bytes(&adam.to_bytes()),
            None
        );
    }
}
