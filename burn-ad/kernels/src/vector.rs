//! Loads and stores of whole and partly filled registers.
// Loads and stores through pointers, for kernels that check whole rows instead of single values.
#![allow(unsafe_code)]

use pulp::{MemMask, Simd};

/// `N` registers from their `N * F32_LANES` values; fewer values than that, when `N` is 1, are filled
/// up with 0.
#[inline(always)]
pub(crate) fn read<S: Simd, const N: usize>(simd: S, values: &[f32]) -> [S::f32s; N] {
    match S::as_simd_f32s(values).0.first_chunk::<N>() {
        Some(registers) => *registers,
        None => [simd.partial_load_f32s(values); N],
    }
}

/// Writes what fits of `N` registers; the counterpart of [`read`].
#[inline(always)]
pub(crate) fn write<S: Simd, const N: usize>(simd: S, values: &mut [f32], registers: [S::f32s; N]) {
    match S::as_mut_simd_f32s(values).0.first_chunk_mut::<N>() {
        Some(place) => *place = registers,
        None => simd.partial_store_f32s(values, registers[0]),
    }
}

/// Runs `$block` for all channels: `$N` registers at a time, then one, then the rest, with `$range` as
/// the channels' range. A macro, because closures may lose the instruction set they are called in.
macro_rules! by_registers {
    ($S:ty, $channels:expr, $count:literal, |$range:ident, $N:ident| $block:expr) => {{
        let (channels, lanes) = ($channels, <$S>::F32_LANES);
        let mut at = 0;
        while at + $count * lanes <= channels {
            const $N: usize = $count;
            let $range = at..at + $count * lanes;
            $block;
            at += $count * lanes;
        }
        while at < channels {
            const $N: usize = 1;
            let $range = at..(at + lanes).min(channels);
            $block;
            at += lanes;
        }
    }};
}
pub(crate) use by_registers;

/// # Safety
/// `S::F32_LANES` values from `from` on must be readable.
#[inline(always)]
pub(crate) unsafe fn load<S: Simd>(from: *const f32) -> S::f32s {
    // SAFETY: by contract; a register of floats is plain data of that size.
    unsafe { from.cast::<S::f32s>().read_unaligned() }
}

/// # Safety
/// `S::F32_LANES` values from `to` on must be writable, and nobody else may use them.
#[inline(always)]
pub(crate) unsafe fn store<S: Simd>(to: *mut f32, value: S::f32s) {
    // SAFETY: by contract; a register of floats is plain data of that size.
    unsafe { to.cast::<S::f32s>().write_unaligned(value) }
}

/// How a register meets memory: [`Whole`] or, at the end of a row, [`Part`].
pub(crate) trait Access<S: Simd>: Copy {
    /// # Safety
    /// The values it stands for must be readable at `from`.
    unsafe fn load(self, simd: S, from: *const f32) -> S::f32s;

    /// # Safety
    /// The values it stands for must be writable at `to`, and nobody else may use them.
    unsafe fn store(self, simd: S, to: *mut f32, value: S::f32s);
}

/// Every lane.
#[derive(Clone, Copy)]
pub(crate) struct Whole;

/// The first lanes; the others are read as 0 and not written.
#[derive(Clone, Copy)]
pub(crate) struct Part<S: Simd>(MemMask<S::m32s>);

impl<S: Simd> Part<S> {
    /// The first `lanes` lanes.
    #[inline(always)]
    pub(crate) fn new(simd: S, lanes: usize) -> Self {
        // `MemMask::new` leaves out jumps into pulp's table of loads: plain masked ones are faster
        // where the mask is loop-invariant.
        let mask = simd.mask_between_m32s(0, lanes.min(S::F32_LANES) as u32);
        Self(MemMask::new(mask.mask()))
    }
}

impl<S: Simd> Access<S> for Whole {
    #[inline(always)]
    unsafe fn load(self, _: S, from: *const f32) -> S::f32s {
        // SAFETY: by contract.
        unsafe { load::<S>(from) }
    }

    #[inline(always)]
    unsafe fn store(self, _: S, to: *mut f32, value: S::f32s) {
        // SAFETY: by contract.
        unsafe { store::<S>(to, value) }
    }
}

impl<S: Simd> Access<S> for Part<S> {
    #[inline(always)]
    unsafe fn load(self, simd: S, from: *const f32) -> S::f32s {
        // SAFETY: the lanes of the mask are readable, by the contract.
        unsafe { simd.mask_load_ptr_f32s(self.0, from) }
    }

    #[inline(always)]
    unsafe fn store(self, simd: S, to: *mut f32, value: S::f32s) {
        // SAFETY: the lanes of the mask are writable and not shared, by the contract.
        unsafe { simd.mask_store_ptr_f32s(self.0, to, value) }
    }
}

/// The first lanes, of which it is known only at run time whether they are all.
#[derive(Clone, Copy)]
pub(crate) struct Lanes<S: Simd> {
    part: Part<S>,
    full: bool,
}

impl<S: Simd> Lanes<S> {
    /// The first `count` lanes, or all if there are not so many.
    #[inline(always)]
    pub(crate) fn first(simd: S, count: usize) -> Self {
        Self {
            part: Part::new(simd, count),
            full: count >= S::F32_LANES,
        }
    }
}

impl<S: Simd> Access<S> for Lanes<S> {
    #[inline(always)]
    unsafe fn load(self, simd: S, from: *const f32) -> S::f32s {
        // SAFETY: by contract; a full register reads all lanes, a part only its own.
        unsafe {
            if self.full {
                Whole.load(simd, from)
            } else {
                self.part.load(simd, from)
            }
        }
    }

    #[inline(always)]
    unsafe fn store(self, simd: S, to: *mut f32, value: S::f32s) {
        // SAFETY: by contract, as in `load`.
        unsafe {
            if self.full {
                Whole.store(simd, to, value);
            } else {
                self.part.store(simd, to, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;
    use pulp::WithSimd;

    struct Copy<'a>(&'a [f32], &'a mut [f32]);

    impl WithSimd for Copy<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let count = self.0.len().min(S::F32_LANES);
            assert!(count <= self.1.len());
            // SAFETY: both slices have at least `count` values.
            unsafe {
                let part = Part::new(simd, count);
                let value = part.load(simd, self.0.as_ptr());
                part.store(simd, self.1.as_mut_ptr(), value);
                if self.0.len() >= S::F32_LANES {
                    let value = Whole.load(simd, self.0.as_ptr());
                    Whole.store(simd, self.1.as_mut_ptr(), value);
                }
            }
        }
    }

    #[test]
    fn a_part_leaves_other_values_alone() {
        for isa in Isa::available() {
            for count in 0..=16 {
                let from: Vec<f32> = (0..count).map(|i| 1.0 + i as f32).collect();
                let mut to = vec![0.0; 20];
                isa.run(Copy(&from, &mut to));
                for (i, &value) in to.iter().enumerate() {
                    let copied = i < count.min(isa.lanes());
                    assert_eq!(value, if copied { 1.0 + i as f32 } else { 0.0 });
                }
            }
        }
    }
}
