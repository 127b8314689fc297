//! Where the local model looks.

use super::config::{PATCH, PatchConfig};
use crate::data::Region;

/// Upper left corners `[row, column]` of the patches of an image of `size` pixels, row by row, that show some of the
/// picture in `region`.
pub(super) fn corners(patches: PatchConfig, size: usize, region: &Region) -> Vec<[usize; 2]> {
    let starts = || (0..=size - PATCH).step_by(patches.stride);
    let meets =
        |start: usize, first: usize, length: usize| start < first + length && first < start + PATCH;
    starts()
        .flat_map(|row| starts().map(move |column| [row, column]))
        .filter(|&[row, column]| {
            meets(row, region.top, region.height) && meets(column, region.left, region.width)
        })
        .collect()
}

/// Copies the patch at a corner of an image `[3, size, size]`.
pub(super) fn cut(pixels: &[f32], size: usize, [row, column]: [usize; 2], patch: &mut Vec<f32>) {
    for plane in pixels.chunks_exact(size * size) {
        for line in plane.chunks_exact(size).skip(row).take(PATCH) {
            patch.extend_from_slice(&line[column..][..PATCH]);
        }
    }
}

/// Maps of patches put together again: where they overlap, their mean.
pub(super) struct Mosaic {
    size: usize,
    sums: Vec<f32>,
    counts: Vec<f32>,
}

impl Mosaic {
    pub(super) fn new(size: usize) -> Self {
        Self {
            size,
            sums: vec![0.0; size * size],
            counts: vec![0.0; size * size],
        }
    }

    /// Adds the map `[32, 32]` of the patch at a corner.
    pub(super) fn add(&mut self, [row, column]: [usize; 2], map: &[f32]) {
        for (line, values) in map.chunks_exact(PATCH).enumerate() {
            let start = (row + line) * self.size + column;
            let sums = self.sums[start..][..PATCH].iter_mut();
            for (sum, value) in sums.zip(values) {
                *sum += value;
            }
            let counts = self.counts[start..][..PATCH].iter_mut();
            counts.for_each(|count| *count += 1.0);
        }
    }

    /// The map `[size, size]`; 0 where no patch lies.
    pub(super) fn finish(self) -> Vec<f32> {
        let both = self.sums.into_iter().zip(self.counts);
        both.map(|(sum, count)| sum / count.max(1.0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(size: usize) -> Region {
        Region {
            top: 0,
            left: 0,
            height: size,
            width: size,
        }
    }

    const PATCHES: PatchConfig = PatchConfig {
        stride: 16,
        drawn: 0,
    };

    #[test]
    fn an_image_of_256_pixels_has_225_patches() {
        assert_eq!(corners(PATCHES, 256, &whole(256)).len(), 225);
        assert_eq!(corners(PATCHES, 32, &whole(32)), [[0, 0]]);
    }

    #[test]
    fn patches_of_padding_alone_are_left_out() {
        let strip = Region {
            top: 48,
            left: 0,
            height: 32,
            width: 128,
        };
        let found = corners(PATCHES, 128, &strip);
        let rows: Vec<usize> = found.iter().map(|corner| corner[0]).step_by(7).collect();
        assert_eq!(rows, [32, 48, 64]);
    }

    #[test]
    fn cut_and_put_together_is_the_image() {
        let size = 64;
        let image: Vec<f32> = (0..3 * size * size).map(|value| value as f32).collect();
        let mut mosaic = Mosaic::new(size);
        for corner in corners(PATCHES, size, &whole(size)) {
            let mut patch = Vec::new();
            cut(&image, size, corner, &mut patch);
            assert_eq!(patch.len(), 3 * PATCH * PATCH);
            mosaic.add(corner, &patch[PATCH * PATCH..2 * PATCH * PATCH]);
        }
        assert_eq!(mosaic.finish(), image[size * size..2 * size * size]);
    }
}
