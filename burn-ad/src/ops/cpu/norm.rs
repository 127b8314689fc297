//! Normalisation by `burn-ad-kernels`.

use std::sync::Arc;

use burn_ad_kernels::norm::{self, Moments, Norm, Size};
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops};
use burn_flex::{Flex, FlexTensor};

use super::buffers;
use super::elementwise;
use super::settings::Kernels;
use super::tensor::{Cpu, Map, contiguous, tensor, values};
use super::tracking::{add_gradient, into_tracked, needs_gradient, node, without_history};
use crate::ops::{Activation, Statistics};

/// A normalisation and what it reads.
pub(crate) struct Call {
    pub(crate) x: Cpu,
    /// Scale and offset.
    pub(crate) affine: Option<[Cpu; 2]>,
    pub(crate) residual: Option<Cpu>,
    pub(crate) activation: Activation,
    pub(crate) statistics: Statistics,
    pub(crate) epsilon: f64,
}

impl Call {
    fn needs_gradient(&self) -> bool {
        let affine = self.affine.iter().flatten();
        needs_gradient(&self.x) || affine.chain(&self.residual).any(needs_gradient)
    }
}

fn size([batch, channels, height, width]: [usize; 4], statistics: Statistics) -> Size {
    let positions = height * width;
    let (groups, rows) = match statistics {
        Statistics::Batch => (1, batch * positions),
        Statistics::Instance => (batch, positions),
    };
    Size {
        groups,
        rows,
        channels,
    }
}

/// What forward and backward share.
#[derive(Clone, Debug)]
struct State {
    kernels: Kernels,
    size: Size,
    x: Map,
    affine: Option<[FlexTensor; 2]>,
    activation: Activation,
    moments: Arc<Moments>,
    y: Map,
    residual: bool,
}

/// `activation(norm(x) * scale + offset + residual)`; a node of the graph where a gradient is needed.
pub(crate) fn normalise(kernels: Kernels, call: Call) -> Cpu {
    let tracked = matches!(call.x, Cpu::Tracked(_));
    let backward = call.needs_gradient();
    let of = |tensor: &Cpu| tensor.primitive().clone();
    let affine = call
        .affine
        .as_ref()
        .map(|affine| affine.each_ref().map(|tensor| contiguous(of(tensor))));
    let residual = call
        .residual
        .as_ref()
        .map(|residual| Map::of(kernels, of(residual)));
    let x = Map::of(kernels, of(&call.x));
    let size = size(x.dims(), call.statistics);
    let mut y = buffers::take(size.len());
    let norm = Norm {
        size,
        affine: affine
            .as_ref()
            .map(|[scale, offset]| (values(scale), values(offset))),
        residual: residual.as_ref().map(Map::values),
        activation: elementwise::of(call.activation),
    };
    let moments = norm::forward(kernels.isa, x.values(), &norm, call.epsilon, &mut y);
    let y = Map::new(y, x.dims());
    if !backward {
        drop(call);
        x.give_back();
        return without_history(tracked, y.into_tensor());
    }
    let out = y.clone().into_tensor();
    let state = State {
        kernels,
        size,
        x,
        affine,
        activation: call.activation,
        moments: Arc::new(moments),
        y,
        residual: residual.is_some(),
    };
    let x = into_tracked(call.x).node;
    Cpu::Tracked(match (call.affine, call.residual) {
        (None, None) => node!(NormBackward, 1, [x], state, out),
        (None, Some(residual)) => {
            let residual = into_tracked(residual).node;
            node!(NormBackward, 2, [x, residual], state, out)
        }
        (Some(affine), None) => {
            let [scale, offset] = affine.map(|tensor| into_tracked(tensor).node);
            node!(NormBackward, 3, [x, scale, offset], state, out)
        }
        (Some(affine), Some(residual)) => {
            let [scale, offset] = affine.map(|tensor| into_tracked(tensor).node);
            let residual = into_tracked(residual).node;
            node!(NormBackward, 4, [x, scale, offset, residual], state, out)
        }
    })
}

/// Mean and biased variance of each channel, `[channels]` each.
pub(crate) fn channel_moments(kernels: Kernels, x: Cpu) -> [Cpu; 2] {
    let tracked = matches!(x, Cpu::Tracked(_));
    let x = Map::of(kernels, x.into_primitive());
    let size = size(x.dims(), Statistics::Batch);
    let moments = norm::moments(kernels.isa, x.values(), size, 0.0);
    [moments.mean, moments.variance]
        .map(|values| without_history(tracked, tensor(values, &[size.channels])))
}

/// Parents: the map, scale and offset where there are, the residual where there is one.
#[derive(Debug)]
struct NormBackward;

impl<const N: usize> Backward<Flex, N> for NormBackward {
    type State = State;

    fn backward(
        self,
        ops: Ops<State, N>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let State {
            kernels,
            size,
            x,
            affine,
            activation,
            moments,
            y,
            residual,
        } = ops.state;
        let dy = Map::of(kernels, gradients.consume::<Flex>(&ops.node));
        let norm = Norm {
            size,
            affine: affine
                .as_ref()
                .map(|[scale, offset]| (values(scale), values(offset))),
            residual: None,
            activation: elementwise::of(activation),
        };
        let mut dx = buffers::take(size.len());
        // Without an activation the residual's gradient is that of the result.
        let masked = residual && activation != Activation::Identity;
        let mut of_residual = masked.then(|| buffers::take(size.len()));
        let of_affine = norm::backward(
            kernels.isa,
            (x.values(), y.values(), dy.values()),
            &norm,
            &moments,
            &mut dx,
            of_residual.as_deref_mut(),
        );
        let dims = x.dims();
        let mut parents = ops.parents.into_iter();
        if let Some(parent) = parents.next().flatten() {
            add_gradient!(gradients, parent, kernels, Map::new(dx, dims));
        }
        if affine.is_some() {
            for values in [of_affine.scale, of_affine.offset] {
                if let Some(parent) = parents.next().flatten() {
                    gradients.register::<Flex>(parent.id, tensor(values, &[size.channels]));
                }
            }
        }
        if let Some(parent) = parents.next().flatten() {
            let gradient = match of_residual {
                Some(values) => Map::new(values, dims),
                None => dy.clone(),
            };
            add_gradient!(gradients, parent, kernels, gradient);
        }
        x.give_back();
        y.give_back();
        dy.give_back();
    }
}
