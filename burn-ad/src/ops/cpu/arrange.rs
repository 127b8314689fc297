//! Channels joined and spread by `burn-ad-kernels`.

use burn_ad_kernels::arrange;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops};
use burn_flex::Flex;

use super::buffers;
use super::settings::Kernels;
use super::tensor::{Cpu, Map, size};
use super::tracking::{add_gradient, into_tracked, needs_gradient, node, without_history};

/// All channels of two maps or more, in order.
pub(crate) fn join_channels(kernels: Kernels, parts: Vec<Cpu>) -> Cpu {
    let mut parts = parts.into_iter();
    let first = parts.next().expect("at least one part");
    // The graph's nodes have a fixed number of parents: two at a time.
    parts.fold(first, |joined, part| join(kernels, joined, part))
}

fn join(kernels: Kernels, left: Cpu, right: Cpu) -> Cpu {
    let tracked = matches!(left, Cpu::Tracked(_)) || matches!(right, Cpu::Tracked(_));
    let backward = needs_gradient(&left) || needs_gradient(&right);
    let maps = [&left, &right].map(|part| Map::of(kernels, part.primitive().clone()));
    let [batch, _, height, width] = maps[0].dims();
    let channels = maps.each_ref().map(|map| map.dims()[1]);
    for map in &maps {
        let [other, _, rows, columns] = map.dims();
        assert_eq!(
            [other, rows, columns],
            [batch, height, width],
            "sizes of maps"
        );
    }
    let joined = [batch, channels[0] + channels[1], height, width];
    let mut out = buffers::take(joined.iter().product());
    let views = [0, 1].map(|part| (maps[part].values(), channels[part]));
    arrange::join_channels(&views, &mut out);
    let out = Map::new(out, joined).into_tensor();
    if !backward {
        drop((left, right));
        maps.into_iter().for_each(Map::give_back);
        return without_history(tracked, out);
    }
    let nodes = [left, right].map(|part| into_tracked(part).node);
    Cpu::Tracked(node!(JoinBackward, 2, nodes, (kernels, channels), out))
}

#[derive(Debug)]
struct JoinBackward;

impl Backward<Flex, 2> for JoinBackward {
    type State = (Kernels, [usize; 2]);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (kernels, channels) = ops.state;
        let dy = Map::of(kernels, gradients.consume::<Flex>(&ops.node));
        let [batch, all, height, width] = dy.dims();
        let starts = [0, channels[0]];
        for ((parent, channels), start) in ops.parents.into_iter().zip(channels).zip(starts) {
            if let Some(parent) = parent {
                let dims = [batch, channels, height, width];
                let mut dx = buffers::take(dims.iter().product());
                arrange::take_channels(dy.values(), all, start, channels, &mut dx);
                add_gradient!(gradients, parent, kernels, Map::new(dx, dims));
            }
        }
        dy.give_back();
    }
}

/// Quarters of the channels to 2 x 2 positions.
pub(crate) fn depth_to_space(kernels: Kernels, x: Cpu) -> Cpu {
    let tracked = matches!(x, Cpu::Tracked(_));
    let backward = needs_gradient(&x);
    let map = Map::of(kernels, x.primitive().clone());
    let [batch, deep, height, width] = map.dims();
    let wide = [batch, deep / 4, 2 * height, 2 * width];
    let mut out = buffers::take(wide.iter().product());
    arrange::depth_to_space(map.values(), size(wide), &mut out);
    let out = Map::new(out, wide).into_tensor();
    if !backward {
        drop(x);
        map.give_back();
        return without_history(tracked, out);
    }
    let node = into_tracked(x).node;
    Cpu::Tracked(node!(SpreadBackward, 1, [node], kernels, out))
}

#[derive(Debug)]
struct SpreadBackward;

impl Backward<Flex, 1> for SpreadBackward {
    type State = Kernels;

    fn backward(
        self,
        ops: Ops<Kernels, 1>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let kernels = ops.state;
        let dy = Map::of(kernels, gradients.consume::<Flex>(&ops.node));
        let wide @ [batch, channels, height, width] = dy.dims();
        if let [Some(parent)] = ops.parents {
            let mut dx = buffers::take(dy.values().len());
            arrange::space_to_depth(dy.values(), size(wide), &mut dx);
            let dims = [batch, 4 * channels, height / 2, width / 2];
            add_gradient!(gradients, parent, kernels, Map::new(dx, dims));
        }
        dy.give_back();
    }
}
