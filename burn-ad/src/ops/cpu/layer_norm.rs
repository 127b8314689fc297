//! Layer normalisation by `burn-ad-kernels`.

use std::sync::Arc;

use burn_ad_kernels::layer_norm::{self, Layer};
use burn_ad_kernels::norm::Moments;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops};
use burn_flex::{Flex, FlexTensor};

use super::buffers;
use super::elementwise;
use super::settings::Kernels;
use super::tensor::{Cpu, Map, contiguous, tensor, values};
use super::tracking::{add_gradient, into_tracked, needs_gradient, node, without_history};
use crate::ops::Activation;

/// What forward and backward share.
#[derive(Clone, Debug)]
struct State {
    kernels: Kernels,
    x: Map,
    weight: FlexTensor,
    bias: FlexTensor,
    activation: Activation,
    moments: Arc<Moments>,
    /// Where an activation follows: its result.
    y: Option<Map>,
}

/// `activation(norm(x) * weight + bias)`; a node of the graph where a gradient is needed. The activation
/// shows its slope.
pub(crate) fn normalise(
    kernels: Kernels,
    inputs: [Cpu; 3],
    activation: Activation,
    epsilon: f64,
) -> Cpu {
    let tracked = matches!(inputs[0], Cpu::Tracked(_));
    let backward = inputs.iter().any(needs_gradient);
    let [x, weight, bias] = inputs.each_ref().map(|input| input.primitive().clone());
    let (x, weight, bias) = (Map::of(kernels, x), contiguous(weight), contiguous(bias));
    let mut y = buffers::take(x.values().len());
    let layer = layer(x.dims(), [&weight, &bias], activation);
    let moments = layer_norm::forward(kernels.isa, x.values(), &layer, epsilon, &mut y);
    let y = Map::new(y, x.dims());
    if !backward {
        drop(inputs);
        x.give_back();
        return without_history(tracked, y.into_tensor());
    }
    let out = y.clone().into_tensor();
    let state = State {
        kernels,
        x,
        weight,
        bias,
        activation,
        moments: Arc::new(moments),
        y: (activation != Activation::Identity).then_some(y),
    };
    let nodes = inputs.map(|input| into_tracked(input).node);
    Cpu::Tracked(node!(LayerNormBackward, 3, nodes, state, out))
}

fn layer<'a>(
    [batch, channels, _, _]: [usize; 4],
    [weight, bias]: [&'a FlexTensor; 2],
    activation: Activation,
) -> Layer<'a> {
    Layer {
        batch,
        channels,
        weight: values(weight),
        bias: values(bias),
        activation: elementwise::of(activation),
    }
}

/// Parents: the map, weight and bias.
#[derive(Debug)]
struct LayerNormBackward;

impl Backward<Flex, 3> for LayerNormBackward {
    type State = State;

    fn backward(
        self,
        ops: Ops<State, 3>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let State {
            kernels,
            x,
            weight,
            bias,
            activation,
            moments,
            y,
        } = ops.state;
        let dy = Map::of(kernels, gradients.consume::<Flex>(&ops.node));
        let layer = layer(x.dims(), [&weight, &bias], activation);
        let count = layer.weight.len();
        let mut dx = buffers::take(x.values().len());
        let (mut dw, mut db) = (buffers::take(count), buffers::take(count));
        layer_norm::backward(
            kernels.isa,
            (x.values(), y.as_ref().map_or(&[], Map::values), dy.values()),
            &layer,
            &moments,
            &mut dx,
            (&mut dw, &mut db),
        );
        let [of_x, of_weight, of_bias] = ops.parents;
        match of_x {
            Some(parent) => add_gradient!(gradients, parent, kernels, Map::new(dx, x.dims())),
            None => buffers::keep(dx),
        }
        for (parent, values) in [(of_weight, dw), (of_bias, db)] {
            match parent {
                Some(parent) => gradients.register::<Flex>(parent.id, tensor(values, &[count])),
                None => buffers::keep(values),
            }
        }
        x.give_back();
        dy.give_back();
        if let Some(y) = y {
            y.give_back();
        }
    }
}
