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

use burn::module::Module;
use burn::prelude::*;

pub use config::BackboneConfig;
pub use digest::digest;
pub use efficientnet::{EfficientNet, EfficientNetConfig, InvertedResidual};
pub use file::WeightsFile;
pub use layer::FrozenConv;
pub use resnet::{ResNet, ResNetConfig, ResidualBlock};
pub use spec::{FeatureInfo, Interpolation, NormSpec, Pixels, Unit, UnitSpec};

/// A frozen network with taps.
///
/// Run it on the backend without autodiff: features need no gradient.
#[derive(Module, Debug)]
pub struct Backbone<B: Backend> {
    config: BackboneConfig,
    network: Network<B>,
}

/// The two families of networks.
#[derive(Module, Debug)]
pub enum Network<B: Backend> {
    /// torchvision's ResNets and Wide ResNets.
    ResNet(ResNet<B>),
    /// timm's `tf_efficientnet_*`.
    EfficientNet(EfficientNet<B>),
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
    /// # Panics
    /// When a level does not exist or the images do not have three channels.
    pub fn features(&self, images: Tensor<B, 4>, levels: &[usize]) -> Vec<Tensor<B, 4>> {
        let [_, channels, _, _] = images.dims();
        assert_eq!(channels, 3, "images must have three channels");
        let taps = self.config.feature_info().len();
        let Some(&deepest) = levels.iter().max() else {
            return Vec::new();
        };
        assert!(
            deepest < taps,
            "{} has levels 0 to {}, not {deepest}",
            self.config,
            taps - 1
        );
        let mut found: Vec<Option<Tensor<B, 4>>> = vec![None; levels.len()];
        let mut tap = |level: usize, x: &Tensor<B, 4>| {
            for (asked, slot) in levels.iter().zip(&mut found) {
                if *asked == level {
                    *slot = Some(x.clone());
                }
            }
        };
        match &self.network {
            Network::ResNet(network) => network.run(images, deepest, &mut tap),
            Network::EfficientNet(network) => network.run(images, deepest, &mut tap),
        }
        let reached = found.into_iter();
        reached
            .map(|map| map.expect("every level up to the deepest was tapped"))
            .collect()
    }

    /// Every unit with its values on the host, in the order of [`BackboneConfig::units`].
    pub fn units(&self) -> Vec<(UnitSpec, Unit)> {
        let convs = match &self.network {
            Network::ResNet(network) => network.convs(),
            Network::EfficientNet(network) => network.convs(),
        };
        let specs = self.config.units().into_iter();
        specs
            .zip(convs)
            .map(|(spec, conv)| (spec, conv.unit()))
            .collect()
    }
}
