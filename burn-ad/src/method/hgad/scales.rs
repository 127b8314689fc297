//! One tap of a backbone, which sees the image at several scales.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use super::config::HgadConfig;
use crate::backbone::{Backbone, BackboneConfig};
use crate::error::{Error, Result};
use crate::method::taps::rows_of;
use crate::ops;

/// The scales and the sizes of their maps.
#[derive(Clone, Debug)]
pub(super) struct Scales {
    level: usize,
    /// One entry a scale.
    pub(super) maps: Vec<ScaleMap>,
}

/// The map of one scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ScaleMap {
    /// What the image's side is divided by.
    pub(super) divisor: usize,
    /// Side of the scaled image.
    size: usize,
    /// Values of a vector.
    pub(super) channels: usize,
    /// Positions along height and width.
    pub(super) grid: [usize; 2],
}

impl ScaleMap {
    /// Positions of the map.
    pub(super) fn positions(&self) -> usize {
        self.grid[0] * self.grid[1]
    }

    /// Names of a scale's tensors, and streams of random numbers, begin with this.
    pub(super) fn name(&self, what: &str) -> String {
        format!("{what}.{}", self.divisor)
    }
}

impl Scales {
    /// For inputs of `size` x `size` pixels.
    ///
    /// # Errors
    /// When the backbone has no tap at the stride, or a scaled image is smaller than the stride.
    pub(super) fn new(config: &HgadConfig, backbone: &BackboneConfig, size: usize) -> Result<Self> {
        let level = backbone.levels_at_strides(&[config.stride])?[0];
        let info = &backbone.feature_info()[level];
        if info.channels < 2 {
            return Err(Error::usage(format!(
                "the tap of stride {} has {} channel; a flow needs at least 2",
                config.stride, info.channels
            )));
        }
        let maps = config.scales.iter().map(|&divisor| {
            let scaled = size / divisor;
            if scaled < config.stride {
                return Err(Error::usage(format!(
                    "images of {size} pixels divided by {divisor} are smaller than the stride {} of the tap",
                    config.stride
                ))
                .help("give larger images, or leave that scale out of method.scales"));
            }
            Ok(ScaleMap {
                divisor,
                size: scaled,
                channels: info.channels,
                grid: [scaled.div_ceil(config.stride); 2],
            })
        });
        let maps = maps.collect::<Result<_>>()?;
        Ok(Self { level, maps })
    }

    /// `images` `[batch, 3, size, size]` to one `[batch, positions, channels]` a scale.
    pub(super) fn rows<B: Backend>(
        &self,
        backbone: &Backbone<B>,
        images: Tensor<B, 4>,
    ) -> Vec<Tensor<B, 3>> {
        let of_scale = self.maps.iter().map(|map| {
            let images = match images.dims()[2] {
                size if size == map.size => images.clone(),
                _ => ops::resize_bilinear(images.clone(), [map.size; 2], true),
            };
            let feature = backbone.features(images, &[self.level]).swap_remove(0);
            assert_eq!(feature.dims()[2..], map.grid, "size of a feature map");
            rows_of(feature)
        });
        of_scale.collect()
    }
}
