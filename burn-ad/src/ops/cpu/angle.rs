//! Directions and cosines by `burn-ad-kernels`.

use std::sync::Arc;

use burn_ad_kernels::cosine::{self, Products};
use burn_ad_kernels::unit;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops};
use burn_flex::Flex;

use super::buffers;
use super::settings::Kernels;
use super::tensor::{Cpu, Map, contiguous, tensor, values};
use super::tracking::{add_gradient, into_tracked, needs_gradient, node, without_history};

/// The vector of each position divided by its length.
pub(crate) fn unit_channels(kernels: Kernels, x: Cpu) -> Cpu {
    let tracked = matches!(x, Cpu::Tracked(_));
    let backward = needs_gradient(&x);
    let map = Map::of(kernels, x.primitive().clone());
    let dims @ [batch, channels, height, width] = map.dims();
    let mut lengths = vec![0.0; batch * height * width];
    let mut y = buffers::take(map.values().len());
    unit::forward(kernels.isa, map.values(), channels, &mut y, &mut lengths);
    let y = Map::new(y, dims);
    if !backward {
        drop(x);
        map.give_back();
        return without_history(tracked, y.into_tensor());
    }
    let out = y.clone().into_tensor();
    let state = UnitState {
        kernels,
        y,
        lengths: Arc::new(lengths),
    };
    let node = into_tracked(x).node;
    Cpu::Tracked(node!(UnitBackward, 1, [node], state, out))
}

#[derive(Clone, Debug)]
struct UnitState {
    kernels: Kernels,
    y: Map,
    lengths: Arc<Vec<f32>>,
}

#[derive(Debug)]
struct UnitBackward;

impl Backward<Flex, 1> for UnitBackward {
    type State = UnitState;

    fn backward(
        self,
        ops: Ops<UnitState, 1>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let UnitState {
            kernels,
            y,
            lengths,
        } = ops.state;
        let dy = Map::of(kernels, gradients.consume::<Flex>(&ops.node));
        let dims = y.dims();
        if let [Some(parent)] = ops.parents {
            let mut dx = buffers::take(y.values().len());
            let read = (y.values(), lengths.as_slice(), dy.values());
            unit::backward(kernels.isa, read, dims[1], &mut dx);
            add_gradient!(gradients, parent, kernels, Map::new(dx, dims));
        }
        y.give_back();
        dy.give_back();
    }
}

/// The cosine between the maps of each image; `target` has no gradient.
pub(crate) fn map_cosines(kernels: Kernels, target: Cpu, x: Cpu) -> Cpu {
    let tracked = matches!(x, Cpu::Tracked(_));
    let backward = needs_gradient(&x);
    let target = Map::of(kernels, target.into_primitive());
    let map = Map::of(kernels, x.primitive().clone());
    let images = map.dims()[0];
    let products = cosine::products(kernels.isa, target.values(), map.values(), images);
    let cosines = products.cosines().map(|cosine| cosine as f32).collect();
    let out = tensor(cosines, &[images]);
    if !backward {
        return without_history(tracked, out);
    }
    let state = CosineState {
        kernels,
        target,
        x: map,
        products: Arc::new(products),
    };
    let node = into_tracked(x).node;
    Cpu::Tracked(node!(CosineBackward, 1, [node], state, out))
}

/// The cosine between the vectors of each position, `[batch, height, width]`; without gradient.
pub(crate) fn position_cosines(kernels: Kernels, a: Cpu, b: Cpu) -> Cpu {
    let tracked = matches!(a, Cpu::Tracked(_)) || matches!(b, Cpu::Tracked(_));
    let [a, b] = [a, b].map(|map| Map::of(kernels, map.into_primitive()));
    let [batch, channels, height, width] = a.dims();
    let mut out = vec![0.0; batch * height * width];
    unit::cosines(kernels.isa, a.values(), b.values(), channels, &mut out);
    a.give_back();
    b.give_back();
    without_history(tracked, tensor(out, &[batch, height, width]))
}

#[derive(Clone, Debug)]
struct CosineState {
    kernels: Kernels,
    target: Map,
    x: Map,
    products: Arc<Products>,
}

#[derive(Debug)]
struct CosineBackward;

impl Backward<Flex, 1> for CosineBackward {
    type State = CosineState;

    fn backward(
        self,
        ops: Ops<CosineState, 1>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let CosineState {
            kernels,
            target,
            x,
            products,
        } = ops.state;
        let seed = contiguous(gradients.consume::<Flex>(&ops.node));
        if let [Some(parent)] = ops.parents {
            let mut dx = buffers::take(x.values().len());
            let (target, values_of_x) = (target.values(), x.values());
            products.gradient(kernels.isa, target, values_of_x, values(&seed), &mut dx);
            add_gradient!(gradients, parent, kernels, Map::new(dx, x.dims()));
        }
    }
}
