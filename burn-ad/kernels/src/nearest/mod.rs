//! Nearest neighbours among the rows of a bank.

mod dot;
mod screen;
mod search;

use std::ops::Range;
use std::sync::OnceLock;

use rayon::prelude::*;

use crate::isa::Isa;
use crate::rows::for_rows_of_two;
use dot::Dot;
use screen::{Screen, Sieve};
use search::{Distance, Search, TILE_ROWS, registers};

/// Queries of one task: their products with a panel stay in the second cache.
const QUERIES: usize = 192;
/// Tasks to aim at, so that several threads end at about the same time.
const TASKS: usize = 16;
/// At most this many neighbours of a query are found.
pub const MOST_NEIGHBOURS: usize = 16;

/// Vectors among which neighbours are sought, packed for matrix products.
///
/// It keeps the vectors as given and packed: in 8 bits where the processor multiplies bytes, else as
/// they are, so that it takes one and a quarter or twice their memory.
#[derive(Clone, Debug)]
pub struct Bank {
    isa: Isa,
    dimension: usize,
    /// `[count, dimension]`, as given.
    values: Vec<f32>,
    /// Mean of the vectors: it is subtracted from all, because the differences of products of short
    /// vectors have smaller rounding errors.
    centre: Vec<f32>,
    /// See [`Bank::panels`].
    panels: OnceLock<Vec<f32>>,
    /// Rules out most vectors.
    screen: Option<Screen>,
    /// Squared length of each centred vector; infinite where the last panel has no vector.
    norms: Vec<f32>,
    /// Vectors of a panel.
    width: usize,
}

impl Bank {
    /// Packs `values`, `[count, dimension]`.
    ///
    /// # Panics
    /// If there are no vectors, more than `u32::MAX`, or a part of one.
    pub fn pack(isa: Isa, values: Vec<f32>, dimension: usize) -> Self {
        let isa = isa.or_lower();
        let count = values.len() / dimension.max(1);
        Self::pack_with(Screen::pays(isa, count, dimension), isa, values, dimension)
    }

    fn pack_with(dot: Option<Dot>, isa: Isa, values: Vec<f32>, dimension: usize) -> Self {
        assert!(
            dimension > 0 && values.len().is_multiple_of(dimension),
            "vectors of a bank"
        );
        let count = values.len() / dimension;
        assert!(
            count > 0 && u32::try_from(count).is_ok(),
            "number of vectors of a bank"
        );
        let mut centre = vec![0.0f64; dimension];
        for row in values.chunks_exact(dimension) {
            for (centre, value) in centre.iter_mut().zip(row) {
                *centre += f64::from(*value) / count as f64;
            }
        }
        // One vector that is not finite must not spoil the others.
        let finite = |value: &f64| {
            if value.is_finite() {
                *value as f32
            } else {
                0.0
            }
        };
        let centre: Vec<f32> = centre.iter().map(finite).collect();
        let width = isa.lanes() * registers(isa);
        let mut norms = vec![f32::INFINITY; count.div_ceil(width) * width];
        norms
            .par_chunks_mut(width)
            .zip(values.par_chunks(width * dimension))
            .for_each(|(norms, rows)| {
                for (norm, row) in norms.iter_mut().zip(rows.chunks_exact(dimension)) {
                    let squares = row.iter().zip(&centre).map(|(value, centre)| {
                        let value = f64::from(value - centre);
                        value * value
                    });
                    let sum = squares.sum::<f64>() as f32;
                    // What is not finite is never near.
                    *norm = if sum.is_nan() { f32::INFINITY } else { sum };
                }
            });
        let screen = dot.map(|dot| Screen::pack(dot, isa, &values, &centre, width));
        Self {
            isa,
            dimension,
            values,
            centre,
            panels: OnceLock::new(),
            screen,
            norms,
            width,
        }
    }

    /// Panels of some centred vectors each, `[dimension, width]`; made when they are first needed.
    fn panels(&self) -> &[f32] {
        self.panels.get_or_init(|| {
            let (dimension, width) = (self.dimension, self.width);
            let mut panels = vec![0.0; self.norms.len() * dimension];
            // By one thread: while it makes them, others may wait for it in the middle of a task.
            let rows = self.values.chunks(width * dimension);
            for (panel, rows) in panels.chunks_exact_mut(width * dimension).zip(rows) {
                for (column, row) in rows.chunks_exact(dimension).enumerate() {
                    for (i, (value, centre)) in row.iter().zip(&self.centre).enumerate() {
                        panel[i * width + column] = value - centre;
                    }
                }
            }
            panels
        })
    }

    /// The vectors, `[count, dimension]`.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Number of vectors.
    pub fn count(&self) -> usize {
        self.values.len() / self.dimension
    }

    /// Numbers of a vector.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// For each of `queries`, `[n, dimension]`, the squared Euclidean distance of the nearest vector
    /// and its index; the lowest index among equals.
    ///
    /// Candidates are compared by `|b|^2 - 2 q b` in `f32` about the bank's mean, so of vectors whose
    /// distances differ by less than that rounds, any may win. Where the processor multiplies bytes,
    /// most vectors are ruled out by bounds first, and those left are compared by their distances. The
    /// winner's distance is computed from differences: an equal vector has distance 0.
    ///
    /// # Panics
    /// If a length does not fit.
    pub fn nearest(&self, queries: &[f32], distances: &mut [f32], indices: &mut [u32]) {
        self.k_nearest(queries, 1, distances, indices);
    }

    /// [`nearest`](Self::nearest) for the `k` nearest vectors, nearest first; results are `[n, k]`.
    ///
    /// # Panics
    /// If a length does not fit; if `k` is 0, more than [`MOST_NEIGHBOURS`] or more than the bank has.
    pub fn k_nearest(&self, queries: &[f32], k: usize, distances: &mut [f32], indices: &mut [u32]) {
        let (dimension, count) = (self.dimension, self.count());
        assert!(
            (1..=MOST_NEIGHBOURS.min(count)).contains(&k),
            "number of neighbours"
        );
        assert!(queries.len().is_multiple_of(dimension), "queries of a bank");
        let n = queries.len() / dimension;
        assert!(
            distances.len() == n * k && indices.len() == n * k,
            "neighbours of queries"
        );
        if n == 0 {
            return;
        }
        let blocks = n.div_ceil(QUERIES);
        let block = n.div_ceil(blocks).next_multiple_of(TILE_ROWS);
        let panels = self.norms.len() / self.width;
        let part = panels.div_ceil(TASKS.div_ceil(blocks).min(panels));
        let parts = panels.div_ceil(part);
        // `[part, query, neighbour]`.
        let mut found = vec![(f32::INFINITY, u32::MAX); parts * n * k];
        let tasks: Vec<_> = found
            .chunks_exact_mut(n * k)
            .enumerate()
            .flat_map(|(index, found)| {
                let panels = index * part..((index + 1) * part).min(panels);
                let queries = queries.chunks(block * dimension);
                queries
                    .zip(found.chunks_mut(block * k))
                    .map(move |(queries, found)| (panels.clone(), queries, found))
            })
            .collect();
        tasks
            .into_par_iter()
            .with_max_len(1)
            .for_each(|(panels, queries, found)| {
                self.search(panels, queries, k, found);
            });
        // Where nothing was near (not finite), the first vector stands.
        let work = k * (dimension + parts);
        for_rows_of_two(
            (distances, indices),
            (k, k),
            work,
            |first, distances, indices| {
                let mut all = Vec::with_capacity(parts * k);
                let results = distances
                    .chunks_exact_mut(k)
                    .zip(indices.chunks_exact_mut(k));
                for (index, (distances, indices)) in results.enumerate() {
                    let query = first + index;
                    all.clear();
                    for part in found.chunks_exact(n * k) {
                        all.extend_from_slice(&part[query * k..][..k]);
                    }
                    all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
                    all.truncate(k);
                    let query = &queries[query * dimension..][..dimension];
                    for found in &mut all {
                        found.1 = if found.1 == u32::MAX { 0 } else { found.1 };
                        found.0 = self.distance(query, found.1);
                    }
                    all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
                    for ((distance, index), &found) in distances.iter_mut().zip(indices).zip(&all) {
                        (*distance, *index) = found;
                    }
                }
            },
        );
    }

    /// Some queries against some panels, as [`Search::run`]; or, by a screen, with the distances
    /// themselves.
    fn search(&self, panels: Range<usize>, queries: &[f32], k: usize, found: &mut [(f32, u32)]) {
        let search = |queries: &[f32], found: &mut [(f32, u32)]| {
            Search {
                bank: self,
                panels: panels.clone(),
                queries,
                k,
            }
            .run(found);
        };
        let Some(screen) = self.screen.as_ref().filter(|_| k == 1) else {
            return search(queries, found);
        };
        let sieve = Sieve {
            bank: self,
            screen,
            panels: panels.clone(),
            queries,
        };
        let lost = sieve.run(found);
        if lost.is_empty() {
            return;
        }
        let query = |index: usize| &queries[index * self.dimension..][..self.dimension];
        let again: Vec<f32> = lost
            .iter()
            .flat_map(|&index| query(index))
            .copied()
            .collect();
        let mut nearest = vec![(f32::INFINITY, u32::MAX); lost.len()];
        search(&again, &mut nearest);
        for (index, (_, member)) in lost.into_iter().zip(nearest) {
            if member != u32::MAX {
                found[index] = (self.distance(query(index), member), member);
            }
        }
    }

    fn distance(&self, query: &[f32], member: u32) -> f32 {
        let vector = &self.values[member as usize * self.dimension..][..self.dimension];
        self.isa.run(Distance { query, vector })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    fn draw(rng: &mut ChaCha8Rng, count: usize, centre: f32) -> Vec<f32> {
        (0..count)
            .map(|_| centre + rng.random_range(-1.0..1.0))
            .collect()
    }

    pub(super) fn exact(query: &[f32], vector: &[f32]) -> f64 {
        let pairs = query.iter().zip(vector);
        pairs
            .map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2))
            .sum()
    }

    /// Every way to search: without a screen, and with one, however small the bank.
    fn ways() -> impl Iterator<Item = (Isa, Option<Dot>)> {
        let screens = [Some(Dot::Portable), Dot::fast()].into_iter().flatten();
        let screened = screens.filter(|dot| {
            // Its panels are as wide as those of AVX-512.
            *dot == Dot::Portable || Isa::best() == Isa::Avx512
        });
        let plain = Isa::available().map(|isa| (isa, None));
        plain.chain(screened.map(|dot| (Isa::best(), Some(dot))))
    }

    #[test]
    fn neighbours_are_the_nearest_of_all() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for (isa, dot) in ways() {
            for case in testing::cases(40) {
                let large = case == 39;
                let dimension = rng.random_range(1..testing::most(if large { 400 } else { 60 }));
                let count = rng.random_range(1..testing::most(if large { 900 } else { 200 }));
                let n = rng.random_range(1..testing::most(if large { 400 } else { 30 }));
                let k = rng.random_range(1..=count.min(MOST_NEIGHBOURS));
                let k = if case % 2 == 0 { 1 } else { k };
                // Far from zero, products alone would have lost the differences.
                let centre = if case % 3 == 0 { 300.0 } else { 0.0 };
                let values = draw(&mut rng, count * dimension, centre);
                let queries = draw(&mut rng, n * dimension, centre);
                let bank = Bank::pack_with(dot, isa, values.clone(), dimension);
                let (mut distances, mut indices) = (vec![0.0; n * k], vec![0; n * k]);
                bank.k_nearest(&queries, k, &mut distances, &mut indices);
                for (i, query) in queries.chunks_exact(dimension).enumerate() {
                    let all = values
                        .chunks_exact(dimension)
                        .map(|vector| exact(query, vector));
                    let mut all: Vec<f64> = all.collect();
                    let found = distances[i * k..][..k].iter().zip(&indices[i * k..][..k]);
                    let mut seen = Vec::new();
                    for (&distance, &index) in found {
                        let true_one = all[index as usize];
                        let error = (f64::from(distance) - true_one).abs();
                        // One rounding a difference, some a sum.
                        assert!(error <= 2e-6 * true_one, "{isa}: {error} of {true_one}");
                        seen.push((index, true_one));
                    }
                    all.sort_by(f64::total_cmp);
                    for (place, &(index, distance)) in seen.iter().enumerate() {
                        // Another than the nearest may win by the rounding of products of size d.
                        let bound = 1e-6 * (dimension as f64 + 1.0);
                        assert!(distance <= all[place] + bound, "{isa} {case}: {index}");
                        assert!(seen[..place].iter().all(|&(other, _)| other != index));
                    }
                }
            }
        }
    }

    #[test]
    fn an_equal_vector_has_distance_zero_and_the_lowest_index_wins() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for (isa, dot) in ways() {
            let (dimension, count) = (37, if cfg!(miri) { 9 } else { 150 });
            let half = draw(&mut rng, count * dimension, 5.0);
            let both = [half.clone(), half.clone()].concat();
            let bank = Bank::pack_with(dot, isa, both, dimension);
            let (mut distances, mut indices) = (vec![1.0; count], vec![7; count]);
            bank.nearest(&half, &mut distances, &mut indices);
            assert!(distances.iter().all(|&distance| distance == 0.0), "{isa}");
            assert!(indices.iter().copied().eq(0..count as u32), "{isa}");
            let (mut distances, mut indices) = (vec![1.0; 2 * count], vec![7; 2 * count]);
            bank.k_nearest(&half, 2, &mut distances, &mut indices);
            assert!(distances.iter().all(|&distance| distance == 0.0), "{isa}");
            let both = (0..count as u32).flat_map(|i| [i, i + count as u32]);
            assert!(indices.iter().copied().eq(both), "{isa}");
        }
    }

    #[test]
    fn what_is_not_finite_stays_visible_and_spoils_nothing_else() {
        for (isa, dot) in ways() {
            let bank = Bank::pack_with(dot, isa, vec![f32::NAN, 0.0, 1.0, 1.0, 4.0, 4.0], 2);
            let queries = [3.0, 3.0, f32::NAN, 0.0, 0.0, 1.0];
            let (mut distances, mut indices) = ([0.0; 3], [9; 3]);
            bank.nearest(&queries, &mut distances, &mut indices);
            assert_eq!((distances[0], indices[0]), (2.0, 2), "{isa}");
            assert!(distances[1].is_nan(), "{isa}");
            assert_eq!((distances[2], indices[2]), (1.0, 1), "{isa}");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "too many values")]
    fn neighbours_do_not_depend_on_the_number_of_threads() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let (values, queries) = (
            draw(&mut rng, 3000 * 20, 0.0),
            draw(&mut rng, 500 * 20, 0.0),
        );
        for (k, dot) in [(3, None), (1, None), (1, Some(Dot::Portable))] {
            let bank = Bank::pack_with(dot, Isa::best(), values.clone(), 20);
            let run = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                let (mut distances, mut indices) = (vec![0.0; 500 * k], vec![0; 500 * k]);
                pool.expect("threads start")
                    .install(|| bank.k_nearest(&queries, k, &mut distances, &mut indices));
                (distances, indices)
            };
            let one = run(1);
            assert!([2, 3].into_iter().all(|threads| run(threads) == one));
        }
    }

    #[test]
    #[should_panic(expected = "number of neighbours")]
    fn more_neighbours_than_vectors_are_refused() {
        let bank = Bank::pack(Isa::best(), vec![0.0; 6], 2);
        bank.k_nearest(&[0.0; 2], 4, &mut [0.0; 4], &mut [0; 4]);
    }
}
