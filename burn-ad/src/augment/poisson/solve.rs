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

/// Residual at which the solution is good for 8-bit pixels, relative to that of a flat start.
const TOLERANCE: f64 = 1e-4;
/// Boxes with a side below this have no coarser one.
const COARSEST: usize = 12;
/// Smoothing steps before and after the coarser grid, and where there is none.
const SWEEPS: usize = 2;
const COARSEST_SWEEPS: usize = 24;

/// Where a blend is unknown in a box, and its neighbourhood; the same for all channels.
pub(super) struct Domain {
    width: usize,
    height: usize,
    /// Places in the box, row by row.
    unknowns: Vec<usize>,
    /// For each of them the four neighbours' places.
    neighbours: Vec<[usize; 4]>,
    /// For each place of the box its number among the unknowns.
    number: Vec<Option<u32>>,
    /// Every other column and row.
    coarser: Option<Box<Domain>>,
}

impl Domain {
    /// The pixels of a `width` x `height` box for which `inside` says so, except the outermost ones,
    /// which keep the target's values.
    pub(super) fn new(width: usize, height: usize, inside: &dyn Fn(usize, usize) -> bool) -> Self {
        let mut domain = Self {
            width,
            height,
            unknowns: Vec::new(),
            neighbours: Vec::new(),
            number: vec![None; width * height],
            coarser: None,
        };
        for y in 1..height.saturating_sub(1) {
            for x in 1..width.saturating_sub(1) {
                if inside(x, y) {
                    let place = y * width + x;
                    // A box of more than 2^32 pixels is no image.
                    domain.number[place] = Some(domain.unknowns.len() as u32);
                    domain.unknowns.push(place);
                    let neighbours = [place - width, place - 1, place + 1, place + width];
                    domain.neighbours.push(neighbours);
                }
            }
        }
        if width.min(height) >= COARSEST {
            let unknown = |x, y| domain.number[domain.fine(x, y)].is_some();
            domain.coarser = Some(Box::new(Self::new(width / 2 + 1, height / 2 + 1, &unknown)));
        }
        domain
    }

    /// The place in this box of a column and row of the coarser one.
    fn fine(&self, x: usize, y: usize) -> usize {
        (2 * y).min(self.height - 1) * self.width + (2 * x).min(self.width - 1)
    }

    /// The places of the box that a blend may change.
    pub(super) fn places(&self) -> &[usize] {
        &self.unknowns
    }

    /// The values at [`places`](Self::places) whose differences are those of `source` (or as
    /// `gradients` says) as far as possible, and which join `target` around the domain.
    pub(super) fn blend(&self, source: &[f64], target: &[f64], gradients: Gradients) -> Vec<f64> {
        // Solved for what is added to the source: where its own differences are kept, that is smooth.
        let edge: Vec<f64> = target.iter().zip(source).map(|(t, s)| t - s).collect();
        let mut load = vec![0.0; edge.len()];
        if gradients == Gradients::Mixed {
            for (&here, neighbours) in self.unknowns.iter().zip(&self.neighbours) {
                for &there in neighbours {
                    let (own, kept) = (source[here] - source[there], target[here] - target[there]);
                    if kept.abs() > own.abs() {
                        load[here] += kept - own;
                    }
                }
            }
        }
        let added = self.solve(&edge, &load);
        let sums = self.unknowns.iter().zip(added);
        sums.map(|(&place, added)| source[place] + added).collect()
    }

    /// The values at the unknown places of which four times each, less its neighbours, is `load`;
    /// `edge` has the values at all other places.
    ///
    /// Conjugate gradients, preconditioned by a multigrid cycle: the number of steps hardly grows
    /// with the size of the patch (about ten).
    fn solve(&self, edge: &[f64], load: &[f64]) -> Vec<f64> {
        let mut right: Vec<f64> = self.unknowns.iter().map(|&place| load[place]).collect();
        let (mut sum, mut count) = (0.0, 0.0);
        for (right, neighbours) in right.iter_mut().zip(&self.neighbours) {
            for &place in neighbours {
                if self.number[place].is_none() {
                    *right += edge[place];
                    sum += edge[place];
                    count += 1.0;
                }
            }
        }
        if right.is_empty() {
            return right;
        }
        let mut solution = vec![sum / count; right.len()];
        let mut residual = self.residual(&right, &solution);
        let enough = TOLERANCE * TOLERANCE * product(&residual, &residual);
        let mut direction = vec![0.0; right.len()];
        let mut image = vec![0.0; right.len()];
        let mut size = 1.0;
        // Many times what is ever needed.
        for _ in 0..1000 {
            if product(&residual, &residual) <= enough {
                break;
            }
            let improved = self.cycle(&residual);
            let new_size = product(&residual, &improved);
            for (direction, improved) in direction.iter_mut().zip(&improved) {
                *direction = improved + new_size / size * *direction;
            }
            size = new_size;
            self.laplacian(&direction, &mut image);
            let step = size / product(&direction, &image);
            for i in 0..solution.len() {
                solution[i] += step * direction[i];
                residual[i] -= step * image[i];
            }
        }
        solution
    }

    /// An approximate solution for a right side, with 0 all around: a symmetric V-cycle.
    fn cycle(&self, right: &[f64]) -> Vec<f64> {
        let mut solution = vec![0.0; right.len()];
        let Some(coarser) = &self.coarser else {
            self.smooth(&mut solution, right, COARSEST_SWEEPS);
            return solution;
        };
        self.smooth(&mut solution, right, SWEEPS);
        let rest = self.residual(right, &solution);
        let correction = coarser.cycle(&self.gathered(coarser, &rest));
        self.spread(coarser, &correction, &mut solution);
        self.smooth(&mut solution, right, SWEEPS);
        solution
    }

    /// Damped Jacobi steps.
    fn smooth(&self, solution: &mut [f64], right: &[f64], sweeps: usize) {
        for _ in 0..sweeps {
            let residual = self.residual(right, solution);
            for (value, residual) in solution.iter_mut().zip(residual) {
                *value += 0.8 / 4.0 * residual;
            }
        }
    }

    /// The columns, or rows, of the coarser box that a column or row of this one lies between.
    fn between(at: usize) -> [usize; 2] {
        [at / 2, at.div_ceil(2)]
    }

    /// Adds the coarser grid's values, interpolated.
    fn spread(&self, coarser: &Self, values: &[f64], solution: &mut [f64]) {
        self.for_each_coarse(coarser, |fine, coarse| {
            solution[fine] += 0.25 * values[coarse]
        });
    }

    /// Sums onto the coarser grid, whose spacing is doubled: the transpose of [`spread`](Self::spread).
    fn gathered(&self, coarser: &Self, values: &[f64]) -> Vec<f64> {
        let mut sums = vec![0.0; coarser.unknowns.len()];
        self.for_each_coarse(coarser, |fine, coarse| sums[coarse] += 0.25 * values[fine]);
        sums
    }

    /// Each unknown with the four unknowns around it in the coarser box, some of them the same.
    fn for_each_coarse(&self, coarser: &Self, mut visit: impl FnMut(usize, usize)) {
        for (fine, place) in self.unknowns.iter().enumerate() {
            for y in Self::between(place / self.width) {
                for x in Self::between(place % self.width) {
                    if let Some(coarse) = coarser.number[y * coarser.width + x] {
                        visit(fine, coarse as usize);
                    }
                }
            }
        }
    }

    fn residual(&self, right: &[f64], solution: &[f64]) -> Vec<f64> {
        let mut image = vec![0.0; solution.len()];
        self.laplacian(solution, &mut image);
        right.iter().zip(&image).map(|(b, a)| b - a).collect()
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

fn product(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests;
