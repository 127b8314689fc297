//! Mahalanobis distances to one Gaussian a grid position.

mod whiten;

use crate::isa::Isa;
use crate::memory::scratch;
use crate::rows::for_rows;
use whiten::Whiten;

/// A Gaussian for each position of a grid.
#[derive(Clone, Copy, Debug)]
pub struct Gaussians<'a> {
    /// Rows and columns.
    pub grid: [usize; 2],
    /// Numbers of a feature, d.
    pub dimension: usize,
    /// `[rows * columns, d]`.
    pub means: &'a [f32],
    /// For each position the rows of the lower triangle of W, the inverse of the Cholesky factor of
    /// the covariance: `[rows * columns, d * (d + 1) / 2]`. The distance is `|W (x - mean)|`.
    pub factors: &'a [f32],
}

/// Distances of `features`, `[batch, rows, columns, d]`, each the smallest to a Gaussian at most
/// `search` rows and columns away, into `out`, `[batch, rows, columns]`. With `search` 0 each feature
/// meets the Gaussian of its own position only.
///
/// Each Gaussian is read once, for all images and all features around it.
///
/// # Panics
/// If a slice does not fit its shape.
pub fn distances(
    isa: Isa,
    gaussians: &Gaussians<'_>,
    features: &[f32],
    batch: usize,
    search: usize,
    out: &mut [f32],
) {
    let [rows, columns] = gaussians.grid;
    let (positions, dimension) = (rows * columns, gaussians.dimension);
    let triangle = dimension * (dimension + 1) / 2;
    assert_eq!(
        gaussians.means.len(),
        positions * dimension,
        "means of Gaussians"
    );
    assert_eq!(
        gaussians.factors.len(),
        positions * triangle,
        "factors of Gaussians"
    );
    assert_eq!(features.len(), batch * positions * dimension, "features");
    assert_eq!(out.len(), batch * positions, "distances");
    if out.is_empty() {
        return;
    }
    let window = Neighbourhood {
        grid: gaussians.grid,
        reach: search.min(rows.max(columns) - 1),
        batch,
    };
    // Squared distances: for each Gaussian, for each offset of its window, for each image.
    let seen = window.offsets() * batch;
    let mut squares = vec![f32::INFINITY; positions * seen];
    let work = triangle + seen * (dimension + triangle / 8);
    for_rows(&mut squares, seen, work, |first, squares| {
        // Outside of the kernel: what a function calls back does not get its instruction set.
        scratch(Whiten::room(isa, dimension), |centred| {
            centred.fill(0.0);
            isa.run(Whiten {
                gaussians,
                features,
                window: &window,
                first,
                squares,
                centred,
            });
        });
    });
    for_rows(out, 1, window.offsets(), |first, out| {
        for (index, out) in out.iter_mut().enumerate() {
            let (image, position) = ((first + index) / positions, (first + index) % positions);
            let mut least = f32::INFINITY;
            // The Gaussian that saw this pixel at an offset lies as far on the other side.
            window.around(position, |offset, gaussian| {
                let offset = window.offsets() - 1 - offset;
                let square = squares[gaussian * seen + offset * batch + image];
                // A distance that is not a number wins: it must not be lost.
                least = if square >= least { least } else { square };
            });
            *out = least.sqrt();
        }
    });
}

/// Which positions are near which.
struct Neighbourhood {
    grid: [usize; 2],
    reach: usize,
    batch: usize,
}

impl Neighbourhood {
    fn side(&self) -> usize {
        2 * self.reach + 1
    }

    fn offsets(&self) -> usize {
        self.side() * self.side()
    }

    /// Visits the positions around `position`, itself among them, with the number of their offset.
    #[inline(always)]
    fn around(&self, position: usize, mut visit: impl FnMut(usize, usize)) {
        let [rows, columns] = self.grid;
        let (row, column) = (position / columns, position % columns);
        let near = |place: usize, size: usize| {
            place.saturating_sub(self.reach)..(place + self.reach + 1).min(size)
        };
        for y in near(row, rows) {
            for x in near(column, columns) {
                let offset = (y + self.reach - row) * self.side() + x + self.reach - column;
                visit(offset, y * columns + x);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, draw};
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    #[test]
    fn the_smallest_distance_in_the_window_is_found() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        for isa in Isa::available() {
            for case in testing::cases(40) {
                let grid = [rng.random_range(1..6), rng.random_range(1..7)];
                let dimension = rng.random_range(1..testing::most(if case < 30 { 24 } else { 90 }));
                let batch = rng.random_range(1..if case < 36 { 4 } else { 12 });
                let search = rng.random_range(0..4);
                let positions = grid[0] * grid[1];
                let triangle = dimension * (dimension + 1) / 2;
                let means = draw(&mut rng, positions * dimension);
                let factors = draw(&mut rng, positions * triangle);
                let features = draw(&mut rng, batch * positions * dimension);
                let gaussians = Gaussians {
                    grid,
                    dimension,
                    means: &means,
                    factors: &factors,
                };
                let mut found = vec![f32::NAN; batch * positions];
                distances(isa, &gaussians, &features, batch, search, &mut found);
                let one = |pixel: usize, gaussian: usize| -> f64 {
                    let mut factor = factors[gaussian * triangle..].iter();
                    let mut total = 0.0;
                    for row in 0..dimension {
                        let mut dot = 0.0;
                        for column in 0..=row {
                            let x = f64::from(features[pixel * dimension + column]);
                            let mean = f64::from(means[gaussian * dimension + column]);
                            dot += f64::from(*factor.next().expect("in the triangle")) * (x - mean);
                        }
                        total += dot * dot;
                    }
                    total.sqrt()
                };
                for (at, &found) in found.iter().enumerate() {
                    let (row, column) = (at % positions / grid[1], at % grid[1]);
                    let near = |other: &usize| {
                        let (y, x) = (other / grid[1], other % grid[1]);
                        y.abs_diff(row) <= search && x.abs_diff(column) <= search
                    };
                    let all = (0..positions)
                        .filter(near)
                        .map(|gaussian| one(at, gaussian));
                    let expected = all.fold(f64::INFINITY, f64::min);
                    let error = (f64::from(found) - expected).abs();
                    // Sums of up to 90 products of size 1 below the root of a sum of squares.
                    assert!(
                        error < 2e-6 * (1.0 + expected),
                        "{isa} {grid:?} {dimension} {error}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_not_a_number_stays_visible() {
        for isa in Isa::available() {
            let gaussians = Gaussians {
                grid: [2, 2],
                dimension: 1,
                means: &[0.0; 4],
                factors: &[1.0, 2.0, 3.0, 4.0],
            };
            let mut out = [0.0; 4];
            distances(isa, &gaussians, &[f32::NAN, 2.0, 3.0, -4.0], 1, 1, &mut out);
            assert!(out[0].is_nan(), "{isa}");
            assert_eq!(out[1..], [2.0, 3.0, 4.0], "{isa}");
        }
    }

    #[test]
    #[should_panic(expected = "factors of Gaussians")]
    fn a_wrong_number_of_factors_is_refused() {
        let gaussians = Gaussians {
            grid: [1, 1],
            dimension: 2,
            means: &[0.0; 2],
            factors: &[0.0; 4],
        };
        distances(Isa::best(), &gaussians, &[0.0; 2], 1, 0, &mut [0.0]);
    }
}
