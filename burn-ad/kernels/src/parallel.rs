//! Memory that threads share or keep.
// Disjoint places of one slice go to several threads; `Scattered` is the only way in.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Range;

/// A slice of which several threads write different parts that are not one range each.
///
/// Where the parts are one range each, use rayon's `par_chunks_mut` instead.
pub(crate) struct Scattered<'a> {
    start: *mut f32,
    length: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: it stands for a `&mut [f32]`, which may go to another thread; what each thread touches is
// the duty of those who call `part`.
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
}

thread_local! {
    static SCRATCH: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Hands `work` `length` values of any content, kept by this thread for the next call.
///
/// A call inside a call gets other memory; only the outermost one's is kept.
pub(crate) fn scratch<R>(length: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut memory = SCRATCH.take();
    if memory.len() < length {
        memory.resize(length, 0.0);
    }
    let result = work(&mut memory[..length]);
    SCRATCH.set(memory);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_inside_scratch_is_other_memory() {
        scratch(3, |outer| {
            outer.fill(1.0);
            scratch(5, |inner| inner.fill(2.0));
            assert_eq!(outer, [1.0; 3]);
        });
        scratch(5, |values| assert_eq!(values.len(), 5));
    }

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
