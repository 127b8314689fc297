//! One image's pixel scores beside its ground truth.

use crate::error::{Error, Result};

/// The anomaly map of one image with its ground truth, both row by row, `height * width` pixels.
#[derive(Clone, Copy, Debug)]
pub struct ScoreMap<'a> {
    /// Anomaly scores; higher is more anomalous.
    pub scores: &'a [f32],
    /// Ground truth; `true` is anomalous.
    pub mask: &'a [bool],
    /// Pixels that count; `None` means all. The others are left out of every metric, as if the image ended
    /// there: they are neither normal nor anomalous, add nothing to a region's size and join no regions.
    pub valid: Option<&'a [bool]>,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl ScoreMap<'_> {
    /// Whether the pixel at flat index `pixel` counts.
    pub(super) fn counts(&self, pixel: usize) -> bool {
        self.valid.is_none_or(|valid| valid[pixel])
    }

    /// Whether the pixel at flat index `pixel` counts and is anomalous.
    pub(super) fn is_anomalous(&self, pixel: usize) -> bool {
        self.mask[pixel] && self.counts(pixel)
    }

    /// Refuses slices that do not fit `height * width` and NaN scores; `index` names the map in the message.
    pub(super) fn check(&self, index: usize) -> Result<()> {
        let (height, width) = (self.height, self.width);
        let fits = |len: usize| height.checked_mul(width) == Some(len);
        let lengths = [
            ("scores", self.scores.len()),
            ("mask", self.mask.len()),
            ("valid", self.valid.map_or(self.scores.len(), <[bool]>::len)),
        ];
        for (name, len) in lengths {
            if !fits(len) {
                return Err(Error::data(format!(
                    "anomaly map {index}: {name} has {len} pixels, not {height} x {width}"
                ))
                .help("bring scores, mask and valid pixels to one size before measuring"));
            }
        }
        // A fold without early exit is vectorised; the position is looked for only when there is one.
        if self.scores.iter().fold(false, |nan, s| nan | s.is_nan())
            && let Some(pixel) =
                (0..self.scores.len()).find(|&i| self.scores[i].is_nan() && self.counts(i))
        {
            return Err(Error::numeric(format!(
                "anomaly map {index}: the score at row {}, column {} is NaN",
                pixel / width,
                pixel % width
            ))
            .help("a model with NaN scores is broken: look at its training loss and its inputs"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: ScoreMap<'static> = ScoreMap {
        scores: &[0.0, f32::NAN, 1.0, f32::INFINITY],
        mask: &[false, true, false, true],
        valid: None,
        height: 2,
        width: 2,
    };

    #[test]
    fn nan_is_refused_with_its_position() {
        let message = MAP.check(7).expect_err("a NaN").to_string();
        assert!(
            message.contains("map 7") && message.contains("row 0, column 1"),
            "{message}"
        );
    }

    #[test]
    fn nan_outside_the_valid_pixels_is_harmless() {
        let valid = [true, false, true, true];
        let map = ScoreMap {
            valid: Some(&valid),
            ..MAP
        };
        assert!(map.check(0).is_ok());
    }

    #[test]
    fn wrong_lengths_are_refused() {
        let short = ScoreMap {
            mask: &[true],
            ..MAP
        };
        let message = short.check(0).expect_err("a short mask").to_string();
        assert!(
            message.contains("mask has 1 pixels, not 2 x 2"),
            "{message}"
        );
        let valid = ScoreMap {
            valid: Some(&[true; 5]),
            ..MAP
        };
        assert!(valid.check(0).is_err());
        let overflow = ScoreMap {
            height: usize::MAX,
            ..MAP
        };
        assert!(overflow.check(0).is_err());
    }
}
