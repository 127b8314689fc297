//! Sizes of a convolution.

use crate::window::Map;

/// Zeros around an image; they need not be the same on opposite sides (TensorFlow's SAME).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Padding {
    /// Rows above.
    pub top: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns to the left.
    pub left: usize,
    /// Columns to the right.
    pub right: usize,
}

impl Padding {
    /// The same on all sides.
    pub fn all(size: usize) -> Self {
        Self {
            top: size,
            bottom: size,
            left: size,
            right: size,
        }
    }
}

/// Sizes of a convolution's input, kernel and step; channels are those of its weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Geometry {
    /// Images.
    pub batch: usize,
    /// Rows of an input image.
    pub height: usize,
    /// Columns of an input image.
    pub width: usize,
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Step in both directions, at least 1.
    pub stride: usize,
    /// Zeros around the input.
    pub padding: Padding,
}

impl Geometry {
    /// Those of a kernel of 1x1 on every position of a map.
    pub(super) fn pointwise(map: Map) -> Self {
        Self {
            batch: map.batch,
            height: map.height,
            width: map.width,
            kernel: [1, 1],
            stride: 1,
            padding: Padding::all(0),
        }
    }

    /// Rows and columns of an output image.
    ///
    /// # Panics
    /// If the padded image is smaller than the kernel, or the stride is 0.
    pub fn output(&self) -> [usize; 2] {
        let padding = self.padding;
        let padded = [
            self.height + padding.top + padding.bottom,
            self.width + padding.left + padding.right,
        ];
        assert!(self.stride > 0, "the stride of a convolution is 0");
        [0, 1].map(|axis| {
            let (size, kernel) = (padded[axis], self.kernel[axis]);
            assert!(
                kernel > 0 && size >= kernel,
                "a kernel of {kernel} does not fit {size} padded positions"
            );
            (size - kernel) / self.stride + 1
        })
    }

    /// Output positions of all images.
    pub(super) fn positions(&self) -> usize {
        let [height, width] = self.output();
        self.batch * height * width
    }
}
