//! Adam for parameters in host memory.

use burn::optim::AdamConfig;
use burn::optim::decay::WeightDecayConfig;
use burn_ad_kernels::Isa;
use burn_ad_kernels::adam::{self, Step};

/// How Adam averages, and what it adds to gradients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamSettings {
    /// Factors on the running means of gradients, and of their squares.
    pub betas: [f64; 2],
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
}

impl Default for AdamSettings {
    /// PyTorch's.
    fn default() -> Self {
        Self {
            betas: [0.9, 0.999],
            weight_decay: 0.0,
        }
    }
}

impl AdamSettings {
    /// The same for Burn's Adam.
    pub fn to_burn(self) -> AdamConfig {
        let decay = self.weight_decay as f32;
        AdamConfig::new()
            .with_beta_1(self.betas[0] as f32)
            .with_beta_2(self.betas[1] as f32)
            .with_epsilon(EPSILON as f32)
            .with_weight_decay((decay > 0.0).then(|| WeightDecayConfig::new(decay)))
    }
}

/// Adam with `torch.optim.Adam`'s semantics for one parameter: decay is added to the gradient (L2),
/// epsilon to the root.
#[derive(Clone, Debug, PartialEq)]
pub struct Adam {
    settings: AdamSettings,
    steps: u64,
    /// Running means of gradients, and of their squares.
    moments: [Vec<f32>; 2],
}

/// PyTorch's default; Burn's own is larger.
const EPSILON: f64 = 1e-8;

const BYTES: usize = size_of::<f32>();

impl Adam {
    /// For a parameter of `count` values, before its first step.
    pub fn new(count: usize, settings: AdamSettings) -> Self {
        Self {
            settings,
            steps: 0,
            moments: [vec![0.0; count], vec![0.0; count]],
        }
    }

    /// One step down the gradient.
    ///
    /// # Panics
    /// If there are more or fewer values or gradients than the optimiser was made for.
    pub fn step(&mut self, values: &mut [f32], gradient: &[f32], learning_rate: f64) {
        let AdamSettings {
            betas,
            weight_decay,
        } = self.settings;
        self.steps += 1;
        let correction = |beta: f64| 1.0 - beta.powf(self.steps as f64);
        let step = Step {
            betas,
            weight_decay,
            rate: learning_rate / correction(betas[0]),
            root: correction(betas[1]).sqrt(),
            epsilon: EPSILON,
        };
        let [means, squares] = &mut self.moments;
        adam::step(Isa::best(), &step, values, gradient, means, squares);
    }

    /// What steps have left behind, for a checkpoint.
    pub fn to_bytes(&self) -> Vec<u8> {
        let moments = self.moments.iter().flatten();
        let mut bytes = self.steps.to_le_bytes().to_vec();
        bytes.extend(moments.flat_map(|value| value.to_le_bytes()));
        bytes
    }

    /// How long [`to_bytes`](Self::to_bytes) is.
    pub fn size(&self) -> usize {
        size_of_val(&self.steps) + 2 * self.moments[0].len() * BYTES
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

    fn settings(weight_decay: f64) -> AdamSettings {
        AdamSettings {
            betas: [0.95, 0.99],
            weight_decay,
        }
    }

    #[test]
    fn steps_equal_those_of_torch() {
        for trace in traces() {
            let mut values = trace.start.clone();
            let mut adam = Adam::new(values.len(), settings(trace.weight_decay));
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
        let fresh = || Adam::new(start.len(), settings(1e-4));
        let mut values = start.clone();
        let mut adam = fresh();
        for step in &steps {
            adam.step(&mut values, &step.gradient, step.learning_rate);
            assert_eq!(adam.to_bytes().len(), adam.size());
            let again = fresh().with_bytes(&adam.to_bytes()).unwrap();
            assert_eq!(again, adam);
            adam = again;
        }
        assert_eq!(fresh().with_bytes(&adam.to_bytes()[1..]), None);
        assert_eq!(fresh().with_bytes(&[1, 2]), None);
        assert_eq!(
            Adam::new(3, AdamSettings::default()).with_bytes(&adam.to_bytes()),
            None
        );
    }
}
