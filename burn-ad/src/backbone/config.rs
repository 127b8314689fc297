//! Which network: names, taps and units, before any tensor exists.

use std::fmt;
use std::str::FromStr;

use burn::prelude::*;
use serde::{Deserialize, Serialize};

use super::efficientnet::{EfficientNet, EfficientNetConfig};
use super::plan::ConvPlan;
use super::resnet::{ResNet, ResNetConfig};
use super::spec::{FeatureInfo, Interpolation, Pixels, Unit, UnitSpec};
use super::student::{Student, StudentConfig};
use super::{Backbone, Network};
use crate::error::{Error, Result};

/// A backbone by name. In files it is the name, such as `"resnet18"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum BackboneConfig {
    /// torchvision's ResNets and Wide ResNets.
    ResNet(ResNetConfig),
    /// timm's `tf_efficientnet_*`.
    EfficientNet(EfficientNetConfig),
    /// IGD's encoders, which `burn-ad pretrain` makes.
    Student(StudentConfig),
    /// No network, for methods that look at pixels alone: no units, no taps.
    None,
}

impl BackboneConfig {
    /// The networks that others publish weights of.
    pub const PUBLISHED: [Self; 20] = {
        let mut all = [Self::None; 20];
        let mut index = 0;
        while index < 20 {
            all[index] = if index < 7 {
                Self::ResNet(ResNetConfig::ALL[index])
            } else {
                Self::EfficientNet(EfficientNetConfig::ALL[index - 7])
            };
            index += 1;
        }
        all
    };

    /// The names of [`Self::PUBLISHED`].
    pub const PUBLISHED_NAMES: [&'static str; 20] = names(Self::PUBLISHED);

    /// All there are: [`Self::PUBLISHED`], the students, and none.
    pub const ALL: [Self; 25] = {
        let mut all = [Self::None; 25];
        let mut index = 0;
        while index < 24 {
            all[index] = if index < 20 {
                Self::PUBLISHED[index]
            } else {
                Self::Student(StudentConfig::ALL[index - 20])
            };
            index += 1;
        }
        all
    };

    /// The names of [`Self::ALL`].
    pub const NAMES: [&'static str; 25] = names(Self::ALL);

    /// torchvision's or timm's name, or our own.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ResNet(config) => config.name(),
            Self::EfficientNet(config) => config.name(),
            Self::Student(config) => config.name(),
            Self::None => "none",
        }
    }

    /// Whether there is a network at all.
    pub const fn is_none(self) -> bool {
        matches!(self, Self::None)
    }

    /// The taps, shallowest first; a level is an index into this list.
    pub fn feature_info(self) -> Vec<FeatureInfo> {
        match self {
            Self::ResNet(config) => config.feature_info(),
            Self::EfficientNet(config) => config.feature_info(),
            Self::Student(config) => config.feature_info(),
            Self::None => Vec::new(),
        }
    }

    /// The levels whose strides are `strides`, in the order given.
    ///
    /// # Errors
    /// When the backbone has no tap at one of the strides; the message lists those it has.
    pub fn levels_at_strides(self, strides: &[usize]) -> Result<Vec<usize>> {
        if self.is_none() && !strides.is_empty() {
            return Err(Error::usage("without a backbone there are no features")
                .help("choose one with --backbone, or a method that looks at pixels alone"));
        }
        let info = self.feature_info();
        let level = |stride: &usize| {
            info.iter()
                .position(|tap| tap.stride == *stride)
                .ok_or_else(|| {
                    let known: Vec<_> = info.iter().map(|tap| tap.stride.to_string()).collect();
                    Error::usage(format!("{self} has no features at stride {stride}"))
                        .help(format!("its strides are {}", known.join(", ")))
                })
        };
        strides.iter().map(level).collect()
    }

    /// The pixels that the usual published weights of this backbone expect.
    ///
    /// torchvision's ResNets: ImageNet statistics, bilinear. timm's `tf_efficientnet_b*`: ImageNet
    /// statistics, bicubic. Lite0 to 2: mean and standard deviation 0.5, bicubic; Lite3 and 4:
    /// the same, bilinear. Students see what their teachers see, ImageNet statistics and bilinear unless
    /// their file says otherwise; so do methods without a backbone.
    pub fn pixels(self) -> Pixels {
        match self {
            Self::ResNet(_) | Self::Student(_) | Self::None => Pixels::IMAGENET,
            Self::EfficientNet(EfficientNetConfig::Lite3 | EfficientNetConfig::Lite4) => {
                Pixels::HALF.with_interpolation(Interpolation::Bilinear)
            }
            Self::EfficientNet(config) if config.is_lite() => Pixels::HALF,
            Self::EfficientNet(_) => Pixels::IMAGENET.with_interpolation(Interpolation::Bicubic),
        }
    }

    /// Every convolution up to the last tap, in the order of the reference's state dict.
    pub fn units(self) -> Vec<UnitSpec> {
        self.plan().into_iter().map(|plan| plan.unit).collect()
    }

    /// Every convolution with its geometry.
    pub(crate) fn plan(self) -> Vec<ConvPlan> {
        match self {
            Self::ResNet(config) => config.plan().into_convs(),
            Self::EfficientNet(config) => config.plan().into_convs(),
            Self::Student(config) => config.plan().into_convs(),
            Self::None => Vec::new(),
        }
    }

    /// Makes the network, asking `unit` for the folded values of each of [`Self::units`] in order.
    ///
    /// # Errors
    /// When `unit` fails or returns values that do not fill the unit's shape.
    pub fn build<B: Backend>(
        self,
        device: &B::Device,
        unit: &mut dyn FnMut(&UnitSpec) -> Result<Unit>,
    ) -> Result<Backbone<B>> {
        let network = match self {
            Self::ResNet(config) => Some(Network::ResNet(ResNet::build(
                &config.plan(),
                device,
                unit,
            )?)),
            Self::EfficientNet(config) => {
                let network = EfficientNet::build(&config.plan(), device, unit)?;
                Some(Network::EfficientNet(network))
            }
            Self::Student(config) => {
                let network = Student::build(&config.plan(), device, unit)?;
                Some(Network::Student(network))
            }
            Self::None => None,
        };
        Ok(Backbone {
            config: self,
            network,
        })
    }
}

const fn names<const N: usize>(configs: [BackboneConfig; N]) -> [&'static str; N] {
    let mut names = [""; N];
    let mut index = 0;
    while index < N {
        names[index] = configs[index].name();
        index += 1;
    }
    names
}

impl fmt::Display for BackboneConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for BackboneConfig {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|config| config.name() == name);
        found.ok_or_else(|| {
            Error::usage(format!("there is no backbone named {name:?}"))
                .help(format!("choose one of {}", Self::NAMES.join(", ")))
        })
    }
}

impl TryFrom<String> for BackboneConfig {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        name.parse()
    }
}

impl From<BackboneConfig> for String {
    fn from(config: BackboneConfig) -> Self {
        config.name().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_to_its_backbone_and_back() {
        for (config, name) in BackboneConfig::ALL.into_iter().zip(BackboneConfig::NAMES) {
            assert_eq!(name.parse::<BackboneConfig>().expect("known"), config);
            let json = serde_json::to_string(&config).expect("serialisable");
            assert_eq!(json, format!("{name:?}"));
            let read: BackboneConfig = serde_json::from_str(&json).expect("readable");
            assert_eq!(read, config);
        }
        let error = "resnet19".parse::<BackboneConfig>().expect_err("unknown");
        assert!(error.is_usage() && error.to_string().contains("tf_efficientnet_lite4"));
    }

    #[test]
    fn names_are_unique_and_none_comes_last() {
        let unique: std::collections::HashSet<_> = BackboneConfig::NAMES.into_iter().collect();
        assert_eq!(unique.len(), BackboneConfig::ALL.len());
        assert_eq!(BackboneConfig::ALL[24], BackboneConfig::None);
        assert_eq!(
            BackboneConfig::NAMES[20..],
            [
                "igd-encoder-32",
                "igd-encoder-64",
                "igd-encoder-128",
                "igd-encoder-256",
                "none",
            ]
        );
    }

    #[test]
    fn nothing_has_no_units_no_taps_and_says_so() {
        let none = BackboneConfig::None;
        assert!(none.units().is_empty() && none.feature_info().is_empty());
        assert_eq!(none.pixels(), Pixels::IMAGENET);
        assert!(
            none.levels_at_strides(&[])
                .expect("nothing asked")
                .is_empty()
        );
        let error = none.levels_at_strides(&[8]).expect_err("no taps");
        assert!(
            error.is_usage() && error.to_string().contains("--backbone"),
            "{error}"
        );
        let network = none.random::<burn_flex::Flex>(0, &Default::default());
        assert_eq!(network.config(), none);
        assert_eq!(network.digest(), super::super::digest([]));
        let images = Tensor::zeros([2, 3, 8, 8], &Default::default());
        assert!(network.features(images, &[]).is_empty());
    }

    #[test]
    fn levels_follow_the_order_of_the_strides() {
        let config: BackboneConfig = "tf_efficientnet_b6".parse().expect("known");
        assert_eq!(config.levels_at_strides(&[16, 4]).expect("there"), [3, 1]);
        let resnet: BackboneConfig = "resnet18".parse().expect("known");
        let error = resnet.levels_at_strides(&[4, 2]).expect_err("no stride 2");
        assert!(error.to_string().contains("4, 8, 16, 32"), "{error}");
    }

    #[test]
    fn lite_weights_expect_pixels_in_minus_one_to_one() {
        let pixels = |name: &str| name.parse::<BackboneConfig>().expect("known").pixels();
        assert_eq!(pixels("tf_efficientnet_lite0"), Pixels::HALF);
        let lite3 = pixels("tf_efficientnet_lite3");
        assert_eq!(lite3.interpolation, Interpolation::Bilinear);
        assert_eq!(pixels("wide_resnet50_2"), Pixels::IMAGENET);
        assert_eq!(pixels("tf_efficientnet_b0").mean, Pixels::IMAGENET.mean);
    }
}
