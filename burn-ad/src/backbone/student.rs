//! IGD's encoder (Chen et al., AAAI 2022) as a frozen backbone: pre-activation residual blocks, taught by a
//! larger network or by contrast (`burn-ad pretrain`).

use burn::module::Module;
use burn::prelude::*;
use burn::tensor::ops::PadMode;

use super::layer::{FrozenConv, UnitSource};
use super::plan::{ConvPlan, Shape, gain_after};
use super::spec::{FeatureInfo, Unit, UnitSpec};
use crate::error::{Error, Result};
use crate::ops::{Activation, Padding, mean_pool_2x2};
use crate::tensors::{HostTensor, TensorSet};

/// Channels of the first convolution.
const WIDTH: usize = 64;
/// Values of the vector that an image becomes.
const OUTPUTS: usize = 512;
/// Sides of the map that the vector is read from.
const GRID: usize = 4;
/// Added to the running variance, PyTorch's default.
const BATCH_NORM_EPSILON: f64 = 1e-5;
/// Bytes of maps that are computed together on a CPU.
const BUDGET: usize = 64 << 20;

/// The encoders, by the side of the square images they are trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum StudentConfig {
    Side32,
    Side64,
    Side128,
    Side256,
}

impl StudentConfig {
    /// Every encoder, smallest first.
    pub const ALL: [Self; 4] = [Self::Side32, Self::Side64, Self::Side128, Self::Side256];

    /// Our name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Side32 => "igd-encoder-32",
            Self::Side64 => "igd-encoder-64",
            Self::Side128 => "igd-encoder-128",
            Self::Side256 => "igd-encoder-256",
        }
    }

    /// Side of the images it is trained on; such an image becomes one vector.
    pub const fn side(self) -> usize {
        match self {
            Self::Side32 => 32,
            Self::Side64 => 64,
            Self::Side128 => 128,
            Self::Side256 => 256,
        }
    }

    /// The encoder for images of `side` x `side` pixels.
    ///
    /// # Errors
    /// When there is none.
    pub fn of_side(side: usize) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|config| config.side() == side);
        found.ok_or_else(|| {
            Error::usage(format!("there is no encoder for images of {side} pixels"))
                .help("its side is 32, 64, 128 or 256")
        })
    }

    /// Channels of its first convolution.
    pub const fn width(self) -> usize {
        WIDTH
    }

    /// Values of the vector.
    pub const fn outputs(self) -> usize {
        OUTPUTS
    }

    /// Channels before the first block and behind each; every block halves the map.
    fn channels(self) -> &'static [usize] {
        const W: usize = WIDTH;
        match self {
            Self::Side64 => &[W, 2 * W, 8 * W],
            Self::Side32 | Self::Side128 => &[W, 2 * W, 4 * W, 8 * W],
            Self::Side256 => &[W, 2 * W, 4 * W, 8 * W, 8 * W],
        }
    }

    /// Whether convolutions with stride 2 stand before and behind the blocks.
    fn is_global(self) -> bool {
        self != Self::Side32
    }

    /// The vector, one for each square of the side.
    pub(crate) fn feature_info(self) -> Vec<FeatureInfo> {
        vec![FeatureInfo {
            name: "hidden",
            channels: OUTPUTS,
            stride: self.side(),
        }]
    }

    pub(crate) fn plan(self) -> StudentPlan {
        let channels = self.channels();
        let deepest = channels[channels.len() - 1];
        let (kernel, stride) = if self.is_global() { (5, 2) } else { (3, 1) };
        let blocks = channels.windows(2).enumerate();
        let whole = ConvPlan::new(
            "hidden".to_owned(),
            Shape::dense(deepest, OUTPUTS, GRID, GRID),
            Padding::Symmetric(0),
            None,
            Activation::Identity,
        );
        StudentPlan {
            first: conv(
                "trunk.first",
                Shape::dense(3, channels[0], kernel, stride),
                Activation::Identity,
            ),
            blocks: blocks
                .map(|(index, sides)| BlockPlan::new(index, sides[0], sides[1]))
                .collect(),
            last: self.is_global().then(|| {
                let shape = Shape::dense(deepest, deepest, 3, 2);
                conv("trunk.last", shape, Activation::Identity)
            }),
            hidden: whole,
        }
    }

    /// The units of a trained encoder, whose tensors are taken out of `tensors`; their names are
    /// `<prefix>.trunk.first.weight` and so on, as [`crate::network::save`] writes them.
    ///
    /// BatchNorm goes into a scale and an offset of each channel, or into the convolution before it:
    /// `w' = w g / sqrt(v + e)`, `b' = beta - m g / sqrt(v + e)`, in f64.
    ///
    /// # Errors
    /// When a tensor is absent, shaped otherwise or not finite, or a variance is negative.
    pub fn units_of(self, prefix: &str, tensors: &mut TensorSet) -> Result<Vec<Unit>> {
        let specs: Vec<UnitSpec> = self
            .plan()
            .into_convs()
            .into_iter()
            .map(|it| it.unit)
            .collect();
        let mut source = Source { prefix, tensors };
        specs.iter().map(|spec| source.unit(spec)).collect()
    }
}

/// A convolution with a bias and zeros around its input that keep its size at stride 1.
fn conv(name: &str, shape: Shape, activation: Activation) -> ConvPlan {
    let padding = Padding::Symmetric(shape.kernel / 2);
    ConvPlan::new(name.to_owned(), shape, padding, None, activation)
}

/// A student before it has weights.
pub(crate) struct StudentPlan {
    first: ConvPlan,
    blocks: Vec<BlockPlan>,
    last: Option<ConvPlan>,
    hidden: ConvPlan,
}

struct BlockPlan {
    norm1: ConvPlan,
    conv1: ConvPlan,
    conv2: ConvPlan,
    shortcut: ConvPlan,
}

impl BlockPlan {
    fn new(index: usize, inputs: usize, outputs: usize) -> Self {
        let unit = |name: &str, shape, activation| {
            conv(&format!("trunk.blocks.{index}.{name}"), shape, activation)
        };
        let rectified = gain_after(Activation::Relu);
        // Random weights: a sum of two paths keeps its variance when both are halved. The mean of four positions divides
        // it by 4 in noise and leaves it in an even area; what is between the two keeps deep maps in bounds.
        let share = 0.5 * 2.0;
        Self {
            norm1: unit("norm1", Shape::depthwise(inputs, 1, 1), Activation::Relu),
            conv1: unit(
                "conv1",
                Shape::dense(inputs, inputs, 3, 1),
                Activation::Relu,
            )
            .with_gain(rectified),
            conv2: unit(
                "conv2",
                Shape::dense(inputs, outputs, 3, 1),
                Activation::Identity,
            )
            .with_gain(rectified * share),
            shortcut: unit(
                "shortcut",
                Shape::dense(inputs, outputs, 1, 1),
                Activation::Identity,
            )
            .with_gain(share),
        }
    }
}

impl StudentPlan {
    /// Every convolution in the order of the encoder's tensors.
    pub(crate) fn into_convs(self) -> Vec<ConvPlan> {
        let blocks = self.blocks.into_iter();
        std::iter::once(self.first)
            .chain(blocks.flat_map(|block| [block.norm1, block.conv1, block.conv2, block.shortcut]))
            .chain(self.last)
            .chain([self.hidden])
            .collect()
    }
}

/// The tensors of a trained encoder.
struct Source<'a> {
    prefix: &'a str,
    tensors: &'a mut TensorSet,
}

impl Source<'_> {
    fn take(&mut self, name: &str, shape: &[usize]) -> Result<HostTensor> {
        let shape: Vec<Option<usize>> = shape.iter().copied().map(Some).collect();
        self.tensors
            .take(&format!("{}.{name}", self.prefix), &shape)
    }

    fn unit(&mut self, spec: &UnitSpec) -> Result<Unit> {
        let [outputs, inputs, ..] = spec.shape;
        if let Some(norm) = spec.name.strip_suffix("norm1") {
            let [scale, offset] = self.norm(&format!("{norm}norm1"), outputs)?;
            let single = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
            return Ok(Unit {
                weight: single(scale),
                bias: single(offset),
            });
        }
        let name = format!("{}.weight", spec.name);
        if let Some(block) = spec.name.strip_suffix("conv1") {
            let mut weight = self.take(&name, &spec.shape)?.values;
            let [scale, offset] = self.norm(&format!("{block}norm2"), outputs)?;
            for (filter, scale) in weight.chunks_mut(inputs * 9).zip(scale) {
                for value in filter {
                    *value = (f64::from(*value) * scale) as f32;
                }
            }
            let bias = offset.into_iter().map(|value| value as f32).collect();
            return Ok(Unit { weight, bias });
        }
        // A layer on the flattened map (channel, row, column) is a convolution over all of it.
        let weight = match spec.name.as_str() {
            "hidden" => self.take(&name, &[outputs, inputs * GRID * GRID])?,
            _ => self.take(&name, &spec.shape)?,
        };
        let bias = self.take(&format!("{}.bias", spec.name), &[outputs])?;
        Ok(Unit {
            weight: weight.values,
            bias: bias.values,
        })
    }

    /// What a BatchNorm multiplies by and adds, one of each a channel.
    fn norm(&mut self, name: &str, channels: usize) -> Result<[Vec<f64>; 2]> {
        let mut take = |part: &str| -> Result<Vec<f64>> {
            let tensor = self.take(&format!("{name}.{part}"), &[channels])?;
            Ok(tensor.values.into_iter().map(f64::from).collect())
        };
        let (gamma, beta) = (take("weight")?, take("bias")?);
        let (mean, variance) = (take("running.mean")?, take("running.variance")?);
        if variance.iter().any(|&value| value < 0.0) {
            return Err(Error::weights(format!("{name} has a negative variance")));
        }
        let scale: Vec<f64> = gamma
            .iter()
            .zip(&variance)
            .map(|(gamma, variance)| gamma / (variance + BATCH_NORM_EPSILON).sqrt())
            .collect();
        let offset = beta.iter().zip(mean.iter().zip(&scale));
        let offset = offset
            .map(|(beta, (mean, scale))| beta - mean * scale)
            .collect();
        Ok([scale, offset])
    }
}

/// A frozen encoder.
#[derive(Module, Debug)]
pub struct Student<B: Backend> {
    first: FrozenConv<B>,
    blocks: Vec<DownBlock<B>>,
    last: Option<FrozenConv<B>>,
    hidden: FrozenConv<B>,
}

/// A pre-activation residual block that halves the map.
#[derive(Module, Debug)]
pub struct DownBlock<B: Backend> {
    norm1: FrozenConv<B>,
    conv1: FrozenConv<B>,
    conv2: FrozenConv<B>,
    shortcut: FrozenConv<B>,
}

impl<B: Backend> Student<B> {
    pub(crate) fn build(
        plan: &StudentPlan,
        device: &B::Device,
        source: &mut UnitSource<'_>,
    ) -> Result<Self> {
        let first = FrozenConv::build(&plan.first, device, source)?;
        let mut blocks = Vec::with_capacity(plan.blocks.len());
        for block in &plan.blocks {
            blocks.push(DownBlock {
                norm1: FrozenConv::build(&block.norm1, device, source)?,
                conv1: FrozenConv::build(&block.conv1, device, source)?,
                conv2: FrozenConv::build(&block.conv2, device, source)?,
                shortcut: FrozenConv::build(&block.shortcut, device, source)?,
            });
        }
        Ok(Self {
            first,
            blocks,
            last: FrozenConv::build_optional(plan.last.as_ref(), device, source)?,
            hidden: FrozenConv::build(&plan.hidden, device, source)?,
        })
    }

    /// `[batch, 3, height, width]` to one vector for each square of the encoder's side,
    /// `[batch, 512, rows, columns]`; zeros below and on the right fill the last squares.
    pub fn forward(&self, images: Tensor<B, 4>) -> Tensor<B, 4> {
        let side = self.side();
        let [_, _, height, width] = images.dims();
        let [below, right] = [height, width].map(|size| size.next_multiple_of(side) - size);
        let images = match [below, right] {
            [0, 0] => images,
            _ => images.pad((0, right, 0, below), PadMode::Constant(0.0)),
        };
        let x = self.first.forward(images);
        let mut x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        if let Some(last) = &self.last {
            x = last.forward(x);
        }
        self.hidden.forward(x)
    }

    /// Side of the images it was trained on.
    fn side(&self) -> usize {
        let halvings = self.blocks.len() + if self.last.is_some() { 2 } else { 0 };
        GRID << halvings
    }

    /// How many images of this size keep maps within the budget: five of the first block live at once.
    pub(super) fn images_at_once(&self, size: [usize; 2]) -> usize {
        let [height, width] = size.map(|size| size.next_multiple_of(self.side()));
        let halved = if self.last.is_some() { 4 } else { 1 };
        let map = size_of::<f32>() * WIDTH * height * width / halved;
        (BUDGET / (5 * map).max(1)).max(1)
    }

    pub(crate) fn convs(&self) -> Vec<&FrozenConv<B>> {
        let blocks = self.blocks.iter();
        std::iter::once(&self.first)
            .chain(
                blocks
                    .flat_map(|block| [&block.norm1, &block.conv1, &block.conv2, &block.shortcut]),
            )
            .chain(&self.last)
            .chain([&self.hidden])
            .collect()
    }
}

impl<B: Backend> DownBlock<B> {
    /// `pool(conv2(conv1(norm1(x)))) + shortcut(pool(x))`: half the size.
    pub fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let y = self.conv1.forward(self.norm1.forward(x.clone()));
        let y = mean_pool_2x2(self.conv2.forward(y));
        self.shortcut
            .forward_onto(mean_pool_2x2(x), y, Activation::Identity)
    }
}

#[cfg(test)]
#[path = "student_tests.rs"]
mod tests;
