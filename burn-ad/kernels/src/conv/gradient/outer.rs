//! Sums of outer products: rows of inputs by registers of output gradients.
// Only loads and stores of registers are unchecked.
#![allow(unsafe_code)]

use pulp::{Simd, WithSimd};

use crate::conv::tile::{ROWS, Runs, accumulate};
use crate::vector::{load, store};

/// Positions that are summed at a time: their gradients, four registers each, fill half of the first
/// cache.
pub(in crate::conv) const DEPTH: usize = 96;

/// For each value `m` of the runs, `sums[m] += input[offset + m] * gradients[p]`, summed over the
/// offsets.
pub(in crate::conv) struct Outer<'a> {
    pub(in crate::conv) input: &'a [f32],
    /// Where the runs begin for each position.
    pub(in crate::conv) offsets: &'a [usize],
    pub(in crate::conv) runs: Runs,
    /// For each position a row of `width` registers.
    pub(in crate::conv) gradients: &'a [f32],
    pub(in crate::conv) width: usize,
    /// For each value of the runs a row of `width` registers.
    pub(in crate::conv) sums: &'a mut [f32],
    /// Whether the sums are what these positions give, not added to.
    pub(in crate::conv) fresh: bool,
}

impl WithSimd for Outer<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.width {
            1 => self.all::<S, 1>(simd),
            2 => self.all::<S, 2>(simd),
            3 if S::REGISTER_COUNT >= 32 => self.all::<S, 3>(simd),
            4 if S::REGISTER_COUNT >= 32 => self.all::<S, 4>(simd),
            _ => unreachable!("no panel of this width fits the registers"),
        }
    }
}

impl Outer<'_> {
    #[inline(always)]
    fn all<S: Simd, const NV: usize>(mut self, simd: S) {
        let width = NV * S::F32_LANES;
        assert_eq!(self.sums.len(), self.runs.total() * width);
        assert_eq!(self.gradients.len(), self.offsets.len() * width);
        let last = self.offsets.iter().max().copied().unwrap_or(0);
        assert!(last + self.runs.extent() <= self.input.len());
        for run in 0..self.runs.count {
            let mut i = 0;
            while i < self.runs.length {
                let from = run * self.runs.step + i;
                let to = run * self.runs.length + i;
                match self.runs.length - i {
                    1 => self.tile::<S, 1, NV>(simd, from, to),
                    2 => self.tile::<S, 2, NV>(simd, from, to),
                    3 => self.tile::<S, 3, NV>(simd, from, to),
                    4 => self.tile::<S, 4, NV>(simd, from, to),
                    5 => self.tile::<S, 5, NV>(simd, from, to),
                    _ => self.tile::<S, ROWS, NV>(simd, from, to),
                }
                i += ROWS;
            }
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const MR: usize, const NV: usize>(&mut self, simd: S, from: usize, to: usize) {
        let width = NV * S::F32_LANES;
        let rows = &mut self.sums[to * width..][..MR * width];
        let mut sums = [[simd.splat_f32s(0.0); NV]; MR];
        // SAFETY: `rows` has `MR` rows of `NV` registers; `from + MR` is at most the runs' extent, so
        // that values up to there behind every offset lie in the input; and the gradients have `NV`
        // registers for each offset: `all` has checked both.
        unsafe {
            if !self.fresh {
                for (r, sums) in sums.iter_mut().enumerate() {
                    for (j, sum) in sums.iter_mut().enumerate() {
                        *sum = load::<S>(rows.as_ptr().add(r * width + j * S::F32_LANES));
                    }
                }
            }
            accumulate(
                simd,
                self.input.as_ptr().add(from),
                self.offsets,
                self.gradients.as_ptr(),
                &mut sums,
            );
            for (r, sums) in sums.iter().enumerate() {
                for (j, sum) in sums.iter().enumerate() {
                    store::<S>(rows.as_mut_ptr().add(r * width + j * S::F32_LANES), *sum);
                }
            }
        }
    }
}
