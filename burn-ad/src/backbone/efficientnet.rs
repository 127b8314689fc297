//! EfficientNet and EfficientNet-Lite (Tan and Le 2019), timm's `tf_` variants.

use burn::module::Module;
use burn::prelude::*;

use super::layer::{FrozenConv, UnitSource};
use super::plan::{ConvPlan, Shape, gain_after};
use super::spec::{FeatureInfo, NormSpec};
use crate::error::Result;
use crate::ops::{Activation, Padding, position_mean};

/// Added to the running variance, TensorFlow's default.
const BATCH_NORM_EPSILON: f64 = 1e-3;
/// Channels of the stem before scaling.
const STEM: usize = 32;
/// Channels are rounded to a multiple of this.
const DIVISOR: usize = 8;
/// The stages behind which the stride grows, or the network ends: the taps, with their names.
const TAPS: [(usize, &str); 5] = [
    (0, "blocks.0"),
    (1, "blocks.1"),
    (2, "blocks.2"),
    (4, "blocks.4"),
    (6, "blocks.6"),
];

/// One row of table 1 of the paper: kernel, stride, expansion, channels, layers.
struct Stage {
    kernel: usize,
    stride: usize,
    expansion: usize,
    channels: usize,
    layers: usize,
}

const fn stage(kernel: usize, stride: usize, expansion: usize, size: [usize; 2]) -> Stage {
    Stage {
        kernel,
        stride,
        expansion,
        channels: size[0],
        layers: size[1],
    }
}

const STAGES: [Stage; 7] = [
    stage(3, 1, 1, [16, 1]),
    stage(3, 2, 6, [24, 2]),
    stage(5, 2, 6, [40, 2]),
    stage(3, 2, 6, [80, 3]),
    stage(5, 1, 6, [112, 3]),
    stage(5, 2, 6, [192, 4]),
    stage(3, 1, 6, [320, 1]),
];

/// The members of the EfficientNet family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum EfficientNetConfig {
    B0,
    B1,
    B2,
    B3,
    B4,
    B5,
    B6,
    B7,
    Lite0,
    Lite1,
    Lite2,
    Lite3,
    Lite4,
}

impl EfficientNetConfig {
    /// Every member, B0 to B7, then Lite0 to Lite4.
    pub const ALL: [Self; 13] = [
        Self::B0,
        Self::B1,
        Self::B2,
        Self::B3,
        Self::B4,
        Self::B5,
        Self::B6,
        Self::B7,
        Self::Lite0,
        Self::Lite1,
        Self::Lite2,
        Self::Lite3,
        Self::Lite4,
    ];

    /// timm's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::B0 => "tf_efficientnet_b0",
            Self::B1 => "tf_efficientnet_b1",
            Self::B2 => "tf_efficientnet_b2",
            Self::B3 => "tf_efficientnet_b3",
            Self::B4 => "tf_efficientnet_b4",
            Self::B5 => "tf_efficientnet_b5",
            Self::B6 => "tf_efficientnet_b6",
            Self::B7 => "tf_efficientnet_b7",
            Self::Lite0 => "tf_efficientnet_lite0",
            Self::Lite1 => "tf_efficientnet_lite1",
            Self::Lite2 => "tf_efficientnet_lite2",
            Self::Lite3 => "tf_efficientnet_lite3",
            Self::Lite4 => "tf_efficientnet_lite4",
        }
    }

    /// Whether this is a Lite: no squeeze-and-excitation, ReLU6, stem and outer stages not scaled.
    pub const fn is_lite(self) -> bool {
        matches!(
            self,
            Self::Lite0 | Self::Lite1 | Self::Lite2 | Self::Lite3 | Self::Lite4
        )
    }

    /// Factors of the channels and of the layers.
    fn scaling(self) -> (f64, f64) {
        match self {
            Self::B0 | Self::Lite0 => (1.0, 1.0),
            Self::B1 | Self::Lite1 => (1.0, 1.1),
            Self::B2 | Self::Lite2 => (1.1, 1.2),
            Self::B3 | Self::Lite3 => (1.2, 1.4),
            Self::B4 | Self::Lite4 => (1.4, 1.8),
            Self::B5 => (1.6, 2.2),
            Self::B6 => (1.8, 2.6),
            Self::B7 => (2.0, 3.1),
        }
    }

    fn activation(self) -> Activation {
        if self.is_lite() {
            Activation::Relu6
        } else {
            Activation::Swish
        }
    }

    /// Scaled channels, rounded to a multiple of 8 that is no more than a tenth smaller.
    fn channels(self, base: usize) -> usize {
        let scaled = base as f64 * self.scaling().0;
        let divisor = DIVISOR as f64;
        let rounded = ((scaled + divisor / 2.0) as usize / DIVISOR * DIVISOR).max(DIVISOR);
        if (rounded as f64) < 0.9 * scaled {
            rounded + DIVISOR
        } else {
            rounded
        }
    }

    fn stem_channels(self) -> usize {
        if self.is_lite() {
            STEM
        } else {
            self.channels(STEM)
        }
    }

    fn layers(self, stage: usize) -> usize {
        let outer = stage == 0 || stage + 1 == STAGES.len();
        if self.is_lite() && outer {
            STAGES[stage].layers
        } else {
            (STAGES[stage].layers as f64 * self.scaling().1).ceil() as usize
        }
    }

    /// Stage outputs at strides 2, 4, 8, 16 and 32, as timm's `features_only`.
    pub(crate) fn feature_info(self) -> Vec<FeatureInfo> {
        (0..)
            .zip(TAPS)
            .map(|(level, (stage, name))| FeatureInfo {
                name,
                channels: self.channels(STAGES[stage].channels),
                stride: 2 << level,
            })
            .collect()
    }

    pub(crate) fn plan(self) -> EfficientNetPlan {
        let branches = (0..STAGES.len()).map(|stage| self.layers(stage)).sum();
        let mut inputs = self.stem_channels();
        let stem = Shape::dense(3, inputs, 3, 2);
        let stages = (0..STAGES.len())
            .map(|stage| {
                let outputs = self.channels(STAGES[stage].channels);
                (0..self.layers(stage))
                    .map(|index| {
                        let channels = (inputs, outputs);
                        inputs = outputs;
                        BlockPlan::new(self, stage, index, channels, branches)
                    })
                    .collect()
            })
            .collect();
        EfficientNetPlan {
            stem: conv("conv_stem", "bn1", stem, self.activation()),
            stages,
        }
    }
}

fn conv(name: &str, norm: &str, shape: Shape, activation: Activation) -> ConvPlan {
    let norm = NormSpec {
        name: norm.to_owned(),
        epsilon: BATCH_NORM_EPSILON,
    };
    ConvPlan::new(
        name.to_owned(),
        shape,
        Padding::Same,
        Some(norm),
        activation,
    )
}

/// An EfficientNet before it has weights.
pub(crate) struct EfficientNetPlan {
    stem: ConvPlan,
    stages: Vec<Vec<BlockPlan>>,
}

struct BlockPlan {
    expand: Option<ConvPlan>,
    depthwise: ConvPlan,
    /// Reduce and expand.
    squeeze: Option<[ConvPlan; 2]>,
    project: ConvPlan,
    skip: bool,
}

impl BlockPlan {
    /// `branches`: blocks of the whole network.
    fn new(
        config: EfficientNetConfig,
        stage: usize,
        index: usize,
        (inputs, outputs): (usize, usize),
        branches: usize,
    ) -> Self {
        let prefix = format!("blocks.{stage}.{index}");
        let Stage {
            kernel,
            stride,
            expansion,
            ..
        } = STAGES[stage];
        let stride = if index == 0 { stride } else { 1 };
        let skip = stride == 1 && inputs == outputs;
        let middle = inputs * expansion;
        let activation = config.activation();
        let gain = gain_after(activation);
        let named = |name: &str| format!("{prefix}.{name}");
        // Without expansion timm calls the projection `conv_pw`, with it that is the expansion.
        let (project, norms) = if expansion == 1 {
            ("conv_pw", ["", "bn1", "bn2"])
        } else {
            ("conv_pwl", ["bn1", "bn2", "bn3"])
        };
        let expand = (expansion > 1).then(|| {
            let shape = Shape::dense(inputs, middle, 1, 1);
            conv(&named("conv_pw"), &named(norms[0]), shape, activation)
        });
        let shape = Shape::depthwise(middle, kernel, stride);
        // Only the first block of all follows an activation (the stem's) without expansion.
        let after = if expansion > 1 || (stage, index) == (0, 0) {
            gain
        } else {
            1.0
        };
        let depthwise =
            conv(&named("conv_dw"), &named(norms[1]), shape, activation).with_gain(after);
        let squeeze = (!config.is_lite()).then(|| {
            // A quarter of the block's input, not of the expanded map.
            let reduced = inputs / 4;
            let gate = |name: &str, shape, activation| {
                let padding = Padding::Symmetric(0);
                ConvPlan::new(named(name), shape, padding, None, activation)
            };
            [
                gate(
                    "se.conv_reduce",
                    Shape::dense(middle, reduced, 1, 1),
                    activation,
                ),
                gate(
                    "se.conv_expand",
                    Shape::dense(reduced, middle, 1, 1),
                    Activation::Identity,
                ),
            ]
        });
        // Random weights: a gate of random weights is near 1/2 and so quarters the variance;
        // a branch beside an identity adds 1 / branches, so the network grows by less than e.
        let gate = if squeeze.is_some() { 4.0 } else { 1.0 };
        let share = if skip { 1.0 / branches as f64 } else { 1.0 };
        let shape = Shape::dense(middle, outputs, 1, 1);
        let project = conv(
            &named(project),
            &named(norms[2]),
            shape,
            Activation::Identity,
        )
        .with_gain(gain * gate * share);
        Self {
            expand,
            depthwise,
            squeeze,
            project,
            skip,
        }
    }

    fn into_convs(self) -> impl Iterator<Item = ConvPlan> {
        self.expand
            .into_iter()
            .chain([self.depthwise])
            .chain(self.squeeze.into_iter().flatten())
            .chain([self.project])
    }
}

impl EfficientNetPlan {
    /// Every convolution in the order of the state dict.
    pub(crate) fn into_convs(self) -> Vec<ConvPlan> {
        let blocks = self.stages.into_iter().flatten();
        std::iter::once(self.stem)
            .chain(blocks.flat_map(BlockPlan::into_convs))
            .collect()
    }
}

/// A frozen EfficientNet up to its last stage, without head.
#[derive(Module, Debug)]
pub struct EfficientNet<B: Backend> {
    stem: FrozenConv<B>,
    stages: Vec<Vec<InvertedResidual<B>>>,
}

/// Expansion, depthwise convolution, squeeze-and-excitation, projection.
#[derive(Module, Debug)]
pub struct InvertedResidual<B: Backend> {
    expand: Option<FrozenConv<B>>,
    depthwise: FrozenConv<B>,
    reduce: Option<FrozenConv<B>>,
    excite: Option<FrozenConv<B>>,
    project: FrozenConv<B>,
    skip: bool,
}

impl<B: Backend> EfficientNet<B> {
    pub(crate) fn build(
        plan: &EfficientNetPlan,
        device: &B::Device,
        source: &mut UnitSource<'_>,
    ) -> Result<Self> {
        let stem = FrozenConv::build(&plan.stem, device, source)?;
        let mut stages = Vec::with_capacity(plan.stages.len());
        for stage in &plan.stages {
            let blocks = stage.iter();
            stages.push(
                blocks
                    .map(|block| InvertedResidual::build(block, device, source))
                    .collect::<Result<_>>()?,
            );
        }
        Ok(Self { stem, stages })
    }

    /// Hands the tapped stages' outputs up to level `deepest` to `tap`, in order.
    pub(crate) fn run(
        &self,
        images: Tensor<B, 4>,
        deepest: usize,
        tap: &mut dyn FnMut(usize, &Tensor<B, 4>),
    ) {
        let mut x = self.stem.forward(images);
        let mut next = 0;
        for (level, (last, _)) in TAPS.iter().enumerate().take(deepest + 1) {
            for block in self.stages[next..=*last].iter().flatten() {
                x = block.forward(x);
            }
            next = last + 1;
            tap(level, &x);
        }
    }

    pub(crate) fn convs(&self) -> Vec<&FrozenConv<B>> {
        let blocks = self.stages.iter().flatten();
        std::iter::once(&self.stem)
            .chain(blocks.flat_map(InvertedResidual::convs))
            .collect()
    }
}

impl<B: Backend> InvertedResidual<B> {
    fn build(plan: &BlockPlan, device: &B::Device, source: &mut UnitSource<'_>) -> Result<Self> {
        let [reduce, excite] = match &plan.squeeze {
            Some([reduce, excite]) => [Some(reduce), Some(excite)],
            None => [None, None],
        };
        // Fields are evaluated in the order written: the order of the state dict.
        Ok(Self {
            expand: FrozenConv::build_optional(plan.expand.as_ref(), device, source)?,
            depthwise: FrozenConv::build(&plan.depthwise, device, source)?,
            reduce: FrozenConv::build_optional(reduce, device, source)?,
            excite: FrozenConv::build_optional(excite, device, source)?,
            project: FrozenConv::build(&plan.project, device, source)?,
            skip: plan.skip,
        })
    }

    /// `[batch, channels, height, width]` through the block.
    pub fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let identity = self.skip.then(|| x.clone());
        let y = match &self.expand {
            Some(expand) => expand.forward_to(&self.depthwise, x),
            None => self.depthwise.forward(x),
        };
        if let (Some(reduce), Some(excite)) = (&self.reduce, &self.excite) {
            let gate = excite.forward(reduce.forward(position_mean(y.clone())));
            let gate = burn::tensor::activation::sigmoid(gate);
            return self.project.forward_gated(y, gate, identity);
        }
        match identity {
            Some(identity) => self.project.forward_onto(y, identity, Activation::Identity),
            None => self.project.forward(y),
        }
    }

    fn convs(&self) -> impl Iterator<Item = &FrozenConv<B>> {
        self.expand
            .iter()
            .chain([&self.depthwise])
            .chain(&self.reduce)
            .chain(&self.excite)
            .chain([&self.project])
    }
}
