//! Convolutions by `burn-ad-kernels`.

use std::sync::{Arc, Mutex, PoisonError};

use burn_ad_kernels::conv::expanded::{self, Expand};
use burn_ad_kernels::conv::gradient::{self, Layer};
use burn_ad_kernels::conv::{self, Algorithm, Epilogue, Geometry, Weights, gated};
use burn_ad_kernels::depthwise::{self, Depthwise};
use burn_ad_kernels::{Activation as KernelActivation, Isa, Map as Size, Window, channels};
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops};
use burn_flex::{Flex, FlexTensor};

use super::buffers;
use super::elementwise;
use super::settings::{Kernels, Precision};
use super::tensor::{Cpu, Map, contiguous, dims, size, tensor, values};
use super::tracking::{into_tracked, needs_gradient, node, take_gradient, without_history};
use crate::ops::{Activation, Convolution};

/// Rearranged weights of a convolution that does not change, kept from call to call.
///
/// Belongs beside the weight; where another weight is passed along with it, it is made anew.
#[derive(Clone, Debug, Default)]
pub(crate) struct Packed {
    entries: Arc<Mutex<Vec<Entry>>>,
}

#[derive(Debug)]
struct Entry {
    /// Keeps the weight alive, so that its address stays its own.
    source: FlexTensor,
    form: Form,
    kernel: Arc<Kernel>,
}

/// How weights are laid out.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Dense(Isa, Algorithm),
    Depthwise(Isa),
}

#[derive(Debug)]
enum Kernel {
    Dense(Weights),
    Depthwise(Vec<f32>),
}

impl Packed {
    fn get(&self, weight: &FlexTensor, form: Form) -> Arc<Kernel> {
        let lock = || self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let known = {
            let mut entries = lock();
            // Views of one storage are other weights.
            entries.retain(|entry| {
                let (old, new) = (entry.source.layout(), weight.layout());
                entry.source.bytes().as_ptr() == weight.bytes().as_ptr()
                    && old.start_offset() == new.start_offset()
                    && old.shape() == new.shape()
                    && old.strides() == new.strides()
            });
            let known = entries.iter().find(|entry| entry.form == form);
            known.map(|entry| entry.kernel.clone())
        };
        // Without the lock: a thread that waits for parts of the packing may take up other work, and come
        // here again.
        known.unwrap_or_else(|| {
            let kernel = Arc::new(pack(weight, form));
            lock().push(Entry {
                source: weight.clone(),
                form,
                kernel: kernel.clone(),
            });
            kernel
        })
    }
}

fn pack(weight: &FlexTensor, form: Form) -> Kernel {
    let shape = dims(weight);
    let weight = contiguous(weight.clone());
    let weight = values(&weight);
    match form {
        Form::Dense(isa, algorithm) => Kernel::Dense(Weights::pack(isa, algorithm, weight, shape)),
        Form::Depthwise(isa) => Kernel::Depthwise(depthwise::pack(isa, weight, shape[0])),
    }
}

/// Whether the kernels know such a convolution: dense, or one filter per channel.
pub(crate) fn is_known(weight: [usize; 4], convolution: Convolution, channels: usize) -> bool {
    convolution.groups == 1 || is_depthwise(weight, convolution, channels)
}

fn is_depthwise(
    [outputs, inputs, ..]: [usize; 4],
    convolution: Convolution,
    channels: usize,
) -> bool {
    inputs == 1 && convolution.groups == channels && outputs == channels && channels > 1
}

/// A convolution and what it reads.
pub(crate) struct Call<'a> {
    pub(crate) x: Cpu,
    pub(crate) weight: Cpu,
    pub(crate) bias: Option<Cpu>,
    pub(crate) residual: Option<Cpu>,
    pub(crate) activation: Activation,
    pub(crate) convolution: Convolution,
    pub(crate) packed: Option<&'a Packed>,
}

impl Call<'_> {
    /// Whether a gradient flows through it.
    pub(crate) fn needs_gradient(&self) -> bool {
        let inputs = [Some(&self.x), Some(&self.weight), self.bias.as_ref()];
        let inputs = inputs.into_iter().chain([self.residual.as_ref()]);
        inputs.flatten().any(needs_gradient)
    }
}

/// What the kernels make of a convolution on an input of a certain size.
#[derive(Clone, Copy, Debug)]
struct Plan {
    geometry: Geometry,
    depthwise: bool,
    /// Of the weight.
    shape: [usize; 4],
    precise: bool,
    kernels: Kernels,
}

impl Plan {
    fn new(kernels: Kernels, x: [usize; 4], shape: [usize; 4], convolution: Convolution) -> Self {
        let [batch, channels, height, width] = x;
        let [_, inputs, kernel_height, kernel_width] = shape;
        let depthwise = is_depthwise(shape, convolution, channels);
        assert!(
            depthwise || inputs == channels,
            "the convolution expects {inputs} channels, the map has {channels}"
        );
        let Convolution {
            stride, padding, ..
        } = convolution;
        let (top, bottom) = padding.sides(height, kernel_height, stride);
        let (left, right) = padding.sides(width, kernel_width, stride);
        Self {
            geometry: Geometry {
                batch,
                height,
                width,
                kernel: [kernel_height, kernel_width],
                stride,
                padding: conv::Padding {
                    top,
                    bottom,
                    left,
                    right,
                },
            },
            depthwise,
            shape,
            precise: kernels.precision != Some(Precision::Fast),
            kernels,
        }
    }

    /// For a weight that is packed once and used often.
    fn form(&self) -> Form {
        self.form_of(Algorithm::choose)
    }

    fn form_of(&self, choose: fn(bool, [usize; 4], &Geometry) -> Algorithm) -> Form {
        if self.depthwise {
            return Form::Depthwise(self.kernels.isa);
        }
        let algorithm = choose(self.precise, self.shape, &self.geometry);
        Form::Dense(self.kernels.isa, algorithm)
    }

    fn forward(&self, x: &Map, kernel: &Kernel, epilogue: Epilogue<'_>) -> Map {
        self.output(|out| match kernel {
            Kernel::Dense(weights) => {
                conv::forward(x.values(), &self.geometry, weights, epilogue, out);
            }
            Kernel::Depthwise(weight) => self.depthwise_forward(x, weight, epilogue, out),
        })
    }

    /// The map that `compute` fills.
    fn output(&self, compute: impl FnOnce(&mut [f32])) -> Map {
        let [height, width] = self.geometry.output();
        let size = [self.geometry.batch, self.shape[0], height, width];
        let mut out = buffers::take(size.iter().product());
        compute(&mut out);
        Map::new(out, size)
    }

    /// The same with a weight that is packed for this call only.
    fn forward_once(&self, x: &Map, weight: &FlexTensor, epilogue: Epilogue<'_>) -> Map {
        let Form::Dense(isa, algorithm) = self.form_of(Algorithm::choose_once) else {
            return self.forward(x, &pack(weight, self.form()), epilogue);
        };
        self.output(|out| {
            conv::forward_once(
                (isa, algorithm),
                x.values(),
                &self.geometry,
                (values(weight), self.shape),
                epilogue,
                out,
            );
        })
    }

    fn depthwise_forward(&self, x: &Map, weight: &[f32], epilogue: Epilogue<'_>, out: &mut [f32]) {
        let Epilogue {
            bias,
            residual,
            activation,
        } = epilogue;
        let isa = self.kernels.isa;
        let depthwise = Depthwise {
            window: self.window(),
            weight,
            bias,
            activation: match residual {
                None => activation,
                Some(_) => KernelActivation::Identity,
            },
        };
        depthwise::forward(isa, x.values(), self.size(), &depthwise, out);
        if let Some(residual) = residual {
            for (out, residual) in out.iter_mut().zip(residual) {
                *out += residual;
            }
            channels::activate(isa, out, activation);
        }
    }

    fn layer(&self) -> Layer {
        Layer {
            isa: self.kernels.isa,
            precise: self.precise,
            geometry: self.geometry,
            shape: self.shape,
        }
    }

    fn size(&self) -> Size {
        let Geometry {
            batch,
            height,
            width,
            ..
        } = self.geometry;
        Size {
            batch,
            height,
            width,
            channels: self.shape[0],
        }
    }

    fn window(&self) -> Window {
        let Geometry {
            kernel,
            stride,
            padding,
            ..
        } = self.geometry;
        Window {
            kernel,
            stride: [stride; 2],
            padding: [padding.top, padding.bottom, padding.left, padding.right],
        }
    }
}

/// `activation(conv(x) + bias + residual)`, without history.
pub(crate) fn forward(kernels: Kernels, call: Call<'_>) -> Cpu {
    let packed = call.packed;
    compute(kernels, call, |plan, x, weight, epilogue| match packed {
        Some(packed) => plan.forward(x, &packed.get(&weight, plan.form()), epilogue),
        None => plan.forward_once(x, &contiguous(weight), epilogue),
    })
}

/// Opens what a convolution reads, and keeps the memory of what it used up.
fn compute(
    kernels: Kernels,
    call: Call<'_>,
    work: impl FnOnce(&Plan, &Map, FlexTensor, Epilogue<'_>) -> Map,
) -> Cpu {
    let tracked = matches!(call.x, Cpu::Tracked(_));
    let x = Map::of(kernels, call.x.into_primitive());
    let weight = call.weight.into_primitive();
    let bias = call.bias.map(|bias| contiguous(bias.into_primitive()));
    let residual = call
        .residual
        .map(|residual| Map::of(kernels, residual.into_primitive()));
    let plan = Plan::new(kernels, x.dims(), dims(&weight), call.convolution);
    let epilogue = Epilogue {
        bias: bias.as_ref().map(values),
        residual: residual.as_ref().map(Map::values),
        activation: elementwise::of(call.activation),
    };
    let out = work(&plan, &x, weight, epilogue);
    x.give_back();
    if let Some(residual) = residual {
        residual.give_back();
    }
    without_history(tracked, out.into_tensor())
}

/// A convolution with weights that stay the same.
pub(crate) struct Fixed<'a> {
    pub(crate) weight: Cpu,
    pub(crate) bias: Option<Cpu>,
    pub(crate) activation: Activation,
    pub(crate) convolution: Convolution,
    pub(crate) packed: &'a Packed,
}

/// Whether [`expanded()`] knows two convolutions with these weights: a 1x1 convolution to more channels and
/// a depthwise one of these.
pub(crate) fn is_expanded(
    [first, second]: [[usize; 4]; 2],
    [expand, depthwise]: [Convolution; 2],
    channels: usize,
) -> bool {
    is_pointwise(first, expand, channels) && is_depthwise(second, depthwise, first[0])
}

/// Whether each output position sees one input position, all channels of it.
pub(crate) fn is_pointwise(weight: [usize; 4], convolution: Convolution, channels: usize) -> bool {
    weight[1..] == [channels, 1, 1]
        && (convolution.stride, convolution.groups) == (1, 1)
        && convolution.padding.sides(1, 1, 1) == (0, 0)
}

/// Both convolutions of [`is_expanded`] without the map between them; no gradient flows through.
pub(crate) fn expanded(kernels: Kernels, x: Cpu, [expand, depthwise]: [Fixed<'_>; 2]) -> Cpu {
    let tracked = matches!(x, Cpu::Tracked(_));
    let x = Map::of(kernels, x.into_primitive());
    let weights = [expand.weight, depthwise.weight].map(Cpu::into_primitive);
    let biases = [expand.bias, depthwise.bias]
        .map(|bias| bias.map(|bias| contiguous(bias.into_primitive())));
    let dense = Plan::new(kernels, x.dims(), dims(&weights[0]), expand.convolution);
    let [batch, _, height, width] = x.dims();
    let between = [batch, dims(&weights[0])[0], height, width];
    let plan = Plan::new(kernels, between, dims(&weights[1]), depthwise.convolution);
    let first = expand.packed.get(&weights[0], dense.form());
    let second = depthwise.packed.get(&weights[1], plan.form());
    let (Kernel::Dense(first), Kernel::Depthwise(second)) = (&*first, &*second) else {
        unreachable!("a dense convolution and a depthwise one");
    };
    let out = plan.output(|out| {
        let expand = Expand {
            weights: first,
            bias: biases[0].as_ref().map(values),
            activation: elementwise::of(expand.activation),
        };
        let depthwise = Depthwise {
            window: plan.window(),
            weight: second,
            bias: biases[1].as_ref().map(values),
            activation: elementwise::of(depthwise.activation),
        };
        expanded::forward(x.values(), size(x.dims()), expand, &depthwise, out);
    });
    x.give_back();
    without_history(tracked, out.into_tensor())
}

/// `activation(conv(x * gate) + bias + residual)` of a convolution with a kernel of 1x1; no gradient flows
/// through.
pub(crate) fn gated(
    kernels: Kernels,
    (x, gate): (Cpu, Cpu),
    fixed: Fixed<'_>,
    residual: Option<Cpu>,
) -> Cpu {
    let (packed, gate) = (fixed.packed, contiguous(gate.into_primitive()));
    let call = Call {
        x,
        weight: fixed.weight,
        bias: fixed.bias,
        residual,
        activation: fixed.activation,
        convolution: fixed.convolution,
        packed: Some(packed),
    };
    compute(kernels, call, |plan, x, weight, epilogue| {
        let kernel = packed.get(&weight, plan.form());
        let Kernel::Dense(weights) = &*kernel else {
            unreachable!("a dense convolution");
        };
        let (map, gate) = (size(x.dims()), values(&gate));
        plan.output(|out| gated::forward(x.values(), map, gate, weights, epilogue, out))
    })
}

/// `activation(conv(x) + bias)` as a node of the graph; the activation shows its slope.
pub(crate) fn forward_tracked(
    kernels: Kernels,
    (x, weight, bias): (Cpu, Cpu, Option<Cpu>),
    activation: Activation,
    convolution: Convolution,
) -> Cpu {
    let (x, weight, bias) = (
        into_tracked(x),
        into_tracked(weight),
        bias.map(into_tracked),
    );
    let map = Map::of(kernels, x.primitive);
    let weights = contiguous(weight.primitive);
    let plan = Plan::new(kernels, map.dims(), dims(&weights), convolution);
    let bias_values = bias.as_ref().map(|bias| contiguous(bias.primitive.clone()));
    let epilogue = Epilogue {
        bias: bias_values.as_ref().map(values),
        residual: None,
        activation: elementwise::of(activation),
    };
    let out = plan.forward_once(&map, &weights, epilogue);
    let state = State {
        x: map,
        y: (activation != Activation::Identity).then(|| out.clone()),
        activation,
        weight: weights,
        plan,
    };
    let out = out.into_tensor();
    Cpu::Tracked(match bias {
        Some(bias) => node!(
            ConvolutionBackward,
            3,
            [x.node, weight.node, bias.node],
            state,
            out
        ),
        None => node!(ConvolutionBackward, 2, [x.node, weight.node], state, out),
    })
}

#[derive(Clone, Debug)]
struct State {
    x: Map,
    /// Where an activation follows: its result.
    y: Option<Map>,
    activation: Activation,
    weight: FlexTensor,
    plan: Plan,
}

#[derive(Debug)]
struct ConvolutionBackward;

impl<const N: usize> Backward<Flex, N> for ConvolutionBackward {
    type State = State;

    fn backward(
        self,
        ops: Ops<State, N>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let State {
            x,
            y,
            activation,
            weight,
            plan,
        } = ops.state;
        let Plan { shape, kernels, .. } = plan;
        let mut dy = Map::of(kernels, gradients.consume::<Flex>(&ops.node));
        if let Some(y) = y {
            let mut before = buffers::take(dy.values().len());
            let (isa, activation) = (kernels.isa, elementwise::of(activation));
            channels::activate_backward(isa, y.values(), dy.values(), activation, &mut before);
            let after = std::mem::replace(&mut dy, Map::new(before, y.dims()));
            after.give_back();
            y.give_back();
        }
        let mut parents = ops.parents.into_iter();
        if let Some(node) = parents.next().flatten() {
            let before = take_gradient!(gradients, node, weight);
            let before = before.map(|before| Map::of(kernels, before));
            let mut dx = buffers::take(x.values().len());
            let isa = kernels.isa;
            if plan.depthwise {
                let weight = depthwise::pack(isa, values(&weight), shape[0]);
                let (size, window) = (plan.size(), plan.window());
                depthwise::input_gradient(isa, dy.values(), size, window, &weight, &mut dx);
            } else {
                let before = before.as_ref().map(Map::values);
                gradient::input(&plan.layer(), dy.values(), values(&weight), before, &mut dx);
            }
            let mut dx = Map::new(dx, x.dims()).into_tensor();
            if plan.depthwise
                && let Some(before) = before
            {
                dx = elementwise::sum(kernels, before.into_tensor(), dx);
            }
            gradients.register::<Flex>(node.id, dx);
        }
        if let Some(node) = parents.next().flatten() {
            let length = shape.iter().product();
            let dw = if plan.depthwise {
                let (size, window) = (plan.size(), plan.window());
                let mut packed = vec![0.0; length];
                depthwise::weight_gradient(
                    kernels.isa,
                    x.values(),
                    size,
                    window,
                    dy.values(),
                    &mut packed,
                );
                depthwise::unpack(kernels.isa, &packed, shape[0])
            } else {
                let mut dw = buffers::take(length);
                gradient::weight(&plan.layer(), x.values(), dy.values(), &mut dw);
                dw
            };
            gradients.register::<Flex>(node.id, tensor(dw, &shape));
        }
        if let Some(node) = parents.next().flatten() {
            let mut db = vec![0.0; shape[0]];
            gradient::bias(kernels.isa, dy.values(), &mut db);
            gradients.register::<Flex>(node.id, tensor(db, &shape[..1]));
        }
        x.give_back();
        dy.give_back();
    }
}
