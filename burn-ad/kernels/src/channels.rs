//! Means and gates of channels, as squeeze-and-excitation needs them, and elementwise work.

use pulp::{Simd, WithSimd};

use crate::activation::Activation;
use crate::isa::Isa;
use crate::rows::for_rows;
use crate::simd_math::{self, mul_add};
use crate::sums::{BLOCK, lanes, sum_rows};
use crate::vector::{by_registers, read, write};
use crate::window::Map;

/// Mean over the positions of each image and channel, `[batch, channels]`.
///
/// # Panics
/// If a slice does not fit the map.
pub fn mean(isa: Isa, x: &[f32], map: Map, out: &mut [f32]) {
    assert_eq!(x.len(), map.len(), "values of a mean");
    let positions = (map.height * map.width).max(1) as f64;
    let sums = sum_positions(isa, x, None, map);
    assert_eq!(out.len(), sums.len(), "means");
    for (out, sum) in out.iter_mut().zip(sums) {
        *out = (sum / positions) as f32;
    }
}

/// Sum over all rows of `[rows, channels]`: the gradient of a bias.
///
/// # Panics
/// If `x` is no whole number of rows of the length of `out`.
pub fn sum(isa: Isa, x: &[f32], out: &mut [f32]) {
    let map = Map {
        batch: 1,
        height: x.len().checked_div(out.len()).unwrap_or(0),
        width: 1,
        channels: out.len(),
    };
    assert_eq!(x.len(), map.len(), "values of a sum");
    for (out, sum) in out.iter_mut().zip(sum_positions(isa, x, None, map)) {
        *out = sum as f32;
    }
}

/// Sum of `a * b` over the positions of each image and channel, `[batch, channels]`: the gradient
/// with respect to the gate of [`scale`].
///
/// # Panics
/// If a slice does not fit the map.
pub fn dot(isa: Isa, a: &[f32], b: &[f32], map: Map, out: &mut [f32]) {
    assert_eq!(a.len(), map.len(), "left values of a product");
    assert_eq!(b.len(), map.len(), "right values of a product");
    let sums = sum_positions(isa, a, Some(b), map);
    assert_eq!(out.len(), sums.len(), "sums of products");
    for (out, sum) in out.iter_mut().zip(sums) {
        *out = sum as f32;
    }
}

fn sum_positions(isa: Isa, a: &[f32], b: Option<&[f32]>, map: Map) -> Vec<f64> {
    let (positions, channels) = (map.height * map.width, map.channels);
    sum_rows(
        map.batch,
        positions,
        channels,
        channels,
        |first, count, out| {
            let range = first * channels..(first + count) * channels;
            isa.run(Sums {
                a: &a[range.clone()],
                b: b.map(|b| &b[range]),
                out,
            });
        },
    )
}

/// `out = x * gate`, with one gate for each image and channel (`[batch, channels]`).
///
/// # Panics
/// If a slice does not fit the map.
pub fn scale(isa: Isa, x: &[f32], map: Map, gate: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), map.len(), "values to scale");
    scale_from(isa, Some(x), map, gate, out);
}

/// [`scale`] in place.
///
/// # Panics
/// If a slice does not fit the map.
pub fn scale_in_place(isa: Isa, x: &mut [f32], map: Map, gate: &[f32]) {
    scale_from(isa, None, map, gate, x);
}

fn scale_from(isa: Isa, x: Option<&[f32]>, map: Map, gate: &[f32], out: &mut [f32]) {
    let (positions, channels) = (map.height * map.width, map.channels);
    assert_eq!(out.len(), map.len(), "scaled values");
    assert_eq!(gate.len(), map.batch * channels, "gates");
    for_rows(out, channels, 2 * channels, |first, out| {
        isa.run(Scale {
            x: x.map(|x| &x[first * channels..][..out.len()]),
            gate,
            positions,
            channels,
            first,
            out,
        });
    });
}

/// The activation of every value, in place.
pub fn activate(isa: Isa, values: &mut [f32], activation: Activation) {
    for_rows(values, 1, 2, |_, values| {
        isa.run(Elementwise {
            operation: Operation::Activate(activation),
            out: values,
        });
    });
}

/// The gradient before an activation from that behind it; `y` is what [`activate`] gave, at 0 the slope
/// is the one to the left.
///
/// # Panics
/// If lengths differ. If the activation is `Swish`, whose slope is not in its result.
pub fn activate_backward(
    isa: Isa,
    y: &[f32],
    grad: &[f32],
    activation: Activation,
    out: &mut [f32],
) {
    assert!(
        y.len() == out.len() && grad.len() == out.len(),
        "lengths of gradients differ"
    );
    assert!(
        activation != Activation::Swish,
        "the slope of swish is not in its result"
    );
    for_rows(out, 1, 3, |first, out| {
        let range = first..first + out.len();
        isa.run(Elementwise {
            operation: Operation::Before(activation, &y[range.clone()], &grad[range]),
            out,
        });
    });
}

/// `out = a + b`.
///
/// # Panics
/// If lengths differ.
pub fn add(isa: Isa, a: &[f32], b: &[f32], out: &mut [f32]) {
    assert!(
        a.len() == out.len() && b.len() == out.len(),
        "lengths of a sum differ"
    );
    for_rows(out, 1, 3, |first, out| {
        let range = first..first + out.len();
        isa.run(Elementwise {
            operation: Operation::Add(&a[range.clone()], &b[range]),
            out,
        });
    });
}

struct Sums<'a> {
    a: &'a [f32],
    b: Option<&'a [f32]>,
    out: &'a mut [f64],
}

impl WithSimd for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let channels = self.out.len();
        for first in (0..self.a.len()).step_by(BLOCK * channels) {
            let last = (first + BLOCK * channels).min(self.a.len());
            by_registers!(S, channels, 4, |range, N| {
                let mut sum = [simd.splat_f32s(0.0); N];
                for row in (first..last).step_by(channels) {
                    let a = read::<S, N>(simd, &self.a[row..][range.clone()]);
                    if let Some(b) = self.b {
                        let b = read::<S, N>(simd, &b[row..][range.clone()]);
                        for n in 0..N {
                            sum[n] = mul_add(simd, a[n], b[n], sum[n]);
                        }
                    } else {
                        for n in 0..N {
                            sum[n] = simd.add_f32s(sum[n], a[n]);
                        }
                    }
                }
                for (total, &sum) in self.out[range].iter_mut().zip(lanes::<S, N>(&sum)) {
                    *total += f64::from(sum);
                }
            });
        }
    }
}

struct Scale<'a> {
    x: Option<&'a [f32]>,
    gate: &'a [f32],
    positions: usize,
    channels: usize,
    first: usize,
    out: &'a mut [f32],
}

impl WithSimd for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let channels = self.channels;
        for (index, out) in self.out.chunks_exact_mut(channels).enumerate() {
            let image = (self.first + index) / self.positions;
            let gate = &self.gate[image * channels..][..channels];
            by_registers!(S, channels, 4, |range, N| {
                let mut values = match self.x {
                    Some(x) => read::<S, N>(simd, &x[index * channels..][range.clone()]),
                    None => read::<S, N>(simd, &out[range.clone()]),
                };
                let gate = read::<S, N>(simd, &gate[range.clone()]);
                for n in 0..N {
                    values[n] = simd.mul_f32s(values[n], gate[n]);
                }
                write::<S, N>(simd, &mut out[range], values);
            });
        }
    }
}

enum Operation<'a> {
    Activate(Activation),
    Add(&'a [f32], &'a [f32]),
    Before(Activation, &'a [f32], &'a [f32]),
}

struct Elementwise<'a> {
    operation: Operation<'a>,
    out: &'a mut [f32],
}

impl WithSimd for Elementwise<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let out = self.out;
        match self.operation {
            Operation::Activate(activation) => by_registers!(S, out.len(), 4, |range, N| {
                let mut values = read::<S, N>(simd, &out[range.clone()]);
                for value in &mut values {
                    *value = simd_math::activate(simd, activation, *value);
                }
                write::<S, N>(simd, &mut out[range], values);
            }),
            Operation::Add(a, b) => by_registers!(S, out.len(), 4, |range, N| {
                let mut values = read::<S, N>(simd, &a[range.clone()]);
                let b = read::<S, N>(simd, &b[range.clone()]);
                for n in 0..N {
                    values[n] = simd.add_f32s(values[n], b[n]);
                }
                write::<S, N>(simd, &mut out[range], values);
            }),
            Operation::Before(activation, y, grad) => by_registers!(S, out.len(), 4, |range, N| {
                let y = read::<S, N>(simd, &y[range.clone()]);
                let mut values = read::<S, N>(simd, &grad[range.clone()]);
                for n in 0..N {
                    values[n] = simd_math::before_activation(simd, activation, y[n], values[n]);
                }
                write::<S, N>(simd, &mut out[range], values);
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    fn draw(rng: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
        (0..count).map(|_| rng.random_range(-1.0..3.0)).collect()
    }

    /// Random maps with every instruction set; the last is large enough for threads.
    fn cases(mut check: impl FnMut(Isa, Map, &mut ChaCha8Rng)) {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        for isa in Isa::available() {
            for case in testing::cases(30) {
                let map = Map {
                    batch: rng.random_range(1..4),
                    height: if case == 29 {
                        45
                    } else {
                        rng.random_range(1..9)
                    },
                    width: if case == 29 {
                        33
                    } else {
                        rng.random_range(1..9)
                    },
                    channels: rng.random_range(1..testing::most(150)),
                };
                check(isa, map, &mut rng);
            }
        }
    }

    #[test]
    fn means_and_products_are_sums_over_positions() {
        cases(|isa, map, rng| {
            let (a, b) = (draw(rng, map.len()), draw(rng, map.len()));
            let positions = map.height * map.width;
            let count = map.batch * map.channels;
            let (mut means, mut dots) = (vec![0.0; count], vec![0.0; count]);
            mean(isa, &a, map, &mut means);
            dot(isa, &a, &b, map, &mut dots);
            let mut totals = vec![0.0; map.channels];
            sum(isa, &a, &mut totals);
            for (channel, &total) in totals.iter().enumerate() {
                let means = means[channel..].iter().step_by(map.channels);
                let expected = means.map(|&mean| f64::from(mean)).sum::<f64>() * positions as f64;
                let error = (f64::from(total) - expected).abs();
                assert!(
                    error < 1e-6 * (1.0 + 3.0 * (map.batch * positions) as f64),
                    "{isa}"
                );
            }
            for at in 0..count {
                let (image, channel) = (at / map.channels, at % map.channels);
                let place = |p: usize| (image * positions + p) * map.channels + channel;
                let sum: f64 = (0..positions).map(|p| f64::from(a[place(p)])).sum();
                let product = |p: usize| f64::from(a[place(p)]) * f64::from(b[place(p)]);
                let dot: f64 = (0..positions).map(product).sum();
                // Sums of 32 values of size 3, and their products.
                let error = (f64::from(means[at]) - sum / positions as f64).abs();
                assert!(error < 2e-6, "{isa} {map:?} {error}");
                let error = (f64::from(dots[at]) - dot).abs();
                assert!(
                    error < 5e-6 * (1.0 + positions as f64),
                    "{isa} {map:?} {error}"
                );
            }
        });
    }

    #[test]
    fn gates_scale_their_channel() {
        cases(|isa, map, rng| {
            let (mut x, gate) = (draw(rng, map.len()), draw(rng, map.batch * map.channels));
            let mut out = vec![f32::NAN; map.len()];
            scale(isa, &x, map, &gate, &mut out);
            let positions = map.height * map.width;
            for (i, (&out, &x)) in out.iter().zip(&x).enumerate() {
                let (row, channel) = (i / map.channels, i % map.channels);
                let gate = gate[row / positions * map.channels + channel];
                assert_eq!(out, x * gate, "{isa} {map:?}");
            }
            scale_in_place(isa, &mut x, map, &gate);
            assert_eq!(x, out, "{isa} {map:?}");
        });
    }

    #[test]
    fn elementwise_work_reaches_every_value() {
        cases(|isa, map, rng| {
            let (a, b) = (draw(rng, map.len()), draw(rng, map.len()));
            let mut out = vec![f32::NAN; map.len()];
            add(isa, &a, &b, &mut out);
            let sums = a.iter().zip(&b).map(|(a, b)| a + b);
            assert!(out.iter().copied().eq(sums), "{isa} {map:?}");
            let mut values = a.clone();
            let mut leaky = a.clone();
            activate(isa, &mut leaky, Activation::LeakyRelu(0.1));
            activate_backward(isa, &leaky, &b, Activation::LeakyRelu(0.1), &mut out);
            for ((&value, &grad), (&a, &b)) in leaky.iter().zip(&out).zip(a.iter().zip(&b)) {
                let slope = if a > 0.0 { 1.0 } else { 0.1 };
                assert_eq!((value, grad), (a * slope, b * slope), "{isa}");
            }
            activate(isa, &mut values, Activation::Relu);
            assert!(values.iter().zip(&a).all(|(&value, a)| value == a.max(0.0)));
            activate(isa, &mut values, Activation::Swish);
            for (&value, a) in values.iter().zip(&a) {
                let expected = a.max(0.0) / (1.0 + (-a.max(0.0)).exp());
                assert!((value - expected).abs() < 2e-6, "{isa}");
            }
        });
    }
}
