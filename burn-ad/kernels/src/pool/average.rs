//! The mean of each window.

use pulp::{Simd, WithSimd};

use super::max::work;
use super::{Cells, above, below, cells_of_rows};
use crate::isa::Isa;
use crate::rows::for_rows;
use crate::simd_math::mul_add;
use crate::vector::{by_registers, read, write};
use crate::window::{Map, Window};

/// Writes the mean of each window to `out` (`window.output(map)`). Cells beyond the border are 0; with
/// `count_border` they count in the divisor (as in PyTorch's `count_include_pad`).
///
/// # Panics
/// If a slice does not have the size of its map, or the window does not fit ([`Window::output`]).
pub fn average(
    isa: Isa,
    x: &[f32],
    map: Map,
    window: &Window,
    count_border: bool,
    out: &mut [f32],
) {
    let size = window.output(map);
    assert_eq!(x.len(), map.len(), "values to pool");
    assert_eq!(out.len(), size.len(), "pooled values");
    let row = size.width * size.channels;
    for_rows(out, row, work(window, size), |first, out| {
        isa.run(Gather {
            x,
            pooling: Pooling {
                map,
                window,
                size,
                count_border,
            },
            backward: false,
            first,
            out,
        });
    });
}

/// Gradient with respect to the values of `map` from the gradient `grad` of the pooled values.
///
/// # Panics
/// If a slice does not have the size of its map, or the window does not fit.
pub fn average_backward(
    isa: Isa,
    grad: &[f32],
    map: Map,
    window: &Window,
    count_border: bool,
    out: &mut [f32],
) {
    let size = window.output(map);
    assert_eq!(grad.len(), size.len(), "gradients of a pooling");
    assert_eq!(out.len(), map.len(), "gradients before a pooling");
    let row = map.width * map.channels;
    for_rows(out, row, work(window, map), |first, out| {
        isa.run(Gather {
            x: grad,
            pooling: Pooling {
                map,
                window,
                size,
                count_border,
            },
            backward: true,
            first,
            out,
        });
    });
}

struct Pooling<'a> {
    map: Map,
    window: &'a Window,
    size: Map,
    count_border: bool,
}

impl Pooling<'_> {
    /// One over the divisor of output cell `(row, column)`.
    #[inline(always)]
    fn factor(&self, row: usize, column: usize) -> f32 {
        let cells = if self.count_border {
            self.window.kernel[0] * self.window.kernel[1]
        } else {
            let rows = self.window.rows(row, self.map.height).taps.len();
            rows * self.window.columns(column, self.map.width).taps.len()
        };
        // A window beyond the border has no cells, and the mean 0.
        1.0 / cells.max(1) as f32
    }
}

/// Both directions: each cell of the result is a weighted sum of a few cells of `x`.
struct Gather<'a> {
    x: &'a [f32],
    pooling: Pooling<'a>,
    backward: bool,
    first: usize,
    out: &'a mut [f32],
}

impl WithSimd for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let pooling = &self.pooling;
        let result = if self.backward {
            pooling.map
        } else {
            pooling.size
        };
        let channels = result.channels;
        let rows = self.out.len() / (result.width * channels);
        let (mut windows, mut taps) = (Vec::new(), Vec::new());
        let mut cells: Cells<f32> = Vec::new();
        let places = cells_of_rows(result, self.first, rows);
        for (place, out) in places.zip(self.out.chunks_exact_mut(channels)) {
            cells.clear();
            if self.backward {
                above(pooling.window, pooling.size, place, &mut windows);
                let factors = windows
                    .iter()
                    .map(|&(at, (y, x, _))| (at, pooling.factor(y, x)));
                cells.extend(factors);
            } else {
                below(pooling.window, pooling.map, place, &mut taps);
                let factor = pooling.factor(place.1, place.2);
                cells.extend(taps.iter().map(|&(at, _)| (at, factor)));
            }
            by_registers!(S, channels, 4, |range, N| {
                let mut sum = [simd.splat_f32s(0.0); N];
                for &(at, factor) in &cells {
                    let x = &self.x[at + range.start..][..range.len()];
                    let values = read::<S, N>(simd, x);
                    for n in 0..N {
                        sum[n] = mul_add(simd, values[n], simd.splat_f32s(factor), sum[n]);
                    }
                }
                write::<S, N>(simd, &mut out[range], sum);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::cases;
    use super::*;
    use crate::testing::draw;

    #[test]
    fn windows_give_their_mean_and_gradients_are_the_transpose() {
        cases(|isa, map, window, rng| {
            let size = window.output(map);
            let (x, grad) = (draw(rng, map.len()), draw(rng, size.len()));
            for count_border in [false, true] {
                let (mut out, mut back) = (vec![9.0; size.len()], vec![9.0; map.len()]);
                average(isa, &x, map, &window, count_border, &mut out);
                average_backward(isa, &grad, map, &window, count_border, &mut back);
                let mut expected_back = vec![0.0f64; map.len()];
                let mut cells = Vec::new();
                for (i, place) in cells_of_rows(size, 0, size.batch * size.height).enumerate() {
                    below(&window, map, place, &mut cells);
                    let divisor = if count_border {
                        window.kernel[0] * window.kernel[1]
                    } else {
                        cells.len().max(1)
                    } as f64;
                    for c in 0..map.channels {
                        let mut sum = 0.0;
                        let from = i * map.channels + c;
                        for &(at, _) in &cells {
                            sum += f64::from(x[at + c]);
                            expected_back[at + c] += f64::from(grad[from]) / divisor;
                        }
                        // Sums of at most 25 values of size 1.
                        let error = (f64::from(out[from]) - sum / divisor).abs();
                        assert!(error < 1e-6, "{isa} {map:?} {window:?}");
                    }
                }
                for (found, expected) in back.iter().zip(&expected_back) {
                    assert!((f64::from(*found) - expected).abs() < 1e-5, "{isa}");
                }
            }
        });
    }
}
