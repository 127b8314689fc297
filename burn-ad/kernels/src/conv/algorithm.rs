//! How a convolution is computed, and which way is the fastest.

use super::geometry::Geometry;
use super::winograd;

/// How a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// As a matrix product over the windows: any kernel and stride.
    Direct,
    /// Winograd's F(2x2, 3x3): 2.25 times fewer multiplications, and as its sums are shorter, the
    /// most exact.
    Winograd2,
    /// Winograd's F(2x2, 2x2), F(2, 2) and single taps for the even and odd rows and columns that a stride
    /// of 2 reads: 1.44 times fewer multiplications, as exact as [`Winograd2`](Self::Winograd2).
    Winograd2Stride2,
    /// Winograd's F(4x4, 3x3): 4 times fewer multiplications, rounding errors about 4 times those
    /// of [`Direct`](Self::Direct).
    Winograd4,
    /// The same for a stride of 2, with F(4x4, 2x2) and F(4, 2): 1.78 times fewer multiplications.
    Winograd4Stride2,
}

/// What is done with weights, for the estimate of [`Algorithm::cost`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Packed before.
    Packed,
    /// Packed for one pass.
    Once,
    /// Their gradient.
    Gradient,
}

/// Packed weights that a core's own cache holds.
const NEAR: usize = 1 << 18;
/// Packed weights beyond this are written to main memory when they are packed.
const FAR: usize = 1 << 22;

impl Algorithm {
    /// All algorithms.
    pub const ALL: [Self; 5] = [
        Self::Direct,
        Self::Winograd2,
        Self::Winograd2Stride2,
        Self::Winograd4,
        Self::Winograd4Stride2,
    ];

    /// Whether it can compute a convolution of this kernel and stride.
    pub fn fits(self, kernel: [usize; 2], stride: usize) -> bool {
        self.fits_kernel(kernel)
            && match self {
                Self::Direct => true,
                Self::Winograd2 | Self::Winograd4 => stride == 1,
                Self::Winograd2Stride2 | Self::Winograd4Stride2 => stride == 2,
            }
    }

    /// Whether it can compute a convolution of this kernel with some stride.
    pub(super) fn fits_kernel(self, kernel: [usize; 2]) -> bool {
        self == Self::Direct || kernel == [3, 3]
    }

    /// The fastest for weights `[outputs, inputs, kernel height, kernel width]` that are packed once
    /// and used often; with `precise` only those at least as exact as plain summation.
    ///
    /// The batch has no influence, so an image gives the same values alone and in any batch.
    pub fn choose(precise: bool, weight_shape: [usize; 4], geometry: &Geometry) -> Self {
        let alone = Geometry {
            batch: 1,
            ..*geometry
        };
        Self::cheapest(precise, weight_shape, &alone, Use::Packed)
    }

    /// The fastest for weights that are packed for this one pass, as in training; the batch counts.
    pub fn choose_once(precise: bool, weight_shape: [usize; 4], geometry: &Geometry) -> Self {
        Self::cheapest(precise, weight_shape, geometry, Use::Once)
    }

    /// The fastest for a gradient with respect to the weights.
    pub(super) fn choose_gradient(
        precise: bool,
        weight_shape: [usize; 4],
        geometry: &Geometry,
    ) -> Self {
        Self::cheapest(precise, weight_shape, geometry, Use::Gradient)
    }

    fn cheapest(precise: bool, shape: [usize; 4], geometry: &Geometry, purpose: Use) -> Self {
        let allowed = |algorithm: &Self| match algorithm {
            Self::Direct | Self::Winograd2 => true,
            // Not transposed yet: the gradient of such a layer is summed directly.
            Self::Winograd2Stride2 => purpose != Use::Gradient,
            Self::Winograd4 => !precise,
            Self::Winograd4Stride2 => !precise && purpose != Use::Gradient,
        };
        let fits = |algorithm: &Self| algorithm.fits([shape[2], shape[3]], geometry.stride);
        let all = Self::ALL.into_iter();
        all.filter(|algorithm| allowed(algorithm) && fits(algorithm))
            .min_by_key(|algorithm| algorithm.cost(shape, geometry, purpose))
            .unwrap_or(Self::Direct)
    }

    /// An estimate of the time, in multiplications.
    fn cost(
        self,
        [outputs, inputs, height, width]: [usize; 4],
        geometry: &Geometry,
        purpose: Use,
    ) -> usize {
        let (side, step) = self.tile();
        let (places, taps) = (side * side, height * width);
        let [rows, columns] = geometry.output().map(|size| size.div_ceil(step));
        let tiles = geometry.batch * rows * columns;
        let weights = inputs * outputs;
        // Multiplications of a tile and values of a kernel, which some places share, for each pair of
        // channels; transforming one channel of a tile, in multiplications.
        let (each, loaded, transform) = match self {
            Self::Direct => (taps, taps, 0),
            _ => (places, winograd::kernels(side).pow(2), 11 * places),
        };
        // Multiplications that would take as long as loading a weight: few from a core's own cache.
        // From elsewhere they are fetched ahead of their use.
        let load = if loaded * weights < NEAR { 6 } else { 24 };
        let product = weights * (each * tiles).max(loaded * load);
        let channels = tiles * (inputs + outputs);
        match purpose {
            Use::Packed => product + transform * channels,
            Use::Once => {
                let each_tap = match self {
                    Self::Direct => 55,
                    Self::Winograd2 | Self::Winograd2Stride2 => 70,
                    Self::Winograd4 | Self::Winograd4Stride2 if loaded * weights <= FAR => 95,
                    Self::Winograd4 | Self::Winograd4Stride2 => 200,
                };
                product + weights * each_tap * taps + transform * channels
            }
            // Sums are loaded, and stored, and transformed.
            Use::Gradient => {
                let bringing = 70 * taps
                    + if self == Self::Direct {
                        0
                    } else {
                        2 * load * places
                    };
                weights * (each * tiles + bringing) + 2 * transform * channels
            }
        }
    }

    /// Side of a transformed tile and of the outputs it gives; 1 and 1 for [`Direct`](Self::Direct).
    pub(super) fn tile(self) -> (usize, usize) {
        let side = match self {
            Self::Direct => return (1, 1),
            Self::Winograd2 => 4,
            Self::Winograd2Stride2 => 5,
            Self::Winograd4 => 6,
            Self::Winograd4Stride2 => 9,
        };
        (side, winograd::outputs(side))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv::Padding;

    fn layer(channels: usize, size: usize, batch: usize, kernel: usize) -> ([usize; 4], Geometry) {
        let geometry = Geometry {
            batch,
            height: size,
            width: size,
            kernel: [kernel; 2],
            stride: 1,
            padding: Padding::all(kernel / 2),
        };
        ([channels, channels, kernel, kernel], geometry)
    }

    #[test]
    fn choices_for_known_layers_are_those_measured() {
        use Algorithm::{Direct, Winograd2, Winograd4};
        for (channels, size, kernel, fast, precise) in [
            (64, 64, 3, Winograd4, Winograd2),
            (128, 32, 3, Winograd4, Winograd2),
            (256, 16, 3, Winograd4, Winograd2),
            (512, 8, 3, Winograd2, Winograd2),
            (64, 64, 1, Direct, Direct),
            (64, 64, 7, Direct, Direct),
            (3, 64, 3, Direct, Direct),
        ] {
            let (shape, geometry) = layer(channels, size, 1, kernel);
            assert_eq!(
                Algorithm::choose(false, shape, &geometry),
                fast,
                "{shape:?}"
            );
            assert_eq!(
                Algorithm::choose(true, shape, &geometry),
                precise,
                "{shape:?}"
            );
        }
    }

    #[test]
    fn a_stride_of_2_has_algorithms_of_its_own_but_no_gradient_by_them() {
        use Algorithm::{Direct, Winograd2Stride2, Winograd4Stride2};
        for (channels, size, fast, precise) in [
            (64, 64, Winograd4Stride2, Winograd2Stride2),
            (256, 64, Winograd4Stride2, Winograd2Stride2),
            (512, 32, Winograd4Stride2, Winograd2Stride2),
            (512, 16, Winograd2Stride2, Winograd2Stride2),
            (1024, 16, Winograd2Stride2, Winograd2Stride2),
            (3, 256, Direct, Direct),
        ] {
            let (shape, geometry) = layer(channels, size, 1, 3);
            let geometry = Geometry {
                stride: 2,
                ..geometry
            };
            for (exact, expected) in [(false, fast), (true, precise)] {
                assert_eq!(Algorithm::choose(exact, shape, &geometry), expected);
                let gradient = Algorithm::choose_gradient(exact, shape, &geometry);
                assert_eq!(gradient, Direct);
            }
        }
    }

    #[test]
    fn the_batch_has_no_influence_on_packed_weights() {
        for size in [1, 2, 4, 7, 8, 14, 33] {
            for channels in [16, 64, 512] {
                let [one, many] = [1, 16].map(|batch| {
                    let (shape, geometry) = layer(channels, size, batch, 3);
                    Algorithm::choose(false, shape, &geometry)
                });
                assert_eq!(one, many);
            }
        }
    }
}
