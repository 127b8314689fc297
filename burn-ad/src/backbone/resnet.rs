//! ResNet and Wide ResNet (He et al. 2015, Zagoruyko and Komodakis 2016), torchvision's layout.

use std::ops::Range;

use burn::module::Module;
use burn::prelude::*;

use super::layer::{FrozenConv, UnitSource};
use super::plan::{ConvPlan, Shape};
use super::spec::{FeatureInfo, NormSpec};
use crate::error::Result;
use crate::ops::{Activation, Padding, Stack, max_pool_3x3_stride_2};

/// Added to the running variance, PyTorch's default.
const BATCH_NORM_EPSILON: f64 = 1e-5;
/// Channels of the stem.
const STEM: usize = 64;
/// The first stages, whose maps are large beside their weights.
const EARLY: usize = 2;
/// Names of the four stages, one tap each.
const STAGES: [&str; 4] = ["layer1", "layer2", "layer3", "layer4"];

/// The members of the ResNet family, by torchvision's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum ResNetConfig {
    ResNet18,
    ResNet34,
    ResNet50,
    ResNet101,
    ResNet152,
    WideResNet50x2,
    WideResNet101x2,
}

impl ResNetConfig {
    /// Every member, smallest first.
    pub const ALL: [Self; 7] = [
        Self::ResNet18,
        Self::ResNet34,
        Self::ResNet50,
        Self::ResNet101,
        Self::ResNet152,
        Self::WideResNet50x2,
        Self::WideResNet101x2,
    ];

    /// torchvision's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ResNet18 => "resnet18",
            Self::ResNet34 => "resnet34",
            Self::ResNet50 => "resnet50",
            Self::ResNet101 => "resnet101",
            Self::ResNet152 => "resnet152",
            Self::WideResNet50x2 => "wide_resnet50_2",
            Self::WideResNet101x2 => "wide_resnet101_2",
        }
    }

    /// Blocks of the four stages.
    pub(crate) fn depths(self) -> [usize; 4] {
        match self {
            Self::ResNet18 => [2, 2, 2, 2],
            Self::ResNet34 | Self::ResNet50 | Self::WideResNet50x2 => [3, 4, 6, 3],
            Self::ResNet101 | Self::WideResNet101x2 => [3, 4, 23, 3],
            Self::ResNet152 => [3, 8, 36, 3],
        }
    }

    /// Output channels of a block per base channel: 1 for basic blocks, 4 for bottlenecks.
    pub(crate) fn expansion(self) -> usize {
        match self {
            Self::ResNet18 | Self::ResNet34 => 1,
            _ => 4,
        }
    }

    /// Channels of a bottleneck's 3 x 3 convolution per base channel.
    pub(crate) fn width(self) -> usize {
        match self {
            Self::WideResNet50x2 | Self::WideResNet101x2 => 2,
            _ => 1,
        }
    }

    /// The four stages, at strides 4, 8, 16 and 32.
    pub(crate) fn feature_info(self) -> Vec<FeatureInfo> {
        (0..4)
            .map(|stage| FeatureInfo {
                name: STAGES[stage],
                channels: (STEM << stage) * self.expansion(),
                stride: 4 << stage,
            })
            .collect()
    }

    pub(crate) fn plan(self) -> ResNetPlan {
        let branches = self.depths().iter().sum::<usize>();
        let mut inputs = STEM;
        let stages = (0..4)
            .map(|stage| {
                (0..self.depths()[stage])
                    .map(|index| {
                        let block = BlockPlan::new(self, stage, index, inputs, branches);
                        inputs = (STEM << stage) * self.expansion();
                        block
                    })
                    .collect()
            })
            .collect();
        // The stem sees images of variance 1, not rectified maps.
        let stem = conv(
            "conv1",
            "bn1",
            Shape::dense(3, STEM, 7, 2),
            Activation::Relu,
        );
        ResNetPlan {
            stem: stem.with_gain(1.0),
            stages,
        }
    }
}

/// A convolution with its BatchNorm behind a rectifier.
fn conv(name: &str, norm: &str, shape: Shape, activation: Activation) -> ConvPlan {
    let norm = NormSpec {
        name: norm.to_owned(),
        epsilon: BATCH_NORM_EPSILON,
    };
    let padding = Padding::Symmetric(shape.kernel / 2);
    ConvPlan::new(name.to_owned(), shape, padding, Some(norm), activation)
        .with_gain(super::plan::gain_after(Activation::Relu))
}

/// A ResNet before it has weights.
pub(crate) struct ResNetPlan {
    stem: ConvPlan,
    stages: Vec<Vec<BlockPlan>>,
}

struct BlockPlan {
    main: Vec<ConvPlan>,
    shortcut: Option<ConvPlan>,
}

impl BlockPlan {
    /// `branches`: residual blocks of the whole network.
    fn new(
        config: ResNetConfig,
        stage: usize,
        index: usize,
        inputs: usize,
        branches: usize,
    ) -> Self {
        let prefix = format!("{}.{index}", STAGES[stage]);
        let stride = if stage > 0 && index == 0 { 2 } else { 1 };
        let base = STEM << stage;
        let outputs = base * config.expansion();
        // (inputs, outputs, kernel, stride) of the main path
        let shapes = if config.expansion() == 1 {
            vec![(inputs, base, 3, stride), (base, base, 3, 1)]
        } else {
            let middle = base * config.width();
            vec![
                (inputs, middle, 1, 1),
                // torchvision (ResNet v1.5) strides here, not in the first convolution.
                (middle, middle, 3, stride),
                (middle, outputs, 1, 1),
            ]
        };
        let last = shapes.len();
        let mut main: Vec<ConvPlan> = (1..)
            .zip(shapes)
            .map(|(number, (inputs, outputs, kernel, stride))| {
                conv(
                    &format!("{prefix}.conv{number}"),
                    &format!("{prefix}.bn{number}"),
                    Shape::dense(inputs, outputs, kernel, stride),
                    // The last one is rectified after the shortcut has been added.
                    if number < last {
                        Activation::Relu
                    } else {
                        Activation::Identity
                    },
                )
            })
            .collect();
        let shortcut = (stride != 1 || inputs != outputs).then(|| {
            conv(
                &format!("{prefix}.downsample.0"),
                &format!("{prefix}.downsample.1"),
                Shape::dense(inputs, outputs, 1, stride),
                Activation::Identity,
            )
        });
        // Random weights: a sum of two paths keeps its variance when both are halved; a branch
        // beside an identity adds 1 / branches, so the whole network grows by less than e.
        let share = if shortcut.is_some() {
            0.5
        } else {
            0.5 / branches as f64
        };
        if let Some(conv) = main.last_mut() {
            conv.gain *= share;
        }
        let shortcut = shortcut.map(|conv| {
            let gain = conv.gain * 0.5;
            conv.with_gain(gain)
        });
        Self { main, shortcut }
    }
}

impl ResNetPlan {
    /// Every convolution in the order of the state dict.
    pub(crate) fn into_convs(self) -> Vec<ConvPlan> {
        let blocks = self.stages.into_iter().flatten();
        std::iter::once(self.stem)
            .chain(blocks.flat_map(|block| block.main.into_iter().chain(block.shortcut)))
            .collect()
    }
}

/// A frozen ResNet up to its last stage.
#[derive(Module, Debug)]
pub struct ResNet<B: Backend> {
    stem: FrozenConv<B>,
    stages: Vec<Vec<ResidualBlock<B>>>,
}

/// A basic block (two 3 x 3 convolutions) or a bottleneck (1 x 1, 3 x 3, 1 x 1).
#[derive(Module, Debug)]
pub struct ResidualBlock<B: Backend> {
    main: Vec<FrozenConv<B>>,
    shortcut: Option<FrozenConv<B>>,
}

impl<B: Backend> ResNet<B> {
    pub(crate) fn build(
        plan: &ResNetPlan,
        device: &B::Device,
        source: &mut UnitSource<'_>,
    ) -> Result<Self> {
        let stem = FrozenConv::build(&plan.stem, device, source)?;
        let mut stages = Vec::with_capacity(plan.stages.len());
        for stage in &plan.stages {
            let mut blocks = Vec::with_capacity(stage.len());
            for block in stage {
                let main = block.main.iter();
                blocks.push(ResidualBlock {
                    main: main
                        .map(|conv| FrozenConv::build(conv, device, source))
                        .collect::<Result<_>>()?,
                    shortcut: FrozenConv::build_optional(block.shortcut.as_ref(), device, source)?,
                });
            }
            stages.push(blocks);
        }
        Ok(Self { stem, stages })
    }

    /// Hands the output of each stage up to `deepest` to `tap`: those of the first two stages by parts
    /// of `apart` images, for each part in order, then those of the others.
    pub(crate) fn run(
        &self,
        images: Tensor<B, 4>,
        apart: usize,
        deepest: usize,
        tap: &mut dyn FnMut(usize, &Tensor<B, 4>),
    ) {
        let [batch, ..] = images.dims();
        let mut pass = |mut x: Tensor<B, 4>, levels: Range<usize>| {
            for level in levels {
                x = (self.stages[level].iter()).fold(x, |x, block| block.forward(x));
                tap(level, &x);
            }
            x
        };
        let levels = deepest + 1;
        let mut early = |images| {
            let x = max_pool_3x3_stride_2(self.stem.forward(images));
            pass(x, 0..levels.min(EARLY))
        };
        let x = if apart >= batch {
            early(images)
        } else {
            let mut all = Stack::new(batch);
            for images in images.split(apart, 0) {
                let x = early(images);
                if levels > EARLY {
                    all.push(x);
                }
            }
            if levels <= EARLY {
                return;
            }
            all.finish()
        };
        pass(x, EARLY..levels.max(EARLY));
    }

    pub(crate) fn convs(&self) -> Vec<&FrozenConv<B>> {
        let blocks = self.stages.iter().flatten();
        std::iter::once(&self.stem)
            .chain(blocks.flat_map(|block| block.main.iter().chain(&block.shortcut)))
            .collect()
    }
}

impl<B: Backend> ResidualBlock<B> {
    /// `relu(main(x) + shortcut(x))`.
    pub fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let identity = match &self.shortcut {
            Some(shortcut) => shortcut.forward(x.clone()),
            None => x.clone(),
        };
        let Some((last, first)) = self.main.split_last() else {
            return Activation::Relu.apply(x + identity);
        };
        let x = first.iter().fold(x, |x, conv| conv.forward(x));
        last.forward_onto(x, identity, Activation::Relu)
    }
}
