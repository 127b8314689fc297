//! Between maps and transformed tiles.
// Thirty-six places are written and read for every register of channels: through pointers, into
// slices that are checked once for each block of tiles.
#![allow(unsafe_code)]
// One index runs over rows of several arrays, the other over their columns.
#![allow(clippy::needless_range_loop)]

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::transform::{self, OUT, SIDE, input, output};
use crate::conv::epilogue::{Epilogue, Limits};
use crate::conv::geometry::Geometry;
use crate::parallel::Scattered;
use crate::simd_math::activate;
use crate::vector::{Access, Lanes, load, store};

/// Most places of a transformed tile.
const PLACES: usize = SIDE * SIDE;

/// The tiles of all images, row by row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tiles {
    pub(super) batch: usize,
    /// Rows and columns of an input image.
    image: [usize; 2],
    /// Zeros above and to the left.
    before: [usize; 2],
    /// Rows and columns of an output image.
    pub(super) out: [usize; 2],
    /// Side of a tile's outputs.
    step: usize,
    /// Inputs from one output to the next.
    stride: usize,
    /// Rows and columns of tiles of an image.
    grid: [usize; 2],
}

impl Tiles {
    /// For transformed tiles of a side.
    pub(super) fn new(geometry: &Geometry, side: usize) -> Self {
        let (out, step) = (geometry.output(), transform::outputs(side));
        Self {
            batch: geometry.batch,
            image: [geometry.height, geometry.width],
            before: [geometry.padding.top, geometry.padding.left],
            out,
            step,
            stride: transform::stride(side),
            grid: out.map(|size| size.div_ceil(step)),
        }
    }

    /// Tiles in all.
    pub(super) fn count(&self) -> usize {
        self.batch * self.grid[0] * self.grid[1]
    }

    /// Image, and first output row and column, of a tile.
    #[inline(always)]
    pub(super) fn place(&self, tile: usize) -> (usize, [usize; 2]) {
        let [rows, columns] = self.grid;
        let (line, column) = (tile / columns, tile % columns);
        (line / rows, [line % rows * self.step, column * self.step])
    }

    /// First input row or column of a tile whose outputs begin at `at`, and those of the `side` from
    /// there on that lie in the image.
    #[inline(always)]
    fn seen(&self, axis: usize, at: usize, side: usize) -> (isize, Range<usize>) {
        let start = (at * self.stride) as isize - self.before[axis] as isize;
        let low = (-start).clamp(0, side as isize) as usize;
        let high = (self.image[axis] as isize - start).clamp(low as isize, side as isize) as usize;
        (start, low..high)
    }
}

/// Transforms the inputs of tiles `range`. Row `tile - range.start` of each place, `pitch` apart, from
/// `first` on, is written to its last whole register; places are `stride` apart.
pub(super) struct Gather<'a, const A: usize> {
    pub(super) x: &'a [f32],
    pub(super) tiles: &'a Tiles,
    pub(super) range: Range<usize>,
    pub(super) channels: usize,
    pub(super) first: usize,
    pub(super) pitch: usize,
    pub(super) stride: usize,
    /// No other thread may touch these rows.
    pub(super) rows: &'a Scattered<'a>,
}

impl<const A: usize> WithSimd for Gather<'_, A> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let whole = self.channels.next_multiple_of(S::F32_LANES);
        let (pitch, length) = (self.pitch, self.range.len() * self.pitch);
        assert!(pitch >= whole);
        let mut places = [std::ptr::null_mut(); PLACES];
        for (place, to) in places[..A * A].iter_mut().enumerate() {
            let at = place * self.stride + self.first;
            // SAFETY: no other thread has these rows, and no other slice of them is alive here.
            *to = unsafe { self.rows.part(at..at + length) }.as_mut_ptr();
        }
        let [height, width] = self.tiles.image;
        assert_eq!(
            self.x.len(),
            self.tiles.batch * height * width * self.channels
        );
        let last = Lanes::<S>::first(simd, self.channels - (whole - S::F32_LANES));
        // For all tiles: clearing it takes as long as a good part of a transform.
        let mut half = [[simd.splat_f32s(0.0); SIDE]; SIDE];
        for (row, tile) in self.range.clone().enumerate() {
            let (image, at) = self.tiles.place(tile);
            let (top, rows) = self.tiles.seen(0, at[0], A);
            let (left, columns) = self.tiles.seen(1, at[1], A);
            let corner = ((image * height) as isize + top) * width as isize + left;
            let from = self
                .x
                .as_ptr()
                .wrapping_offset(corner * self.channels as isize);
            let inside = rows.len() == A && columns.len() == A;
            for c in (0..whole).step_by(S::F32_LANES) {
                let full = c + S::F32_LANES <= self.channels;
                for j in 0..A {
                    let mut d = [simd.splat_f32s(0.0); SIDE];
                    for (i, d) in d[..A].iter_mut().enumerate() {
                        if inside || rows.contains(&i) && columns.contains(&j) {
                            let at = from.wrapping_add((i * width + j) * self.channels + c);
                            // SAFETY: row `top + i` and column `left + j` lie in image `image <
                            // batch`, and channels `c..c + lanes` or those that are left exist.
                            *d = unsafe {
                                if full {
                                    load::<S>(at)
                                } else {
                                    last.load(simd, at)
                                }
                            };
                        }
                    }
                    let d = input::<S, A>(simd, d);
                    for i in 0..A {
                        half[i][j] = d[i];
                    }
                }
                for i in 0..A {
                    let d = input::<S, A>(simd, half[i]);
                    for j in 0..A {
                        // SAFETY: `row < range.len()` and `c + lanes <= whole <= pitch`.
                        unsafe { store::<S>(places[i * A + j].add(row * pitch + c), d[j]) };
                    }
                }
            }
        }
    }
}

/// Transforms row `tile - range.start` of each place back to the outputs of tiles `range`.
pub(super) struct Scatter<'a, const A: usize> {
    pub(super) rows: &'a [f32],
    pub(super) first: usize,
    pub(super) stride: usize,
    pub(super) tiles: &'a Tiles,
    pub(super) range: Range<usize>,
    pub(super) channels: usize,
    pub(super) epilogue: Epilogue<'a>,
    /// No other thread may touch the outputs of these tiles.
    pub(super) out: &'a Scattered<'a>,
}

impl<const A: usize> WithSimd for Scatter<'_, A> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let whole = self.channels.next_multiple_of(S::F32_LANES);
        let length = self.range.len() * whole;
        let mut places = [std::ptr::null(); PLACES];
        for (place, from) in places[..A * A].iter_mut().enumerate() {
            *from = self.rows[place * self.stride + self.first..][..length].as_ptr();
        }
        let limits = Limits::<S>::of(simd, self.epilogue.activation);
        let curve = self.epilogue.curve();
        let last = Lanes::<S>::first(simd, self.channels - (whole - S::F32_LANES));
        let all = Lanes::<S>::first(simd, S::F32_LANES);
        let [height, width] = self.tiles.out;
        // As in `Gather`.
        let mut half = [[simd.splat_f32s(0.0); SIDE]; OUT];
        for (row, tile) in self.range.clone().enumerate() {
            let (image, [top, left]) = self.tiles.place(tile);
            let rows = (height - top).min(transform::outputs(A));
            let columns = (width - left).min(transform::outputs(A));
            for c in (0..whole).step_by(S::F32_LANES) {
                let count = S::F32_LANES.min(self.channels - c);
                let lanes = if count == S::F32_LANES { all } else { last };
                let mut bias = simd.splat_f32s(0.0);
                if let Some(values) = self.epilogue.bias {
                    // SAFETY: a slice of as many values as `lanes`.
                    bias = unsafe { lanes.load(simd, values[c..c + count].as_ptr()) };
                }
                for j in 0..A {
                    let mut m = [simd.splat_f32s(0.0); SIDE];
                    for (i, m) in m[..A].iter_mut().enumerate() {
                        // SAFETY: `row < range.len()` and `c + lanes <= whole`.
                        *m = unsafe { load::<S>(places[i * A + j].add(row * whole + c)) };
                    }
                    let m = output::<S, A>(simd, m);
                    for i in 0..transform::outputs(A) {
                        half[i][j] = m[i];
                    }
                }
                for (i, half) in half[..transform::outputs(A)].iter().enumerate() {
                    let y = output::<S, A>(simd, *half);
                    if i >= rows {
                        continue;
                    }
                    for (j, y) in y[..transform::outputs(A)].iter().enumerate() {
                        if j >= columns {
                            continue;
                        }
                        let position = (image * height + top + i) * width + left + j;
                        let at = position * self.channels + c;
                        let mut value = simd.add_f32s(*y, bias);
                        if let Some(residual) = self.epilogue.residual {
                            // SAFETY: a slice of as many values as `lanes`.
                            let added =
                                unsafe { lanes.load(simd, residual[at..at + count].as_ptr()) };
                            value = simd.add_f32s(value, added);
                        }
                        value = limits.apply(simd, value);
                        // SAFETY: no other thread has this tile's outputs, and no other slice of
                        // them is alive here.
                        let out = unsafe { self.out.part(at..at + count) };
                        // SAFETY: a slice of as many values as `lanes`.
                        unsafe { lanes.store(simd, out.as_mut_ptr(), value) };
                    }
                }
                if let Some(curve) = curve {
                    // In a loop of its own: sixteen copies of it would be slower.
                    for position in 0..rows * columns {
                        let (i, j) = (position / columns, position % columns);
                        let position = (image * height + top + i) * width + left + j;
                        let at = position * self.channels + c;
                        // SAFETY: as above.
                        unsafe {
                            let out = self.out.part(at..at + count).as_mut_ptr();
                            let value = activate(simd, curve, lanes.load(simd, out));
                            lanes.store(simd, out, value);
                        }
                    }
                }
            }
        }
    }
}
