//! Neighbouring cells of a row together: what they see overlaps, so each value is loaded once for all of
//! them.
// Cells are read through pointers: a bounds check for each multiply-add would cost more than it.
#![allow(unsafe_code)]

use pulp::Simd;

use super::slide::Slide;
use crate::activation::Activation;
use crate::isa::Isa;
use crate::simd_math::{activate, mul_add};
use crate::vector::{load, store};
use crate::window::{Map, Window};

/// Cells of a small block.
const FEW: usize = 4;
/// Cells of a large one, where there are 32 registers.
const MANY: usize = 8;
/// Most columns that a block sees: eight cells two apart, five taps each.
const SEEN: usize = 2 * (MANY - 1) + 5;

/// Whether blocks compute a convolution to `size`: kernels 3 or 5 wide, steps of 1 or 2, whole registers of
/// channels.
pub(super) fn fit(isa: Isa, window: &Window, size: Map) -> bool {
    matches!((window.kernel[1], window.stride[1]), (3 | 5, 1 | 2))
        && size.width >= FEW
        && size.channels.is_multiple_of(isa.lanes())
}

impl Slide<'_> {
    /// # Panics
    /// If blocks do not [`fit`].
    #[inline(always)]
    pub(super) fn blocks<S: Simd>(&self, simd: S) {
        let window = &self.depthwise.window;
        match (window.kernel[1], window.stride[1]) {
            (3, 1) => self.registers::<S, 3, 1>(simd),
            (3, 2) => self.registers::<S, 3, 2>(simd),
            (5, 1) => self.registers::<S, 5, 1>(simd),
            (5, 2) => self.registers::<S, 5, 2>(simd),
            other => unreachable!("no blocks for kernel and stride {other:?}"),
        }
    }

    /// One register of channels after the other down all rows, so that what neighbouring rows see, and the
    /// weights, stay in the first cache.
    #[inline(always)]
    fn registers<S: Simd, const K: usize, const STEP: usize>(&self, simd: S) {
        let (from, to, depthwise) = (self.from, self.to, self.depthwise);
        let (all, channels) = (to.channels, self.channels.len());
        assert!(channels.is_multiple_of(S::F32_LANES) && to.width >= FEW);
        assert!(channels <= from.channels && self.channels.end <= all);
        let weights = &depthwise.weight[..depthwise.window.kernel[0] * K * all];
        let fits = |&(y, ky): &(usize, usize)| {
            (self.above..self.above + from.height).contains(&y) && ky < depthwise.window.kernel[0]
        };
        let mut lines = self.lines.clone();
        assert!(lines.all(|line| self.rows[line % to.height].iter().all(fits)));
        let cells = from.height * from.width * from.channels;
        let row = to.width * all;
        for channel in (0..channels).step_by(S::F32_LANES) {
            let column = self.channels.start + channel;
            let bias = match depthwise.bias {
                Some(bias) => simd.partial_load_f32s(&bias[column..][..S::F32_LANES]),
                None => simd.splat_f32s(0.0),
            };
            for (index, line) in self.lines.clone().enumerate() {
                let (image, line) = (line / to.height, line % to.height);
                let begin = (self.out_row + index) * row;
                let strip = Strip {
                    x: &self.x[image * cells..][..cells],
                    from,
                    above: self.above,
                    channel,
                    taps: &self.rows[line],
                    weights: &weights[column..],
                    pitch: all,
                    left: depthwise.window.padding[2],
                    bias,
                    activation: depthwise.activation,
                    out: self.out.pointer(begin..begin + row).wrapping_add(column),
                };
                let mut next = 0;
                while next < to.width {
                    let rest = to.width - next;
                    // The last block may begin earlier, and compute some cells once more.
                    // SAFETY: the block's cells are among the `width` ones of the row that begins at
                    // `begin`, the register among their channels; every tap has a row in `x` and one in
                    // the weights, by the check above. No other thread has these channels of the row.
                    unsafe {
                        if S::REGISTER_COUNT >= 32 && rest > FEW && to.width >= MANY {
                            let first = next.min(to.width - MANY);
                            strip.block::<MANY, K, STEP>(simd, first);
                            next = first + MANY;
                        } else {
                            let first = next.min(to.width - FEW);
                            strip.block::<FEW, K, STEP>(simd, first);
                            next = first + FEW;
                        }
                    }
                }
            }
        }
    }
}

/// One register of channels of an output row.
struct Strip<'a, S: Simd> {
    /// An image, or some rows of one.
    x: &'a [f32],
    from: Map,
    above: usize,
    channel: usize,
    taps: &'a [(usize, usize)],
    weights: &'a [f32],
    /// From a weight to the next, and from an output cell to the next.
    pitch: usize,
    left: usize,
    bias: S::f32s,
    activation: Activation,
    out: *mut f32,
}

impl<S: Simd> Strip<'_, S> {
    /// Cells `first..first + N`.
    ///
    /// # Safety
    /// For each of the taps, the row must be in `x`, and `K` weights of the kernel's row, the last with a
    /// register, in `weights`. The cells must be writable at `out`, and nobody else may use them.
    #[inline(always)]
    unsafe fn block<const N: usize, const K: usize, const STEP: usize>(
        &self,
        simd: S,
        first: usize,
    ) {
        let width = self.from.width;
        // Column of the input that the first cell's first tap sees, perhaps left of the map.
        let start = (first * STEP).wrapping_sub(self.left);
        let count = (N - 1) * STEP + K;
        // SAFETY: by the contract.
        unsafe {
            if start < width && start + count <= width {
                self.sum::<N, K, STEP, false>(simd, first, start);
            } else {
                self.sum::<N, K, STEP, true>(simd, first, start);
            }
        }
    }

    /// # Safety
    /// As [`block`](Self::block); without `EDGE`, all columns from `start` on must be on the map.
    #[inline(always)]
    unsafe fn sum<const N: usize, const K: usize, const STEP: usize, const EDGE: bool>(
        &self,
        simd: S,
        first: usize,
        start: usize,
    ) {
        let (width, cell) = (self.from.width, self.from.channels);
        let mut sums = [self.bias; N];
        for &(y, ky) in self.taps {
            let row = self
                .x
                .as_ptr()
                .wrapping_add((y - self.above) * width * cell + self.channel);
            let weights = self.weights.as_ptr().wrapping_add(ky * K * self.pitch);
            let mut seen = [simd.splat_f32s(0.0); SEEN];
            for (index, seen) in seen.iter_mut().take((N - 1) * STEP + K).enumerate() {
                let column = start.wrapping_add(index);
                if !EDGE || column < width {
                    // SAFETY: the row is in `x`, and this column in the row.
                    *seen = unsafe { load::<S>(row.wrapping_add(column * cell)) };
                }
            }
            for k in 0..K {
                // SAFETY: by the contract.
                let weight = unsafe { load::<S>(weights.wrapping_add(k * self.pitch)) };
                for (n, sum) in sums.iter_mut().enumerate() {
                    *sum = mul_add(simd, seen[n * STEP + k], weight, *sum);
                }
            }
        }
        for (n, sum) in sums.into_iter().enumerate() {
            let value = activate(simd, self.activation, sum);
            // SAFETY: the cell is writable and not shared, by the contract.
            unsafe { store::<S>(self.out.wrapping_add((first + n) * self.pitch), value) };
        }
    }
}
