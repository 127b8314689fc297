//! Which network: names, taps and units, before any tensor exists.

use std::fmt;
use std::str::FromStr;

use burn::prelude::*;
use serde::{Deserialize, Serialize};

use super::efficientnet::{EfficientNet, EfficientNetConfig};
use super::plan::ConvPlan;
use super::resnet::{ResNet, ResNetConfig};
use super::spec::{FeatureInfo, Interpolation, Pixels, Unit, UnitSpec};
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
}

impl BackboneConfig {
    /// Every backbone.
    pub const ALL: [Self; 20] = {
        let mut all = [Self::ResNet(ResNetConfig::ResNet18); 20];
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

    /// The names of every backbone, in the order of [`Self::ALL`].
    pub const NAMES: [&'static str; 20] = {
        let mut names = [""; 20];
        let mut index = 0;
        while index < 20 {
            names[index] = Self::ALL[index].name();
            index += 1;
        }
        names
    };

    /// torchvision's or timm's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ResNet(config) => config.name(),
            Self::EfficientNet(config) => config.name(),
        }
    }

    /// The taps, shallowest first; a level is an index into this list.
    pub fn feature_info(self) -> Vec<FeatureInfo> {
        match self {
            Self::ResNet(config) => config.feature_info(),
            Self::EfficientNet(config) => config.feature_info(),
        }
    }

    /// The levels whose strides are `strides`, in the order given.
    ///
    /// # Errors
    /// When the backbone has no tap at one of the strides; the message lists those it has.
    pub fn levels_at_strides(self, strides: &[usize]) -> Result<Vec<usize>> {
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
    /// the same, bilinear.
    pub fn pixels(self) -> Pixels {
        match self {
            Self::ResNet(_) => Pixels::IMAGENET,
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
            Self::ResNet(config) => Network::ResNet(ResNet::build(&config.plan(), device, unit)?),
            Self::EfficientNet(config) => {
                Network::EfficientNet(EfficientNet::build(&config.plan(), device, unit)?)
            }
        };
        Ok(Backbone {
            config: self,
            network,
        })
    }
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
