//! From channels-first to channels-last and back.
// Tiles are read and written through pointers; `transpose` checks the matrices they lie in.
#![allow(unsafe_code)]

use pulp::{Simd, WithSimd};

use crate::isa::Isa;
use crate::rows::for_rows;
use crate::window::Map;

/// `[batch, channels, height, width]` to `[batch, height, width, channels]`.
///
/// # Panics
/// If `x` or `out` does not have the size of the map.
pub fn to_channels_last(isa: Isa, x: &[f32], map: Map, out: &mut [f32]) {
    transpose(isa, x, map.batch, map.channels, map.height * map.width, out);
}

/// `[batch, height, width, channels]` to `[batch, channels, height, width]`.
///
/// # Panics
/// If `x` or `out` does not have the size of the map.
pub fn to_channels_first(isa: Isa, x: &[f32], map: Map, out: &mut [f32]) {
    transpose(isa, x, map.batch, map.height * map.width, map.channels, out);
}

/// `[batch, rows, columns]` to `[batch, columns, rows]`.
///
/// # Panics
/// If `x` or `out` does not have `batch * rows * columns` values.
pub fn transpose(isa: Isa, x: &[f32], batch: usize, rows: usize, columns: usize, out: &mut [f32]) {
    let one = rows * columns;
    assert_eq!(x.len(), batch * one, "values to transpose");
    assert_eq!(out.len(), batch * one, "values of the transpose");
    if one == 0 {
        return;
    }
    if rows == 1 || columns == 1 {
        return out.copy_from_slice(x);
    }
    // Rows of tiles, so that no task begins inside of one.
    const TILE: usize = 16;
    for (x, out) in x.chunks_exact(one).zip(out.chunks_exact_mut(one)) {
        for_rows(out, TILE * rows, 2 * TILE * rows, |first, out| {
            isa.run(Transpose {
                x,
                rows,
                columns,
                first: first * TILE,
                out,
            });
        });
    }
}

/// Rows of the transpose from `first` on.
struct Transpose<'a> {
    x: &'a [f32],
    rows: usize,
    columns: usize,
    first: usize,
    out: &'a mut [f32],
}

impl WithSimd for Transpose<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        with_tile::<S>(self);
    }
}

impl WithTile for Transpose<'_> {
    #[inline(always)]
    fn with_tile<T: Tile>(self, tile: T) {
        let Self {
            x,
            rows,
            columns,
            first,
            out,
        } = self;
        let count = out.len() / rows;
        assert!(x.len() == rows * columns && first + count <= columns && out.len() == count * rows);
        let whole_rows = rows / T::SIZE * T::SIZE;
        let whole_count = count / T::SIZE * T::SIZE;
        for column in (0..whole_count).step_by(T::SIZE) {
            for row in (0..whole_rows).step_by(T::SIZE) {
                // SAFETY: the tile's rows `row..row + SIZE` and columns `first + column..+ SIZE` lie
                // in `x`, its transpose in `out`, by the bounds of the loops and the check above.
                unsafe {
                    let from = x.as_ptr().add(row * columns + first + column);
                    let to = out.as_mut_ptr().add(column * rows + row);
                    tile.transpose(|i| from.add(i * columns), |i| to.add(i * rows), T::SIZE);
                }
            }
        }
        // What lies beside the tiles, such as all of an image, row by row.
        for row in 0..rows {
            let done = if row < whole_rows { whole_count } else { 0 };
            let values = &x[row * columns + first + done..][..count - done];
            let out = out.chunks_exact_mut(rows).skip(done);
            for (out, value) in out.zip(values) {
                out[row] = *value;
            }
        }
    }
}

/// Transposes a square of `SIZE` by `SIZE` values.
pub(crate) trait Tile: Copy {
    const SIZE: usize;

    /// Writes the first `columns` rows of the transpose.
    ///
    /// # Safety
    /// For `i < SIZE`, `SIZE` values must be readable at `from(i)`, and for `i < columns` as many
    /// writable at `to(i)`.
    unsafe fn transpose(
        self,
        from: impl Fn(usize) -> *const f32,
        to: impl Fn(usize) -> *mut f32,
        columns: usize,
    );
}

/// Does something with the largest tile that an instruction set has.
pub(crate) trait WithTile {
    fn with_tile<T: Tile>(self, tile: T);
}

/// Hands the tile of `S` to `work`; to be called where `S` is enabled.
#[inline(always)]
pub(crate) fn with_tile<S: Simd>(work: impl WithTile) {
    #[cfg(target_arch = "x86_64")]
    {
        if S::F32_LANES == 16
            && let Some(simd) = pulp::x86::V4::try_new()
        {
            return work.with_tile(simd);
        }
        if S::F32_LANES == 8
            && let Some(simd) = pulp::x86::V3::try_new()
        {
            return work.with_tile(simd);
        }
    }
    work.with_tile(ByValue);
}

#[derive(Clone, Copy)]
struct ByValue;

impl Tile for ByValue {
    const SIZE: usize = 4;

    #[inline(always)]
    unsafe fn transpose(
        self,
        from: impl Fn(usize) -> *const f32,
        to: impl Fn(usize) -> *mut f32,
        columns: usize,
    ) {
        // SAFETY: the tile is readable, by the contract.
        let tile: [[f32; 4]; 4] =
            std::array::from_fn(|i| unsafe { from(i).cast::<[f32; 4]>().read_unaligned() });
        let [a, b, c, d] = tile;
        for (i, row) in [0, 1, 2, 3]
            .map(|i| [a[i], b[i], c[i], d[i]])
            .iter()
            .enumerate()
            .take(columns)
        {
            // SAFETY: the tile is writable, by the contract.
            unsafe { to(i).cast::<[f32; 4]>().write_unaligned(*row) };
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl Tile for pulp::x86::V3 {
    const SIZE: usize = 8;

    #[inline(always)]
    unsafe fn transpose(
        self,
        from: impl Fn(usize) -> *const f32,
        to: impl Fn(usize) -> *mut f32,
        columns: usize,
    ) {
        use std::arch::x86_64::__m256;
        let avx = self.avx;
        let mut r = [avx._mm256_setzero_ps(); 8];
        let mut t = r;
        for (i, r) in r.iter_mut().enumerate() {
            // SAFETY: the tile is readable, by the contract.
            *r = unsafe { from(i).cast::<__m256>().read_unaligned() };
        }
        for i in 0..4 {
            t[2 * i] = avx._mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
            t[2 * i + 1] = avx._mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
        }
        for i in 0..2 {
            let (a, b) = (t[4 * i], t[4 * i + 2]);
            r[4 * i] = avx._mm256_shuffle_ps::<0x44>(a, b);
            r[4 * i + 1] = avx._mm256_shuffle_ps::<0xee>(a, b);
            let (a, b) = (t[4 * i + 1], t[4 * i + 3]);
            r[4 * i + 2] = avx._mm256_shuffle_ps::<0x44>(a, b);
            r[4 * i + 3] = avx._mm256_shuffle_ps::<0xee>(a, b);
        }
        for i in 0..4 {
            t[i] = avx._mm256_permute2f128_ps::<0x20>(r[i], r[i + 4]);
            t[i + 4] = avx._mm256_permute2f128_ps::<0x31>(r[i], r[i + 4]);
        }
        for (i, &t) in t.iter().enumerate().take(columns) {
            // SAFETY: the tile is writable, by the contract.
            unsafe { to(i).cast::<__m256>().write_unaligned(t) };
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl Tile for pulp::x86::V4 {
    const SIZE: usize = 16;

    #[inline(always)]
    unsafe fn transpose(
        self,
        from: impl Fn(usize) -> *const f32,
        to: impl Fn(usize) -> *mut f32,
        columns: usize,
    ) {
        use std::arch::x86_64::__m512;
        let avx = self.avx512f;
        let mut r = [avx._mm512_setzero_ps(); 16];
        let mut t = r;
        for (i, r) in r.iter_mut().enumerate() {
            // SAFETY: the tile is readable, by the contract.
            *r = unsafe { from(i).cast::<__m512>().read_unaligned() };
        }
        for i in 0..8 {
            t[2 * i] = avx._mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
            t[2 * i + 1] = avx._mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
        }
        for i in 0..4 {
            let (a, b) = (t[4 * i], t[4 * i + 2]);
            r[4 * i] = avx._mm512_shuffle_ps::<0x44>(a, b);
            r[4 * i + 1] = avx._mm512_shuffle_ps::<0xee>(a, b);
            let (a, b) = (t[4 * i + 1], t[4 * i + 3]);
            r[4 * i + 2] = avx._mm512_shuffle_ps::<0x44>(a, b);
            r[4 * i + 3] = avx._mm512_shuffle_ps::<0xee>(a, b);
        }
        for i in 0..4 {
            t[i] = avx._mm512_shuffle_f32x4::<0x88>(r[i], r[i + 4]);
            t[i + 4] = avx._mm512_shuffle_f32x4::<0xdd>(r[i], r[i + 4]);
            t[i + 8] = avx._mm512_shuffle_f32x4::<0x88>(r[i + 8], r[i + 12]);
            t[i + 12] = avx._mm512_shuffle_f32x4::<0xdd>(r[i + 8], r[i + 12]);
        }
        for i in 0..8 {
            r[i] = avx._mm512_shuffle_f32x4::<0x88>(t[i], t[i + 8]);
            r[i + 8] = avx._mm512_shuffle_f32x4::<0xdd>(t[i], t[i + 8]);
        }
        for (i, &r) in r.iter().enumerate().take(columns) {
            // SAFETY: the tile is writable, by the contract.
            unsafe { to(i).cast::<__m512>().write_unaligned(r) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_move_to_their_transposed_place() {
        let all = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100];
        let sizes = if cfg!(miri) {
            &[1, 3, 17, 33]
        } else {
            &all[..]
        };
        for isa in Isa::available() {
            for &rows in sizes {
                for &columns in sizes {
                    let batch = 1 + (rows + columns) % 3;
                    let x: Vec<f32> = (0..batch * rows * columns).map(|i| i as f32).collect();
                    let mut out = vec![f32::NAN; x.len()];
                    transpose(isa, &x, batch, rows, columns, &mut out);
                    for (i, &value) in out.iter().enumerate() {
                        let (image, rest) = (i / (rows * columns), i % (rows * columns));
                        let (column, row) = (rest / rows, rest % rows);
                        let from = (image * rows + row) * columns + column;
                        assert_eq!(value, x[from], "{isa}: {rows} x {columns}");
                    }
                }
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "too many values")]
    fn maps_large_enough_for_threads_survive_there_and_back() {
        let map = Map {
            batch: 2,
            height: 41,
            width: 25,
            channels: 67,
        };
        let x: Vec<f32> = (0..map.len()).map(|i| i as f32).collect();
        for isa in Isa::available() {
            let (mut last, mut first) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            to_channels_last(isa, &x, map, &mut last);
            assert_eq!(last[3 * 67 + 5], x[5 * 1025 + 3], "{isa}");
            to_channels_first(isa, &last, map, &mut first);
            assert_eq!(x, first, "{isa}");
        }
    }

    #[test]
    #[should_panic(expected = "values to transpose")]
    fn a_wrong_length_is_refused() {
        transpose(Isa::best(), &[0.0; 5], 1, 2, 3, &mut [0.0; 6]);
    }
}
