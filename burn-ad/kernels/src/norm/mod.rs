//! Normalisation of each channel over rows, with what follows it: affine map, residual, activation.
//!
//! Rows are the positions of a channels-last map. Batch normalisation is one group of all rows of a
//! batch; instance normalisation has a group for each image.

mod backward;
mod forward;
mod moments;

pub use backward::{Gradients, backward};
pub use forward::{apply, forward};
pub use moments::{Moments, moments};

use crate::activation::Activation;

#[cfg(test)]
mod tests;

/// Size of what is normalised: `[groups, rows, channels]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Groups, each with statistics of its own.
    pub groups: usize,
    /// Rows of a group.
    pub rows: usize,
    /// Channels.
    pub channels: usize,
}

impl Size {
    /// Values in all.
    pub fn len(&self) -> usize {
        self.groups * self.rows * self.channels
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// `activation((x - mean) * inv_std * scale + offset + residual)`.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// Size of the input and the output.
    pub size: Size,
    /// Scale and offset of each channel; without, 1 and 0.
    pub affine: Option<(&'a [f32], &'a [f32])>,
    /// Added before the activation.
    pub residual: Option<&'a [f32]>,
    /// The activation.
    pub activation: Activation,
}

impl Norm<'_> {
    fn check(&self) {
        if let Some((scale, offset)) = self.affine {
            assert_eq!(scale.len(), self.size.channels, "scales of a normalisation");
            assert_eq!(
                offset.len(),
                self.size.channels,
                "offsets of a normalisation"
            );
        }
        if let Some(residual) = self.residual {
            assert_eq!(
                residual.len(),
                self.size.len(),
                "residual of a normalisation"
            );
        }
    }

    /// Scale of each channel, in order.
    fn scale(&self, channel: usize) -> f64 {
        self.affine
            .map_or(1.0, |(scale, _)| f64::from(scale[channel]))
    }
}
