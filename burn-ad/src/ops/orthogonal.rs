//! Random orthonormal matrices, drawn on the host so that every backend sees the same ones.

use rand::{Rng, RngExt};

/// `columns` random orthonormal columns of length `rows`, row-major `[rows, columns]`, in f64:
/// Gaussian draws, Gram-Schmidt twice. With `columns == rows` the matrix is uniformly distributed
/// over the orthogonal group O(rows).
///
/// # Panics
/// If `columns > rows`.
pub fn random_orthonormal(rows: usize, columns: usize, rng: &mut impl Rng) -> Vec<f64> {
    assert!(columns <= rows, "{columns} columns of length {rows}");
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(columns);
    while basis.len() < columns {
        let mut column: Vec<f64> = (0..rows).map(|_| standard_normal(rng)).collect();
        // Once leaves rounding errors of the first pass behind.
        for _ in 0..2 {
            for other in &basis {
                let dot: f64 = column.iter().zip(other).map(|(a, b)| a * b).sum();
                column
                    .iter_mut()
                    .zip(other)
                    .for_each(|(a, b)| *a -= dot * b);
            }
        }
        let norm = column.iter().map(|a| a * a).sum::<f64>().sqrt();
        if norm > 1e-6 {
            column.iter_mut().for_each(|a| *a /= norm);
            basis.push(column);
        }
    }
    let mut matrix = vec![0.0; rows * columns];
    for (index, column) in basis.iter().enumerate() {
        for (row, &value) in column.iter().enumerate() {
            matrix[row * columns + index] = value;
        }
    }
    matrix
}

/// A rotation drawn uniformly from SO(size), row-major `[size, size]`.
pub fn random_rotation(size: usize, rng: &mut impl Rng) -> Vec<f64> {
    let mut matrix = random_orthonormal(size, size, rng);
    if determinant_is_negative(matrix.clone(), size) {
        // Mirroring one axis maps the reflections onto the rotations, uniformly.
        matrix
            .iter_mut()
            .step_by(size)
            .for_each(|value| *value = -*value);
    }
    matrix
}

/// Sign of the determinant, by elimination with partial pivoting.
fn determinant_is_negative(mut matrix: Vec<f64>, size: usize) -> bool {
    let mut negative = false;
    for step in 0..size {
        let pivot = (step..size)
            .max_by(|&a, &b| {
                let magnitude = |row: usize| matrix[row * size + step].abs();
                magnitude(a).total_cmp(&magnitude(b))
            })
            .unwrap_or(step);
        if pivot != step {
            negative = !negative;
            for column in step..size {
                matrix.swap(step * size + column, pivot * size + column);
            }
        }
        let (above, below) = matrix.split_at_mut((step + 1) * size);
        let pivot_row = &above[step * size..];
        let diagonal = pivot_row[step];
        negative ^= diagonal < 0.0;
        for row in below.chunks_exact_mut(size) {
            let factor = row[step] / diagonal;
            for (value, above) in row[step..].iter_mut().zip(&pivot_row[step..]) {
                *value -= factor * above;
            }
        }
    }
    negative
}

/// Box-Muller.
fn standard_normal(rng: &mut impl Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    fn gram_error(matrix: &[f64], rows: usize, columns: usize) -> f64 {
        let mut worst = 0.0f64;
        for a in 0..columns {
            for b in 0..columns {
                let dot: f64 = (0..rows)
                    .map(|row| matrix[row * columns + a] * matrix[row * columns + b])
                    .sum();
                worst = worst.max((dot - f64::from(u8::from(a == b))).abs());
            }
        }
        worst
    }

    #[test]
    fn columns_are_orthonormal() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for (rows, columns) in [(12, 5), (1, 1), (30, 30)] {
            let matrix = random_orthonormal(rows, columns, &mut rng);
            assert!(gram_error(&matrix, rows, columns) < 1e-12);
        }
    }

    #[test]
    fn a_rotation_has_determinant_one_whatever_was_drawn() {
        let mut mirrored = 0;
        for seed in 0..20 {
            let rng = || ChaCha8Rng::seed_from_u64(seed);
            let size = 2 + seed as usize % 3;
            let rotation = random_rotation(size, &mut rng());
            assert!(gram_error(&rotation, size, size) < 1e-12);
            assert!(leibniz(&rotation, size) > 0.999_999, "seed {seed}");
            mirrored += u8::from(rotation != random_orthonormal(size, size, &mut rng()));
        }
        assert!(
            (3..18).contains(&mirrored),
            "{mirrored} of 20 were mirrored"
        );
    }

    /// The determinant from its definition, by expansion along the first row.
    fn leibniz(matrix: &[f64], size: usize) -> f64 {
        if size == 1 {
            return matrix[0];
        }
        (0..size)
            .map(|column| {
                let minor: Vec<f64> = (size..size * size)
                    .filter(|index| index % size != column)
                    .map(|index| matrix[index])
                    .collect();
                let sign = if column % 2 == 0 { 1.0 } else { -1.0 };
                sign * matrix[column] * leibniz(&minor, size - 1)
            })
            .sum()
    }
}
