//! Choosing representative normal features: k-means centroids or a greedy coreset.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::config::{BankConfig, BankKind};
use crate::error::Result;
use crate::ops::Neighbours;

/// Feature vectors in host memory, `[count, width]` row-major.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Vectors {
    pub(super) width: usize,
    pub(super) values: Vec<f32>,
}

impl Vectors {
    pub(super) fn count(&self) -> usize {
        self.values.len() / self.width
    }

    fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.width..][..self.width]
    }

    fn select(&self, rows: &[usize]) -> Self {
        let values = rows
            .iter()
            .flat_map(|&row| self.row(row))
            .copied()
            .collect();
        Self {
            width: self.width,
            values,
        }
    }

    fn to_tensor<B: Backend>(&self, device: &B::Device) -> Tensor<B, 2> {
        let shape = [self.count(), self.width];
        Tensor::from_data(TensorData::new(self.values.clone(), shape), device)
    }
}

/// Members that a bank gets for this many training vectors, of which `candidates` are at hand.
pub(super) fn member_count(config: &BankConfig, vectors: usize, candidates: usize) -> usize {
    let wanted = (vectors as f64 * config.share).round() as usize;
    wanted.min(config.max_members).min(candidates).max(1)
}

/// Chooses `members` representatives of `candidates`.
///
/// # Errors
/// When `progress` asks to stop.
pub(super) fn build<B: Backend>(
    config: &BankConfig,
    candidates: &Vectors,
    members: usize,
    rng: &mut ChaCha8Rng,
    device: &B::Device,
    progress: &mut dyn FnMut(usize, usize) -> Result<()>,
) -> Result<Vectors> {
    match config.kind {
        BankKind::Coreset => {
            let first = rng.random_range(0..candidates.count());
            let rows = greedy_k_centre(candidates, members, first, progress)?;
            Ok(candidates.select(&rows))
        }
        BankKind::Centroids => k_means::<B>(
            candidates,
            members,
            config.iterations,
            rng,
            device,
            progress,
        ),
    }
}

/// Greedy k-centre: starting from `first`, always adds the row farthest from those chosen.
///
/// Stops early when every row coincides with a chosen one.
pub(super) fn greedy_k_centre(
    candidates: &Vectors,
    members: usize,
    first: usize,
    progress: &mut dyn FnMut(usize, usize) -> Result<()>,
) -> Result<Vec<usize>> {
    let mut nearest = vec![f32::INFINITY; candidates.count()];
    let mut chosen = vec![first];
    while chosen.len() < members {
        let (farthest, distance) = relax(&mut nearest, candidates, chosen[chosen.len() - 1]);
        if distance <= 0.0 {
            break;
        }
        chosen.push(farthest);
        if chosen.len().is_multiple_of(64) {
            progress(chosen.len(), members)?;
        }
    }
    Ok(chosen)
}

/// Lowers each row's squared distance to the chosen set by the newly chosen `centre`; returns the
/// row that is now farthest (the first of equals) and its squared distance.
fn relax(nearest: &mut [f32], candidates: &Vectors, centre: usize) -> (usize, f32) {
    const BLOCK: usize = 1024;
    let centre = candidates.row(centre);
    nearest
        .par_chunks_mut(BLOCK)
        .zip(candidates.values.par_chunks(BLOCK * candidates.width))
        .enumerate()
        .map(|(block, (nearest, rows))| {
            let mut best = (usize::MAX, f32::NEG_INFINITY);
            let rows = rows.chunks_exact(candidates.width);
            for (offset, (distance, row)) in nearest.iter_mut().zip(rows).enumerate() {
                *distance = distance.min(squared_distance(row, centre));
                if *distance > best.1 {
                    best = (block * BLOCK + offset, *distance);
                }
            }
            best
        })
        .reduce(
            || (usize::MAX, f32::NEG_INFINITY),
            |a, b| {
                if b.1 > a.1 || (b.1 == a.1 && b.0 < a.0) {
                    b
                } else {
                    a
                }
            },
        )
}

/// Sums in eight lanes, so that it vectorises and does not depend on the optimiser.
fn squared_distance(left: &[f32], right: &[f32]) -> f32 {
    const LANES: usize = 8;
    let mut lanes = [0.0f32; LANES];
    let (left_blocks, left_rest) = left.as_chunks::<LANES>();
    let (right_blocks, right_rest) = right.as_chunks::<LANES>();
    for (a, b) in left_blocks.iter().zip(right_blocks) {
        for lane in 0..LANES {
            let difference = a[lane] - b[lane];
            lanes[lane] += difference * difference;
        }
    }
    for ((lane, a), b) in lanes.iter_mut().zip(left_rest).zip(right_rest) {
        *lane += (a - b) * (a - b);
    }
    lanes.iter().sum()
}

/// Lloyd's k-means from k-means++ seeds. Assignments run on the device, sums in f64 on the host.
fn k_means<B: Backend>(
    candidates: &Vectors,
    members: usize,
    iterations: usize,
    rng: &mut ChaCha8Rng,
    device: &B::Device,
    progress: &mut dyn FnMut(usize, usize) -> Result<()>,
) -> Result<Vectors> {
    let mut centroids = plus_plus(candidates, members, rng);
    let members = centroids.count();
    let points = candidates.to_tensor::<B>(device);
    let mut previous = f64::INFINITY;
    for iteration in 0..iterations {
        let bank = Neighbours::new(centroids.to_tensor::<B>(device));
        let (distance, index) = bank.nearest(points.clone());
        let distance = crate::tensors::to_vec(distance);
        let index: Vec<i32> = index
            .into_data()
            .convert::<i32>()
            .into_vec()
            .expect("converted to i32 just now");
        centroids = update(candidates, &centroids, &index, &distance);
        let inertia: f64 = distance.iter().map(|&d| f64::from(d).powi(2)).sum();
        progress(iteration + 1, iterations)?;
        if previous - inertia <= 1e-4 * previous.min(f64::MAX) {
            break;
        }
        previous = inertia;
    }
    debug_assert_eq!(centroids.count(), members);
    Ok(centroids)
}

/// Means of the points assigned to each centroid; a centroid without points moves to the point
/// farthest from its own.
fn update(points: &Vectors, old: &Vectors, index: &[i32], distance: &[f32]) -> Vectors {
    let (width, members) = (points.width, old.count());
    let mut sums = vec![0.0f64; members * width];
    let mut counts = vec![0u32; members];
    for (row, &member) in index.iter().enumerate() {
        let member = member as usize;
        counts[member] += 1;
        for (sum, &value) in sums[member * width..][..width]
            .iter_mut()
            .zip(points.row(row))
        {
            *sum += f64::from(value);
        }
    }
    let mut farthest: Vec<usize> = (0..points.count()).collect();
    let empty = counts.iter().filter(|&&count| count == 0).count();
    if empty > 0 {
        farthest.sort_by(|&a, &b| distance[b].total_cmp(&distance[a]));
    }
    let mut spare = farthest.into_iter();
    let mut values = Vec::with_capacity(members * width);
    for member in 0..members {
        if counts[member] == 0 {
            let row = spare.next().expect("no more centroids than points");
            values.extend_from_slice(points.row(row));
        } else {
            let count = f64::from(counts[member]);
            values.extend(
                sums[member * width..][..width]
                    .iter()
                    .map(|sum| (sum / count) as f32),
            );
        }
    }
    Vectors { width, values }
}

/// k-means++ seeds (Arthur and Vassilvitskii 2007), drawn from a random subset of 16 points a seed:
/// the seeding costs `members^2`, not `members * points`.
fn plus_plus(points: &Vectors, members: usize, rng: &mut ChaCha8Rng) -> Vectors {
    let wanted = (16 * members).max(4096).min(points.count());
    let subset = rand::seq::index::sample(rng, points.count(), wanted).into_vec();
    let subset = points.select(&subset);
    let mut nearest = vec![f32::INFINITY; subset.count()];
    let mut chosen = vec![rng.random_range(0..subset.count())];
    while chosen.len() < members {
        relax(&mut nearest, &subset, chosen[chosen.len() - 1]);
        let total: f64 = nearest.iter().map(|&d| f64::from(d)).sum();
        if total <= 0.0 {
            break; // every point coincides with a seed
        }
        let mut left = rng.random::<f64>() * total;
        let drawn = nearest.iter().position(|&d| {
            left -= f64::from(d);
            left < 0.0
        });
        // Rounding can leave a remainder after the last point: take the farthest then.
        let drawn = drawn.unwrap_or_else(|| {
            (0..nearest.len())
                .max_by(|&a, &b| nearest[a].total_cmp(&nearest[b]))
                .unwrap_or(0)
        });
        chosen.push(drawn);
    }
    subset.select(&chosen)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::train::stream_rng;
    use burn_flex::Flex;

    fn go_on(_: usize, _: usize) -> Result<()> {
        Ok(())
    }

    fn clusters(per_cluster: usize) -> Vectors {
        let mut rng = stream_rng(5, "clusters");
        let centres = [
            [0.0, 0.0, 0.0],
            [10.0, 0.0, 0.0],
            [0.0, 10.0, 0.0],
            [0.0, 0.0, 10.0],
        ];
        let values = (0..per_cluster)
            .flat_map(|_| centres)
            .flat_map(|centre| centre.map(|c: f32| c + rng.random::<f32>() - 0.5))
            .collect();
        Vectors { width: 3, values }
    }

    #[test]
    fn k_means_finds_separate_clusters_and_repeats_itself() {
        let points = clusters(200);
        let run = || {
            let mut rng = stream_rng(1, "k-means");
            k_means::<Flex>(&points, 4, 20, &mut rng, &Default::default(), &mut go_on).unwrap()
        };
        let centroids = run();
        assert_eq!(centroids, run());
        for centre in [
            [0.0, 0.0, 0.0f32],
            [10.0, 0.0, 0.0],
            [0.0, 10.0, 0.0],
            [0.0, 0.0, 10.0],
        ] {
            let found = (0..4).any(|i| squared_distance(centroids.row(i), &centre) < 0.05);
            assert!(found, "no centroid near {centre:?}");
        }
    }

    #[test]
    fn coreset_covers_every_cluster_first() {
        let points = clusters(50);
        let rows = greedy_k_centre(&points, 4, 0, &mut go_on).unwrap();
        let mut kinds: Vec<usize> = rows.iter().map(|row| row % 4).collect();
        kinds.sort_unstable();
        assert_eq!(kinds, [0, 1, 2, 3]);
    }

    #[test]
    fn identical_points_give_one_member_not_a_panic() {
        let points = Vectors {
            width: 2,
            values: vec![1.5; 40],
        };
        assert_eq!(greedy_k_centre(&points, 5, 3, &mut go_on).unwrap(), vec![3]);
        let mut rng = stream_rng(1, "same");
        let centroids =
            k_means::<Flex>(&points, 5, 3, &mut rng, &Default::default(), &mut go_on).unwrap();
        assert_eq!(centroids.values, vec![1.5, 1.5]);
    }

    #[test]
    fn an_empty_cluster_is_moved_to_the_farthest_point() {
        let points = Vectors {
            width: 1,
            values: vec![0.0, 1.0, 5.0],
        };
        let old = Vectors {
            width: 1,
            values: vec![0.5, 100.0],
        };
        let new = update(&points, &old, &[0, 0, 0], &[0.5, 0.5, 4.5]);
        assert_eq!(new.values, vec![2.0, 5.0]);
    }

    #[test]
    fn member_count_is_bounded() {
        let mut config = super::super::config::NpadConfig::npad().bank;
        config.share = 0.5;
        config.max_members = 10;
        assert_eq!(member_count(&config, 100, 100), 10);
        assert_eq!(member_count(&config, 100, 7), 7);
        assert_eq!(member_count(&config, 1, 1), 1);
        config.max_members = 1000;
        assert_eq!(member_count(&config, 100, 100), 50);
    }
}
