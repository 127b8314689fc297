//! Zero padding in front of a convolution.

/// How the input of a convolution is extended with zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// The same number of zeros on all four sides.
    Symmetric(usize),
    /// TensorFlow's "SAME": as many zeros as give `ceil(size / stride)` outputs, an odd one behind.
    Same,
}

impl Padding {
    /// Zeros before and after one side of length `size`.
    pub fn sides(self, size: usize, kernel: usize, stride: usize) -> (usize, usize) {
        match self {
            Self::Symmetric(padding) => (padding, padding),
            Self::Same => same_padding(size, kernel, stride),
        }
    }
}

/// Zeros before and after one side of length `size` under TensorFlow's "SAME" rule.
///
/// Total `max((ceil(size / stride) - 1) * stride + kernel - size, 0)`, the smaller half in front.
pub fn same_padding(size: usize, kernel: usize, stride: usize) -> (usize, usize) {
    let reach = (size.div_ceil(stride).max(1) - 1) * stride + kernel;
    let total = reach.saturating_sub(size);
    (total / 2, total - total / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_padding_equals_timm_on_even_and_odd_sizes() {
        // timm.layers.padding.get_same_padding, split as pad_same does.
        for (size, kernel, stride, sides) in [
            (224, 3, 2, (0, 1)),
            (225, 3, 2, (1, 1)),
            (224, 5, 2, (1, 2)),
            (197, 5, 2, (2, 2)),
            (14, 5, 1, (2, 2)),
            (1, 5, 2, (2, 2)),
            (2, 1, 2, (0, 0)),
        ] {
            assert_eq!(same_padding(size, kernel, stride), sides, "{size} {kernel}");
        }
    }
}
