//! Frozen feature extractors.
//!
//! A backbone is a list of folded convolutions: BatchNorm has gone into weight and bias at import,
//! so nothing in it depends on a training mode. [`BackboneConfig`] knows names, taps and units
//! before any tensor exists; [`Backbone`] computes.

mod config;
mod digest;
mod efficientnet;
mod file;
mod layer;
mod plan;
mod random;
mod resnet;
mod spec;
mod student;

use burn::module::Module;
use burn::prelude::*;

use crate::ops::{Stack, computes_on_cpu, position_mean};

pub use config::BackboneConfig;
pub use digest::digest;
pub use efficientnet::{EfficientNet, EfficientNetConfig, InvertedResidual};
pub use file::WeightsFile;
pub use layer::FrozenConv;
pub use resnet::{ResNet, ResNetConfig, ResidualBlock};
pub use spec::{FeatureInfo, Interpolation, NormSpec, Pixels, Unit, UnitSpec};
pub use student::{DownBlock, Student, StudentConfig};

/// A frozen network with taps.
///
/// Run it on the backend without autodiff: features need no gradient.
#[derive(Module, Debug)]
pub struct Backbone<B: Backend> {
    config: BackboneConfig,
    network: Option<Network<B>>,
}

/// The families of networks.
// A backbone has one; Burn's modules cannot be boxed.
#[allow(clippy::large_enum_variant)]
#[derive(Module, Debug)]
pub enum Network<B: Backend> {
    /// torchvision's ResNets and Wide ResNets.
    ResNet(ResNet<B>),
    /// timm's `tf_efficientnet_*`.
    EfficientNet(EfficientNet<B>),
    /// IGD's encoders.
    Student(Student<B>),
}

impl<B: Backend> Backbone<B> {
    /// Which network this is.
    pub fn config(&self) -> BackboneConfig {
        self.config
    }

    /// The feature maps at `levels` (indices into [`BackboneConfig::feature_info`]), in the order
    /// asked; nothing past the deepest of them is computed.
    ///
    /// `images` is `[batch, 3, height, width]`, normalised as the weights expect; any size. A map
    /// is `[batch, channels, height / stride, width / stride]`, sides rounded up.
    ///
    /// Any batch size is fine; 8 to 32 is sensible. On a CPU backend a batch is computed in parts
    /// (ResNet 4 images, in its first half 1, EfficientNet 2, students as many as go), so that memory
    /// beyond the result stays below 160 MB at 256 x 256 (measured on Flex with ResNets 8 images at
    /// once: resnet18 80, wide_resnet50_2 150; tf_efficientnet_b6 100). On a GPU the whole batch is
    /// computed at once.
    ///
    /// # Panics
    /// When a level does not exist or the images do not have three channels.
    pub fn features(&self, images: Tensor<B, 4>, levels: &[usize]) -> Vec<Tensor<B, 4>> {
        let [batch, channels, height, width] = images.dims();
        assert_eq!(channels, 3, "images must have three channels");
        let taps = self.config.feature_info().len();
        let Some(&deepest) = levels.iter().max() else {
            return Vec::new();
        };
        let network = match &self.network {
            Some(network) if deepest < taps => network,
            Some(_) => panic!(
                "{} has levels 0 to {}, not {deepest}",
                self.config,
                taps - 1
            ),
            None => panic!("without a backbone there is no level {deepest}"),
        };
        let on_cpu = computes_on_cpu::<B>(&images.device());
        let part = if on_cpu {
            network.images_at_once([height, width]).min(batch)
        } else {
            batch
        };
        let mut found: Vec<Stack<B>> = levels.iter().map(|_| Stack::new(batch)).collect();
        let mut tap = |level: usize, x: &Tensor<B, 4>| {
            for (asked, stack) in levels.iter().zip(&mut found) {
                if *asked == level {
                    stack.push(x.clone());
                }
            }
        };
        let parts = if part == batch {
            vec![images]
        } else {
            images.split(part, 0)
        };
        for images in parts {
            match network {
                Network::ResNet(network) => {
                    // The maps of its first stages stay in the last cache one image at a time.
                    let apart = if on_cpu { 1 } else { usize::MAX };
                    network.run(images, apart, deepest, &mut tap);
                }
                Network::EfficientNet(network) => network.run(images, deepest, &mut tap),
                Network::Student(network) => tap(0, &network.forward(images)),
            }
        }
        found.into_iter().map(Stack::finish).collect()
    }

    /// `images` `[batch, 3, height, width]` to the means over the positions of the deepest tap,
    /// `[batch, channels]`.
    ///
    /// # Panics
    /// Without a network, or when the images do not have three channels.
    pub fn pooled(&self, images: Tensor<B, 4>) -> Tensor<B, 2> {
        let deepest = self.config.feature_info().len() - 1;
        let map = self.features(images, &[deepest]).remove(0);
        let [batch, channels, _, _] = map.dims();
        position_mean(map).reshape([batch, channels])
    }

    /// Every unit with its values on the host, in the order of [`BackboneConfig::units`].
    pub fn units(&self) -> Vec<(UnitSpec, Unit)> {
        let convs = match &self.network {
            Some(Network::ResNet(network)) => network.convs(),
            Some(Network::EfficientNet(network)) => network.convs(),
            Some(Network::Student(network)) => network.convs(),
            None => Vec::new(),
        };
        let specs = self.config.units().into_iter();
        specs
            .zip(convs)
            .map(|(spec, conv)| (spec, conv.unit()))
            .collect()
    }
}

impl<B: Backend> Network<B> {
    /// How many images of this size a CPU is to compute together.
    ///
    /// The thin maps of an EfficientNet stay in the cache one or two images at a time (two are a tenth
    /// faster for the larger ones, whose weights are then read half as often), while a
    /// ResNet's heavy weights, those of its last two stages, are read once for all images of a part.
    fn images_at_once(&self, size: [usize; 2]) -> usize {
        match self {
            Self::ResNet(_) => 4,
            Self::EfficientNet(_) => 2,
            Self::Student(network) => network.images_at_once(size),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Distribution;
    use burn_flex::Flex;

    fn config(name: &str) -> BackboneConfig {
        name.parse().expect("known name")
    }

    fn images(shape: [usize; 4]) -> Tensor<Flex, 4> {
        Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Default::default())
    }

    #[test]
    fn feature_info_is_true_of_the_feature_maps() {
        let device = Default::default();
        for name in [
            "resnet18",
            "resnet50",
            "tf_efficientnet_b1",
            "tf_efficientnet_b4",
            "tf_efficientnet_lite3",
            "igd-encoder-32",
            "igd-encoder-64",
        ] {
            let config = config(name);
            let network = config.random::<Flex>(1, &device);
            let levels: Vec<usize> = (0..config.feature_info().len()).collect();
            let maps = network.features(images([1, 3, 50, 33]), &levels);
            for (tap, map) in config.feature_info().iter().zip(maps) {
                let (height, width) = (50usize.div_ceil(tap.stride), 33usize.div_ceil(tap.stride));
                assert_eq!(
                    map.dims(),
                    [1, tap.channels, height, width],
                    "{name} {tap:?}"
                );
            }
        }
    }

    #[test]
    fn levels_come_in_the_order_asked() {
        let network = config("resnet18").random::<Flex>(1, &Default::default());
        let images = images([2, 3, 32, 32]);
        let all = network.features(images.clone(), &[0, 1, 2, 3]);
        let some = network.features(images.clone(), &[2, 0, 2]);
        for (level, map) in [2, 0, 2].into_iter().zip(some) {
            assert_eq!(map.into_data(), all[level].to_data());
        }
        assert!(network.features(images, &[]).is_empty());
    }

    #[test]
    #[should_panic(expected = "resnet18 has levels 0 to 3, not 4")]
    fn a_level_that_does_not_exist_is_named() {
        let network = config("resnet18").random::<Flex>(1, &Default::default());
        network.features(images([1, 3, 32, 32]), &[4]);
    }

    #[test]
    fn features_ignore_batch_mates() {
        for name in ["resnet18", "tf_efficientnet_b0", "igd-encoder-32"] {
            let network = config(name).random::<Flex>(1, &Default::default());
            let level = config(name).feature_info().len().min(3) - 1;
            // More than are computed at once, so that the last is alone in its part.
            let images = images([9, 3, 40, 40]);
            let together = network.features(images.clone(), &[level]).remove(0);
            for index in [0, 5, 8] {
                let alone = network.features(images.clone().narrow(0, index, 1), &[level]);
                let difference = together.clone().narrow(0, index, 1) - alone[0].clone();
                assert!(difference.abs().max().into_scalar() < 1e-5, "{name}");
            }
        }
    }

    #[test]
    fn units_return_the_values_built_from() {
        for name in [
            "resnet18",
            "resnet50",
            "tf_efficientnet_b0",
            "igd-encoder-64",
        ] {
            let given = config(name).random_units(7);
            let network = config(name).random::<Flex>(7, &Default::default());
            assert!(network.units() == given, "{name}");
        }
    }

    #[test]
    fn a_unit_of_the_wrong_size_is_named() {
        let short = config("resnet18").build::<Flex>(&Default::default(), &mut |spec| {
            let [outputs, ..] = spec.shape;
            Ok(Unit {
                weight: vec![0.0; spec.shape.iter().product()],
                bias: vec![0.0; outputs - usize::from(spec.name == "layer2.0.downsample.0")],
            })
        });
        let text = short.expect_err("refused").to_string();
        assert!(text.contains("layer2.0.downsample.0"), "{text}");
    }
}
