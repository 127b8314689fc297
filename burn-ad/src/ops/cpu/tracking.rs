//! Kernels as nodes of Burn's autodiff graph.

use burn::tensor::backend::AutodiffBackend;
use burn_flex::FlexTensor;

use super::tensor::{Cpu, Tracked, TrackedFlex};

/// Whether a gradient will be asked of anything computed from this tensor.
pub(crate) fn needs_gradient(tensor: &Cpu) -> bool {
    match tensor {
        Cpu::Plain(_) => false,
        Cpu::Tracked(tracked) => !tracked.node.requirement.is_none(),
    }
}

/// A tensor of a graph; without gradient where it comes from none.
pub(crate) fn into_tracked(tensor: Cpu) -> Tracked {
    match tensor {
        Cpu::Plain(plain) => <TrackedFlex as AutodiffBackend>::from_inner(plain),
        Cpu::Tracked(tracked) => tracked,
    }
}

/// A result without history, in the form that `tracked` asks for.
pub(crate) fn without_history(tracked: bool, result: FlexTensor) -> Cpu {
    if tracked {
        Cpu::Tracked(<TrackedFlex as AutodiffBackend>::from_inner(result))
    } else {
        Cpu::Plain(result)
    }
}

/// Takes back what has been registered for a node so far, so that a kernel can add to it while it
/// writes. (A macro, since Burn's crate does not let us name the type of a node.)
macro_rules! take_gradient {
    ($gradients:expr, $node:expr, $any:expr) => {{
        let probe = $crate::ops::cpu::tensor::Tracked {
            primitive: $any.clone(),
            node: $node.clone(),
            rc: std::sync::Arc::new($node.id),
        };
        $gradients.remove::<burn_flex::Flex>(&probe)
    }};
}

/// Adds a feature map's gradient to a node: both lie channels-last, where Burn's own addition would
/// go element by element.
macro_rules! add_gradient {
    ($gradients:expr, $node:expr, $kernels:expr, $map:expr) => {{
        let map: $crate::ops::cpu::tensor::Map = $map;
        let tensor = map.into_tensor();
        let before = $crate::ops::cpu::tracking::take_gradient!($gradients, $node, tensor);
        let sum = match before {
            Some(before) => $crate::ops::cpu::elementwise::sum($kernels, before, tensor),
            None => tensor,
        };
        $gradients.register::<burn_flex::Flex>($node.id, sum);
    }};
}

/// Makes a node of a kernel's result: `node!(Backward, [parents], state, output)`.
macro_rules! node {
    ($backward:expr, $parents:literal, $nodes:expr, $state:expr, $output:expr) => {{
        use burn_autodiff::checkpoint::strategy::NoCheckpointing;
        use burn_autodiff::ops::{Backward, OpsKind};
        let prepared =
            Backward::<burn_flex::Flex, $parents>::prepare::<NoCheckpointing>($backward, $nodes);
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish($state, $output),
            OpsKind::UnTracked(prepared) => prepared.finish($output),
        }
    }};
}

pub(crate) use {add_gradient, node, take_gradient};
