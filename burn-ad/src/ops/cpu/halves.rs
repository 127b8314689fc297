//! Half and double sides and sums of maps by `burn-ad-kernels`.

use burn_ad_kernels::halves;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops};
use burn_flex::Flex;

use super::buffers;
use super::elementwise;
use super::settings::Kernels;
use super::tensor::{Cpu, Map, size};
use super::tracking::{add_gradient, into_tracked, needs_gradient, node, without_history};

/// A change of both sides by a factor of two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Change {
    /// Each window of 2 x 2 becomes its mean.
    Mean,
    /// Each value becomes a window of 2 x 2.
    Repeat,
}

impl Change {
    fn forward(self, kernels: Kernels, x: &Map) -> Map {
        match self {
            Self::Mean => halve(kernels, x, 0.25),
            Self::Repeat => double(kernels, x, 1.0),
        }
    }

    fn backward(self, kernels: Kernels, dy: &Map) -> Map {
        match self {
            Self::Mean => double(kernels, dy, 0.25),
            Self::Repeat => halve(kernels, dy, 1.0),
        }
    }
}

fn halve(kernels: Kernels, x: &Map, factor: f32) -> Map {
    let [batch, channels, height, width] = x.dims();
    let dims = [batch, channels, height / 2, width / 2];
    let mut out = buffers::take(dims.iter().product());
    halves::halve(kernels.isa, x.values(), size(x.dims()), factor, &mut out);
    Map::new(out, dims)
}

fn double(kernels: Kernels, x: &Map, factor: f32) -> Map {
    let [batch, channels, height, width] = x.dims();
    let dims = [batch, channels, 2 * height, 2 * width];
    let mut out = buffers::take(dims.iter().product());
    halves::double(kernels.isa, x.values(), size(dims), factor, &mut out);
    Map::new(out, dims)
}

/// Half or double sides; a node of the graph where a gradient is needed.
pub(crate) fn change(kernels: Kernels, x: Cpu, change: Change) -> Cpu {
    let tracked = matches!(x, Cpu::Tracked(_));
    let backward = needs_gradient(&x);
    let map = Map::of(kernels, x.primitive().clone());
    let out = change.forward(kernels, &map).into_tensor();
    let node = match x {
        Cpu::Tracked(x) if backward => Some(x.node),
        _ => None,
    };
    // The gradient does not ask for it.
    map.give_back();
    match node {
        Some(node) => Cpu::Tracked(node!(ChangeBackward, 1, [node], (kernels, change), out)),
        None => without_history(tracked, out),
    }
}

#[derive(Debug)]
struct ChangeBackward;

impl Backward<Flex, 1> for ChangeBackward {
    type State = (Kernels, Change);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (kernels, change) = ops.state;
        let dy = Map::of(kernels, gradients.consume::<Flex>(&ops.node));
        if let [Some(parent)] = ops.parents {
            let dx = change.backward(kernels, &dy);
            add_gradient!(gradients, parent, kernels, dx);
        }
        dy.give_back();
    }
}

/// `left + right`; a node of the graph where a gradient is needed.
pub(crate) fn add(kernels: Kernels, left: Cpu, right: Cpu) -> Cpu {
    let tracked = matches!(left, Cpu::Tracked(_)) || matches!(right, Cpu::Tracked(_));
    if !needs_gradient(&left) && !needs_gradient(&right) {
        let sum = elementwise::sum(kernels, left.into_primitive(), right.into_primitive());
        return without_history(tracked, sum);
    }
    let (left, right) = (into_tracked(left), into_tracked(right));
    let nodes = [left.node, right.node];
    let sum = elementwise::sum(kernels, left.primitive, right.primitive);
    Cpu::Tracked(node!(AddBackward, 2, nodes, kernels, sum))
}

#[derive(Debug)]
struct AddBackward;

impl Backward<Flex, 2> for AddBackward {
    type State = Kernels;

    fn backward(
        self,
        ops: Ops<Kernels, 2>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let kernels = ops.state;
        let dy = Map::of(kernels, gradients.consume::<Flex>(&ops.node));
        for parent in ops.parents.into_iter().flatten() {
            // The same memory for both, until something is added.
            add_gradient!(gradients, parent, kernels, dy.clone());
        }
        dy.give_back();
    }
}
