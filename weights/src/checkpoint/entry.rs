//! Where a tensor lies in a file, and its elements in order.

use super::Dtype;

/// One tensor of a checkpoint: its description and its place in the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Sizes of the dimensions; empty for a scalar.
    pub shape: Vec<usize>,
    /// Type of the stored elements.
    pub dtype: Dtype,
    /// Elements between neighbours along each dimension.
    pub(super) strides: Vec<usize>,
    /// Byte position of the first element in the file.
    pub(super) start: u64,
    /// Stored elements from the first to the last one used.
    pub(super) span: usize,
}

/// A tensor may have more elements than are stored (stride 0, overlaps), but not so many that a
/// tiny file reserves all memory. The supported backbones' largest tensor has 9 million.
const MAX_EXPANDED: usize = 1 << 25;

impl Entry {
    /// Checks that the tensor lies within `available` bytes of the file that begin at `start`.
    pub(super) fn new(
        shape: Vec<usize>,
        strides: Vec<usize>,
        dtype: Dtype,
        start: u64,
        available: u64,
    ) -> Option<Self> {
        let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        let span = if elements == 0 {
            0
        } else {
            let last = shape
                .iter()
                .zip(&strides)
                .try_fold(0usize, |last, (&size, &stride)| {
                    last.checked_add((size - 1).checked_mul(stride)?)
                })?;
            last.checked_add(1)?
        };
        if elements > span && elements > MAX_EXPANDED {
            return None;
        }
        let bytes = u64::try_from(span.checked_mul(dtype.size())?).ok()?;
        (bytes <= available).then_some(Self {
            shape,
            dtype,
            strides,
            start,
            span,
        })
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Row-major values of a strided tensor.
pub(super) fn gather<T: Copy>(stored: Vec<T>, shape: &[usize], strides: &[usize]) -> Vec<T> {
    let elements: usize = shape.iter().product();
    let mut expected = 1;
    let contiguous = shape.iter().zip(strides).rev().all(|(&size, &stride)| {
        let fits = size <= 1 || stride == expected;
        expected *= size;
        fits
    });
    if contiguous {
        return stored;
    }
    let mut values = Vec::with_capacity(elements);
    let mut index = vec![0; shape.len()];
    let mut position = 0;
    for _ in 0..elements {
        values.push(stored[position]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            position += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            position -= strides[axis] * shape[axis];
            index[axis] = 0;
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transposed_tensor_reads_row_major() {
        let stored = vec![0., 3., 1., 4., 2., 5.];
        assert_eq!(gather(stored, &[2, 3], &[1, 2]), [0., 1., 2., 3., 4., 5.]);
        assert_eq!(gather(vec![7.], &[2, 2], &[0, 0]), [7.; 4]);
    }

    #[test]
    fn an_entry_must_lie_within_its_data() {
        let entry = |shape: &[usize], strides: &[usize], bytes| {
            Entry::new(shape.to_vec(), strides.to_vec(), Dtype::F32, 0, bytes)
        };
        assert!(entry(&[2, 3], &[3, 1], 24).is_some());
        assert!(entry(&[2, 3], &[3, 1], 23).is_none());
        assert!(entry(&[usize::MAX, 2], &[1, 1], u64::MAX).is_none());
        assert!(entry(&[2, 2], &[usize::MAX, 1], u64::MAX).is_none());
        assert!(
            entry(&[1 << 40], &[0], 4).is_none(),
            "stride 0 must not reserve terabytes"
        );
    }
}
