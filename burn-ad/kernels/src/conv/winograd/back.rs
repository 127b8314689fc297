//! The transposed transforms: from gradients of the output to places, from places to gradients of the
//! kernel.
// Places are written and read through pointers, into slices that are checked once for each block.
#![allow(unsafe_code)]
// One index runs over rows of several arrays, the other over their columns.
#![allow(clippy::needless_range_loop)]

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::tiles::Tiles;
use super::transform::{OUT, SIDE, kernel_back, output_back};
use crate::Isa;
use crate::conv::tile::{panel, panel_count};
use crate::parallel::Scattered;
use crate::vector::{Access, Lanes, load, store};

/// Transforms gradients of the outputs of tiles `range`. A place has for each panel a row of its
/// columns for each of `count` tiles; rows `to..` are written, to their last whole register. Places
/// are `stride` apart.
pub(super) struct Spread<'a, const A: usize> {
    pub(super) isa: Isa,
    pub(super) dy: &'a [f32],
    pub(super) tiles: &'a Tiles,
    pub(super) range: Range<usize>,
    pub(super) channels: usize,
    pub(super) to: usize,
    pub(super) count: usize,
    pub(super) stride: usize,
    /// No other thread may touch these rows.
    pub(super) rows: &'a Scattered<'a>,
}

impl<const A: usize> WithSimd for Spread<'_, A> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let [height, width] = self.tiles.out;
        assert_eq!(
            self.dy.len(),
            self.tiles.batch * height * width * self.channels
        );
        for index in 0..panel_count(self.isa, self.channels) {
            let panel = panel(self.isa, self.channels, index);
            let (first, row_width) = (panel.first * S::F32_LANES, panel.width * S::F32_LANES);
            let mut places = [std::ptr::null_mut(); SIDE * SIDE];
            for (place, rows) in places[..A * A].iter_mut().enumerate() {
                let at = place * self.stride + first * self.count + self.to * row_width;
                let length = self.range.len() * row_width;
                // SAFETY: no other thread has these rows, and no other slice of them is alive here.
                *rows = unsafe { self.rows.part(at..at + length) }.as_mut_ptr();
            }
            for (row, tile) in self.range.clone().enumerate() {
                let (image, [top, left]) = self.tiles.place(tile);
                let rows = (height - top).min(A - 2);
                let columns = (width - left).min(A - 2);
                let corner = (image * height + top) * width + left;
                for c in (0..row_width).step_by(S::F32_LANES) {
                    let count = S::F32_LANES.min(self.channels - first - c);
                    let lanes = Lanes::<S>::first(simd, count);
                    let mut half = [[simd.splat_f32s(0.0); OUT]; SIDE];
                    for j in 0..A - 2 {
                        let mut y = [simd.splat_f32s(0.0); OUT];
                        for (i, y) in y[..A - 2].iter_mut().enumerate() {
                            if i < rows && j < columns {
                                let at = (corner + i * width + j) * self.channels + first + c;
                                // SAFETY: row `top + i` and column `left + j` lie in image `image <
                                // batch`, and `count` channels from there on exist.
                                *y = unsafe { lanes.load(simd, self.dy.as_ptr().add(at)) };
                            }
                        }
                        let y = output_back::<S, A>(simd, y);
                        for i in 0..A {
                            half[i][j] = y[i];
                        }
                    }
                    for i in 0..A {
                        let y = output_back::<S, A>(simd, half[i]);
                        for j in 0..A {
                            // SAFETY: `row < range.len()` and `c + lanes <= row_width`.
                            unsafe {
                                store::<S>(places[i * A + j].add(row * row_width + c), y[j]);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Transforms sums of all places, `stride` apart, to the nine parts of `taps`.
pub(super) struct Kernel<'a, const A: usize> {
    pub(super) sums: &'a [f32],
    pub(super) stride: usize,
    pub(super) taps: &'a mut [f32],
}

impl<const A: usize> WithSimd for Kernel<'_, A> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let length = self.taps.len() / 9;
        assert_eq!(length % S::F32_LANES, 0, "whole registers");
        let mut places = [std::ptr::null(); SIDE * SIDE];
        for (place, from) in places[..A * A].iter_mut().enumerate() {
            *from = self.sums[place * self.stride..][..length].as_ptr();
        }
        for at in (0..length).step_by(S::F32_LANES) {
            let mut half = [[simd.splat_f32s(0.0); SIDE]; 3];
            for j in 0..A {
                let mut m = [simd.splat_f32s(0.0); SIDE];
                for (i, m) in m[..A].iter_mut().enumerate() {
                    // SAFETY: `at + lanes <= length`.
                    *m = unsafe { load::<S>(places[i * A + j].add(at)) };
                }
                let g = kernel_back::<S, A>(simd, m);
                for i in 0..3 {
                    half[i][j] = g[i];
                }
            }
            for (i, half) in half.iter().enumerate() {
                let g = kernel_back::<S, A>(simd, *half);
                for (j, g) in g.iter().enumerate() {
                    let part = &mut self.taps[(3 * i + j) * length + at..][..S::F32_LANES];
                    // SAFETY: a slice of one register.
                    unsafe { store::<S>(part.as_mut_ptr(), *g) };
                }
            }
        }
    }
}
