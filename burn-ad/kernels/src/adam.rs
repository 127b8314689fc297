//! Steps of Adam.

use pulp::{Simd, WithSimd};

use crate::Isa;

/// The numbers of one step, the same for all values of a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Factors on the running means of gradients, and of their squares.
    pub betas: [f64; 2],
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
    /// Learning rate divided by `1 - beta_1^t`.
    pub rate: f64,
    /// `sqrt(1 - beta_2^t)`.
    pub root: f64,
    /// Added to the root of the mean square.
    pub epsilon: f64,
}

/// Moves `values` down `gradient` and updates the running `means` of gradients and `squares`.
///
/// # Panics
/// If the slices differ in length.
pub fn step(
    isa: Isa,
    step: &Step,
    values: &mut [f32],
    gradient: &[f32],
    means: &mut [f32],
    squares: &mut [f32],
) {
    let count = values.len();
    assert!(
        [gradient.len(), means.len(), squares.len()] == [count; 3],
        "one gradient, mean and square a value"
    );
    isa.run(Kernel {
        step,
        values,
        gradient,
        means,
        squares,
    });
}

struct Kernel<'a> {
    step: &'a Step,
    values: &'a mut [f32],
    gradient: &'a [f32],
    means: &'a mut [f32],
    squares: &'a mut [f32],
}

impl WithSimd for Kernel<'_> {
    type Output = ();

    /// Element by element: the compiler works on as many at once as the instructions allow.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Step {
            betas: [beta_1, beta_2],
            weight_decay,
            rate,
            root,
            epsilon,
        } = *self.step;
        let single = |value: f64| value as f32;
        let (share_1, share_2) = (single(1.0 - beta_1), single(1.0 - beta_2));
        let (beta_1, beta_2) = (single(beta_1), single(beta_2));
        let (rate, root) = (single(rate), single(root));
        let (decay, epsilon) = (single(weight_decay), single(epsilon));
        let moments = self.means.iter_mut().zip(self.squares);
        let values = self.values.iter_mut().zip(self.gradient);
        for ((value, gradient), (mean, square)) in values.zip(moments) {
            let gradient = gradient + decay * *value;
            *mean = beta_1 * *mean + share_1 * gradient;
            *square = beta_2 * *square + share_2 * gradient * gradient;
            *value -= rate * *mean / (square.sqrt() / root + epsilon);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_equal_the_definition() {
        let settings = |t: i32| Step {
            betas: [0.9, 0.99],
            weight_decay: 0.1,
            rate: 0.01 / (1.0 - 0.9f64.powi(t)),
            root: (1.0 - 0.99f64.powi(t)).sqrt(),
            epsilon: 1e-8,
        };
        for isa in Isa::available() {
            for count in [0, 1, 15, 67] {
                let gradient = |t: i32| -> Vec<f32> {
                    (0..count)
                        .map(|i| ((i as f32 + 1.0) * t as f32).sin())
                        .collect()
                };
                let mut values: Vec<f32> = (0..count).map(|i| i as f32 * 0.1 - 2.0).collect();
                let mut expected: Vec<[f64; 3]> =
                    values.iter().map(|&v| [f64::from(v), 0.0, 0.0]).collect();
                let (mut means, mut squares) = (vec![0.0; count], vec![0.0; count]);
                for t in 1..=3 {
                    let (now, gradient) = (settings(t), gradient(t));
                    step(isa, &now, &mut values, &gradient, &mut means, &mut squares);
                    for (place, gradient) in expected.iter_mut().zip(gradient) {
                        let gradient = f64::from(gradient) + 0.1 * place[0];
                        place[1] = 0.9 * place[1] + 0.1 * gradient;
                        place[2] = 0.99 * place[2] + 0.01 * gradient * gradient;
                        place[0] -= now.rate * place[1] / (place[2].sqrt() / now.root + 1e-8);
                    }
                }
                for (value, [expected, ..]) in values.iter().zip(expected) {
                    // A step is about 0.01; a few roundings of steps and values up to 5.
                    assert!(
                        (f64::from(*value) - expected).abs() < 2e-6,
                        "{isa}: {value}, {expected}"
                    );
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "one gradient")]
    fn other_lengths_are_refused() {
        let now = Step {
            betas: [0.9; 2],
            weight_decay: 0.0,
            rate: 1.0,
            root: 1.0,
            epsilon: 1e-8,
        };
        let (mut a, mut b, mut c) = ([0.0; 3], [0.0; 3], [0.0; 3]);
        step(Isa::best(), &now, &mut a, &[0.0; 2], &mut b, &mut c);
    }
}
