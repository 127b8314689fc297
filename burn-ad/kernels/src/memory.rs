//! Memory that begins at a cache line, and is kept by its thread.
// A slice of lines is also a slice of their values.
#![allow(unsafe_code)]

use std::cell::RefCell;

/// Values of a line.
const LINE: usize = 16;

/// One cache line; a register's load or store from its start touches no second one.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

/// Values that begin at a cache line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines(Vec<Line>);

impl Lines {
    /// Makes room for `length` values; those it has stay, new ones are 0.
    pub(crate) fn grow(&mut self, length: usize) {
        let lines = length.div_ceil(LINE);
        if self.0.len() < lines {
            self.0.reserve_exact(lines - self.0.len());
            prefer_large_pages(self.0.as_ptr().cast(), self.0.capacity() * LINE);
            self.0.resize(lines, Line([0.0; LINE]));
        }
    }

    pub(crate) fn values(&self) -> &[f32] {
        // SAFETY: `Line` is `repr(C)` around `LINE` floats and has no padding: 64 bytes, alignment 64.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * LINE) }
    }

    pub(crate) fn values_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `values`; borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * LINE) }
    }
}

/// Bytes from here on are worth asking for large pages.
const LARGE: usize = 2 << 20;

/// `length` zeros, in large pages where there are enough of them and the system has such pages.
pub fn zeros(length: usize) -> Vec<f32> {
    // Pages that the system clears when they are first written to, by the threads of a kernel.
    let values = vec![0.0; length];
    prefer_large_pages(values.as_ptr(), values.len());
    values
}

/// Asks the system for large pages for `length` values that have not been written to yet: packed weights
/// and maps of some megabytes are read from end to end, and the look-up of every 4 KiB page takes as long
/// as reading a good part of it.
///
/// Only a hint; where it is not taken, nothing changes but the time.
fn prefer_large_pages(first: *const f32, length: usize) {
    let bytes = length * size_of::<f32>();
    if bytes < LARGE {
        return;
    }
    #[cfg(target_os = "linux")]
    {
        const PAGE: usize = 4096;
        let start = first.addr().next_multiple_of(PAGE);
        let end = (first.addr() + bytes) / PAGE * PAGE;
        let page = first.cast::<u8>().with_addr(start).cast_mut();
        // SAFETY: this advice changes neither what pages hold nor their protection, whoever has them.
        unsafe { libc::madvise(page.cast(), end - start, libc::MADV_HUGEPAGE) };
    }
}

thread_local! {
    static KEPT: RefCell<Vec<Lines>> = const { RefCell::new(Vec::new()) };
}

/// Hands `work` `length` values of any content that begin at a cache line; the thread keeps them for
/// the next call. Calls may nest, each depth keeps its own.
pub(crate) fn scratch<R>(length: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut lines = KEPT.with_borrow_mut(Vec::pop).unwrap_or_default();
    lines.grow(length);
    let result = work(&mut lines.values_mut()[..length]);
    KEPT.with_borrow_mut(|kept| kept.push(lines));
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_begin_where_a_cache_line_does_and_keep_their_values() {
        let mut lines = Lines::default();
        for length in [0, 1, 15, 16, 17, 1000] {
            lines.grow(length);
            assert!(lines.values().len() >= length);
            assert_eq!(lines.values().as_ptr().addr() % 64, 0);
            if let Some(last) = lines.values_mut().last_mut() {
                *last = 1.0;
            }
        }
        let kept = lines.values().iter().filter(|value| **value == 1.0);
        assert_eq!(kept.count(), 3, "the ends of 1, 2 and 63 lines");
    }

    #[test]
    fn scratch_inside_scratch_is_other_memory() {
        scratch(3, |outer| {
            outer.fill(1.0);
            scratch(5, |inner| inner.fill(2.0));
            assert_eq!(outer, [1.0; 3]);
        });
        scratch(5, |values| assert_eq!(values.len(), 5));
    }
}
