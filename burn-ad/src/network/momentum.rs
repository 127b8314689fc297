//! Stochastic gradient descent with momentum for a whole network.

use burn::module::{AutodiffModule, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;

use crate::error::Result;
use crate::tensors::{HostTensor, TensorSet};

/// How [`Momentum`] goes down.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MomentumSettings {
    /// Share of the last step's velocity in the next one's.
    pub momentum: f64,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
}

/// `torch.optim.SGD` with momentum, without dampening: `v = momentum v + gradient + decay w`,
/// `w = w - rate v`.
// Burn has one, but it finds the velocity of a tensor by the tensor's id, which is drawn anew where a
// network is made again to go on from a checkpoint. Here places in the network stand for tensors.
pub struct Momentum<AB: AutodiffBackend> {
    settings: MomentumSettings,
    /// In the order of the network, flat; `None` before a tensor's first gradient.
    velocities: Vec<Option<Tensor<AB::InnerBackend, 1>>>,
}

impl<AB: AutodiffBackend> Momentum<AB> {
    /// Before the first step.
    pub fn new(settings: MomentumSettings) -> Self {
        Self {
            settings,
            velocities: Vec::new(),
        }
    }

    /// One step; the network behind it. Tensors without a gradient stay as they are.
    pub fn step<M: AutodiffModule<AB>>(
        &mut self,
        network: M,
        gradients: AB::Gradients,
        learning_rate: f64,
    ) -> M {
        let gradients = GradientsParams::from_grads(gradients, &network);
        network.map(&mut Walk {
            momentum: self,
            gradients,
            learning_rate,
            place: 0,
        })
    }

    /// What steps have left behind, for a checkpoint.
    ///
    /// # Errors
    /// When it cannot be serialised.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut tensors = TensorSet::default();
        for (place, velocity) in self.velocities.iter().enumerate() {
            if let Some(velocity) = velocity {
                let velocity = HostTensor::from_tensor(velocity.clone());
                tensors.insert(place.to_string(), velocity);
            }
        }
        tensors.to_bytes()
    }

    /// Takes over what [`to_bytes`](Self::to_bytes) gave for a network of the same plan.
    ///
    /// # Errors
    /// When the bytes are damaged.
    pub fn restore(&mut self, bytes: &[u8], device: &AB::Device) -> Result<()> {
        let mut tensors = TensorSet::from_bytes(bytes)?;
        let places = tensors.iter_mut().map(|(name, _)| name.parse());
        let places: Vec<usize> = places.filter_map(|place| place.ok()).collect();
        self.velocities = vec![None; places.iter().max().map_or(0, |last| last + 1)];
        for place in places {
            let velocity = tensors.take_tensor(&place.to_string(), [None], device)?;
            self.velocities[place] = Some(velocity);
        }
        tensors.finish()
    }
}

struct Walk<'a, AB: AutodiffBackend> {
    momentum: &'a mut Momentum<AB>,
    gradients: GradientsParams,
    learning_rate: f64,
    place: usize,
}

impl<AB: AutodiffBackend> ModuleMapper<AB> for Walk<'_, AB> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<AB, D>>) -> Param<Tensor<AB, D>> {
        let MomentumSettings {
            momentum,
            weight_decay,
        } = self.momentum.settings;
        let velocities = &mut self.momentum.velocities;
        let place = self.place;
        self.place += 1;
        if velocities.len() == place {
            velocities.push(None);
        }
        let Some(gradient) = self.gradients.remove::<AB::InnerBackend, D>(param.id) else {
            return param;
        };
        let (id, tensor, mapper) = param.consume();
        let learns = tensor.is_require_grad();
        let values = tensor.inner();
        let shape = values.dims();
        let count = shape.iter().product::<usize>();
        let slope = (gradient + values.clone() * weight_decay).reshape([count]);
        let velocity = match velocities[place].take() {
            Some(velocity) => velocity * momentum + slope,
            None => slope,
        };
        velocities[place] = Some(velocity.clone());
        let values = values - velocity.reshape(shape) * self.learning_rate;
        let tensor = Tensor::from_inner(values);
        let tensor = match learns {
            true => tensor.require_grad(),
            false => tensor,
        };
        Param::from_mapped_value(id, tensor, mapper)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::network::{Init, Linear, load, save};
    use crate::train::stream_rng;
    use burn_autodiff::Autodiff;
    use burn_flex::Flex;

    type AB = Autodiff<Flex>;

    const SETTINGS: MomentumSettings = MomentumSettings {
        momentum: 0.9,
        weight_decay: 0.1,
    };

    fn network() -> Linear<AB> {
        let mut rng = stream_rng(2, "momentum");
        Linear::new(3, 1, Init::Uniform, &mut rng, &Default::default())
    }

    fn tensors(network: &Linear<AB>) -> TensorSet {
        let mut set = TensorSet::default();
        save(network, "", &mut set);
        set
    }

    /// The offset and three weights.
    fn values(network: &Linear<AB>) -> Vec<f32> {
        let mut set = tensors(network);
        set.iter_mut().flat_map(|(_, t)| t.values.clone()).collect()
    }

    const X: [f32; 3] = [1.0, -2.0, 0.5];

    /// A step on the squared output.
    fn step(momentum: &mut Momentum<AB>, network: Linear<AB>) -> Linear<AB> {
        let x = Tensor::<AB, 2>::from_floats([X], &Default::default());
        let gradients = network.forward(x).square().sum().backward();
        momentum.step(network, gradients, 0.05)
    }

    #[test]
    fn steps_are_those_of_the_formula() {
        let (mut network, mut momentum) = (network(), Momentum::new(SETTINGS));
        let mut expected: Vec<f64> = values(&network).into_iter().map(f64::from).collect();
        let mut velocity = [0.0; 4];
        for _ in 0..4 {
            network = step(&mut momentum, network);
            let inputs = [1.0, 1.0, -2.0, 0.5];
            let y: f64 = expected.iter().zip(inputs).map(|(w, x)| w * x).sum();
            for place in 0..4 {
                let slope = 2.0 * y * inputs[place] + 0.1 * expected[place];
                velocity[place] = 0.9 * velocity[place] + slope;
                expected[place] -= 0.05 * velocity[place];
            }
            for (found, expected) in values(&network).iter().zip(&expected) {
                assert!((f64::from(*found) - expected).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn a_saved_state_goes_on() {
        let mut momentum = Momentum::new(SETTINGS);
        let learnt = step(&mut momentum, network());
        // What goes on is made anew, and has tensors with other ids.
        let restored = load(network(), "", &mut tensors(&learnt)).unwrap();
        let mut again = Momentum::new(SETTINGS);
        let bytes = momentum.to_bytes().unwrap();
        again.restore(&bytes, &Default::default()).unwrap();
        let expected = values(&step(&mut momentum, learnt));
        assert_eq!(values(&step(&mut again, restored)), expected);
        assert!(again.restore(&bytes[1..], &Default::default()).is_err());
    }
}
