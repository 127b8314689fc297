//! Loads and stores of registers through pointers, and of the last, partly filled one.
// Everything here takes pointers; callers check their slices once a row, not once a register.
#![allow(unsafe_code)]

use pulp::{MemMask, Simd};

/// # Safety
/// `S::F32_LANES` values from `from` on must be readable.
#[inline(always)]
pub(super) unsafe fn load<S: Simd>(from: *const f32) -> S::f32s {
    // SAFETY: by contract; a register of floats is plain data of that size.
    unsafe { from.cast::<S::f32s>().read_unaligned() }
}

/// # Safety
/// `S::F32_LANES` values from `to` on must be writable.
#[inline(always)]
pub(super) unsafe fn store<S: Simd>(to: *mut f32, value: S::f32s) {
    // SAFETY: by contract; a register of floats is plain data of that size.
    unsafe { to.cast::<S::f32s>().write_unaligned(value) }
}

/// The first few lanes of a register.
#[derive(Clone, Copy)]
pub(super) struct Lanes<S: Simd> {
    mask: MemMask<S::m32s>,
    full: bool,
}

impl<S: Simd> Lanes<S> {
    /// The first `count` lanes, or all if there are not so many.
    #[inline(always)]
    pub(super) fn first(simd: S, count: usize) -> Self {
        let count = count.min(S::F32_LANES);
        // Made anew from its bits, a mask loses the function that pulp would call instead of the
        // masked instruction.
        let mask = simd.mask_between_m32s(0, count as u32).mask();
        Self {
            mask: MemMask::from(mask),
            full: count == S::F32_LANES,
        }
    }

    /// These lanes, others 0.
    ///
    /// # Safety
    /// As many values as there are lanes must be readable from `from` on.
    #[inline(always)]
    pub(super) unsafe fn load(self, simd: S, from: *const f32) -> S::f32s {
        // SAFETY: by contract; a full register reads that many, a masked one only those lanes.
        unsafe {
            if self.full {
                load::<S>(from)
            } else {
                simd.mask_load_ptr_f32s(self.mask, from)
            }
        }
    }

    /// # Safety
    /// As many values as there are lanes must be writable from `to` on.
    #[inline(always)]
    pub(super) unsafe fn store(self, simd: S, to: *mut f32, value: S::f32s) {
        // SAFETY: by contract, as in `load`.
        unsafe {
            if self.full {
                store::<S>(to, value);
            } else {
                simd.mask_store_ptr_f32s(self.mask, to, value);
            }
        }
    }
}
