//! Members of a bank that may be nearest, found by products in 8 bits.
//!
//! Vectors are rounded to whole multiples of a 127th of their largest value. How far a vector is from
//! what it was rounded to is known, so each distance is known within bounds, and almost all members
//! are further away, at best, than another one is at worst. The few that are left are compared by
//! their own distances: the result is that of a search through all members.

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::Bank;
use super::dot::{Dot, RAISED, TOGETHER};
use super::search::{Distance, TILE_ROWS};
use crate::isa::Isa;
use crate::memory::scratch;
use crate::simd_math::{ROUND, negate_mul_add};

/// Smaller banks, and shorter vectors, are searched as fast without a screen.
const FEWEST: usize = 1024;
const SHORTEST: usize = 32;
/// Longer vectors' products do not fit 32 bits.
const LONGEST: usize = 1 << 16;
/// The largest value of a rounded vector.
const LARGEST: f32 = 127.0;
/// Members that are kept for a query until its bounds are closer.
const KEPT: usize = 64;
/// With so many that cannot be told from the nearest, the query is sought without a screen.
const MOST: usize = 48;
/// Rounding errors of distances in `f32`, relative to the squared sum of both lengths: some roundings
/// of the products' terms, and those of the members' own distances.
const ROUNDING: f32 = 8e-6;
/// Bounds are computed in `f32`, too.
const WIDER: f32 = 1.0001;

/// What is known of a rounded vector.
#[derive(Clone, Copy, Debug)]
struct Rounded {
    /// Its values are whole multiples of this.
    step: f32,
    /// Its length before, and how far it moved; not less than that.
    length: f32,
    error: f32,
}

impl Rounded {
    /// Rounds `row` less `centre`, and hands each byte with its index to `put`.
    fn of(isa: Isa, row: &[f32], centre: &[f32], put: impl FnMut(usize, i8)) -> Self {
        scratch(2 * row.len(), |work| {
            let (centred, rounded) = work.split_at_mut(row.len());
            Self::with(isa, row, centre, [centred, rounded], put)
        })
    }

    /// [`of`](Self::of) with memory for the centred and for the rounded vector.
    fn with(
        isa: Isa,
        row: &[f32],
        centre: &[f32],
        [centred, rounded]: [&mut [f32]; 2],
        mut put: impl FnMut(usize, i8),
    ) -> Self {
        for ((value, row), centre) in centred.iter_mut().zip(row).zip(centre) {
            *value = row - centre;
        }
        let mut largest = [0.0f32; 16];
        for values in centred.chunks(largest.len()) {
            for (largest, value) in largest.iter_mut().zip(values) {
                *largest = largest.max(value.abs());
            }
        }
        let largest = largest.into_iter().fold(0.0, f32::max);
        // A vector of nothing, or next to it, is rounded to nothing.
        let step = Some(largest / LARGEST).filter(|step| step.is_normal());
        let inverse = step.map_or(0.0, |_| LARGEST / largest);
        let step = step.unwrap_or(0.0);
        for (value, rounded) in centred.iter().zip(&mut *rounded) {
            *rounded = value * inverse + ROUND;
        }
        for (index, rounded) in rounded.iter_mut().enumerate() {
            put(index, rounded.to_bits() as i8);
            *rounded = (*rounded - ROUND) * step;
        }
        let distance = |query, vector| WIDER * isa.run(Distance { query, vector }).sqrt();
        Self {
            step,
            length: distance(row, centre),
            error: distance(&*centred, &*rounded) + f32::MIN_POSITIVE,
        }
    }

    fn is_finite(&self) -> bool {
        self.length.is_finite() && self.error.is_finite()
    }
}

/// The members in 8 bits.
#[derive(Clone, Debug)]
pub(super) struct Screen {
    dot: Dot,
    /// Bytes of a vector: whole groups.
    depth: usize,
    /// Panels of the bank's width, `[depth / TOGETHER, width, TOGETHER]`, and [`RAISED`].
    panels: Vec<u8>,
    /// Step of each member; 0 where the last panel has none.
    steps: Vec<f32>,
    /// For each panel the longest member and the largest error.
    bounds: Vec<[f32; 2]>,
}

impl Screen {
    /// A way to multiply bytes, if a screen makes searches among such members faster.
    pub(super) fn pays(isa: Isa, count: usize, dimension: usize) -> Option<Dot> {
        let pays = isa == Isa::Avx512 && count >= FEWEST && dimension >= SHORTEST;
        Dot::fast().filter(|_| pays && dimension <= LONGEST)
    }

    /// Rounds the members, `[count, dimension]`; panels have `width` of them.
    pub(super) fn pack(dot: Dot, isa: Isa, values: &[f32], centre: &[f32], width: usize) -> Self {
        let dimension = centre.len();
        let depth = dimension.next_multiple_of(TOGETHER);
        let panels = (values.len() / dimension).div_ceil(width);
        let mut screen = Self {
            dot,
            depth,
            panels: vec![RAISED as u8; panels * depth * width],
            steps: vec![0.0; panels * width],
            bounds: vec![[0.0; 2]; panels],
        };
        screen
            .panels
            .par_chunks_exact_mut(depth * width)
            .zip(screen.steps.par_chunks_exact_mut(width))
            .zip(&mut screen.bounds)
            .zip(values.par_chunks(width * dimension))
            .for_each(|(((panel, steps), bounds), rows)| {
                let rows = rows.chunks_exact(dimension);
                for (column, (row, step)) in rows.zip(steps).enumerate() {
                    let member = Rounded::of(isa, row, centre, |index, value| {
                        let group = index / TOGETHER * width + column;
                        let place = group * TOGETHER + index % TOGETHER;
                        panel[place] = (i32::from(value) + RAISED) as u8;
                    });
                    if member.is_finite() {
                        *step = member.step;
                        bounds[0] = bounds[0].max(member.length);
                        bounds[1] = bounds[1].max(member.error);
                    }
                }
            });
        screen
    }
}

/// A query, and the members that may be nearest to it so far.
#[derive(Clone, Debug)]
struct Query {
    rounded: Rounded,
    /// No member of those seen is nearer than all others if its smallest possible `|b|^2 - 2 q b`
    /// is larger than this; [`LOST`] once too many cannot be told from the nearest.
    limit: f32,
    /// Smallest possible value, and index.
    kept: Vec<(f32, u32)>,
}

/// Nothing is below it.
const LOST: f32 = f32::NEG_INFINITY;

impl Query {
    /// How far a rounded product may lead from `|b|^2 - 2 q b`, for members of such bounds.
    #[inline(always)]
    fn margin(&self, [length, error]: [f32; 2]) -> f32 {
        let own = &self.rounded;
        let product = own.error * length + (own.length + own.error) * error;
        let size = own.length + length;
        WIDER * (2.0 * product + ROUNDING * size * size)
    }

    /// Members from `first` on that have a value below the limit.
    #[cold]
    fn admit(&mut self, values: &[f32], first: u32, margin: f32) {
        let smallest = values.iter().copied().fold(f32::INFINITY, f32::min);
        self.limit = self.limit.min(smallest + margin);
        for (index, &value) in (first..).zip(values) {
            if value - margin > self.limit || value == f32::INFINITY {
                continue;
            }
            if self.kept.len() == KEPT {
                self.kept.retain(|&(value, _)| value <= self.limit);
                if self.kept.len() > MOST {
                    self.limit = LOST;
                    return;
                }
            }
            self.kept.push((value - margin, index));
        }
    }
}

/// Some queries against some panels of a bank with a screen.
pub(super) struct Sieve<'a> {
    pub(super) bank: &'a Bank,
    pub(super) screen: &'a Screen,
    pub(super) panels: Range<usize>,
    /// `[n, dimension]`.
    pub(super) queries: &'a [f32],
}

impl Sieve<'_> {
    /// Writes for each query the squared distance of the nearest member and its index, where one is
    /// finite; returns the queries for which the screen was too coarse.
    pub(super) fn run(&self, found: &mut [(f32, u32)]) -> Vec<usize> {
        let (bank, depth) = (self.bank, self.screen.depth);
        let (dimension, isa) = (bank.dimension, bank.isa);
        let n = self.queries.len() / dimension;
        assert_eq!(found.len(), n);
        let tiles = n.div_ceil(TILE_ROWS);
        let mut rows = vec![0i8; tiles * TILE_ROWS * depth];
        let mut raised = vec![[0i32; TILE_ROWS]; tiles];
        let mut queries = Vec::with_capacity(n);
        let all = self.queries.chunks_exact(dimension);
        for (index, (query, row)) in all.zip(rows.chunks_exact_mut(depth)).enumerate() {
            let mut sum = 0;
            let rounded = Rounded::of(isa, query, &bank.centre, |at, value| {
                row[at] = value;
                sum += i32::from(value);
            });
            raised[index / TILE_ROWS][index % TILE_ROWS] = RAISED * sum;
            let finite = rounded.is_finite();
            queries.push(Query {
                rounded,
                limit: if finite { f32::INFINITY } else { LOST },
                kept: Vec::with_capacity(KEPT),
            });
        }
        scratch(TILE_ROWS * bank.width, |sums| {
            isa.run(Tiles {
                sieve: self,
                rows: &rows,
                raised: &raised,
                sums,
                queries: &mut queries,
            });
        });
        let mut lost = Vec::new();
        for (index, (query, found)) in queries.iter().zip(found).enumerate() {
            if query.limit == LOST {
                lost.push(index);
                continue;
            }
            for &(value, member) in &query.kept {
                if value > query.limit {
                    continue;
                }
                let query = &self.queries[index * dimension..][..dimension];
                let distance = bank.distance(query, member);
                if distance < found.0 || distance == found.0 && member < found.1 {
                    *found = (distance, member);
                }
            }
        }
        lost
    }
}

struct Tiles<'a> {
    sieve: &'a Sieve<'a>,
    /// Rounded queries, whole tiles of them, `[query, depth]`.
    rows: &'a [i8],
    raised: &'a [[i32; TILE_ROWS]],
    /// `[TILE_ROWS, width]`.
    sums: &'a mut [f32],
    queries: &'a mut [Query],
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
        let (bank, screen) = (self.sieve.bank, self.sieve.screen);
        let (width, depth) = (bank.width, screen.depth);
        // References, because copies of four registers would go through memory.
        let registers = |values| S::as_simd_f32s(values).0.first_chunk::<N>();
        for panel in self.sieve.panels.clone() {
            let members = panel * width..(panel + 1) * width;
            let norms = registers(&bank.norms[members.clone()]);
            let steps = registers(&screen.steps[members.clone()]);
            let (Some(norms), Some(steps)) = (norms, steps) else {
                unreachable!("panels of {N} registers");
            };
            let (bounds, first) = (screen.bounds[panel], members.start as u32);
            let bytes = &screen.panels[panel * depth * width..][..depth * width];
            let tiles = self.rows.chunks_exact(TILE_ROWS * depth);
            let queries = self.queries.chunks_mut(TILE_ROWS);
            for ((rows, raised), queries) in tiles.zip(self.raised).zip(queries) {
                screen.dot.products(rows, bytes, raised, self.sums);
                for (query, sums) in queries.iter_mut().zip(self.sums.chunks_exact_mut(width)) {
                    let margin = query.margin(bounds);
                    let limit = simd.splat_f32s(query.limit + margin);
                    let twice = simd.splat_f32s(2.0 * query.rounded.step);
                    let mut smallest = simd.splat_f32s(f32::INFINITY);
                    let values = S::as_mut_simd_f32s(&mut *sums).0;
                    for ((value, &norm), &step) in values.iter_mut().zip(norms).zip(steps) {
                        let product = simd.mul_f32s(*value, step);
                        *value = negate_mul_add(simd, product, twice, norm);
                        smallest = simd.min_f32s(smallest, *value);
                    }
                    let below = simd.less_than_f32s(smallest, limit);
                    if simd.first_true_m32s(below) < S::F32_LANES {
                        query.admit(sums, first, margin);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::exact;
    use super::*;
    use crate::testing::draw;
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    /// Against differences in f64, of all members: what is ruled out is never the nearest.
    #[test]
    fn the_nearest_is_never_ruled_out() {
        let (dimension, count, n) = if cfg!(miri) {
            (48, 70, 7)
        } else {
            (48, 1500, 60)
        };
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        for case in 0..8 {
            let mut values = draw(&mut rng, count * dimension);
            let mut queries = draw(&mut rng, n * dimension);
            let members = values.chunks_exact_mut(dimension);
            for vector in members.chain(queries.chunks_exact_mut(dimension)) {
                let mut scale = |factor: f32| vector.iter_mut().for_each(|value| *value *= factor);
                match case {
                    // All but equal: none can be told from the nearest.
                    1 => vector
                        .iter_mut()
                        .for_each(|value| *value = 1.0 + *value * 1e-5),
                    // One large value takes the steps of all others.
                    2 => vector[0] *= 1e3,
                    // Lengths of many sizes.
                    3 => scale(10f32.powf(rng.random_range(-8.0..8.0))),
                    // Few values that are not zero, or none.
                    4 => vector[2..].fill(0.0),
                    5 if rng.random_bool(0.3) => vector.fill(0.0),
                    6 => scale(1e-17),
                    _ => {}
                }
            }
            if case == 1 {
                // The mean does not lie among them.
                values[..dimension].fill(1e3);
            }
            if case == 7 {
                // Next to a member.
                let members = values.chunks_exact(dimension);
                for (query, member) in queries.chunks_exact_mut(dimension).zip(members) {
                    query.copy_from_slice(member);
                    query[rng.random_range(0..dimension)] += 1e-3;
                }
            }
            for dot in [Some(Dot::Portable), Dot::fast()].into_iter().flatten() {
                let bank = Bank::pack_with(Some(dot), Isa::best(), values.clone(), dimension);
                let Some(screen) = bank.screen.as_ref() else {
                    panic!("a bank with a screen");
                };
                let sieve = Sieve {
                    bank: &bank,
                    screen,
                    panels: 0..bank.norms.len() / bank.width,
                    queries: &queries,
                };
                let mut found = vec![(f32::INFINITY, u32::MAX); n];
                let lost = sieve.run(&mut found);
                match case {
                    0 | 4 | 7 => assert!(lost.is_empty(), "{case}: {lost:?}"),
                    1 => assert_eq!(lost.len(), n),
                    _ => {}
                }
                for (i, query) in queries.chunks_exact(dimension).enumerate() {
                    if lost.contains(&i) {
                        continue;
                    }
                    let all = values.chunks_exact(dimension);
                    let smallest = all.map(|vector| exact(query, vector));
                    let smallest = smallest.fold(f64::INFINITY, f64::min);
                    let (distance, member) = found[i];
                    let error = exact(query, &values[member as usize * dimension..][..dimension]);
                    let error = (error - smallest).max((f64::from(distance) - smallest).abs());
                    // A rounding each difference and product, some a sum.
                    assert!(
                        error <= 2e-6 * smallest,
                        "{dot:?} {case}: {error} of {smallest}"
                    );
                }
            }
        }
    }
}
