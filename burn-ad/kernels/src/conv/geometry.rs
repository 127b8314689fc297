//! Sizes of a convolution, and which algorithm suits them.

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

/// How a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// As a matrix product over the windows: any kernel and stride.
    Direct,
    /// Winograd's F(2x2, 3x3): 2.25 times fewer multiplications, and as its sums are shorter, the
    /// most exact.
    Winograd2,
    /// Winograd's F(4x4, 3x3): 4 times fewer multiplications, rounding errors about 4 times those
    /// of [`Direct`](Self::Direct).
    Winograd4,
}

impl Algorithm {
    /// All algorithms.
    pub const ALL: [Self; 3] = [Self::Direct, Self::Winograd2, Self::Winograd4];

    /// Whether it can compute a convolution of this kernel and stride.
    pub fn fits(self, kernel: [usize; 2], stride: usize) -> bool {
        self == Self::Direct || kernel == [3, 3] && stride == 1
    }

    /// The fastest for weights `[outputs, inputs, kernel height, kernel width]` that are packed once
    /// and used often; with `precise` only those at least as exact as plain summation.
    ///
    /// The batch has no influence, so an image gives the same values alone and in any batch.
    pub fn choose(precise: bool, weight_shape: [usize; 4], geometry: &Geometry) -> Self {
        let [outputs, inputs, height, width] = weight_shape;
        if !Self::Direct.pays(outputs, inputs) || !Self::Winograd2.fits([height, width], geometry.stride)
        {
            return Self::Direct;
        }
        let [height, width] = geometry.output();
        // The larger tile computes positions beyond the image's edge on small maps, and reads four
        // times the weights: once these fill the caches, the smaller one wins.
        let positions = height * width;
        let large = inputs * outputs >= 512 * 512;
        if precise || height.min(width) < 3 || large && positions < 16 * 16 {
            Self::Winograd2
        } else {
            Self::Winograd4
        }
    }

    /// With few channels the transforms take longer than the multiplications they save.
    fn pays(self, outputs: usize, inputs: usize) -> bool {
        inputs >= 16 && outputs >= 16
    }

    /// Side of a transformed tile and of the outputs it gives; 1 and 1 for [`Direct`](Self::Direct).
    pub(super) fn tile(self) -> (usize, usize) {
        match self {
            Self::Direct => (1, 1),
            Self::Winograd2 => (4, 2),
            Self::Winograd4 => (6, 4),
        }
    }
}
