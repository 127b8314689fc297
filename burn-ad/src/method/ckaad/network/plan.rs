//! Which blocks and widths reconstruct the taps of a backbone.

use crate::backbone::BackboneConfig;
use crate::error::{Error, Result};
use crate::network::NormKind;

/// A residual block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// Two 3 x 3 convolutions.
    Basic,
    /// 1 x 1, 3 x 3 and 1 x 1, with `width / 4` of the outputs in the middle.
    Bottleneck {
        /// 1, or 2 in wide networks.
        width: usize,
    },
}

/// An auto-encoder before it has weights.
///
/// ResNets are mirrored in their own block type. EfficientNets are mirrored in basic blocks, two a
/// stage, with the widths of their taps; since these are not rectified, the last block of a decoder stage
/// is not, either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReconstructionPlan {
    /// The blocks of all stages.
    pub block: BlockKind,
    /// Blocks of the latent stage.
    pub latent_blocks: usize,
    /// Channels of each level from the shallowest tap to the deepest, and whether it is a tap; sides
    /// halve from one to the next.
    pub levels: Vec<(usize, bool)>,
    /// Blocks of each decoder stage, deepest first, one a level.
    pub stages: Vec<usize>,
    /// Whether taps have values below zero.
    pub signed: bool,
    /// What follows each convolution.
    pub norm: NormKind,
}

/// Blocks of a stage, and of the latent one, where the backbone has no residual blocks to mirror.
const PLAIN_BLOCKS: usize = 2;

impl ReconstructionPlan {
    /// For the taps of `backbone` at `strides`, in any order.
    ///
    /// # Errors
    /// When the backbone has no tap at one of the strides, or there is none.
    pub fn new(backbone: BackboneConfig, strides: &[usize], norm: NormKind) -> Result<Self> {
        let taps = backbone.levels_at_strides(strides)?;
        let (Some(&first), Some(&last)) = (taps.iter().min(), taps.iter().max()) else {
            return Err(Error::usage("no tap is given").help("for instance method.taps=[8,16]"));
        };
        let info = backbone.feature_info();
        let levels = (first..=last).map(|level| (info[level].channels, taps.contains(&level)));
        let levels: Vec<(usize, bool)> = levels.collect();
        let (block, latent_blocks, depths) = match backbone {
            BackboneConfig::ResNet(config) => {
                let block = match config.expansion() {
                    1 => BlockKind::Basic,
                    _ => BlockKind::Bottleneck {
                        width: config.width(),
                    },
                };
                let depths = config.depths();
                (block, depths[3], depths.to_vec())
            }
            BackboneConfig::EfficientNet(_) | BackboneConfig::Student(_) | BackboneConfig::None => {
                (
                    BlockKind::Basic,
                    PLAIN_BLOCKS,
                    vec![PLAIN_BLOCKS; levels.len()],
                )
            }
        };
        Ok(Self {
            block,
            latent_blocks,
            stages: depths[..levels.len()].to_vec(),
            levels,
            signed: !matches!(backbone, BackboneConfig::ResNet(_)),
            norm,
        })
    }

    /// Channels of the taps, shallowest first, each with the number of halvings to the deepest one.
    pub(super) fn taps(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let last = self.levels.len() - 1;
        let levels = self.levels.iter().enumerate();
        levels
            .filter(|(_, (_, tap))| *tap)
            .map(move |(level, (channels, _))| (*channels, last - level))
    }

    /// Channels of all taps when they are brought to the size of the deepest, doubling with each
    /// halving.
    pub(super) fn joined(&self) -> usize {
        self.taps()
            .map(|(channels, halvings)| channels << halvings)
            .sum()
    }

    /// Parameters of the auto-encoder.
    pub(in super::super) fn parameters(&self) -> usize {
        let conv =
            |inputs: usize, outputs: usize, area: usize| inputs * outputs * area + 2 * outputs;
        // The scaling convolution of a block, and its shortcut.
        let stage = |inputs: usize, outputs: usize, count: usize, areas: [usize; 2]| {
            let block = |inputs: usize, [main, shortcut]: [usize; 2]| {
                let path = match self.block {
                    BlockKind::Basic => conv(inputs, outputs, main) + conv(outputs, outputs, 9),
                    BlockKind::Bottleneck { width } => {
                        let middle = outputs / 4 * width;
                        conv(inputs, middle, 1)
                            + conv(middle, middle, main)
                            + conv(middle, outputs, 1)
                    }
                };
                path + if shortcut > 0 {
                    conv(inputs, outputs, shortcut)
                } else {
                    0
                }
            };
            block(inputs, areas) + (count - 1) * block(outputs, [9, 0])
        };
        let halvings = self.taps().flat_map(|(channels, halvings)| {
            (0..halvings).map(move |step| (channels << step, channels << (step + 1)))
        });
        let steps: usize = halvings
            .map(|(inputs, outputs)| conv(inputs, outputs, 9))
            .sum();
        let mut channels = 2 * self.deepest();
        let latent = stage(self.joined(), channels, self.latent_blocks, [9, 1]);
        let levels = self.levels.iter().rev().zip(&self.stages);
        let decoder = levels.map(|(&(outputs, _), &count)| {
            let parameters = stage(channels, outputs, count, [4, 4]);
            channels = outputs;
            parameters
        });
        steps + latent + decoder.sum::<usize>()
    }

    /// Channels of the deepest tap.
    pub(super) fn deepest(&self) -> usize {
        self.levels[self.levels.len() - 1].0
    }
}

#[cfg(test)]
mod tests {
    use super::super::AutoEncoder;
    use super::*;
    use burn::module::Module;

    fn plan(backbone: &str, strides: &[usize]) -> ReconstructionPlan {
        let backbone = backbone.parse().expect("known");
        ReconstructionPlan::new(backbone, strides, NormKind::Instance).expect("has taps")
    }

    #[test]
    fn every_backbone_and_subset_of_taps_has_a_plan() {
        for backbone in BackboneConfig::ALL.into_iter().filter(|it| !it.is_none()) {
            let strides: Vec<usize> = backbone.feature_info().iter().map(|i| i.stride).collect();
            for subset in 1..1u32 << strides.len() {
                let chosen = strides.iter().enumerate();
                let chosen: Vec<usize> = chosen
                    .filter(|(place, _)| subset >> place & 1 == 1)
                    .map(|(_, &stride)| stride)
                    .collect();
                let plan = ReconstructionPlan::new(backbone, &chosen, NormKind::Instance);
                let plan = plan.expect("has these taps");
                assert_eq!(plan.taps().count(), chosen.len(), "{backbone}");
                assert_eq!(plan.stages.len(), plan.levels.len());
                let span = chosen[chosen.len() - 1] / chosen[0];
                assert_eq!(1 << (plan.levels.len() - 1), span, "{backbone} {chosen:?}");
            }
        }
    }

    #[test]
    fn parameters_are_counted_as_they_are_made() {
        for (backbone, strides) in [
            ("resnet18", vec![8, 16]),
            ("resnet18", vec![4, 16]),
            ("resnet50", vec![4, 8]),
            ("tf_efficientnet_lite0", vec![4, 8, 16]),
        ] {
            let plan = plan(backbone, &strides);
            let network = AutoEncoder::<burn_flex::Flex>::empty(&plan, &Default::default());
            assert_eq!(
                plan.parameters(),
                network.num_params(),
                "{backbone} {strides:?}"
            );
        }
    }

    #[test]
    fn resnets_are_mirrored_in_their_own_blocks() {
        let wide = plan("wide_resnet50_2", &[16, 4, 8]);
        assert_eq!(wide.block, BlockKind::Bottleneck { width: 2 });
        assert_eq!(wide.stages, [3, 4, 6]);
        assert_eq!(wide.latent_blocks, 3);
        assert_eq!(wide.joined(), 3 * 1024);
        assert_eq!(plan("resnet101", &[4, 8, 16]).stages, [3, 4, 23]);
        assert_eq!(plan("resnet152", &[8, 16]).stages, [3, 8]);
        let gap = plan("resnet18", &[4, 16]);
        assert_eq!(gap.levels, [(64, true), (128, false), (256, true)]);
        assert_eq!((gap.stages, gap.latent_blocks), (vec![2, 2, 2], 2));
        let nothing = "resnet18".parse().expect("known");
        assert!(ReconstructionPlan::new(nothing, &[], NormKind::Instance).is_err());
    }
}
