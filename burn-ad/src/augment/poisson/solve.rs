//! Poisson image editing on one channel.
//!
//! Source: Perez, Gangnet, Blake, "Poisson image editing" (SIGGRAPH 2003), equations 7 and 12.

/// Whose differences between neighbours the blend keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gradients {
    /// The patch's.
    #[default]
    Source,
    /// Between any two neighbours the larger one of the patch's and the normal image's.
    Mixed,
}

/// Relative to the start, the residual at which the solution is good for 8-bit pixels.
const TOLERANCE: f64 = 1e-5;

/// Where a blend is unknown in a box, and its neighbourhood; the same for all channels.
pub(super) struct Domain {
    /// Places in the box, row by row.
    unknowns: Vec<usize>,
    /// For each of them the four neighbours' places.
    neighbours: Vec<[usize; 4]>,
    /// For each place of the box its number among the unknowns.
    number: Vec<Option<u32>>,
    /// Most steps of the solver.
    steps: usize,
}

impl Domain {
    /// The pixels of a `width` x `height` box for which `inside` says so, except the outermost ones,
    /// which keep the target's values.
    pub(super) fn new(width: usize, height: usize, inside: impl Fn(usize, usize) -> bool) -> Self {
        let mut domain = Self {
            unknowns: Vec::new(),
            neighbours: Vec::new(),
            number: vec![None; width * height],
            steps: 8 * (width + height),
        };
        for y in 1..height.saturating_sub(1) {
            for x in 1..width.saturating_sub(1) {
                if inside(x, y) {
                    let place = y * width + x;
                    // A box of more than 2^32 pixels is no image.
                    domain.number[place] = Some(domain.unknowns.len() as u32);
                    domain.unknowns.push(place);
                    domain
                        .neighbours
                        .push([place - width, place - 1, place + 1, place + width]);
                }
            }
        }
        domain
    }

    /// The places of the box that a blend may change.
    pub(super) fn places(&self) -> &[usize] {
        &self.unknowns
    }

    /// The values at [`places`](Self::places) whose differences are those of `source` (or as
    /// `gradients` says) as far as possible, and which join `target` around the domain.
    pub(super) fn blend(&self, source: &[f64], target: &[f64], gradients: Gradients) -> Vec<f64> {
        let wanted = |here: usize, there: usize| {
            let (own, kept) = (source[here] - source[there], target[here] - target[there]);
            match gradients {
                Gradients::Mixed if kept.abs() > own.abs() => kept,
                _ => own,
            }
        };
        let fixed = |place: usize| self.number[place].is_none();
        // Sum over the neighbours of (value - neighbour - wanted difference) = 0.
        let right: Vec<f64> = self
            .unknowns
            .iter()
            .zip(&self.neighbours)
            .map(|(&here, neighbours)| {
                let terms = neighbours.iter().map(|&there| {
                    wanted(here, there) + if fixed(there) { target[there] } else { 0.0 }
                });
                terms.sum()
            })
            .collect();
        let edge = self
            .neighbours
            .iter()
            .flatten()
            .filter(|&&place| fixed(place));
        let (sum, count) = edge.fold((0.0, 0.0), |(sum, count), &place| {
            (sum + target[place] - source[place], count + 1.0)
        });
        let lift = if count > 0.0 { sum / count } else { 0.0 };
        let start = self
            .unknowns
            .iter()
            .map(|&place| source[place] + lift)
            .collect();
        self.conjugate_gradients(&right, start)
    }

    fn conjugate_gradients(&self, right: &[f64], mut solution: Vec<f64>) -> Vec<f64> {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let mut image = vec![0.0; solution.len()];
        self.laplacian(&solution, &mut image);
        let mut residual: Vec<f64> = right.iter().zip(&image).map(|(b, a)| b - a).collect();
        let mut direction = residual.clone();
        let mut size = dot(&residual, &residual);
        let enough = TOLERANCE * TOLERANCE * size;
        for _ in 0..self.steps {
            if size <= enough {
                break;
            }
            self.laplacian(&direction, &mut image);
            let step = size / dot(&direction, &image);
            for i in 0..solution.len() {
                solution[i] += step * direction[i];
                residual[i] -= step * image[i];
            }
            let new_size = dot(&residual, &residual);
            for (direction, residual) in direction.iter_mut().zip(&residual) {
                *direction = residual + new_size / size * *direction;
            }
            size = new_size;
        }
        solution
    }

    /// Four times each value less its unknown neighbours.
    fn laplacian(&self, values: &[f64], out: &mut [f64]) {
        for ((out, neighbours), value) in out.iter_mut().zip(&self.neighbours).zip(values) {
            *out = 4.0 * value;
            for &place in neighbours {
                if let Some(number) = self.number[place] {
                    *out -= values[number as usize];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH: usize = 24;
    const HEIGHT: usize = 17;

    fn plane(value: impl Fn(f64, f64) -> f64) -> Vec<f64> {
        (0..WIDTH * HEIGHT)
            .map(|place| value((place % WIDTH) as f64, (place / WIDTH) as f64))
            .collect()
    }

    fn worst(domain: &Domain, got: &[f64], expected: &[f64]) -> f64 {
        let differences = domain
            .places()
            .iter()
            .zip(got)
            .map(|(&place, got)| (got - expected[place]).abs());
        differences.fold(0.0, f64::max)
    }

    #[test]
    fn a_source_that_differs_by_a_harmonic_function_becomes_the_target() {
        let bump = |x: f64, y: f64| 20.0 * (x * 0.7).sin() * (y * 0.4).cos() + 90.0;
        let source = plane(bump);
        // x^2 - y^2 has no Laplacian, on the grid as in the plane.
        let target = plane(|x, y| bump(x, y) + 0.3 * (x * x - y * y) - 2.0 * x + 30.0);
        for inside in [
            |_, _| true,
            |x: usize, y: usize| !(x + 2 * y).is_multiple_of(7),
        ] {
            let domain = Domain::new(WIDTH, HEIGHT, inside);
            let blended = domain.blend(&source, &target, Gradients::Source);
            let worst = worst(&domain, &blended, &target);
            assert!(worst < 0.05, "{worst}");
        }
    }

    #[test]
    fn a_flat_source_leaves_no_extremum_and_mixing_leaves_the_target() {
        let target = plane(|x, y| 100.0 + 40.0 * (x * 0.9).sin() + 30.0 * (y * 1.3).sin());
        let flat = plane(|_, _| 7.0);
        let domain = Domain::new(WIDTH, HEIGHT, |_, _| true);
        let (low, high) = target
            .iter()
            .fold((f64::MAX, f64::MIN), |(low, high), &value| {
                (low.min(value), high.max(value))
            });
        let smooth = domain.blend(&flat, &target, Gradients::Source);
        assert!(
            smooth
                .iter()
                .all(|value| (low - 0.01..high + 0.01).contains(value))
        );
        assert!(worst(&domain, &smooth, &target) > 10.0);
        let mixed = domain.blend(&flat, &target, Gradients::Mixed);
        assert!(worst(&domain, &mixed, &target) < 0.05);
    }

    #[test]
    fn small_boxes_have_no_unknowns() {
        for (width, height) in [(0, 0), (1, 5), (2, 2), (3, 2)] {
            assert!(Domain::new(width, height, |_, _| true).places().is_empty());
        }
        let one = Domain::new(3, 3, |_, _| true);
        let blended = one.blend(&[0.0; 9], &[8.0; 9], Gradients::Source);
        assert_eq!(blended, [8.0]);
    }
}
