//! Memory that threads share.
// Disjoint places of one slice go to several threads; `Scattered` is the only way in.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::Range;

/// Work from which on other threads take part. Under Miri less, so that what it finds time for still uses
/// several threads.
pub(crate) const fn worth(work: usize) -> usize {
    if cfg!(miri) { work / 1000 } else { work }
}

/// A slice of which several threads write different parts that are not one range each.
///
/// Where the parts are one range each, use rayon's `par_chunks_mut` instead.
pub(crate) struct Scattered<'a> {
    start: *mut f32,
    length: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: it stands for a `&mut [f32]`, which may go to another thread; what each thread touches is
// the duty of those who call `part`, or write through `pointer`.
unsafe impl Send for Scattered<'_> {}
// SAFETY: as above.
unsafe impl Sync for Scattered<'_> {}

impl<'a> Scattered<'a> {
    pub(crate) fn new(values: &'a mut [f32]) -> Self {
        Self {
            start: values.as_mut_ptr(),
            length: values.len(),
            borrow: PhantomData,
        }
    }

    /// Elements `range` of the slice.
    ///
    /// # Panics
    /// If the range reaches beyond the slice.
    ///
    /// # Safety
    /// While the part lives, no other part that overlaps it may live.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)] // that is its purpose
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &mut [f32] {
        assert!(range.start <= range.end && range.end <= self.length);
        // SAFETY: in bounds of the slice that is borrowed for 'a, by the check above; not aliased,
        // by the contract of this function.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }

    /// Where the elements `range` begin, for those who write only some of them.
    ///
    /// # Panics
    /// If the range reaches beyond the slice.
    #[inline(always)]
    pub(crate) fn pointer(&self, range: Range<usize>) -> *mut f32 {
        assert!(range.start <= range.end && range.end <= self.length);
        self.start.wrapping_add(range.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_written_where_they_lie() {
        let mut values = vec![0.0; 6];
        let scattered = Scattered::new(&mut values);
        std::thread::scope(|scope| {
            for thread in 0..2 {
                let scattered = &scattered;
                scope.spawn(move || {
                    for row in 0..3 {
                        let at = row * 2 + thread;
                        // SAFETY: each thread has its own column.
                        let part = unsafe { scattered.part(at..at + 1) };
                        part[0] = (10 * thread + row) as f32;
                    }
                });
            }
        });
        assert_eq!(values, [0.0, 10.0, 1.0, 11.0, 2.0, 12.0]);
    }

    #[test]
    #[should_panic(expected = "range.end <= self.length")]
    fn a_part_beyond_the_end_is_refused() {
        let mut values = vec![0.0; 4];
        let scattered = Scattered::new(&mut values);
        // SAFETY: the only part.
        let _ = unsafe { scattered.part(2..5) };
    }
}
