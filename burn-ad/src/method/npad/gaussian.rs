//! From streamed moments to one whitening matrix a grid position (host, f64).

use rayon::prelude::*;

use crate::error::{Error, Result};

/// Weighted moments of the features at each position of a grid, about a shift of its own.
///
/// `scatter` is `[positions, d, d]`: the sum of `(x - shift)(x - shift)^T`; `sums` and `shift` are
/// `[positions, d]`; `counts` is `[positions]`.
#[derive(Clone, Debug)]
pub(super) struct Moments {
    pub(super) grid: [usize; 2],
    pub(super) width: usize,
    pub(super) counts: Vec<f32>,
    pub(super) shift: Vec<f32>,
    pub(super) sums: Vec<f32>,
    pub(super) scatter: Vec<f32>,
}

/// Means `[positions, d]` and whitening matrices `[positions, d, d]` (lower triangular, the inverse
/// of the Cholesky factor): `|W (x - mean)|` is the Mahalanobis distance.
#[derive(Clone, Debug)]
pub struct Whitening {
    /// `[positions, d]`.
    pub means: Vec<f32>,
    /// `[positions, d, d]`.
    pub matrices: Vec<f32>,
}

impl Moments {
    /// Estimates the Gaussian of each position from all positions within `radius` (clipped at the
    /// border): sample mean, sample covariance (divisor n - 1) plus `epsilon` on the diagonal.
    ///
    /// Where letterbox padding hides a position in some images, the missing observations are drawn
    /// from the Gaussian of all positions together: few observations would leave a covariance that is
    /// singular up to `epsilon`, and every new image would seem far away. Without padding nothing is
    /// borrowed. With fewer than two observations the covariance is `epsilon * I`.
    ///
    /// # Errors
    /// When a moment is not finite.
    pub(super) fn whiten(mut self, radius: usize, epsilon: f64) -> Result<Whitening> {
        let width = self.width;
        let means = self.centre();
        if means.iter().any(|value| !value.is_finite())
            || self.scatter.iter().any(|value| !value.is_finite())
        {
            return Err(Error::numeric(
                "the statistics of the features are not finite",
            ));
        }
        let positions = self.counts.len();
        let prior = self.prior(&means);
        let mut out = Whitening {
            means: vec![0.0; positions * width],
            matrices: vec![0.0; positions * width * width],
        };
        out.means
            .par_chunks_mut(width)
            .zip(out.matrices.par_chunks_mut(width * width))
            .enumerate()
            .try_for_each_init(
                || Scratch::new(width),
                |scratch, (position, (mean, matrix))| {
                    self.pool(position, radius, &means, prior.as_ref(), scratch);
                    scratch.factorise(epsilon)?;
                    for (out, &value) in mean.iter_mut().zip(&scratch.mean) {
                        *out = value as f32;
                    }
                    scratch.invert_into(matrix);
                    Ok::<(), Error>(())
                },
            )?;
        Ok(out)
    }

    /// Turns the scatter about the shift into the scatter about each position's own mean, in
    /// place; returns the means.
    fn centre(&mut self) -> Vec<f64> {
        let width = self.width;
        let mut means = vec![0.0f64; self.counts.len() * width];
        means
            .par_chunks_mut(width)
            .zip(self.scatter.par_chunks_mut(width * width))
            .enumerate()
            .for_each(|(position, (mean, scatter))| {
                let count = f64::from(self.counts[position]);
                let sums = &self.sums[position * width..][..width];
                let shift = &self.shift[position * width..][..width];
                if count < 0.5 {
                    scatter.fill(0.0);
                    return;
                }
                for row in 0..width {
                    mean[row] = f64::from(shift[row]) + f64::from(sums[row]) / count;
                    let factor = f64::from(sums[row]) / count;
                    for (value, &other) in scatter[row * width..][..width].iter_mut().zip(sums) {
                        *value = (f64::from(*value) - factor * f64::from(other)) as f32;
                    }
                }
            });
        means
    }

    /// The Gaussian of all positions together; `None` when every position is seen equally often.
    fn prior(&self, means: &[f64]) -> Option<Prior> {
        let most = self.counts.iter().copied().fold(0.0, f32::max);
        if self.counts.iter().all(|&count| count == most) {
            return None;
        }
        let everywhere: Vec<usize> = (0..self.counts.len()).collect();
        let mut scratch = Scratch::new(self.width);
        let total = self.accumulate(&everywhere, means, &mut scratch);
        scratch.matrix.iter_mut().for_each(|value| *value /= total);
        Some(Prior {
            most: f64::from(most),
            mean: scratch.mean,
            covariance: scratch.matrix,
        })
    }

    /// Sums the window of one position into `scratch`: mean and covariance.
    fn pool(
        &self,
        position: usize,
        radius: usize,
        means: &[f64],
        prior: Option<&Prior>,
        scratch: &mut Scratch,
    ) {
        let window = self.window(position, radius);
        let mut total = self.accumulate(&window, means, scratch);
        if let Some(prior) = prior {
            let missing = prior.most * window.len() as f64 - total;
            if missing > 0.5 {
                scratch.borrow(prior, missing, total);
                total += missing;
            }
        }
        if total > 1.5 {
            scratch
                .matrix
                .iter_mut()
                .for_each(|value| *value /= total - 1.0);
        }
    }

    /// Mean and scatter (lower triangle) of all observations at `positions`; returns their number.
    fn accumulate(&self, positions: &[usize], means: &[f64], scratch: &mut Scratch) -> f64 {
        let width = self.width;
        let total: f64 = positions.iter().map(|&p| f64::from(self.counts[p])).sum();
        scratch.mean.fill(0.0);
        scratch.matrix.fill(0.0);
        let seen = positions.iter().filter(|&&p| self.counts[p] > 0.5);
        for &p in seen.clone() {
            let weight = f64::from(self.counts[p]) / total;
            for (mean, &value) in scratch.mean.iter_mut().zip(&means[p * width..][..width]) {
                *mean += weight * value;
            }
        }
        for &p in seen {
            let own = &means[p * width..][..width];
            scratch.set_delta(own);
            let scatter = &self.scatter[p * width * width..][..width * width];
            scratch.add_outer(f64::from(self.counts[p]));
            for row in 0..width {
                let target = &mut scratch.matrix[row * width..][..=row];
                for (value, &own) in target.iter_mut().zip(&scatter[row * width..][..=row]) {
                    *value += f64::from(own);
                }
            }
        }
        total
    }

    fn window(&self, position: usize, radius: usize) -> Vec<usize> {
        let [rows, columns] = self.grid;
        let (row, column) = (position / columns, position % columns);
        let range = |at: usize, end: usize| at.saturating_sub(radius)..(at + radius + 1).min(end);
        range(row, rows)
            .flat_map(|r| range(column, columns).map(move |c| r * columns + c))
            .collect()
    }
}

/// The Gaussian of all positions, for those that padding hides now and then.
struct Prior {
    /// Observations of a position that is never hidden.
    most: f64,
    mean: Vec<f64>,
    covariance: Vec<f64>,
}

/// Working memory of one thread.
struct Scratch {
    width: usize,
    mean: Vec<f64>,
    delta: Vec<f64>,
    matrix: Vec<f64>,
    inverse: Vec<f64>,
}

impl Scratch {
    fn new(width: usize) -> Self {
        Self {
            width,
            mean: vec![0.0; width],
            delta: vec![0.0; width],
            matrix: vec![0.0; width * width],
            inverse: vec![0.0; width * width],
        }
    }

    /// Sets `delta` to `other - mean`.
    fn set_delta(&mut self, other: &[f64]) {
        for ((delta, &other), &mean) in self.delta.iter_mut().zip(other).zip(&self.mean) {
            *delta = other - mean;
        }
    }

    /// Adds `weight * delta delta^T` to the lower triangle.
    fn add_outer(&mut self, weight: f64) {
        let width = self.width;
        for row in 0..width {
            let factor = weight * self.delta[row];
            let target = &mut self.matrix[row * width..][..=row];
            for (value, &delta) in target.iter_mut().zip(&self.delta) {
                *value += factor * delta;
            }
        }
    }

    /// Adds `missing` observations of the prior to the mean and scatter of `total` own ones.
    fn borrow(&mut self, prior: &Prior, missing: f64, total: f64) {
        // Two groups with means m and p and n and k members: the scatter about the common mean is
        // the sum of both scatters plus (p - m)(p - m)^T n k / (n + k).
        self.set_delta(&prior.mean);
        self.add_outer(total * missing / (total + missing));
        for (value, &covariance) in self.matrix.iter_mut().zip(&prior.covariance) {
            *value += missing * covariance;
        }
        for (mean, &delta) in self.mean.iter_mut().zip(&self.delta) {
            *mean += delta * missing / (total + missing);
        }
    }

    /// Replaces the lower triangle of the covariance by its Cholesky factor.
    fn factorise(&mut self, epsilon: f64) -> Result<()> {
        let width = self.width;
        let trace: f64 = (0..width).map(|i| self.matrix[i * width + i]).sum();
        // Rounding of large covariances can exceed epsilon; this floor is far below any effect.
        let ridge = epsilon + 1e-12 * trace / width as f64;
        for i in 0..width {
            self.matrix[i * width + i] += ridge;
        }
        for column in 0..width {
            let pivot = self.matrix[column * width + column];
            if pivot.is_nan() || pivot <= 0.0 {
                return Err(Error::numeric("a covariance is not positive definite")
                    .help("raise 'gaussian.epsilon'"));
            }
            let root = pivot.sqrt();
            for row in column..width {
                self.matrix[row * width + column] /= root;
                self.delta[row] = self.matrix[row * width + column];
            }
            // delta holds the new column contiguously, so the update below vectorises.
            for row in column + 1..width {
                let factor = self.delta[row];
                let target = &mut self.matrix[row * width + column + 1..=row * width + row];
                for (value, &other) in target.iter_mut().zip(&self.delta[column + 1..=row]) {
                    *value -= factor * other;
                }
            }
        }
        Ok(())
    }

    /// Writes the inverse of the Cholesky factor, zeros above the diagonal.
    fn invert_into(&mut self, out: &mut [f32]) {
        let width = self.width;
        self.inverse.fill(0.0);
        for row in 0..width {
            let (done, rest) = self.inverse.split_at_mut(row * width);
            let current = &mut rest[..width];
            for k in 0..row {
                let factor = self.matrix[row * width + k];
                for (value, &other) in current[..=k].iter_mut().zip(&done[k * width..]) {
                    *value -= factor * other;
                }
            }
            let scale = 1.0 / self.matrix[row * width + row];
            current[..row].iter_mut().for_each(|value| *value *= scale);
            current[row] = scale;
        }
        for (out, &value) in out.iter_mut().zip(&self.inverse) {
            *out = value as f32;
        }
    }
}

/// Lower triangles of `[positions, d, d]`, row by row: half the file size.
pub(super) fn pack(matrices: &[f32], width: usize) -> Vec<f32> {
    matrices
        .chunks_exact(width * width)
        .flat_map(|matrix| (0..width).flat_map(move |row| &matrix[row * width..][..=row]))
        .copied()
        .collect()
}

/// Undoes [`pack`].
pub(super) fn unpack(packed: &[f32], width: usize) -> Vec<f32> {
    let triangle = width * (width + 1) / 2;
    let mut out = vec![0.0; packed.len() / triangle * width * width];
    for (matrix, packed) in out
        .chunks_exact_mut(width * width)
        .zip(packed.chunks_exact(triangle))
    {
        let mut start = 0;
        for row in 0..width {
            matrix[row * width..][..=row].copy_from_slice(&packed[start..=start + row]);
            start += row + 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::train::stream_rng;
    use rand::RngExt;

    /// Moments of explicit samples `[images][position][d]` about an arbitrary shift.
    fn moments(samples: &[Vec<Vec<f64>>], grid: [usize; 2], width: usize) -> Moments {
        let positions = grid[0] * grid[1];
        let mut rng = stream_rng(9, "shift");
        let shift: Vec<f32> = (0..positions * width)
            .map(|_| rng.random::<f32>())
            .collect();
        let mut out = Moments {
            grid,
            width,
            counts: vec![samples.len() as f32; positions],
            shift: shift.clone(),
            sums: vec![0.0; positions * width],
            scatter: vec![0.0; positions * width * width],
        };
        for image in samples {
            for (p, x) in image.iter().enumerate() {
                let d: Vec<f64> = (0..width)
                    .map(|c| x[c] - f64::from(shift[p * width + c]))
                    .collect();
                for r in 0..width {
                    out.sums[p * width + r] += d[r] as f32;
                    for c in 0..width {
                        out.scatter[(p * width + r) * width + c] += (d[r] * d[c]) as f32;
                    }
                }
            }
        }
        out
    }

    fn samples(images: usize, positions: usize, width: usize) -> Vec<Vec<Vec<f64>>> {
        let mut rng = stream_rng(1, "samples");
        (0..images)
            .map(|_| {
                (0..positions)
                    .map(|p| {
                        (0..width)
                            .map(|c| rng.random::<f64>() * (1.0 + c as f64) + p as f64)
                            .collect()
                    })
                    .collect()
            })
            .collect()
    }

    #[test]
    fn whitening_inverts_the_pooled_covariance() {
        let (grid, width, images, radius, epsilon) = ([3, 4], 5, 6, 1, 0.01);
        let samples = samples(images, 12, width);
        let moments = moments(&samples, grid, width);
        let window = moments.window(6, radius);
        assert_eq!(window.len(), 9);
        let whitening = moments.whiten(radius, epsilon).unwrap();
        // Direct covariance of position 6 over its window.
        let rows: Vec<&Vec<f64>> = samples
            .iter()
            .flat_map(|image| window.iter().map(|&p| &image[p]))
            .collect();
        let n = rows.len() as f64;
        let mean: Vec<f64> = (0..width)
            .map(|c| rows.iter().map(|r| r[c]).sum::<f64>() / n)
            .collect();
        let mut covariance = vec![vec![0.0; width]; width];
        for (i, line) in covariance.iter_mut().enumerate() {
            for (j, value) in line.iter_mut().enumerate() {
                *value = rows
                    .iter()
                    .map(|r| (r[i] - mean[i]) * (r[j] - mean[j]))
                    .sum::<f64>()
                    / (n - 1.0);
                if i == j {
                    *value += epsilon;
                }
            }
        }
        for (found, expected) in whitening.means[6 * width..].iter().zip(&mean) {
            assert!((f64::from(*found) - expected).abs() < 1e-5);
        }
        let w = |i: usize, j: usize| f64::from(whitening.matrices[(6 * width + i) * width + j]);
        for i in 0..width {
            for j in 0..width {
                let mut product = 0.0;
                for (a, line) in covariance.iter().enumerate() {
                    for (b, value) in line.iter().enumerate() {
                        product += w(i, a) * value * w(j, b);
                    }
                }
                let expected = f64::from(u8::from(i == j));
                assert!(
                    (product - expected).abs() < 1e-3,
                    "W S W^T [{i},{j}] = {product}"
                );
            }
        }
    }

    #[test]
    fn degenerate_data_stays_finite() {
        for (images, constant) in [(1, false), (2, true), (0, false)] {
            let mut data = samples(images, 4, 3);
            if constant {
                data.iter_mut().flatten().for_each(|x| x.fill(2.0));
            }
            let whitening = moments(&data, [2, 2], 3).whiten(0, 0.01).unwrap();
            assert!(
                whitening
                    .matrices
                    .iter()
                    .chain(&whitening.means)
                    .all(|v| v.is_finite())
            );
        }
    }

    #[test]
    fn a_hidden_position_borrows_from_all_others() {
        let data = samples(40, 4, 3);
        let mut hidden = moments(&data, [2, 2], 3);
        hidden.counts[3] = 0.0;
        hidden.sums[9..].fill(0.0);
        hidden.scatter[27..].fill(0.0);
        let prior = {
            let mut copy = hidden.clone();
            let means = copy.centre();
            copy.prior(&means).unwrap()
        };
        let whitening = hidden.whiten(0, 0.01).unwrap();
        for (found, expected) in whitening.means[9..].iter().zip(&prior.mean) {
            assert!((f64::from(*found) - expected).abs() < 1e-5);
        }
        // 1 / W[0][0] is the deviation of the first dimension.
        let deviation = 1.0 / f64::from(whitening.matrices[27]);
        let expected = (prior.covariance[0] * 40.0 / 39.0 + 0.01).sqrt();
        assert!(
            (deviation - expected).abs() < 1e-4 * expected,
            "{deviation} {expected}"
        );
    }

    #[test]
    fn without_padding_nothing_is_borrowed() {
        let mut even = moments(&samples(5, 4, 2), [2, 2], 2);
        let means = even.centre();
        assert!(even.prior(&means).is_none());
    }

    #[test]
    fn not_a_number_is_an_error() {
        let mut moments = moments(&samples(3, 4, 2), [2, 2], 2);
        moments.scatter[3] = f32::NAN;
        assert!(moments.whiten(0, 0.01).is_err());
    }

    #[test]
    fn unpack_undoes_pack() {
        let whitening = moments(&samples(4, 4, 3), [2, 2], 3)
            .whiten(1, 0.1)
            .unwrap();
        let packed = pack(&whitening.matrices, 3);
        assert_eq!(packed.len(), 4 * 6);
        assert_eq!(unpack(&packed, 3), whitening.matrices);
    }
}
