//! Adam for a whole network, with clipping by the norm of all gradients.

use std::collections::HashMap;
use std::marker::PhantomData;

use burn::module::{AutodiffModule, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::adaptor::OptimizerAdaptor;
use burn::optim::{Adam as BurnAdam, GradientsParams, Optimizer};
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;

use crate::error::{Error, Result};
use crate::ops::{computes_on_cpu, reuse};
use crate::tensors::to_vec;
use crate::train::{Adam, AdamSettings, record_from_bytes, record_to_bytes};

/// Added to the norm before it divides (PyTorch's `clip_grad_norm_`).
const CLIP_EPSILON: f64 = 1e-6;

/// Adam. Where tensors lie in main memory a kernel changes them in place; elsewhere it is Burn's.
pub struct Optimiser<M: AutodiffModule<AB>, AB: AutodiffBackend> {
    settings: AdamSettings,
    state: State<M, AB>,
}

enum State<M: AutodiffModule<AB>, AB: AutodiffBackend> {
    /// One for each tensor that has had a gradient, in the order of the network.
    Host(Vec<Option<Adam>>),
    /// Burn's, which finds the state of a tensor by the tensor's id.
    Device {
        /// In the order of the network.
        ids: Vec<ParamId>,
        adam: Box<OptimizerAdaptor<BurnAdam, M, AB>>,
    },
}

/// How far a step goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Descent {
    /// Adam's learning rate.
    pub learning_rate: f64,
    /// The largest Euclidean norm of all gradients together; longer ones are shortened.
    pub clip: Option<f64>,
}

impl<M: AutodiffModule<AB>, AB: AutodiffBackend> Optimiser<M, AB> {
    /// Before the first step of `network`.
    pub fn new(network: &M, settings: AdamSettings, device: &AB::Device) -> Self {
        let tensors = tensors(network);
        let state = if computes_on_cpu::<AB>(device) {
            State::Host(vec![None; tensors.len()])
        } else {
            State::Device {
                ids: tensors.into_iter().map(|(id, _)| id).collect(),
                adam: Box::new(settings.to_burn().init()),
            }
        };
        Self { settings, state }
    }

    /// One step; the network behind it and, where gradients are clipped, their norm before that.
    ///
    /// Tensors without a gradient stay as they are.
    pub fn step(
        &mut self,
        network: M,
        gradients: AB::Gradients,
        descent: Descent,
    ) -> (M, Option<f64>) {
        let mut gradients = GradientsParams::from_grads(gradients, &network);
        match &mut self.state {
            State::Host(adams) => {
                let mut taken = HostGradients::<AB> {
                    gradients: &mut gradients,
                    values: Vec::with_capacity(adams.len()),
                    backend: PhantomData,
                };
                network.visit(&mut taken);
                let mut values = taken.values;
                let norm = descent.clip.map(|_| host_norm(&values));
                let factor = factor(norm, descent.clip);
                if factor < 1.0 {
                    let all = values.iter_mut().flatten().flatten();
                    all.for_each(|value| *value *= factor as f32);
                }
                let network = network.map(&mut HostStep {
                    adams: adams.iter_mut(),
                    gradients: values.into_iter(),
                    settings: self.settings,
                    learning_rate: descent.learning_rate,
                });
                (network, norm)
            }
            State::Device { adam, .. } => {
                let mut norm = None;
                if let Some(largest) = descent.clip {
                    let mut squares = DeviceNorm::<AB> {
                        gradients: &gradients,
                        sums: Vec::new(),
                    };
                    network.visit(&mut squares);
                    let found = device_norm::<AB>(squares.sums);
                    norm = Some(found);
                    let factor = factor(norm, Some(largest));
                    if factor < 1.0 {
                        network.visit(&mut DeviceScale::<AB> {
                            gradients: &mut gradients,
                            factor,
                            backend: PhantomData,
                        });
                    }
                }
                (adam.step(descent.learning_rate, network, gradients), norm)
            }
        }
    }

    /// What steps have left behind, for a checkpoint.
    ///
    /// # Errors
    /// When it cannot be serialised.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        match &self.state {
            State::Host(adams) => {
                let mut bytes = Vec::new();
                for adam in adams {
                    let state = adam.as_ref().map(Adam::to_bytes).unwrap_or_default();
                    bytes.extend((state.len() as u64).to_le_bytes());
                    bytes.extend(state);
                }
                Ok(bytes)
            }
            State::Device { ids, adam } => {
                // Ids are drawn wherever a network is made, also when it is made again to go on.
                let ids = ids.iter().flat_map(|id| id.val().to_le_bytes());
                let mut bytes: Vec<u8> = ids.collect();
                bytes.extend(record_to_bytes::<AB, _>(adam.to_record())?);
                Ok(bytes)
            }
        }
    }

    /// Takes over what [`to_bytes`](Self::to_bytes) gave for the same network.
    ///
    /// # Errors
    /// When the bytes belong to another network, or are damaged.
    pub fn restore(&mut self, network: &M, bytes: Vec<u8>, device: &AB::Device) -> Result<()> {
        let foreign = || Error::model("the optimiser's state belongs to another network");
        match &mut self.state {
            State::Host(adams) => {
                let mut rest = bytes.as_slice();
                for (adam, (_, size)) in adams.iter_mut().zip(tensors(network)) {
                    let (length, behind) = rest.split_first_chunk().ok_or_else(foreign)?;
                    let length = usize::try_from(u64::from_le_bytes(*length));
                    let length = length.map_err(|_| foreign())?;
                    let state = behind.get(..length).ok_or_else(foreign)?;
                    rest = &behind[length..];
                    *adam = None;
                    if !state.is_empty() {
                        let restored = Adam::new(size, self.settings).with_bytes(state);
                        *adam = Some(restored.ok_or_else(foreign)?);
                    }
                }
                if rest.is_empty() {
                    Ok(())
                } else {
                    Err(foreign())
                }
            }
            State::Device { ids, adam } => {
                *ids = tensors(network).into_iter().map(|(id, _)| id).collect();
                let before = bytes.get(..ids.len() * size_of::<u64>());
                let (before, _) = before.ok_or_else(foreign)?.as_chunks();
                let before = before
                    .iter()
                    .map(|id| ParamId::from(u64::from_le_bytes(*id)));
                let now: HashMap<ParamId, ParamId> = before.zip(ids.iter().copied()).collect();
                let record = bytes[ids.len() * size_of::<u64>()..].to_vec();
                let record: DeviceRecord<M, AB> = record_from_bytes::<AB, _>(record, device)?;
                let renamed = record.into_iter().map(|(id, state)| {
                    let id = now.get(&id).copied().ok_or_else(foreign)?;
                    Ok((id, state))
                });
                let record = renamed.collect::<Result<_>>()?;
                **adam = adam.as_ref().clone().load_record(record);
                Ok(())
            }
        }
    }
}

type DeviceRecord<M, AB> = <OptimizerAdaptor<BurnAdam, M, AB> as Optimizer<M, AB>>::Record;

/// What gradients are multiplied with.
fn factor(norm: Option<f64>, clip: Option<f64>) -> f64 {
    match (norm, clip) {
        (Some(norm), Some(largest)) => (largest / (norm + CLIP_EPSILON)).min(1.0),
        _ => 1.0,
    }
}

fn host_norm(gradients: &[Option<Vec<f32>>]) -> f64 {
    let square = |values: &Vec<f32>| values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>();
    gradients.iter().flatten().map(square).sum::<f64>().sqrt()
}

fn device_norm<AB: AutodiffBackend>(sums: Vec<Tensor<AB::InnerBackend, 1>>) -> f64 {
    if sums.is_empty() {
        return 0.0;
    }
    let sums = to_vec(Tensor::cat(sums, 0)).into_iter();
    sums.map(f64::from).sum::<f64>().sqrt()
}

/// Id and number of values of each tensor.
fn tensors<B: Backend>(network: &impl Module<B>) -> Vec<(ParamId, usize)> {
    struct Tensors(Vec<(ParamId, usize)>);

    impl<B: Backend> ModuleVisitor<B> for Tensors {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            self.0.push((param.id, param.dims().iter().product()));
        }
    }

    let mut tensors = Tensors(Vec::new());
    network.visit(&mut tensors);
    tensors.0
}

/// Takes the gradients out, in the order of the network.
struct HostGradients<'a, AB> {
    gradients: &'a mut GradientsParams,
    values: Vec<Option<Vec<f32>>>,
    backend: PhantomData<AB>,
}

impl<AB: AutodiffBackend> ModuleVisitor<AB> for HostGradients<'_, AB> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<AB, D>>) {
        let gradient = self.gradients.remove::<AB::InnerBackend, D>(param.id);
        self.values.push(gradient.map(to_vec));
    }
}

struct HostStep<'a, G> {
    adams: std::slice::IterMut<'a, Option<Adam>>,
    gradients: G,
    settings: AdamSettings,
    learning_rate: f64,
}

impl<AB, G> ModuleMapper<AB> for HostStep<'_, G>
where
    AB: AutodiffBackend,
    G: Iterator<Item = Option<Vec<f32>>>,
{
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<AB, D>>) -> Param<Tensor<AB, D>> {
        let gradient = self.gradients.next().flatten();
        let (Some(adam), Some(gradient)) = (self.adams.next(), gradient) else {
            return param;
        };
        let (id, tensor, mapper) = param.consume();
        let (learns, shape, device) = (tensor.is_require_grad(), tensor.dims(), tensor.device());
        // Where nobody else holds the tensor its memory is used again.
        let mut values = to_vec(tensor.inner());
        let adam = adam.get_or_insert_with(|| Adam::new(values.len(), self.settings));
        adam.step(&mut values, &gradient, self.learning_rate);
        // For the next step's gradients, which are as large.
        reuse(gradient);
        let tensor = Tensor::from_data(TensorData::new(values, shape), &device);
        let tensor = if learns {
            tensor.require_grad()
        } else {
            tensor
        };
        Param::from_mapped_value(id, tensor, mapper)
    }
}

/// Sums of squares, one a tensor.
struct DeviceNorm<'a, AB: AutodiffBackend> {
    gradients: &'a GradientsParams,
    sums: Vec<Tensor<AB::InnerBackend, 1>>,
}

impl<AB: AutodiffBackend> ModuleVisitor<AB> for DeviceNorm<'_, AB> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<AB, D>>) {
        let gradient = self.gradients.get::<AB::InnerBackend, D>(param.id);
        self.sums.extend(gradient.map(|g| g.square().sum()));
    }
}

struct DeviceScale<'a, AB> {
    gradients: &'a mut GradientsParams,
    factor: f64,
    backend: PhantomData<AB>,
}

impl<AB: AutodiffBackend> ModuleVisitor<AB> for DeviceScale<'_, AB> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<AB, D>>) {
        if let Some(gradient) = self.gradients.remove::<AB::InnerBackend, D>(param.id) {
            let scaled = gradient * self.factor;
            self.gradients
                .register::<AB::InnerBackend, D>(param.id, scaled);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::network::{Conv, ConvShape, Init};
    use crate::ops::Activation;
    use crate::train::stream_rng;
    use burn_autodiff::Autodiff;
    use burn_flex::Flex;

    type AB = Autodiff<Flex>;

    fn network() -> Vec<Conv<AB>> {
        let mut rng = stream_rng(0, "optimiser");
        let mut conv = |inputs, outputs| {
            let shape = ConvShape::new(inputs, outputs, 1, 1);
            Conv::new(shape, Init::Uniform, &mut rng, &Default::default())
        };
        vec![conv(2, 3), conv(3, 1)]
    }

    fn gradients(network: &[Conv<AB>], scale: f64) -> <AB as AutodiffBackend>::Gradients {
        let x = Tensor::<AB, 4>::from_floats([[[[1.0, 2.0]], [[3.0, -1.0]]]], &Default::default());
        let y = network
            .iter()
            .fold(x, |x, conv| conv.forward(x, Activation::LeakyRelu(0.1)));
        (y.square().mean() * scale).backward()
    }

    fn values(network: &[Conv<AB>]) -> Vec<f32> {
        let mut set = crate::tensors::TensorSet::default();
        crate::network::save(&network.to_vec(), "", &mut set);
        set.iter_mut().flat_map(|(_, t)| t.values.clone()).collect()
    }

    fn descent(clip: Option<f64>) -> Descent {
        Descent {
            learning_rate: 1e-2,
            clip,
        }
    }

    /// Both ways of taking a step.
    fn both(network: &Vec<Conv<AB>>) -> [Optimiser<Vec<Conv<AB>>, AB>; 2] {
        let settings = AdamSettings {
            betas: [0.5, 0.999],
            weight_decay: 0.0,
        };
        let host = Optimiser::new(network, settings, &Default::default());
        assert!(matches!(host.state, State::Host(_)));
        let ids = tensors(network).into_iter().map(|(id, _)| id).collect();
        let adam = Box::new(settings.to_burn().init());
        let state = State::Device { ids, adam };
        [host, Optimiser { settings, state }]
    }

    #[test]
    fn both_ways_take_the_same_steps_and_clip_alike() {
        for clip in [None, Some(1.0), Some(1e-3)] {
            let found: Vec<(Vec<f32>, Vec<Option<f64>>)> = both(&network())
                .into_iter()
                .map(|mut optimiser| {
                    let (mut network, mut norms) = (network(), Vec::new());
                    for step in 1..4 {
                        let gradients = gradients(&network, f64::from(step));
                        let (next, norm) = optimiser.step(network, gradients, descent(clip));
                        network = next;
                        norms.push(norm);
                    }
                    (values(&network), norms)
                })
                .collect();
            for (a, b) in found[0].0.iter().zip(&found[1].0) {
                assert!((a - b).abs() < 1e-6, "{a} {b}");
            }
            assert_ne!(found[0].0, values(&network()));
            for (a, b) in found[0].1.iter().zip(&found[1].1) {
                assert_eq!(a.is_some(), clip.is_some());
                let apart = (a.unwrap_or(0.0) - b.unwrap_or(0.0)).abs();
                assert!(apart < 1e-5, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn a_saved_state_goes_on_and_a_foreign_one_is_refused() {
        let (start, other) = (network(), network());
        for (mut optimiser, mut again) in both(&start).into_iter().zip(both(&other)) {
            let start = start.clone();
            let gradient = gradients(&start, 1.0);
            let (learnt, _) = optimiser.step(start, gradient, descent(None));
            // What goes on is made anew, and has tensors with other ids.
            let mut set = crate::tensors::TensorSet::default();
            crate::network::save(&learnt, "", &mut set);
            let restored = crate::network::load(other.clone(), "", &mut set).unwrap();
            let bytes = optimiser.to_bytes().unwrap();
            again
                .restore(&restored, bytes, &Default::default())
                .unwrap();
            let step = |optimiser: &mut Optimiser<_, _>, network: Vec<Conv<AB>>| {
                let gradients = gradients(&network, 1.0);
                values(&optimiser.step(network, gradients, descent(None)).0)
            };
            assert_eq!(step(&mut optimiser, learnt), step(&mut again, restored));
        }
        for mut optimiser in both(&other) {
            let refused = optimiser.restore(&network(), vec![1, 2, 3], &Default::default());
            assert!(refused.is_err());
        }
    }
}
