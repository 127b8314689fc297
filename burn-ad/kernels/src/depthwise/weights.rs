//! Gradient with respect to the weights.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::isa::Isa;
use crate::simd_math::mul_add;
use crate::sums::{BLOCK, lanes, sum_rows};
use crate::vector::{by_registers, read};
use crate::window::{Map, Window};

/// Gradient with respect to the packed weights, `[height * width, channels]`, from the input `x`, of
/// the size of `map`, and the gradient `grad` before bias and activation, of the size
/// `window.output(map)`. (That of the bias is [`channels::sum`](crate::channels::sum) of `grad`.)
///
/// # Panics
/// If a slice does not fit its size, or the window does not fit ([`Window::output`]).
pub fn weight_gradient(
    isa: Isa,
    x: &[f32],
    map: Map,
    window: Window,
    grad: &[f32],
    out: &mut [f32],
) {
    let size = window.output(map);
    let taps = window.kernel[0] * window.kernel[1];
    assert_eq!(x.len(), map.len(), "values to convolve");
    assert_eq!(grad.len(), size.len(), "gradients of convolved values");
    assert_eq!(out.len(), taps * map.channels, "gradients of weights");
    let columns: Vec<Range<usize>> = (0..window.kernel[1])
        .map(|kx| {
            let on_map = |column: &usize| {
                let place = (column * window.stride[1] + kx).checked_sub(window.padding[2]);
                place.is_some_and(|place| place < map.width)
            };
            let first = (0..size.width).find(on_map).unwrap_or(size.width);
            first..first + (first..size.width).take_while(on_map).count()
        })
        .collect();
    let work = size.width * map.channels * taps.div_ceil(2);
    let rows = size.batch * size.height;
    let sums = sum_rows(1, rows, work, out.len(), |first, count, out| {
        isa.run(Weights {
            x,
            grad,
            map,
            size,
            window,
            columns: &columns,
            rows: first..first + count,
            out,
        });
    });
    for (out, sum) in out.iter_mut().zip(sums) {
        *out = sum as f32;
    }
}

/// Adds what some output rows, counted over all images, contribute.
struct Weights<'a> {
    x: &'a [f32],
    grad: &'a [f32],
    map: Map,
    size: Map,
    window: Window,
    /// For each column of the kernel, the output columns for which it lies on the map.
    columns: &'a [Range<usize>],
    rows: Range<usize>,
    out: &'a mut [f64],
}

impl WithSimd for Weights<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (map, size, window) = (self.map, self.size, self.window);
        let channels = map.channels;
        for first in self.rows.clone().step_by(BLOCK) {
            let rows = first..(first + BLOCK).min(self.rows.end);
            for (tap, out) in self.out.chunks_exact_mut(channels).enumerate() {
                let (ky, kx) = (tap / window.kernel[1], tap % window.kernel[1]);
                let columns = self.columns[kx].clone();
                if columns.is_empty() {
                    continue;
                }
                let start = columns.start * window.stride[1] + kx - window.padding[2];
                by_registers!(S, channels, 4, |range, N| {
                    let mut sums = [simd.splat_f32s(0.0); N];
                    for row in rows.clone() {
                        let (image, y) = (row / size.height, row % size.height);
                        let y = (y * window.stride[0] + ky).wrapping_sub(window.padding[0]);
                        if y >= map.height {
                            continue;
                        }
                        let mut from = ((image * map.height + y) * map.width + start) * channels;
                        for column in columns.clone() {
                            let grad = (row * size.width + column) * channels;
                            let grad = read::<S, N>(simd, &self.grad[grad..][range.clone()]);
                            let x = read::<S, N>(simd, &self.x[from..][range.clone()]);
                            for n in 0..N {
                                sums[n] = mul_add(simd, grad[n], x[n], sums[n]);
                            }
                            from += window.stride[1] * channels;
                        }
                    }
                    for (out, &sum) in out[range].iter_mut().zip(lanes::<S, N>(&sums)) {
                        *out += f64::from(sum);
                    }
                });
            }
        }
    }
}
