//! Where a picture lies in the input of the network, and the way back for anomaly maps.

use serde::{Deserialize, Serialize};

/// A rectangle in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Region {
    /// The values of a map of `width` columns that lie inside, row by row.
    pub fn values(&self, map: &[f32], width: usize) -> Vec<f32> {
        map.chunks_exact(width)
            .skip(self.top)
            .take(self.height)
            .flat_map(|row| &row[self.left..self.left + self.width])
            .copied()
            .collect()
    }

    /// Whether it is the whole of an input of `size` x `size` pixels.
    pub fn fills(&self, size: usize) -> bool {
        self.height >= size && self.width >= size
    }

    /// Whether a pixel lies inside.
    pub fn contains(&self, row: usize, column: usize) -> bool {
        (self.top..self.top + self.height).contains(&row)
            && (self.left..self.left + self.width).contains(&column)
    }
}

/// What [`super::geometry::Geometry`] did to one picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Height and width of the picture.
    pub original: [usize; 2],
    /// Height and width of the whole picture after resizing, before any crop.
    pub scaled: [usize; 2],
    /// Side of the square input.
    pub size: usize,
    /// The part of the input that shows picture; the rest is filling.
    pub valid: Region,
    /// The part of the original that `valid` shows, by pixel centres.
    pub source: Region,
}

impl Placement {
    /// Centres a picture, resized to `scaled`, on a `size x size` input.
    pub(super) fn new(original: [usize; 2], scaled: [usize; 2], size: usize) -> Self {
        let valid = |axis: usize| {
            let length = scaled[axis].min(size);
            ((size - length) / 2, length)
        };
        let ((top, height), (left, width)) = (valid(0), valid(1));
        let seen = |axis: usize, length: usize| {
            // The first pixel whose centre, (pixel + 1/2) * scaled / original, is not before `at`;
            // in whole numbers, since centres do fall on edges.
            let behind = |at: usize| {
                (2 * at * original[axis])
                    .saturating_sub(scaled[axis])
                    .div_ceil(2 * scaled[axis])
            };
            let start = centre(scaled[axis], size);
            let first = behind(start).min(original[axis] - 1);
            let end = behind(start + length).clamp(first + 1, original[axis]);
            (first, end - first)
        };
        let (source_top, source_height) = seen(0, height);
        let (source_left, source_width) = seen(1, width);
        Self {
            original,
            scaled,
            size,
            valid: Region {
                top,
                left,
                height,
                width,
            },
            source: Region {
                top: source_top,
                left: source_left,
                height: source_height,
                width: source_width,
            },
        }
    }

    /// The part of the resized picture that is kept.
    pub(super) fn window(&self) -> Region {
        Region {
            top: centre(self.scaled[0], self.size),
            left: centre(self.scaled[1], self.size),
            height: self.valid.height,
            width: self.valid.width,
        }
    }

    /// Brings a square map over the input back onto the original picture.
    ///
    /// `map` holds `side * side` values (any resolution: a feature map works as well as a full
    /// one). The result holds one value per pixel of the original, row by row: bilinear
    /// (`align_corners = false`); pixels that a crop cut away take the nearest edge value of the
    /// map, see [`Placement::seen`]. Filling never leaks in at full resolution.
    ///
    /// # Panics
    /// When `map` does not hold `side * side` values, or none.
    pub fn restore(&self, map: &[f32], side: usize) -> Vec<f32> {
        assert!(
            side > 0 && map.len() == side * side,
            "a map of {} values is not {side} x {side}",
            map.len()
        );
        let rows = self.taps(0, self.valid.top, self.valid.height, side);
        let columns = self.taps(1, self.valid.left, self.valid.width, side);
        let mut out = Vec::with_capacity(self.original[0] * self.original[1]);
        for &(top, bottom, down) in &rows {
            let (upper, lower) = (&map[top * side..][..side], &map[bottom * side..][..side]);
            out.extend(columns.iter().map(|&(left, right, across)| {
                let above = mix(upper[left], upper[right], across);
                let below = mix(lower[left], lower[right], across);
                mix(above, below, down)
            }));
        }
        out
    }

    /// Which pixels of the original the network saw, row by row: all but those a crop cut away.
    pub fn seen(&self) -> Vec<bool> {
        (0..self.original[0])
            .flat_map(|row| (0..self.original[1]).map(move |column| (row, column)))
            .map(|(row, column)| self.source.contains(row, column))
            .collect()
    }

    /// Which pixels of the `size x size` input show picture, row by row: all but the filling.
    pub fn shown(&self) -> Vec<bool> {
        (0..self.size)
            .flat_map(|row| (0..self.size).map(move |column| (row, column)))
            .map(|(row, column)| self.valid.contains(row, column))
            .collect()
    }

    /// For each original pixel along one axis: the two map positions around it and the weight of
    /// the second.
    fn taps(
        &self,
        axis: usize,
        start: usize,
        length: usize,
        side: usize,
    ) -> Vec<(usize, usize, f32)> {
        let ratio = self.scaled[axis] as f64 / self.original[axis] as f64;
        let offset = start as f64 - centre(self.scaled[axis], self.size) as f64;
        let (first, last) = (start as f64, (start + length - 1) as f64);
        let step = side as f64 / self.size as f64;
        (0..self.original[axis])
            .map(|pixel| {
                let input = (pixel as f64 + 0.5) * ratio - 0.5 + offset;
                let position = (input.clamp(first, last) + 0.5) * step - 0.5;
                let position = position.clamp(0.0, (side - 1) as f64);
                let low = position as usize;
                (low, (low + 1).min(side - 1), (position - low as f64) as f32)
            })
            .collect()
    }
}

/// Written so that equal ends give exactly their value.
fn mix(a: f32, b: f32, weight: f32) -> f32 {
    a + (b - a) * weight
}

/// First pixel kept by a centre crop of `scaled` pixels to `size`; half pixels round to even, as
/// Python's `round` does in torchvision's `CenterCrop`. Zero when nothing is cut.
fn centre(scaled: usize, size: usize) -> usize {
    let excess = scaled.saturating_sub(size);
    let half = excess / 2;
    half + (excess % 2) * (half % 2)
}
