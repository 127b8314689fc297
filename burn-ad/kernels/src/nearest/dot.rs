//! Products of vectors in 8 bits.
// The instructions that multiply bytes have no safe form; lengths are checked once for each tile.
#![allow(unsafe_code)]

use super::search::TILE_ROWS;

/// Bytes that are multiplied and summed at once.
pub(super) const TOGETHER: usize = 4;

/// What is added to members, so that they are not negative.
pub(super) const RAISED: i32 = 128;

/// How bytes are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dot {
    /// Plain Rust: slower than products of `f32`, and only a reference.
    #[cfg(test)]
    Portable,
    /// AVX-512 VNNI: four times the products of `f32` in the same time.
    #[cfg(target_arch = "x86_64")]
    Vnni,
}

impl Dot {
    /// A way that is faster than products of `f32`, if this processor has one.
    pub(super) fn fast() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512vnni")
        {
            return Some(Self::Vnni);
        }
        None
    }

    /// `sums[r][c]` is the product of row `r` with column `c` of `panel`: `rows` are `[TILE_ROWS,
    /// depth]`, the panel `[depth / TOGETHER, width, TOGETHER]` and [`RAISED`]; `raised` is what the
    /// products are too high by, for each row.
    ///
    /// # Panics
    /// If a length does not fit; if the width is not 64 where [`Vnni`](Self::Vnni) multiplies.
    #[inline]
    pub(super) fn products(
        self,
        rows: &[i8],
        panel: &[u8],
        raised: &[i32; TILE_ROWS],
        sums: &mut [f32],
    ) {
        let (depth, width) = (rows.len() / TILE_ROWS, sums.len() / TILE_ROWS);
        assert!(
            rows.len() == TILE_ROWS * depth
                && sums.len() == TILE_ROWS * width
                && depth.is_multiple_of(TOGETHER)
                && panel.len() == depth * width
        );
        match self {
            #[cfg(test)]
            Self::Portable => plain(rows, panel, raised, sums),
            #[cfg(target_arch = "x86_64")]
            Self::Vnni => {
                assert_eq!(width, vnni::WIDTH);
                // SAFETY: the processor has the instructions, or there would be no such value; the
                // lengths are those that were checked.
                unsafe {
                    vnni::products(
                        rows.as_ptr(),
                        depth,
                        panel.as_ptr(),
                        raised,
                        sums.as_mut_ptr(),
                    );
                }
            }
        }
    }
}

#[cfg(test)]
fn plain(rows: &[i8], panel: &[u8], raised: &[i32; TILE_ROWS], sums: &mut [f32]) {
    let (depth, width) = (rows.len() / TILE_ROWS, sums.len() / TILE_ROWS);
    let rows = rows.chunks_exact(depth).zip(raised);
    for ((row, raised), sums) in rows.zip(sums.chunks_exact_mut(width)) {
        for (column, sum) in sums.iter_mut().enumerate() {
            let values = row.iter().enumerate().map(|(i, value)| {
                let group = (i / TOGETHER * width + column) * TOGETHER;
                i32::from(*value) * i32::from(panel[group + i % TOGETHER])
            });
            *sum = (values.sum::<i32>() - raised) as f32;
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod vnni {
    use std::arch::x86_64::*;

    use super::{TILE_ROWS, TOGETHER};

    const LANES: usize = 16;
    const REGISTERS: usize = 4;
    pub(super) const WIDTH: usize = LANES * REGISTERS;

    /// # Safety
    /// The processor must have AVX-512 F and VNNI. `TILE_ROWS * depth` bytes must be readable at
    /// `rows`, `depth * WIDTH` at `panel`; `TILE_ROWS * WIDTH` values writable at `sums`, and used by
    /// nobody else. `depth` is a multiple of `TOGETHER`.
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) unsafe fn products(
        rows: *const i8,
        depth: usize,
        mut panel: *const u8,
        raised: &[i32; TILE_ROWS],
        sums: *mut f32,
    ) {
        let mut tile = [[_mm512_setzero_si512(); REGISTERS]; TILE_ROWS];
        for (sums, raised) in tile.iter_mut().zip(raised) {
            for sum in sums {
                *sum = _mm512_set1_epi32(-raised);
            }
        }
        for at in (0..depth).step_by(TOGETHER) {
            // SAFETY: four bytes of each row from `at < depth` on, and the panel's group `at /
            // TOGETHER`, which the contract names.
            unsafe {
                let mut columns = [_mm512_setzero_si512(); REGISTERS];
                for (n, column) in columns.iter_mut().enumerate() {
                    *column = _mm512_loadu_si512(panel.add(n * LANES * TOGETHER).cast());
                }
                for (r, sums) in tile.iter_mut().enumerate() {
                    let row = rows.add(r * depth + at).cast::<i32>().read_unaligned();
                    let row = _mm512_set1_epi32(row);
                    for (sum, column) in sums.iter_mut().zip(columns) {
                        *sum = _mm512_dpbusd_epi32(*sum, column, row);
                    }
                }
                panel = panel.add(WIDTH * TOGETHER);
            }
        }
        for (r, tile) in tile.iter().enumerate() {
            for (n, sum) in tile.iter().enumerate() {
                // SAFETY: `r < TILE_ROWS` and `n < REGISTERS`.
                unsafe {
                    let to = sums.add(r * WIDTH + n * LANES);
                    _mm512_storeu_ps(to, _mm512_cvtepi32_ps(*sum));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::affordable;
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    #[test]
    fn products_of_bytes_are_those_of_whole_numbers() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        for depth in [4, 8, 100, 384] {
            if !affordable(depth * 64) {
                continue;
            }
            let width = 64;
            let extreme = depth == 100;
            let rows: Vec<i8> = (0..TILE_ROWS * depth)
                .map(|_| {
                    if extreme {
                        -127
                    } else {
                        rng.random_range(-127..=127)
                    }
                })
                .collect();
            let members: Vec<i32> = (0..depth * width)
                .map(|_| {
                    if extreme {
                        127
                    } else {
                        rng.random_range(-127..=127)
                    }
                })
                .collect();
            let panel: Vec<u8> = members.iter().map(|m| (m + RAISED) as u8).collect();
            let mut raised = [0; TILE_ROWS];
            for (raised, row) in raised.iter_mut().zip(rows.chunks_exact(depth)) {
                *raised = RAISED * row.iter().map(|&value| i32::from(value)).sum::<i32>();
            }
            for dot in [Some(Dot::Portable), Dot::fast()].into_iter().flatten() {
                let mut sums = vec![f32::NAN; TILE_ROWS * width];
                dot.products(&rows, &panel, &raised, &mut sums);
                for (r, row) in rows.chunks_exact(depth).enumerate() {
                    for column in 0..width {
                        let products = row.iter().enumerate().map(|(i, &value)| {
                            let group = i / TOGETHER * width + column;
                            i32::from(value) * members[group * TOGETHER + i % TOGETHER]
                        });
                        let expected = products.sum::<i32>() as f32;
                        assert_eq!(sums[r * width + column], expected, "{dot:?}");
                    }
                }
            }
        }
    }
}
