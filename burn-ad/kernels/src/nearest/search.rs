//! Products of queries with a bank, of which only the smallest distances are kept.
// Tiles are read through pointers: a bounds check for each multiply-add would cost more than it.
#![allow(unsafe_code)]

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::Bank;
use crate::isa::Isa;
use crate::memory::scratch;
use crate::simd_math::mul_add;
use crate::sums::lanes;
use crate::vector::{Access, Whole, by_registers, read};

/// Queries of a tile: with [`registers`] columns, the sums of a tile fill the registers.
pub(super) const TILE_ROWS: usize = 6;
/// Values of a panel that stay in the first cache.
const NEAR: usize = 10 << 10;

/// Registers that the columns of a tile take.
pub(super) fn registers(isa: Isa) -> usize {
    match isa.or_lower() {
        Isa::Avx512 | Isa::Neon => 4,
        Isa::Avx2 | Isa::Portable => 2,
    }
}

/// Some queries against some panels of a bank.
pub(super) struct Search<'a> {
    pub(super) bank: &'a Bank,
    pub(super) panels: Range<usize>,
    /// `[n, dimension]`.
    pub(super) queries: &'a [f32],
    pub(super) k: usize,
}

impl Search<'_> {
    /// Writes for each query the `k` smallest `|b|^2 - 2 q b` and their indices, in order.
    pub(super) fn run(&self, found: &mut [(f32, u32)]) {
        let bank = self.bank;
        let n = self.queries.len() / bank.dimension;
        assert_eq!(found.len(), n * self.k);
        let padded = n.next_multiple_of(TILE_ROWS);
        let lanes = bank.isa.lanes();
        let all = padded * (bank.dimension + bank.width + 2 * lanes);
        scratch(all, |memory| {
            let (rows, memory) = memory.split_at_mut(padded * bank.dimension);
            let (sums, memory) = memory.split_at_mut(padded * bank.width);
            let (best, places) = memory.split_at_mut(padded * lanes);
            let centred = rows.chunks_exact_mut(bank.dimension);
            for (row, query) in centred.zip(self.queries.chunks_exact(bank.dimension)) {
                for ((row, query), centre) in row.iter_mut().zip(query).zip(&bank.centre) {
                    *row = query - centre;
                }
            }
            rows[n * bank.dimension..].fill(0.0);
            best.fill(f32::INFINITY);
            bank.isa.run(Tiles {
                search: self,
                rows,
                sums,
                best,
                places,
                found,
            });
        });
    }
}

struct Tiles<'a> {
    search: &'a Search<'a>,
    /// Centred queries, whole tiles of them.
    rows: &'a [f32],
    /// `[query, width]`: products with the part of a panel that was done.
    sums: &'a mut [f32],
    /// For each query a register of smallest values, and one of where they are.
    best: &'a mut [f32],
    places: &'a mut [f32],
    found: &'a mut [(f32, u32)],
}

impl WithSimd for Tiles<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::REGISTER_COUNT >= 32 {
            self.by_panels::<S, 4>(simd);
        } else {
            self.by_panels::<S, 2>(simd);
        }
    }
}

impl Tiles<'_> {
    #[inline(always)]
    fn by_panels<S: Simd, const N: usize>(self, simd: S) {
        let bank = self.search.bank;
        let (dimension, width, panels) = (bank.dimension, bank.width, bank.panels());
        let count = self.rows.len() / dimension;
        assert!(width == N * S::F32_LANES && count.is_multiple_of(TILE_ROWS));
        assert!(self.rows.len() == count * dimension && self.sums.len() == count * width);
        let depth = dimension.div_ceil((dimension * width).div_ceil(NEAR));
        let queries = self.search.queries.len() / dimension;
        for panel in self.search.panels.clone() {
            let values = &panels[panel * width * dimension..][..width * dimension];
            let norms = &bank.norms[panel * width..][..width];
            for begin in (0..dimension).step_by(depth) {
                let end = (begin + depth).min(dimension);
                for row in (0..count).step_by(TILE_ROWS) {
                    // SAFETY: the tile's rows `row..row + TILE_ROWS` lie in `rows` (`dimension` values
                    // each) and in `sums` (`width` each), and `begin..end` in `0..dimension`; `values`
                    // has `dimension` rows of `width`. All lengths were checked above. `sums` is
                    // borrowed exclusively.
                    unsafe {
                        let sums = self.sums.as_mut_ptr().add(row * width);
                        let mut tile = [[simd.splat_f32s(0.0); N]; TILE_ROWS];
                        if begin > 0 {
                            for (r, tile) in tile.iter_mut().enumerate() {
                                for (n, sum) in tile.iter_mut().enumerate() {
                                    let from = sums.add(r * width + n * S::F32_LANES);
                                    *sum = Whole.load(simd, from);
                                }
                            }
                        }
                        let tile = products::<S, N>(
                            simd,
                            self.rows.as_ptr().add(row * dimension + begin),
                            dimension,
                            values.as_ptr().add(begin * width),
                            end - begin,
                            tile,
                        );
                        for (r, tile) in tile.into_iter().enumerate() {
                            for (n, sum) in tile.into_iter().enumerate() {
                                Whole.store(simd, sums.add(r * width + n * S::F32_LANES), sum);
                            }
                        }
                    }
                }
            }
            for query in 0..queries {
                let sums = &self.sums[query * width..][..width];
                let [mut values, norms] = [sums, norms].map(|values| read::<S, N>(simd, values));
                for (value, norm) in values.iter_mut().zip(norms) {
                    *value = mul_add(simd, *value, simd.splat_f32s(-2.0), norm);
                }
                if self.search.k == 1 {
                    let here = query * S::F32_LANES..(query + 1) * S::F32_LANES;
                    let best = &mut S::as_mut_simd_f32s(&mut self.best[here.clone()]).0[0];
                    let places = &mut S::as_mut_simd_f32s(&mut self.places[here]).0[0];
                    for (n, value) in values.into_iter().enumerate() {
                        // Of equals in one lane, the first stays.
                        let better = simd.less_than_f32s(value, *best);
                        let place = simd.splat_u32s((panel * N + n) as u32);
                        let place = simd.transmute_f32s_u32s(place);
                        *best = simd.select_f32s(better, value, *best);
                        *places = simd.select_f32s(better, place, *places);
                    }
                } else {
                    let k = self.search.k;
                    let found = &mut self.found[query * k..][..k];
                    insert::<S, N>(simd, values, (panel * width) as u32, found);
                }
            }
        }
        if self.search.k == 1 {
            let best = self.best.chunks_exact(S::F32_LANES);
            let places = self.places.chunks_exact(S::F32_LANES);
            for (found, (best, places)) in self.found.iter_mut().zip(best.zip(places)) {
                for (lane, (&value, place)) in best.iter().zip(places).enumerate() {
                    let index = place.to_bits().wrapping_mul(S::F32_LANES as u32);
                    let index = index.wrapping_add(lane as u32);
                    if value < found.0 || value == found.0 && index < found.1 && value.is_finite() {
                        *found = (value, index);
                    }
                }
            }
        }
    }
}

/// Adds the products of `TILE_ROWS` rows, `stride` apart, with `N` registers of columns to `tile`.
///
/// # Safety
/// `depth` values must be readable at each row and `depth * N * F32_LANES` at `panel`.
#[inline(always)]
unsafe fn products<S: Simd, const N: usize>(
    simd: S,
    rows: *const f32,
    stride: usize,
    mut panel: *const f32,
    depth: usize,
    mut tile: [[S::f32s; N]; TILE_ROWS],
) -> [[S::f32s; N]; TILE_ROWS] {
    for i in 0..depth {
        // SAFETY: row `i` of the panel and value `i` of each row, which the contract names.
        unsafe {
            let mut columns = [simd.splat_f32s(0.0); N];
            for (n, column) in columns.iter_mut().enumerate() {
                *column = Whole.load(simd, panel.add(n * S::F32_LANES));
            }
            for (r, sums) in tile.iter_mut().enumerate() {
                let value = simd.splat_f32s(*rows.add(r * stride + i));
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = mul_add(simd, value, column, *sum);
                }
            }
            panel = panel.add(N * S::F32_LANES);
        }
    }
    tile
}

/// Sorts `N` registers of values into `found`, which is in order; `first` is the index of the first.
#[inline(always)]
fn insert<S: Simd, const N: usize>(
    simd: S,
    values: [S::f32s; N],
    first: u32,
    found: &mut [(f32, u32)],
) {
    let last = found.len() - 1;
    for (n, value) in values.into_iter().enumerate() {
        let better = simd.less_than_f32s(value, simd.splat_f32s(found[last].0));
        if simd.first_true_m32s(better) == S::F32_LANES {
            continue;
        }
        for (lane, &value) in lanes::<S, 1>(&[value]).iter().enumerate() {
            if value < found[last].0 {
                // Behind its equals: they have lower indices.
                let place = found.partition_point(|other| other.0 <= value);
                found[place..].rotate_right(1);
                found[place] = (value, first + (n * S::F32_LANES + lane) as u32);
            }
        }
    }
}

/// Squared Euclidean distance.
pub(super) struct Distance<'a> {
    pub(super) query: &'a [f32],
    pub(super) vector: &'a [f32],
}

impl WithSimd for Distance<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let mut total = [simd.splat_f32s(0.0); 4];
        by_registers!(S, self.query.len(), 4, |range, N| {
            let query = read::<S, N>(simd, &self.query[range.clone()]);
            let vector = read::<S, N>(simd, &self.vector[range]);
            for n in 0..N {
                let difference = simd.sub_f32s(query[n], vector[n]);
                total[n] = mul_add(simd, difference, difference, total[n]);
            }
        });
        let [a, b, c, d] = total;
        simd.reduce_sum_f32s(simd.add_f32s(simd.add_f32s(a, b), simd.add_f32s(c, d)))
    }
}
