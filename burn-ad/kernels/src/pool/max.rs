//! The largest value of each window.

use pulp::{Simd, WithSimd, bytemuck};

use super::{above, below, cells_of_rows};
use crate::isa::Isa;
use crate::rows::{for_rows, for_rows_of_two};
use crate::vector::{by_registers, read, write};
use crate::window::{Map, Window};

/// Writes the largest value of each window to `out` (`window.output(map)`). Cells beyond the border
/// count as -infinity. What comes out where a window holds NaN is not defined.
///
/// # Panics
/// If a slice does not have the size of its map, or the window does not fit ([`Window::output`]).
pub fn max(isa: Isa, x: &[f32], map: Map, window: &Window, out: &mut [f32]) {
    let size = check(x, map, window, out);
    let row = size.width * size.channels;
    for_rows(out, row, work(window, size), |first, out| {
        isa.run(Forward::<false> {
            x,
            map,
            window,
            size,
            first,
            out,
            indices: &mut [],
        });
    });
}

/// [`max`], and for each value its place in the window (row times width of the window plus column),
/// the first one of equals, for [`max_backward`].
///
/// # Panics
/// As [`max`], and if the window has more than 256 cells.
pub fn max_with_indices(
    isa: Isa,
    x: &[f32],
    map: Map,
    window: &Window,
    out: &mut [f32],
    indices: &mut [u8],
) {
    let size = check(x, map, window, out);
    assert!(
        window.kernel[0] * window.kernel[1] <= 256,
        "the window is too large for indices"
    );
    assert_eq!(indices.len(), out.len(), "indices of a pooling");
    let row = size.width * size.channels;
    for_rows_of_two(
        (out, indices),
        (row, row),
        work(window, size),
        |first, out, indices| {
            isa.run(Forward::<true> {
                x,
                map,
                window,
                size,
                first,
                out,
                indices,
            });
        },
    );
}

/// Gradient with respect to the values of `map` from the gradient `grad` of the pooled values and the
/// indices that [`max_with_indices`] found.
///
/// # Panics
/// If a slice does not have the size of its map.
pub fn max_backward(
    isa: Isa,
    grad: &[f32],
    indices: &[u8],
    map: Map,
    window: &Window,
    out: &mut [f32],
) {
    let size = window.output(map);
    assert_eq!(grad.len(), size.len(), "gradients of a pooling");
    assert_eq!(indices.len(), size.len(), "indices of a pooling");
    assert_eq!(out.len(), map.len(), "gradients before a pooling");
    let row = map.width * map.channels;
    for_rows(out, row, 4 * row, |first, out| {
        isa.run(Backward {
            grad,
            indices,
            map,
            window,
            size,
            first,
            out,
        });
    });
}

fn check(x: &[f32], map: Map, window: &Window, out: &[f32]) -> Map {
    let size = window.output(map);
    assert_eq!(x.len(), map.len(), "values to pool");
    assert_eq!(out.len(), size.len(), "pooled values");
    size
}

/// Values that one row of the result reads, for the division among threads.
pub(super) fn work(window: &Window, size: Map) -> usize {
    size.width * size.channels * window.kernel[0] * window.kernel[1]
}

struct Forward<'a, const INDEXED: bool> {
    x: &'a [f32],
    map: Map,
    window: &'a Window,
    size: Map,
    first: usize,
    out: &'a mut [f32],
    indices: &'a mut [u8],
}

impl<const INDEXED: bool> WithSimd for Forward<'_, INDEXED> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let channels = self.map.channels;
        let rows = self.out.len() / (self.size.width * channels);
        let mut cells = Vec::new();
        let places = cells_of_rows(self.size, self.first, rows);
        for (index, (place, out)) in places.zip(self.out.chunks_exact_mut(channels)).enumerate() {
            below(self.window, self.map, place, &mut cells);
            by_registers!(S, channels, 4, |range, N| {
                let (values, places) =
                    largest::<S, N, INDEXED>(simd, self.x, &cells, range.start, range.len());
                write::<S, N>(simd, &mut out[range.clone()], values);
                if INDEXED {
                    let places: &[u32] = bytemuck::cast_slice(&places);
                    let indices = &mut self.indices[index * channels..][range];
                    for (index, &place) in indices.iter_mut().zip(places) {
                        *index = place as u8;
                    }
                }
            });
        }
    }
}

#[inline(always)]
fn largest<S: Simd, const N: usize, const INDEXED: bool>(
    simd: S,
    x: &[f32],
    cells: &[(usize, u32)],
    channel: usize,
    count: usize,
) -> ([S::f32s; N], [S::u32s; N]) {
    let mut best = [simd.splat_f32s(f32::NEG_INFINITY); N];
    // A window of -infinities points at its first cell on the map.
    let first = cells.first().map_or(0, |&(_, tap)| tap);
    let mut places = [simd.splat_u32s(first); N];
    for &(at, tap) in cells {
        let values = read::<S, N>(simd, &x[at + channel..][..count]);
        for n in 0..N {
            if INDEXED {
                let better = simd.greater_than_f32s(values[n], best[n]);
                best[n] = simd.select_f32s(better, values[n], best[n]);
                places[n] = simd.select_u32s(better, simd.splat_u32s(tap), places[n]);
            } else {
                best[n] = simd.max_f32s(values[n], best[n]);
            }
        }
    }
    (best, places)
}

struct Backward<'a> {
    grad: &'a [f32],
    indices: &'a [u8],
    map: Map,
    window: &'a Window,
    size: Map,
    first: usize,
    out: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let channels = self.map.channels;
        let rows = self.out.len() / (self.map.width * channels);
        let mut cells = Vec::new();
        let places = cells_of_rows(self.map, self.first, rows);
        for (place, out) in places.zip(self.out.chunks_exact_mut(channels)) {
            above(self.window, self.size, place, &mut cells);
            by_registers!(S, channels, 1, |range, N| {
                let mut sum = simd.splat_f32s(0.0);
                for &(at, (_, _, tap)) in &cells {
                    let at = at + range.start;
                    let [grad] = read::<S, N>(simd, &self.grad[at..][..range.len()]);
                    let mut winners = simd.splat_u32s(u32::MAX);
                    let lanes: &mut [u32] =
                        bytemuck::cast_slice_mut(std::slice::from_mut(&mut winners));
                    for (lane, &index) in lanes.iter_mut().zip(&self.indices[at..][..range.len()]) {
                        *lane = u32::from(index);
                    }
                    let won = simd.equal_u32s(winners, simd.splat_u32s(tap));
                    let grad = simd.select_f32s(won, grad, simd.splat_f32s(0.0));
                    sum = simd.add_f32s(sum, grad);
                }
                write::<S, N>(simd, &mut out[range], [sum]);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::cases;
    use super::*;
    use crate::testing::draw;
    use rand::RngExt;

    #[test]
    fn windows_give_their_largest_value_and_its_first_place() {
        cases(|isa, map, window, rng| {
            let size = window.output(map);
            // Few different values, so that there are ties.
            let x: Vec<f32> = (0..map.len())
                .map(|_| rng.random_range(-4..4) as f32)
                .collect();
            let (mut out, mut with) = (vec![9.0; size.len()], vec![9.0; size.len()]);
            let mut indices = vec![255; size.len()];
            max(isa, &x, map, &window, &mut out);
            max_with_indices(isa, &x, map, &window, &mut with, &mut indices);
            assert_eq!(out, with);
            let mut cells = Vec::new();
            for (i, place) in cells_of_rows(size, 0, size.batch * size.height).enumerate() {
                below(&window, map, place, &mut cells);
                for c in 0..map.channels {
                    let mut best = (f32::NEG_INFINITY, None);
                    for &(at, tap) in &cells {
                        if x[at + c] > best.0 {
                            best = (x[at + c], Some(tap as u8));
                        }
                    }
                    let at = i * map.channels + c;
                    assert_eq!(out[at], best.0, "{isa} {map:?} {window:?}");
                    assert!(best.1.is_none_or(|tap| tap == indices[at]));
                }
            }
        });
    }

    #[test]
    fn gradients_go_to_the_winners() {
        cases(|isa, map, window, rng| {
            let size = window.output(map);
            let (x, grad) = (draw(rng, map.len()), draw(rng, size.len()));
            let (mut out, mut indices) = (vec![0.0; size.len()], vec![0; size.len()]);
            max_with_indices(isa, &x, map, &window, &mut out, &mut indices);
            let mut found = vec![f32::NAN; map.len()];
            max_backward(isa, &grad, &indices, map, &window, &mut found);
            let mut expected = vec![0.0f64; map.len()];
            let mut cells = Vec::new();
            for (i, place) in cells_of_rows(size, 0, size.batch * size.height).enumerate() {
                below(&window, map, place, &mut cells);
                for c in 0..map.channels {
                    let from = i * map.channels + c;
                    if let Some(&(at, _)) = cells.iter().find(|(at, _)| x[at + c] == out[from]) {
                        expected[at + c] += f64::from(grad[from]);
                    }
                }
            }
            for (found, expected) in found.iter().zip(&expected) {
                // At most 25 terms of size 1.
                assert!((f64::from(*found) - expected).abs() < 1e-5, "{isa}");
            }
        });
    }
}
