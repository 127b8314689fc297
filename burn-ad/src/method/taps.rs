//! Feature maps of several backbone taps as rows of vectors.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use crate::backbone::{Backbone, BackboneConfig};
use crate::data::Sample;
use crate::error::{Error, Result};
use crate::tensors::to_vec;
use crate::train::Levels;

/// Which taps a method looks at, and how large their maps are.
#[derive(Clone, Debug)]
pub(super) struct Taps {
    /// Levels of the backbone.
    levels: Vec<usize>,
    /// One entry a tap.
    pub(super) maps: Vec<TapMap>,
}

/// The map of one tap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TapMap {
    /// Input pixels between neighbouring positions.
    pub(super) stride: usize,
    /// Values of a vector.
    pub(super) channels: usize,
    /// Positions along height and width.
    pub(super) grid: [usize; 2],
}

impl TapMap {
    /// Positions of the map.
    pub(super) fn positions(&self) -> usize {
        self.grid[0] * self.grid[1]
    }

    /// A mask of `size` x `size` input pixels on this grid: the nearest pixel, as PyTorch's
    /// `interpolate(mode = "nearest")` takes it.
    pub(super) fn mask(&self, pixels: &[bool], size: usize) -> Vec<bool> {
        let [rows, columns] = self.grid;
        let source = |cell: usize, cells: usize| (cell * size / cells).min(size - 1);
        (0..rows)
            .flat_map(|row| (0..columns).map(move |column| (row, column)))
            .map(|(row, column)| pixels[source(row, rows) * size + source(column, columns)])
            .collect()
    }
}

impl Taps {
    /// The taps at `strides`, for inputs of `size` x `size` pixels.
    ///
    /// # Errors
    /// When the backbone has no tap at one of the strides, or the input is smaller than one.
    pub(super) fn new(backbone: &BackboneConfig, strides: &[usize], size: usize) -> Result<Self> {
        let levels = backbone.levels_at_strides(strides)?;
        let info = backbone.feature_info();
        let maps = levels.iter().map(|&level| {
            let (stride, channels) = (info[level].stride, info[level].channels);
            if size < stride {
                return Err(Error::usage(format!(
                    "images of {size} pixels are smaller than the stride {stride} of a tap"
                )));
            }
            Ok(TapMap {
                stride,
                channels,
                grid: [size.div_ceil(stride); 2],
            })
        });
        let maps = maps.collect::<Result<_>>()?;
        Ok(Self { levels, maps })
    }

    /// `images` `[batch, 3, size, size]` to one `[batch, channels, rows, columns]` a tap.
    pub(super) fn features<B: Backend>(
        &self,
        backbone: &Backbone<B>,
        images: Tensor<B, 4>,
    ) -> Vec<Tensor<B, 4>> {
        let features = backbone.features(images, &self.levels);
        for (feature, map) in features.iter().zip(&self.maps) {
            assert_eq!(feature.dims()[2..], map.grid, "size of a feature map");
        }
        features
    }

    /// The features of each image, `[positions, channels]` row-major.
    pub(super) fn levels<B: Backend>(
        &self,
        backbone: &Backbone<B>,
        images: Tensor<B, 4>,
    ) -> Vec<Levels> {
        levels_of(self.rows(backbone, images))
    }

    /// `images` `[batch, 3, size, size]` to one `[batch, positions, channels]` a tap.
    pub(super) fn rows<B: Backend>(
        &self,
        backbone: &Backbone<B>,
        images: Tensor<B, 4>,
    ) -> Vec<Tensor<B, 3>> {
        let features = self.features(backbone, images).into_iter();
        features.map(rows_of).collect()
    }
}

/// `[batch, channels, rows, columns]` to `[batch, positions, channels]`.
pub(super) fn rows_of<B: Backend>(feature: Tensor<B, 4>) -> Tensor<B, 3> {
    let [batch, channels, rows, columns] = feature.dims();
    feature
        .reshape([batch, channels, rows * columns])
        .swap_dims(1, 2)
}

/// Maps `[batch, positions, channels]` as what each image has of every one.
pub(super) fn levels_of<B: Backend>(maps: Vec<Tensor<B, 3>>) -> Vec<Levels> {
    let images = maps.first().map_or(0, |map| map.dims()[0]);
    let mut features: Vec<Levels> = vec![Vec::new(); images];
    for rows in maps {
        let values = to_vec(rows);
        let size = values.len() / images;
        for (levels, values) in features.iter_mut().zip(values.chunks(size)) {
            levels.push(values.to_vec());
        }
    }
    features
}

/// # Errors
/// When a feature of `sample` is not finite.
pub(super) fn refuse_not_finite(levels: &Levels, sample: &Sample) -> Result<()> {
    if levels.iter().flatten().all(|value| value.is_finite()) {
        return Ok(());
    }
    Err(Error::numeric("the backbone's features are not finite")
        .path(sample.image.name().as_ref())
        .help("the weights are damaged, or were trained for another normalisation"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_take_the_nearest_pixel_as_torch_does() {
        let map = TapMap {
            stride: 4,
            channels: 1,
            grid: [2, 3],
        };
        // torch: floor(cell * 7 / cells) = rows 0, 3; columns 0, 2, 4.
        let mut pixels = vec![false; 49];
        pixels[3 * 7 + 2] = true;
        pixels[4] = true;
        pixels[6 * 7 + 6] = true;
        let expected = [false, false, true, false, true, false];
        assert_eq!(map.mask(&pixels, 7), expected);
    }
}
