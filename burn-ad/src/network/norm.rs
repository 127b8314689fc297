//! Normalisation with parameters.

use burn::module::{Module, Param, RunningState};
use burn::prelude::*;
use serde::{Deserialize, Serialize};

use super::init::zero_for_good;
use crate::ops::{self, Activation, Convolution, Padding, Statistics, Tail};

/// PyTorch's default.
const EPSILON: f64 = 1e-5;
/// Share of a batch's statistics in the running ones (PyTorch's default).
const MOMENTUM: f64 = 0.1;

/// What a normalisation takes its statistics from, and what it learns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NormKind {
    /// Each channel of each image by itself; scale and offset are learnt.
    #[default]
    Instance,
    /// Each channel over the batch in training, by running statistics afterwards; scale and offset are
    /// learnt.
    Batch,
}

/// Which statistics batch normalisation uses while gradients are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NormMode {
    /// Those of the batch, which the running ones follow.
    #[default]
    Train,
    /// The running ones, which stay as they are.
    Eval,
}

/// A normalisation, PyTorch's `InstanceNorm2d`, `BatchNorm2d` or `LayerNorm` with its defaults.
#[derive(Module, Debug)]
pub struct Norm<B: Backend> {
    /// Scale, `[channels]`; of a layer normalisation `[height * width * channels]`.
    weight: Param<Tensor<B, 1>>,
    /// Offset, of the same size.
    bias: Param<Tensor<B, 1>>,
    running: Option<Running<B>>,
    #[module(skip)]
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Instance,
    Batch(NormMode),
    Layer,
}

/// What batch normalisation uses after training, `[channels]` each.
#[derive(Module, Debug)]
struct Running<B: Backend> {
    mean: RunningState<Tensor<B, 1>>,
    variance: RunningState<Tensor<B, 1>>,
}

impl<B: Backend> Norm<B> {
    /// Scale 1, offset 0.
    pub fn new(kind: NormKind, channels: usize, device: &B::Device) -> Self {
        Self {
            weight: Param::from_tensor(Tensor::ones([channels], device)),
            bias: Param::from_tensor(Tensor::zeros([channels], device)),
            running: (kind == NormKind::Batch).then(|| Running {
                mean: RunningState::new(Tensor::zeros([channels], device)),
                variance: RunningState::new(Tensor::ones([channels], device)),
            }),
            kind: match kind {
                NormKind::Instance => Kind::Instance,
                NormKind::Batch => Kind::Batch(NormMode::Train),
            },
        }
    }

    /// Batch normalisation with a choice of statistics.
    pub fn batch(mode: NormMode, channels: usize, device: &B::Device) -> Self {
        Self {
            kind: Kind::Batch(mode),
            ..Self::new(NormKind::Batch, channels, device)
        }
    }

    /// Layer normalisation of maps of `channels` by `side` by `side`: all values of an image together, each
    /// with a scale and an offset of its own.
    pub fn layer(channels: usize, side: usize, device: &B::Device) -> Self {
        Self {
            kind: Kind::Layer,
            ..Self::new(NormKind::Instance, channels * side * side, device)
        }
    }

    /// The same whose offsets stay zero.
    #[must_use]
    pub fn without_offset(mut self) -> Self {
        self.bias = zero_for_good(self.bias);
        self
    }

    /// `activation(norm(x) + residual)`, all of `[batch, channels, height, width]`.
    pub fn forward(
        &self,
        x: Tensor<B, 4>,
        residual: Option<Tensor<B, 4>>,
        activation: Activation,
    ) -> Tensor<B, 4> {
        let affine = (self.weight.val(), self.bias.val());
        let statistics = match (self.kind, &self.running) {
            (Kind::Layer, _) => {
                let (scale, offset) = affine;
                let Some(residual) = residual else {
                    return ops::layer_normalise(x, scale, offset, activation, EPSILON);
                };
                let plain = Activation::Identity;
                let y = ops::layer_normalise(x, scale, offset, plain, EPSILON);
                return activation.apply(ops::add(y, residual));
            }
            (Kind::Batch(mode), Some(running)) => {
                if mode == NormMode::Eval || !B::ad_enabled(&x.device()) {
                    return running.apply(x, affine, residual, activation);
                }
                running.update(x.clone().detach());
                Statistics::Batch
            }
            _ => Statistics::Instance,
        };
        ops::normalise(x, Some(affine), residual, activation, statistics, EPSILON)
    }
}

impl<B: Backend> Running<B> {
    /// Takes up the statistics of a batch.
    fn update(&self, x: Tensor<B, 4>) {
        let [batch, _, height, width] = x.dims();
        let (centre, biased) = ops::channel_moments(x);
        let count = (batch * height * width) as f64;
        let variance = biased * (count / (count - 1.0).max(1.0));
        for (state, found) in [(&self.mean, centre), (&self.variance, variance)] {
            let before = state.value_sync();
            state.update((before * (1.0 - MOMENTUM) + found * MOMENTUM).detach());
            // An update waits for the next one; whoever saves the network before that would miss it.
            state.value_sync();
        }
    }

    /// By what was learnt.
    fn apply(
        &self,
        x: Tensor<B, 4>,
        (weight, bias): (Tensor<B, 1>, Tensor<B, 1>),
        residual: Option<Tensor<B, 4>>,
        activation: Activation,
    ) -> Tensor<B, 4> {
        let channels = x.dims()[1];
        let factor = weight / (self.variance.value() + EPSILON).sqrt();
        let offset = bias - self.mean.value() * factor.clone();
        let depthwise = Convolution {
            stride: 1,
            padding: Padding::Symmetric(0),
            groups: channels,
        };
        let tail = Tail {
            residual,
            activation,
        };
        let factor = factor.reshape([channels, 1, 1, 1]);
        ops::conv2d_with(x, factor, Some(offset), depthwise, tail, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::save;
    use crate::ops::testing::assert_close;
    use crate::tensors::TensorSet;
    use burn::module::AutodiffModule;
    use burn_autodiff::Autodiff;
    use burn_flex::Flex;

    type AB = Autodiff<Flex>;

    #[test]
    fn batch_statistics_run_along_as_in_torch() {
        let device = Default::default();
        let norm = Norm::<AB>::new(NormKind::Batch, 2, &device);
        let values = [1.0, 2.0, 3.0, 6.0, -1.0, 0.0, 0.5, 2.5];
        let x = Tensor::<AB, 1>::from_floats(values, &device).reshape([2, 2, 1, 2]);
        norm.forward(x.clone(), None, Activation::Identity);
        // torch.nn.BatchNorm2d(2) after one call in training mode: means 0.5 and 3, unbiased
        // variances 1.6667 and 5.1667.
        let running = norm.running.as_ref().expect("batch normalisation");
        assert_close(running.mean.value_sync(), &[0.05, 0.3], 1e-6);
        assert_close(running.variance.value_sync(), &[1.066_667, 1.416_667], 1e-5);
        let y = norm.valid().forward(x.inner(), None, Activation::Identity);
        let expected = [
            0.919_829, 1.888_071, 2.268_446, 4.788_941, -1.016_653, -0.048_412, 0.168_033,
            1.848_363,
        ];
        assert_close(y, &expected, 1e-4);
    }

    #[test]
    fn what_is_saved_has_the_last_batch_in_it() {
        let device = Default::default();
        let norm = Norm::<AB>::new(NormKind::Batch, 1, &device);
        let x = Tensor::<AB, 4>::from_floats([[[[1.0, 3.0]]]], &device);
        for mean in [0.2, 0.38] {
            norm.forward(x.clone(), None, Activation::Identity);
            let mut saved = TensorSet::default();
            save(&norm, "norm", &mut saved);
            let found = saved.take("norm.running.mean", &[Some(1)]).expect("saved");
            assert!((found.values[0] - mean).abs() < 1e-6, "{found:?}");
        }
    }

    #[test]
    fn each_image_stands_alone_under_instance_normalisation() {
        let device = Default::default();
        let norm = Norm::<AB>::new(NormKind::Instance, 1, &device);
        let one = Tensor::<AB, 4>::from_floats([[[[1.0, 3.0]]]], &device);
        let two = Tensor::cat(vec![one.clone(), one.clone() * 10.0], 0);
        let alone = norm.forward(one, None, Activation::Identity);
        let together = norm.forward(two, None, Activation::Identity);
        assert_close(together.narrow(0, 0, 1) - alone, &[0.0, 0.0], 0.0);
    }
}
