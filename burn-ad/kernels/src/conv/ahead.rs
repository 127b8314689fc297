//! Memory that is fetched before it is used, a little at a time while a tile's products are summed.
//!
//! At the pace of a tile, the last cache and main memory keep up; all at once they do not: the few lines that
//! may be under way at a time are also those of the products.
// Prefetches are hints, through addresses that are never read.
#![allow(unsafe_code)]

/// Values of a cache line.
const LINE: usize = 16;

/// Counts down to the next time.
#[derive(Clone, Copy, Debug)]
struct Pause {
    left: usize,
    length: usize,
}

impl Pause {
    /// The first time is at once.
    #[inline(always)]
    fn new(length: usize) -> Self {
        Self { left: 1, length }
    }

    #[inline(always)]
    fn is_over(&mut self) -> bool {
        self.left -= 1;
        if self.left > 0 {
            return false;
        }
        self.left = self.length;
        true
    }
}

/// Weights that are multiplied by next, which several tiles share the fetching of: at the pace of the
/// first tile that reads them, memory would not keep up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ahead {
    /// Only an address: it is never read through.
    next: *const f32,
    /// Lines that are fetched at once.
    lines: usize,
    pause: Pause,
}

impl Ahead {
    /// What tile `index` of `count` fetches of the `width` values for each summed one from `from` on,
    /// which need not be valid.
    #[inline(always)]
    pub(super) fn share(
        from: *const f32,
        width: usize,
        summed: usize,
        index: usize,
        count: usize,
    ) -> Self {
        let lines = width.div_ceil(LINE * count).max(1);
        let pause = (LINE * count / width).max(1);
        Self {
            next: from.wrapping_add(index * summed.div_ceil(pause) * lines * LINE),
            lines,
            pause: Pause::new(pause),
        }
    }

    /// To be called for each summed value.
    #[inline(always)]
    pub(super) fn step(&mut self) {
        if self.pause.is_over() {
            for _ in 0..self.lines {
                fetch(self.next, Cache::Second);
                self.next = self.next.wrapping_add(LINE);
            }
        }
    }
}

/// What a tile writes over, and adds: its sums are done all at once, and would wait for the lines of the
/// output and of the residual.
#[derive(Clone, Copy, Debug)]
pub(super) struct Goal<const MR: usize> {
    /// Where the rows are written; only addresses, as the next one.
    rows: [*const f32; MR],
    /// Bytes from there to what is added, if anything is.
    added: Option<isize>,
    /// Row that is fetched next.
    next: usize,
    pause: Pause,
}

impl<const MR: usize> Goal<MR> {
    /// For a tile that adds up `summed` values.
    #[inline(always)]
    pub(super) fn new(rows: [*const f32; MR], added: Option<isize>, summed: usize) -> Self {
        Self {
            rows,
            added,
            next: 0,
            // The last lines still have the time of two rows to come.
            pause: Pause::new((summed / (MR + 2)).max(1)),
        }
    }

    /// To be called for each summed value; `width` are the values of a row.
    #[inline(always)]
    pub(super) fn step(&mut self, width: usize) {
        if self.pause.is_over() && self.next < MR {
            let row = self.rows[self.next];
            self.next += 1;
            // Rows mostly begin within a line, and reach into one more.
            for at in (0..=width).step_by(LINE) {
                let line = row.wrapping_add(at);
                fetch(line, Cache::First);
                if let Some(added) = self.added {
                    fetch(line.wrapping_byte_offset(added), Cache::First);
                }
            }
        }
    }
}

/// The nearest cache that a line is brought to.
#[derive(Clone, Copy)]
enum Cache {
    First,
    /// Where it takes no place from what is used in the meantime.
    Second,
}

/// Brings a line closer, where the processor can; any address will do.
#[inline(always)]
fn fetch(line: *const f32, cache: Cache) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        // SAFETY: a hint; an address that cannot be read is passed over.
        unsafe {
            match cache {
                Cache::First => _mm_prefetch::<_MM_HINT_T0>(line.cast()),
                Cache::Second => _mm_prefetch::<_MM_HINT_T1>(line.cast()),
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (line, cache);
}
