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
pub(super) struct Whitening {
    pub(super) means: Vec<f32>,
    pub(super) matrices: Vec<f32>,
}

impl Moments {
    /// Estimates the Gaussian of each position from all positions within `radius` (clipped at the
    /// border): sample mean, sample covariance (divisor n - 1) plus `epsilon` on the diagonal.
    ///
    /// Positions whose whole window holds fewer than two features have covariance `epsilon * I`.
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
                    self.pool(position, radius, &means, scratch);
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

    /// Sums the window of one position into `scratch`: mean and covariance.
    fn pool(&self, position: usize, radius: usize, means: &[f64], scratch: &mut Scratch) {
        let width = self.width;
        let window = self.window(position, radius);
        let total: f64 = window.iter().map(|&p| f64::from(self.counts[p])).sum();
        scratch.mean.fill(0.0);
        scratch.matrix.fill(0.0);
        if total < 0.5 {
            return;
        }
        for &p in &window {
            let weight = f64::from(self.counts[p]) / total;
            for (mean, &value) in scratch.mean.iter_mut().zip(&means[p * width..][..width]) {
                *mean += weight * value;
            }
        }
        if total < 1.5 {
            return;
        }
        for &p in &window {
            let count = f64::from(self.counts[p]);
            if count < 0.5 {
                continue;
            }
            let mean = &means[p * width..][..width];
            for ((delta, &own), &pooled) in scratch.delta.iter_mut().zip(mean).zip(&scratch.mean) {
                *delta = own - pooled;
            }
            let scatter = &self.scatter[p * width * width..][..width * width];
            for row in 0..width {
                let factor = count * scratch.delta[row];
                let target = &mut scratch.matrix[row * width..][..=row];
                let source = &scatter[row * width..][..=row];
                for ((value, &own), &delta) in target.iter_mut().zip(source).zip(&scratch.delta) {
                    *value += f64::from(own) + factor * delta;
                }
            }
        }
        let divisor = total - 1.0;
        scratch
            .matrix
            .iter_mut()
            .for_each(|value| *value /= divisor);
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
        for c in 0..width {
            assert!((f64::from(whitening.means[6 * width + c]) - mean[c]).abs() < 1e-5);
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
