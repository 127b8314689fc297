//! Kernels, transformed and packed for the products of all places.
// Tasks write their parts of one buffer, and registers through pointers into checked slices.
#![allow(unsafe_code)]
// One index runs over rows of several arrays, the other over their columns.
#![allow(clippy::needless_range_loop)]

use pulp::{Simd, WithSimd};

use super::place;
use super::transform::{SIDE, kernel, kernels};
use crate::Isa;
use crate::conv::weights::{INPUTS, Source, for_panels};
use crate::parallel::Scattered;
use crate::vector::{load, store};

/// Values of a 3x3 kernel.
const TAPS: usize = 9;

/// For each place of a transformed kernel and each panel, for each input a row of the panel's columns.
pub(in crate::conv) fn pack(isa: Isa, side: usize, source: Source<'_>, packed: &mut [f32]) {
    match side {
        4 => pack_side::<4>(isa, source, packed),
        5 => pack_side::<5>(isa, source, packed),
        9 => pack_side::<9>(isa, source, packed),
        _ => pack_side::<6>(isa, source, packed),
    }
}

fn pack_side<const A: usize>(isa: Isa, source: Source<'_>, packed: &mut [f32]) {
    let (columns, inputs) = source.sizes();
    let stride = place(columns.next_multiple_of(isa.lanes()) * inputs);
    let out = Scattered::new(packed);
    for_panels(isa, source, A * A * INPUTS * 64, |block, rows| {
        isa.run(Transform::<A> {
            rows,
            first: block.first * inputs + block.inputs.start * block.width,
            stride,
            out: &out,
        });
    });
}

/// Transforms values that lie in nine equal parts, one for each place of the kernel.
struct Transform<'a, const A: usize> {
    rows: &'a [f32],
    first: usize,
    stride: usize,
    out: &'a Scattered<'a>,
}

impl<const A: usize> WithSimd for Transform<'_, A> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let length = self.rows.len() / TAPS;
        assert_eq!(length % S::F32_LANES, 0, "whole registers");
        let mut places = [std::ptr::null_mut(); SIDE * SIDE];
        let side = kernels(A);
        for (place, to) in places[..side * side].iter_mut().enumerate() {
            let at = place * self.stride + self.first;
            // SAFETY: each task has its own panel or its own inputs.
            *to = unsafe { self.out.part(at..at + length) }.as_mut_ptr();
        }
        for at in (0..length).step_by(S::F32_LANES) {
            let mut half = [[simd.splat_f32s(0.0); 3]; SIDE];
            for x in 0..3 {
                let mut g = [simd.splat_f32s(0.0); 3];
                for (y, g) in g.iter_mut().enumerate() {
                    // SAFETY: `at + lanes <= length`, a ninth of the rows.
                    *g = unsafe { load::<S>(self.rows.as_ptr().add((3 * y + x) * length + at)) };
                }
                let g = kernel::<S, A>(simd, g);
                for i in 0..side {
                    half[i][x] = g[i];
                }
            }
            for i in 0..side {
                let g = kernel::<S, A>(simd, half[i]);
                for j in 0..side {
                    // SAFETY: `at + lanes <= length`.
                    unsafe { store::<S>(places[i * side + j].add(at), g[j]) };
                }
            }
        }
    }
}
