//! Pooling by `burn-ad-kernels`.

use std::sync::Arc;

use burn_ad_kernels::{Map as Size, Window, pool};
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops};
use burn_flex::Flex;

use super::buffers;
use super::settings::Kernels;
use super::tensor::{Cpu, Map, Tracked, size};
use super::tracking::{add_gradient, into_tracked, needs_gradient, node, without_history};

/// How a window becomes one value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pooling {
    /// The border never wins.
    Maximum,
    /// Over nine, or over those inside.
    Average { count_border: bool },
}

/// Pools a feature map; a node of the graph where a gradient is needed.
pub(crate) fn pool(kernels: Kernels, x: Cpu, pooling: Pooling, window: Window) -> Cpu {
    if needs_gradient(&x) {
        return pool_tracked(kernels, into_tracked(x), pooling, window);
    }
    let tracked = matches!(x, Cpu::Tracked(_));
    let map = Map::of(kernels, x.into_primitive());
    let out = forward(kernels, &map, pooling, &window, None);
    map.give_back();
    without_history(tracked, out.into_tensor())
}

fn pool_tracked(kernels: Kernels, x: Tracked, pooling: Pooling, window: Window) -> Cpu {
    let map = Map::of(kernels, x.primitive);
    let mut indices = Vec::new();
    let out = forward(kernels, &map, pooling, &window, Some(&mut indices));
    let state = State {
        kernels,
        pooling,
        window,
        from: size(map.dims()),
        indices: Arc::new(indices),
    };
    Cpu::Tracked(node!(
        PoolingBackward,
        1,
        [x.node],
        state,
        out.into_tensor()
    ))
}

/// The pooled map; where `indices` are asked for, those of the maxima.
fn forward(
    kernels: Kernels,
    map: &Map,
    pooling: Pooling,
    window: &Window,
    indices: Option<&mut Vec<u8>>,
) -> Map {
    let (isa, x, from) = (kernels.isa, map.values(), size(map.dims()));
    let to = window.output(from);
    let mut out = buffers::take(to.len());
    match (pooling, indices) {
        (Pooling::Maximum, None) => pool::max(isa, x, from, window, &mut out),
        (Pooling::Maximum, Some(indices)) => {
            *indices = vec![0; to.len()];
            pool::max_with_indices(isa, x, from, window, &mut out, indices);
        }
        (Pooling::Average { count_border }, _) => {
            pool::average(isa, x, from, window, count_border, &mut out);
        }
    }
    new_map(out, to)
}

fn new_map(values: Vec<f32>, size: Size) -> Map {
    Map::new(values, [size.batch, size.channels, size.height, size.width])
}

#[derive(Clone, Debug)]
struct State {
    kernels: Kernels,
    pooling: Pooling,
    window: Window,
    from: Size,
    /// Where in its window each maximum was.
    indices: Arc<Vec<u8>>,
}

#[derive(Debug)]
struct PoolingBackward;

impl Backward<Flex, 1> for PoolingBackward {
    type State = State;

    fn backward(
        self,
        ops: Ops<State, 1>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let State {
            kernels,
            pooling,
            window,
            from,
            indices,
        } = ops.state;
        let dy = Map::of(kernels, gradients.consume::<Flex>(&ops.node));
        let [Some(parent)] = ops.parents else {
            return;
        };
        let mut dx = buffers::take(from.len());
        let isa = kernels.isa;
        match pooling {
            Pooling::Maximum => {
                pool::max_backward(isa, dy.values(), &indices, from, &window, &mut dx);
            }
            Pooling::Average { count_border } => {
                pool::average_backward(isa, dy.values(), from, &window, count_border, &mut dx)
            }
        }
        dy.give_back();
        add_gradient!(gradients, parent, kernels, new_map(dx, from));
    }
}
