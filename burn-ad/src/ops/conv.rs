//! Two-dimensional convolution.

use burn::prelude::*;
use burn::tensor::module;
use burn::tensor::ops::{ConvOptions, PadMode};

use super::channels::scale_channels;
use super::cpu::{self, conv::Fixed, conv::Packed};
use super::{Activation, Padding};

/// Everything about a convolution but its weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convolution {
    /// Input pixels from one output position to the next.
    pub stride: usize,
    /// Zeros around the input.
    pub padding: Padding,
    /// Channel groups that do not see each other; as many as channels for a depthwise convolution.
    pub groups: usize,
}

/// Cross-correlation as PyTorch's `conv2d`.
///
/// `x` is `[batch, in_channels, height, width]`, `weight` is
/// `[out_channels, in_channels / groups, kernel_height, kernel_width]`, `bias` is `[out_channels]`.
///
/// # Panics
/// When the channels of input and weight disagree.
pub fn conv2d<B: Backend>(
    x: Tensor<B, 4>,
    weight: Tensor<B, 4>,
    bias: Option<Tensor<B, 1>>,
    convolution: Convolution,
) -> Tensor<B, 4> {
    let tail = Tail::default();
    conv2d_with(x, weight, bias, convolution, tail, None)
}

/// What happens to the sums of a convolution before they are written.
#[derive(Clone, Debug)]
pub struct Tail<B: Backend> {
    /// Added, of the shape of the result.
    pub residual: Option<Tensor<B, 4>>,
    /// Applied last.
    pub activation: Activation,
}

impl<B: Backend> Default for Tail<B> {
    fn default() -> Self {
        Self {
            residual: None,
            activation: Activation::Identity,
        }
    }
}

/// What a convolution keeps of a weight that stays the same: the weight as the kernels read it.
#[derive(Clone, Debug, Default)]
pub struct Prepared(Packed);

/// `activation(conv2d(x) + residual)`.
///
/// `prepared` is remembered between calls with the same weight.
///
/// # Panics
/// When the channels of input and weight disagree, or the residual has another shape than the
/// result.
pub fn conv2d_with<B: Backend>(
    x: Tensor<B, 4>,
    weight: Tensor<B, 4>,
    bias: Option<Tensor<B, 1>>,
    convolution: Convolution,
    tail: Tail<B>,
    prepared: Option<&Prepared>,
) -> Tensor<B, 4> {
    let [_, channels, _, _] = x.dims();
    let known = cpu::conv::is_known(weight.dims(), convolution, channels);
    if let Some(kernels) = cpu::kernels_for::<B>()
        && known
        && cpu::is_f32(&x)
    {
        let call = cpu::conv::Call {
            x: cpu::open(x),
            weight: cpu::open(weight),
            bias: bias.map(cpu::open),
            residual: tail.residual.map(cpu::open),
            activation: tail.activation,
            convolution,
            packed: prepared.map(|prepared| &prepared.0),
        };
        if !call.needs_gradient() {
            return cpu::close(cpu::conv::forward(kernels, call));
        }
        let fused = call.residual.is_none() && tail.activation.shows_its_slope();
        let (inside, behind) = match fused {
            true => (tail.activation, Activation::Identity),
            false => (Activation::Identity, tail.activation),
        };
        let residual = call.residual.map(cpu::close);
        let inputs = (call.x, call.weight, call.bias);
        let y = cpu::conv::forward_tracked(kernels, inputs, inside, convolution);
        return finish(cpu::close(y), residual, behind);
    }
    let sums = on_backend(x, weight, bias, convolution);
    finish(sums, tail.residual, tail.activation)
}

/// A convolution with weights that stay the same.
#[derive(Clone, Debug)]
pub struct Frozen<'a, B: Backend> {
    /// `[out_channels, in_channels / groups, kernel_height, kernel_width]`.
    pub weight: Tensor<B, 4>,
    /// `[out_channels]`.
    pub bias: Option<Tensor<B, 1>>,
    /// Stride, padding, groups.
    pub convolution: Convolution,
    /// Applied last.
    pub activation: Activation,
    /// Remembered between calls with the same weight.
    pub prepared: &'a Prepared,
}

impl<'a, B: Backend> Frozen<'a, B> {
    /// `activation(conv2d(x) + residual)`.
    ///
    /// # Panics
    /// As [`conv2d_with`].
    pub fn forward(self, x: Tensor<B, 4>, residual: Option<Tensor<B, 4>>) -> Tensor<B, 4> {
        let tail = Tail {
            residual,
            activation: self.activation,
        };
        let prepared = Some(self.prepared);
        conv2d_with(x, self.weight, self.bias, self.convolution, tail, prepared)
    }

    fn open(self) -> Fixed<'a> {
        Fixed {
            weight: cpu::open(self.weight),
            bias: self.bias.map(cpu::open),
            activation: self.activation,
            convolution: self.convolution,
            packed: &self.prepared.0,
        }
    }

    /// Whether a gradient flows to its weights; for a backend that has kernels.
    fn is_tracked(&self) -> bool {
        cpu::is_tracked(&self.weight) || self.bias.as_ref().is_some_and(cpu::is_tracked)
    }
}

/// Two convolutions, one after the other. Where the first has a kernel of 1x1 and the second is depthwise, as
/// in mobile networks, kernels for the CPU leave out the map between, which is the largest of all.
///
/// # Panics
/// When channels of input and weights disagree.
pub fn expanded_depthwise<B: Backend>(
    x: Tensor<B, 4>,
    expand: Frozen<'_, B>,
    depthwise: Frozen<'_, B>,
) -> Tensor<B, 4> {
    let [_, channels, _, _] = x.dims();
    let weights = [expand.weight.dims(), depthwise.weight.dims()];
    let convolutions = [expand.convolution, depthwise.convolution];
    let kernels = cpu::kernels_for::<B>().filter(|_| {
        cpu::conv::is_expanded(weights, convolutions, channels)
            && cpu::is_f32(&x)
            && !cpu::is_tracked(&x)
            && !expand.is_tracked()
            && !depthwise.is_tracked()
    });
    match kernels {
        Some(kernels) => {
            let fixed = [expand, depthwise].map(Frozen::open);
            cpu::close(cpu::conv::expanded(kernels, cpu::open(x), fixed))
        }
        None => depthwise.forward(expand.forward(x, None), None),
    }
}

/// `activation(conv2d(x * gate) + residual)` with a gate for each image and channel,
/// `[batch, channels, 1, 1]`. Where the kernel is 1x1, kernels for the CPU leave out the multiplied map.
///
/// # Panics
/// When channels of input and weight disagree, or the residual has another shape than the result.
pub fn gated_conv2d<B: Backend>(
    x: Tensor<B, 4>,
    gate: Tensor<B, 4>,
    frozen: Frozen<'_, B>,
    residual: Option<Tensor<B, 4>>,
) -> Tensor<B, 4> {
    let [_, channels, _, _] = x.dims();
    let kernels = cpu::kernels_for::<B>().filter(|_| {
        cpu::conv::is_pointwise(frozen.weight.dims(), frozen.convolution, channels)
            && cpu::is_f32(&x)
            && cpu::is_f32(&gate)
            && !cpu::is_tracked(&x)
            && !cpu::is_tracked(&gate)
            && !residual.as_ref().is_some_and(cpu::is_tracked)
            && !frozen.is_tracked()
    });
    match kernels {
        Some(kernels) => {
            let inputs = (cpu::open(x), cpu::open(gate));
            let residual = residual.map(cpu::open);
            cpu::close(cpu::conv::gated(kernels, inputs, frozen.open(), residual))
        }
        None => frozen.forward(scale_channels(x, gate), residual),
    }
}

fn finish<B: Backend>(
    sums: Tensor<B, 4>,
    residual: Option<Tensor<B, 4>>,
    activation: Activation,
) -> Tensor<B, 4> {
    activation.apply(match residual {
        Some(residual) => sums + residual,
        None => sums,
    })
}

/// By the backend's own convolution.
fn on_backend<B: Backend>(
    x: Tensor<B, 4>,
    weight: Tensor<B, 4>,
    bias: Option<Tensor<B, 1>>,
    convolution: Convolution,
) -> Tensor<B, 4> {
    let Convolution {
        stride,
        padding,
        groups,
    } = convolution;
    let [_, _, height, width] = x.dims();
    let [_, _, kernel_height, kernel_width] = weight.dims();
    let (top, bottom) = padding.sides(height, kernel_height, stride);
    let (left, right) = padding.sides(width, kernel_width, stride);
    // Backends pad symmetrically while they read; only a lopsided border costs a copy.
    let (x, inner) = if top == bottom && left == right {
        (x, [top, left])
    } else {
        let zeros = PadMode::Constant(0.0);
        (x.pad((left, right, top, bottom), zeros), [0, 0])
    };
    let options = ConvOptions::new([stride, stride], inner, [1, 1], groups);
    module::conv2d(x, weight, bias, options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::assert_close;
    use burn_flex::Flex;

    fn ramp(shape: [usize; 4]) -> Tensor<Flex, 4> {
        let count = shape.iter().product::<usize>() as i64;
        Tensor::<Flex, 1, Int>::arange(0..count, &Default::default())
            .float()
            .reshape(shape)
    }

    #[test]
    fn same_padding_adds_the_odd_zero_behind() {
        // timm.layers.Conv2dSame(1, 1, 3, stride=2, bias=False), weight 0..9, input 0..24 as 4 x 6.
        let same = Convolution {
            stride: 2,
            padding: Padding::Same,
            groups: 1,
        };
        let y = conv2d(ramp([1, 1, 4, 6]), ramp([1, 1, 3, 3]), None, same);
        assert_eq!(y.dims(), [1, 1, 2, 3]);
        assert_close(y, &[366.0, 438.0, 294.0, 271.0, 301.0, 175.0], 0.0);
    }

    #[test]
    fn groups_and_bias_stay_with_their_channels() {
        let device = Default::default();
        let depthwise = Convolution {
            stride: 1,
            padding: Padding::Symmetric(0),
            groups: 2,
        };
        let weight = Tensor::<Flex, 4>::from_floats([[[[1.0]]], [[[10.0]]]], &device);
        let bias = Tensor::from_floats([0.5, -1.0], &device);
        let y = conv2d(ramp([1, 2, 1, 2]), weight, Some(bias), depthwise);
        assert_close(y, &[0.5, 1.5, 19.0, 29.0], 0.0);
    }

    /// An expansion to 20 channels and the depthwise convolution behind it.
    fn pair<B: Backend>(stride: usize) -> [(Tensor<B, 4>, Tensor<B, 1>, Convolution); 2] {
        let device = Default::default();
        let values = |count: i64| Tensor::<B, 1, Int>::arange(0..count, &device).float();
        let weight = |shape: [usize; 4]| {
            let count = shape.iter().product::<usize>() as i64;
            (values(count) * 0.7).sin().reshape(shape)
        };
        let bias = || (values(20) * 0.3).cos();
        let convolution = |stride, padding, groups| Convolution {
            stride,
            padding,
            groups,
        };
        [
            (
                weight([20, 6, 1, 1]),
                bias(),
                convolution(1, Padding::Symmetric(0), 1),
            ),
            (
                weight([20, 1, 3, 3]),
                bias(),
                convolution(stride, Padding::Same, 20),
            ),
        ]
    }

    fn input<B: Backend>() -> Tensor<B, 4> {
        let values = Tensor::<B, 1, Int>::arange(0..2 * 6 * 9 * 7, &Default::default());
        (values.float() * 0.37).sin().reshape([2, 6, 9, 7])
    }

    fn together<B: Backend>(x: Tensor<B, 4>, stride: usize) -> Tensor<B, 4> {
        let prepared = [Prepared::default(), Prepared::default()];
        let [first, second] = pair(stride);
        let frozen = |(weight, bias, convolution), prepared| Frozen {
            weight,
            bias: Some(bias),
            convolution,
            activation: Activation::Swish,
            prepared,
        };
        expanded_depthwise(x, frozen(first, &prepared[0]), frozen(second, &prepared[1]))
    }

    fn in_turn<B: Backend>(x: Tensor<B, 4>, stride: usize) -> Tensor<B, 4> {
        pair(stride)
            .into_iter()
            .fold(x, |x, (weight, bias, convolution)| {
                Activation::Swish.apply(conv2d(x, weight, Some(bias), convolution))
            })
    }

    #[test]
    fn an_expansion_and_its_depthwise_convolution_are_one_after_the_other() {
        for stride in [1, 2] {
            let expected = in_turn(input::<Flex>(), stride).into_data();
            let expected = expected.to_vec::<f32>().expect("floats");
            assert_close(together(input::<Flex>(), stride), &expected, 1e-5);
        }
    }

    #[test]
    fn gradients_flow_through_an_expansion() {
        type Tracked = burn_autodiff::Autodiff<Flex>;
        let gradient = |apply: fn(Tensor<Tracked, 4>, usize) -> Tensor<Tracked, 4>| {
            let x = input::<Tracked>().require_grad();
            let mut gradients = apply(x.clone(), 2).sum().backward();
            x.grad_remove(&mut gradients).expect("x was tracked")
        };
        let expected = gradient(in_turn).into_data();
        let expected = expected.to_vec::<f32>().expect("floats");
        assert_close(gradient(together), &expected, 1e-5);
        // Without a gradient the tracked backend takes the short way too.
        let y = together(input::<Tracked>(), 1).inner();
        let expected = in_turn(input::<Flex>(), 1).into_data();
        assert_close(y, &expected.to_vec::<f32>().expect("floats"), 1e-5);
    }

    /// A projection of 6 channels to 5, with gates and a residual.
    fn projected<B: Backend>(x: Tensor<B, 4>, fused: bool) -> Tensor<B, 4> {
        let device = Default::default();
        let values = |count: i64| Tensor::<B, 1, Int>::arange(0..count, &device).float();
        let weight = (values(30) * 0.7).sin().reshape([5, 6, 1, 1]);
        let bias = (values(5) * 0.3).cos();
        let gate = (values(12) * 0.9).cos().reshape([2, 6, 1, 1]);
        let residual = (values(2 * 5 * 9 * 7) * 0.11).sin().reshape([2, 5, 9, 7]);
        let convolution = Convolution {
            stride: 1,
            padding: Padding::Same,
            groups: 1,
        };
        if !fused {
            let x = scale_channels(x, gate);
            return (conv2d(x, weight, Some(bias), convolution) + residual).clamp_min(0.0);
        }
        let prepared = Prepared::default();
        let frozen = Frozen {
            weight,
            bias: Some(bias),
            convolution,
            activation: Activation::Relu,
            prepared: &prepared,
        };
        gated_conv2d(x, gate, frozen, Some(residual))
    }

    #[test]
    fn gates_are_part_of_a_convolution() {
        let expected = projected(input::<Flex>(), false).into_data();
        let expected = expected.to_vec::<f32>().expect("floats");
        assert_close(projected(input::<Flex>(), true), &expected, 1e-5);
        type Tracked = burn_autodiff::Autodiff<Flex>;
        let [one, two] = [true, false].map(|fused| {
            let x = input::<Tracked>().require_grad();
            let mut gradients = projected(x.clone(), fused).sum().backward();
            x.grad_remove(&mut gradients).expect("x was tracked")
        });
        let expected = two.into_data().to_vec::<f32>().expect("floats");
        assert_close(one, &expected, 1e-5);
    }

    #[test]
    fn views_of_one_storage_are_other_weights() {
        let prepared = Prepared::default();
        let plain = Convolution {
            stride: 1,
            padding: Padding::Symmetric(0),
            groups: 1,
        };
        let weights = ramp([4, 2, 1, 1]);
        for half in [0..2, 2..4] {
            let weight = weights.clone().slice([half]);
            let x = ramp([1, 2, 3, 3]);
            let tail = Tail::default();
            let expected = conv2d(x.clone(), weight.clone(), None, plain).into_data();
            let y = conv2d_with(x, weight, None, plain, tail, Some(&prepared));
            assert_close(y, &expected.to_vec::<f32>().expect("floats"), 0.0);
        }
    }
}
