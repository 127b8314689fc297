//! A network and the optimiser that trains it.

use burn::module::AutodiffModule;
use burn::tensor::backend::AutodiffBackend;

use super::optimiser::{Descent, Optimiser};
use super::parameters::{load, save};
use crate::error::Result;
use crate::tensors::TensorSet;
use crate::train::AdamSettings;

/// A network that learns, with its Adam; one of the two of an adversarial game.
pub struct Player<M: AutodiffModule<AB>, AB: AutodiffBackend> {
    /// Absent only while a step changes it: in place, where nobody else holds its tensors.
    network: Option<M>,
    optimiser: Optimiser<M, AB>,
}

impl<M: AutodiffModule<AB>, AB: AutodiffBackend> Player<M, AB> {
    /// Before the first step.
    pub fn new(network: M, settings: AdamSettings, device: &AB::Device) -> Self {
        Self {
            optimiser: Optimiser::new(&network, settings, device),
            network: Some(network),
        }
    }

    /// The network as it is.
    pub fn network(&self) -> &M {
        self.network.as_ref().expect("it is back after each step")
    }

    /// One step; the norm of the gradients where they are clipped.
    pub fn step(&mut self, gradients: AB::Gradients, descent: Descent) -> Option<f64> {
        let network = self.network.take().expect("it is back after each step");
        let (network, norm) = self.optimiser.step(network, gradients, descent);
        self.network = Some(network);
        norm
    }

    /// The optimiser for a checkpoint, by its name there; adds the network's tensors, their names
    /// below `name`, to those of others.
    ///
    /// # Errors
    /// When the optimiser cannot be serialised.
    pub fn part(&self, name: &str, networks: &mut TensorSet) -> Result<(String, Vec<u8>)> {
        save(self.network(), name, networks);
        Ok((adam(name), self.optimiser.to_bytes()?))
    }

    /// Takes over what [`part`](Self::part) gave: the tensors out of `networks`, the optimiser by
    /// `take`, which is asked for its name.
    ///
    /// # Errors
    /// When something is missing or belongs to another network.
    pub fn restored(
        mut self,
        name: &str,
        networks: &mut TensorSet,
        take: &mut dyn FnMut(&str) -> Result<Vec<u8>>,
        device: &AB::Device,
    ) -> Result<Self> {
        let network = self.network.take().expect("it is back after each step");
        let network = load(network, name, networks)?;
        self.optimiser
            .restore(&network, take(&adam(name))?, device)?;
        self.network = Some(network);
        Ok(self)
    }
}

/// The name of an optimiser's part of a checkpoint.
fn adam(name: &str) -> String {
    format!("{name}.adam")
}
