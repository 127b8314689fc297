//! Every fast path against the backend's own operations, values and gradients.

#![allow(clippy::unwrap_used)]

use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Tensor, TensorData};
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use rand::RngExt;

use crate::ops::{
    Activation, Convolution, Kernels, Padding, Statistics, Tail, add, average_pool_3x3, conv2d,
    conv2d_with, depth_to_space, join_channels, layer_normalise, map_cosines,
    max_pool_3x3_stride_2, mean_pool_2x2, normalise, position_cosines, position_mean,
    scale_channels, unit_channels, upsample_nearest_2x,
};
use crate::tensors::to_vec;

type AB = Autodiff<Flex>;
type Leaf = Tensor<AB, 4>;

/// Settings that must agree with `off`, and by how much of the largest value they may differ: sums
/// of some hundred products in another order, four times as much for F(4x4).
const FAST: [(&str, f32); 4] = [
    ("precise", 2e-6),
    ("fast", 1e-5),
    ("fast:avx2", 1e-5),
    ("fast:portable", 1e-5),
];

struct Draw(rand_chacha::ChaCha8Rng);

impl Draw {
    fn new(name: &str) -> Self {
        Self(crate::train::stream_rng(1, name))
    }

    fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.0.random::<f32>() - 0.4).collect()
    }

    fn leaf<const D: usize>(&mut self, shape: [usize; D]) -> Tensor<AB, D> {
        let data = TensorData::new(self.values(shape.iter().product()), shape);
        Tensor::from_data(data, &Default::default()).require_grad()
    }
}

/// A result and the gradients of a weighted sum of its values.
fn values_and_gradients(y: Leaf, inputs: &[Leaf], vectors: &[Tensor<AB, 1>]) -> Vec<Vec<f32>> {
    let count: usize = y.dims().iter().product();
    let weights: Vec<f32> = (0..count).map(|i| ((i * 7) % 11) as f32 - 4.5).collect();
    let weights = TensorData::new(weights, y.dims());
    let weights = Tensor::from_data(weights, &Default::default());
    let gradients = (y.clone() * weights).sum().backward();
    let mut all = vec![to_vec(y.inner())];
    all.extend(inputs.iter().map(|x| to_vec(x.grad(&gradients).unwrap())));
    all.extend(vectors.iter().map(|x| to_vec(x.grad(&gradients).unwrap())));
    all
}

fn with<R>(kernels: &str, work: impl FnOnce() -> R) -> R {
    kernels.parse::<Kernels>().unwrap().scope(work)
}

fn assert_same(found: &[Vec<f32>], expected: &[Vec<f32>], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len());
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found.len(), expected.len(), "{what}, tensor {index}");
        let largest = expected.iter().fold(0.0f32, |a, b| a.max(b.abs()));
        for (place, (a, b)) in found.iter().zip(expected).enumerate() {
            assert!(
                (a - b).abs() <= tolerance * largest,
                "{what}, tensor {index}, value {place}: {a} instead of {b}"
            );
        }
    }
}

/// Computes with every setting and compares with `off`.
fn check(what: &str, work: impl Fn() -> Vec<Vec<f32>>) {
    let expected = with("off", &work);
    for (kernels, tolerance) in FAST {
        let what = format!("{what}, {kernels}");
        assert_same(&with(kernels, &work), &expected, tolerance, &what);
    }
}

/// `(batch, inputs, outputs, height, width, kernel, convolution)`
fn convolutions() -> Vec<([usize; 6], Convolution)> {
    let of = |stride, padding, groups| Convolution {
        stride,
        padding,
        groups,
    };
    vec![
        ([2, 3, 5, 9, 7, 3], of(1, Padding::Symmetric(1), 1)),
        ([1, 32, 24, 13, 10, 3], of(1, Padding::Symmetric(1), 1)),
        ([2, 17, 19, 8, 9, 3], of(2, Padding::Same, 1)),
        ([2, 6, 35, 5, 6, 1], of(1, Padding::Symmetric(0), 1)),
        ([1, 20, 8, 7, 6, 1], of(2, Padding::Symmetric(0), 1)),
        ([1, 3, 16, 20, 23, 7], of(2, Padding::Symmetric(3), 1)),
        ([2, 12, 12, 9, 10, 5], of(2, Padding::Same, 12)),
        ([1, 33, 33, 6, 6, 3], of(1, Padding::Same, 33)),
        // Neither dense nor depthwise: the backend's own.
        ([1, 4, 6, 5, 5, 3], of(1, Padding::Symmetric(1), 2)),
        ([3, 16, 16, 1, 1, 3], of(1, Padding::Symmetric(1), 1)),
    ]
}

#[test]
fn convolutions_and_their_gradients_are_the_backends() {
    for (sizes, convolution) in convolutions() {
        let [batch, inputs, outputs, height, width, kernel] = sizes;
        let mut draw = Draw::new("conv");
        let x = draw.leaf([batch, inputs, height, width]);
        let weight = draw.leaf([outputs, inputs / convolution.groups, kernel, kernel]);
        let bias = draw.leaf([outputs]);
        check(&format!("{sizes:?} {convolution:?}"), || {
            let y = conv2d(x.clone(), weight.clone(), Some(bias.clone()), convolution);
            let inputs = [x.clone(), weight.clone()];
            values_and_gradients(y, &inputs, std::slice::from_ref(&bias))
        });
    }
}

const ACTIVATIONS: [Activation; 5] = [
    Activation::Identity,
    Activation::Relu,
    Activation::Relu6,
    Activation::Swish,
    Activation::LeakyRelu(0.1),
];

#[test]
fn gradients_of_a_convolution_go_through_its_activation() {
    for (sizes, convolution) in convolutions() {
        let [batch, inputs, outputs, height, width, kernel] = sizes;
        let mut draw = Draw::new("activated");
        let x = draw.leaf([batch, inputs, height, width]);
        let weight = draw.leaf([outputs, inputs / convolution.groups, kernel, kernel]);
        for activation in ACTIVATIONS {
            check(&format!("{sizes:?} {activation:?}"), || {
                let (x, weight) = (x.clone(), weight.clone());
                let inputs = [x.clone(), weight.clone()];
                let tail = Tail {
                    residual: None,
                    activation,
                };
                let y = conv2d_with(x, weight, None, convolution, tail, None);
                values_and_gradients(y, &inputs, &[])
            });
        }
    }
}

#[test]
fn what_follows_a_convolution_is_the_same_fused() {
    for (sizes, convolution) in convolutions() {
        let [batch, inputs, outputs, height, width, kernel] = sizes;
        let mut draw = Draw::new("fused");
        let x = draw.leaf([batch, inputs, height, width]).inner();
        let weight = draw
            .leaf([outputs, inputs / convolution.groups, kernel, kernel])
            .inner();
        let size = conv2d(x.clone(), weight.clone(), None, convolution).dims();
        let residual = draw.leaf(size).inner();
        for activation in ACTIVATIONS {
            check(&format!("{sizes:?} {activation:?}"), || {
                let tail = Tail {
                    residual: Some(residual.clone()),
                    activation,
                };
                let (x, weight) = (x.clone(), weight.clone());
                vec![to_vec(conv2d_with(
                    x,
                    weight,
                    None,
                    convolution,
                    tail,
                    None,
                ))]
            });
        }
    }
}

#[test]
fn views_are_read_where_they_lie() {
    let same = Convolution {
        stride: 1,
        padding: Padding::Same,
        groups: 1,
    };
    let mut draw = Draw::new("views");
    let whole = draw.leaf([3, 9, 8, 6]).inner();
    let weight = draw.leaf([4, 6, 3, 3]).inner();
    check("views", || {
        // Batch and rows narrowed, then axes exchanged: [2, 6, 8, 9] with odd strides and an offset.
        let view = whole.clone().narrow(0, 1, 2).permute([0, 3, 2, 1]);
        let first = conv2d(view, weight.clone(), None, same);
        // The result of a kernel goes through operations of the backend and back.
        let again = (first.clone() * 2.0).narrow(2, 1, 5);
        let second = conv2d(again.clone(), weight.clone().narrow(1, 0, 4), None, same);
        vec![to_vec(first), to_vec(second), to_vec(again)]
    });
}

#[test]
fn gradients_of_a_map_used_twice_are_added() {
    let same = Convolution {
        stride: 1,
        padding: Padding::Same,
        groups: 1,
    };
    let mut draw = Draw::new("fork");
    let x = draw.leaf([2, 5, 6, 7]);
    let weights = [draw.leaf([5, 5, 3, 3]), draw.leaf([5, 5, 1, 1])];
    let (scale, offset) = (draw.leaf([5]), draw.leaf([5]));
    check("fork", || {
        let [first, second] = weights.clone();
        let affine = Some((scale.clone(), offset.clone()));
        let inner = normalise(
            conv2d(x.clone(), first, None, same),
            affine,
            None,
            Activation::Relu,
            Statistics::Batch,
            1e-5,
        );
        let outer = normalise(
            conv2d(inner.clone(), second, None, same),
            None,
            Some(inner.clone()),
            Activation::Relu,
            Statistics::Instance,
            1e-5,
        );
        let y = outer + inner * 0.5 + x.clone();
        let inputs = [x.clone(), weights[0].clone(), weights[1].clone()];
        values_and_gradients(y, &inputs, &[scale.clone(), offset.clone()])
    });
}

#[test]
fn normalisation_and_its_gradients_are_the_backends() {
    for statistics in [Statistics::Batch, Statistics::Instance] {
        for activation in ACTIVATIONS {
            for [batch, channels, height, width] in [[3, 4, 5, 6], [1, 33, 4, 4], [2, 16, 9, 1]] {
                let mut draw = Draw::new("norm");
                let size = [batch, channels, height, width];
                let (x, residual) = (draw.leaf(size), draw.leaf(size));
                let (scale, offset) = (draw.leaf([channels]), draw.leaf([channels]));
                check(&format!("{statistics:?} {activation:?} {size:?}"), || {
                    let y = normalise(
                        x.clone(),
                        Some((scale.clone(), offset.clone())),
                        Some(residual.clone()),
                        activation,
                        statistics,
                        1e-5,
                    );
                    let inputs = [x.clone(), residual.clone()];
                    values_and_gradients(y, &inputs, &[scale.clone(), offset.clone()])
                });
            }
        }
    }
}

#[test]
fn pooling_and_its_gradients_are_the_backends() {
    for size in [[2, 5, 9, 8], [1, 16, 4, 4], [1, 3, 1, 1], [2, 20, 7, 2]] {
        let x = Draw::new("pool").leaf(size);
        check(&format!("maximum {size:?}"), || {
            let y = max_pool_3x3_stride_2(x.clone());
            values_and_gradients(y, std::slice::from_ref(&x), &[])
        });
        for count_border in [false, true] {
            check(&format!("average {size:?} {count_border}"), || {
                let y = average_pool_3x3(x.clone(), count_border);
                values_and_gradients(y, std::slice::from_ref(&x), &[])
            });
        }
    }
}

#[test]
fn layer_normalisation_and_its_gradients_are_the_backends() {
    for activation in ACTIVATIONS {
        for size in [[3, 4, 5, 6], [1, 33, 4, 4], [2, 16, 9, 1], [4, 40, 1, 1]] {
            let mut draw = Draw::new("layer norm");
            let x = draw.leaf(size);
            let values = size[1..].iter().product::<usize>();
            let (weight, bias) = (draw.leaf([values]), draw.leaf([values]));
            check(&format!("layer {activation:?} {size:?}"), || {
                let affine = (weight.clone(), bias.clone());
                let y = layer_normalise(x.clone(), affine.0, affine.1, activation, 1e-5);
                let vectors = [weight.clone(), bias.clone()];
                values_and_gradients(y, std::slice::from_ref(&x), &vectors)
            });
            // Only the map needs a gradient, as of a network that another one learns from.
            check(&format!("frozen layer {activation:?} {size:?}"), || {
                let affine = (weight.clone().detach(), bias.clone().detach());
                let y = layer_normalise(x.clone(), affine.0, affine.1, activation, 1e-5);
                values_and_gradients(y, std::slice::from_ref(&x), &[])
            });
        }
    }
}

#[test]
fn sides_are_halved_and_doubled_as_by_the_backend() {
    for size in [[2, 5, 6, 8], [1, 16, 2, 2], [3, 33, 4, 2]] {
        let x = Draw::new("halves").leaf(size);
        let inputs = std::slice::from_ref(&x);
        check(&format!("half {size:?}"), || {
            let y = mean_pool_2x2(x.clone());
            values_and_gradients(y, inputs, &[])
        });
        check(&format!("double {size:?}"), || {
            let y = upsample_nearest_2x(x.clone());
            values_and_gradients(y, inputs, &[])
        });
        check(&format!("without gradients {size:?}"), || {
            let y = upsample_nearest_2x(mean_pool_2x2(x.clone().inner()));
            vec![to_vec(add(y, x.clone().inner()))]
        });
    }
}

/// What the residual blocks are made of: branches that meet again, with parts that need no gradient.
#[test]
fn gradients_of_branches_that_are_added_are_the_backends() {
    let size = [2, 6, 8, 4];
    let one = Convolution {
        stride: 1,
        padding: Padding::Same,
        groups: 1,
    };
    let mut draw = Draw::new("branches");
    let (x, constant) = (draw.leaf(size), draw.leaf(size));
    let weights = [draw.leaf([6, 6, 3, 3]), draw.leaf([6, 6, 1, 1])];
    check("branches", || {
        let [inner, outer] = weights.clone();
        let branch = mean_pool_2x2(conv2d(x.clone(), inner, None, one));
        let shortcut = conv2d(mean_pool_2x2(x.clone()), outer, None, one);
        let sum = add(branch, shortcut.clone());
        let y = add(upsample_nearest_2x(sum), constant.clone().detach());
        // Twice the same map, and one that something else reads too.
        let y = add(y.clone(), add(y, upsample_nearest_2x(shortcut)));
        let inputs = [x.clone(), weights[0].clone(), weights[1].clone()];
        values_and_gradients(y, &inputs, &[])
    });
}

#[test]
fn maps_are_joined_spread_and_compared_as_by_the_backend() {
    for [batch, channels, height, width] in [[2, 8, 4, 6], [1, 36, 2, 2], [3, 4, 1, 5]] {
        let size = [batch, channels, height, width];
        let mut draw = Draw::new("arrange");
        let (x, other) = (draw.leaf(size), draw.leaf([batch, 3, height, width]));
        let inputs = [x.clone(), other.clone()];
        check(&format!("joined {size:?}"), || {
            // One part twice, and one that needs no gradient.
            let parts = vec![x.clone(), other.clone(), x.clone(), x.clone().detach()];
            values_and_gradients(join_channels(parts), &inputs, &[])
        });
        let inputs = [x.clone()];
        check(&format!("spread {size:?}"), || {
            values_and_gradients(depth_to_space(x.clone()), &inputs, &[])
        });
        check(&format!("directions {size:?}"), || {
            let y = unit_channels(x.clone()) + x.clone();
            values_and_gradients(y, &inputs, &[])
        });
        let target = draw.leaf(size);
        check(&format!("cosines {size:?}"), || {
            let cosines = map_cosines(target.clone().detach(), x.clone());
            let y = cosines.reshape([batch, 1, 1, 1]);
            values_and_gradients(y, &inputs, &[])
        });
        check(&format!("cosines of positions {size:?}"), || {
            vec![to_vec(position_cosines(
                target.clone().inner(),
                x.clone().inner(),
            ))]
        });
        let both = [x.clone(), target.clone()];
        check(&format!("cosines with two gradients {size:?}"), || {
            let cosines = map_cosines(target.clone(), x.clone());
            values_and_gradients(cosines.reshape([batch, 1, 1, 1]), &both, &[])
        });
    }
}

#[test]
fn channels_are_averaged_and_scaled_as_by_the_backend() {
    let same = Convolution {
        stride: 1,
        padding: Padding::Same,
        groups: 1,
    };
    let mut draw = Draw::new("channels");
    let (x, weight) = (draw.leaf([2, 7, 5, 4]), draw.leaf([7, 7, 1, 1]));
    check("channels", || {
        let x = conv2d(x.clone(), weight.clone(), None, same).inner();
        let mean = position_mean(x.clone());
        vec![to_vec(mean.clone()), to_vec(scale_channels(x, mean))]
    });
}

#[test]
fn a_backend_without_kernels_keeps_its_own_operations() {
    fn known<B: AutodiffBackend>() -> [bool; 2] {
        [
            crate::ops::has_kernels::<B>(),
            crate::ops::has_kernels::<B::InnerBackend>(),
        ]
    }
    with("fast", || {
        assert_eq!(known::<AB>(), [true, true]);
        // Recomputing in the backward pass is another type, which the nodes are not written for.
        type Balanced = Autodiff<Flex, burn_autodiff::checkpoint::strategy::BalancedCheckpointing>;
        assert_eq!(known::<Balanced>(), [false, true]);
    });
    with("off", || assert_eq!(known::<AB>(), [false, false]));
}
