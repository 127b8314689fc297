//! Gradients of a normalisation by the moments of its own input.

use pulp::{Simd, WithSimd};

use super::{Moments, Norm};
use crate::activation::Activation;
use crate::isa::Isa;
use crate::rows::{for_rows, for_rows_of_two};
use crate::simd_math::{before_activation, mul_add};
use crate::sums::{BLOCK, lanes, sum_rows};
use crate::vector::{by_registers, read, write};

/// Gradients with respect to scale and offset, `[channels]` each.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients {
    /// With respect to the scale.
    pub scale: Vec<f32>,
    /// With respect to the offset.
    pub offset: Vec<f32>,
}

/// Gradients of [`forward`](super::forward()): writes that with respect to `x` to `grad_x` and, if
/// wanted, that with respect to the residual to `grad_residual`; returns the others.
///
/// `y` is what `forward` gave: the activation's slope is read from it (at 0 it is the slope to the
/// left). For `Identity` it is not read and may be empty.
///
/// # Panics
/// If a slice does not fit the size. If the activation is `Swish`, whose slope is not in `y`.
pub fn backward(
    isa: Isa,
    (x, y, grad): (&[f32], &[f32], &[f32]),
    norm: &Norm<'_>,
    moments: &Moments,
    grad_x: &mut [f32],
    grad_residual: Option<&mut [f32]>,
) -> Gradients {
    let (size, activation) = (norm.size, norm.activation);
    let (rows, channels) = (size.rows, size.channels);
    assert_eq!(x.len(), size.len(), "values to normalise");
    assert_eq!(grad.len(), size.len(), "gradients of normalised values");
    assert_eq!(grad_x.len(), size.len(), "gradients of values to normalise");
    assert!(
        activation != Activation::Swish,
        "the slope of swish is not in its result"
    );
    // Where it is not read, something of the right length stands for it.
    let y = if activation == Activation::Identity {
        grad
    } else {
        y
    };
    assert_eq!(y.len(), size.len(), "normalised values");
    norm.check();
    moments.check(size);
    let sums = sum_rows(
        size.groups,
        rows,
        3 * channels,
        2 * channels,
        |first, count, out| {
            let range = first * channels..(first + count) * channels;
            let group = first / rows * channels;
            isa.run(Sums {
                x: &x[range.clone()],
                y: &y[range.clone()],
                grad: &grad[range],
                mean: &moments.mean[group..][..channels],
                activation,
                out,
            });
        },
    );
    let count = size.groups * channels;
    let new = || Vec::with_capacity(count);
    let (mut through, mut slope, mut shift) = (new(), new(), new());
    let (mut scale, mut offset) = (vec![0.0f64; channels], vec![0.0f64; channels]);
    for at in 0..count {
        let (group, channel) = (at / channels, at % channels);
        let sums = &sums[group * 2 * channels..][..2 * channels];
        // Sums of g and of g * (x - mean); the mean's rounding is made up for.
        let sum = sums[channel];
        let product = sums[channels + channel] - sum * f64::from(moments.rest[at]);
        let inv_std = f64::from(moments.inv_std[at]);
        scale[channel] += product * inv_std;
        offset[channel] += sum;
        let factor = norm.scale(channel) * inv_std;
        let bend = -factor * inv_std * inv_std * product / rows as f64;
        through.push(factor as f32);
        slope.push(bend as f32);
        shift.push((-factor * sum / rows as f64 - bend * f64::from(moments.rest[at])) as f32);
    }
    let one = |first: usize, grad_x: &mut [f32], grad_residual: &mut [f32]| {
        let range = first * channels..first * channels + grad_x.len();
        isa.run(Spread {
            x: &x[range.clone()],
            y: &y[range.clone()],
            grad: &grad[range],
            mean: &moments.mean,
            through: &through,
            slope: &slope,
            shift: &shift,
            activation,
            channels,
            rows,
            first,
            grad_x,
            grad_residual,
        });
    };
    match grad_residual {
        None => for_rows(grad_x, channels, 4 * channels, |first, grad_x| {
            one(first, grad_x, &mut []);
        }),
        Some(grad_residual) => {
            assert_eq!(grad_residual.len(), size.len(), "gradients of a residual");
            for_rows_of_two(
                (grad_x, grad_residual),
                (channels, channels),
                5 * channels,
                one,
            );
        }
    }
    let narrow = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
    Gradients {
        scale: narrow(scale),
        offset: narrow(offset),
    }
}

/// Adds the sums of g (first half of `out`) and of g * (x - mean) (second half).
struct Sums<'a> {
    x: &'a [f32],
    y: &'a [f32],
    grad: &'a [f32],
    mean: &'a [f32],
    activation: Activation,
    out: &'a mut [f64],
}

impl WithSimd for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let channels = self.mean.len();
        let (sums, products) = self.out.split_at_mut(channels);
        for first in (0..self.x.len()).step_by(BLOCK * channels) {
            let last = (first + BLOCK * channels).min(self.x.len());
            by_registers!(S, channels, 4, |range, N| {
                let mean = read::<S, N>(simd, &self.mean[range.clone()]);
                let mut sum = [simd.splat_f32s(0.0); N];
                let mut product = sum;
                for row in (first..last).step_by(channels) {
                    let x = read::<S, N>(simd, &self.x[row..][range.clone()]);
                    let y = read::<S, N>(simd, &self.y[row..][range.clone()]);
                    let grad = read::<S, N>(simd, &self.grad[row..][range.clone()]);
                    for n in 0..N {
                        let grad = before_activation(simd, self.activation, y[n], grad[n]);
                        sum[n] = simd.add_f32s(sum[n], grad);
                        let x = simd.sub_f32s(x[n], mean[n]);
                        product[n] = mul_add(simd, grad, x, product[n]);
                    }
                }
                let totals = sums[range.clone()].iter_mut().zip(&mut products[range]);
                let parts = lanes::<S, N>(&sum).iter().zip(lanes::<S, N>(&product));
                for ((total, totals), (&sum, &product)) in totals.zip(parts) {
                    *total += f64::from(sum);
                    *totals += f64::from(product);
                }
            });
        }
    }
}

/// `grad_x = g * through + (x - mean) * slope + shift`, `grad_residual = g`.
struct Spread<'a> {
    x: &'a [f32],
    y: &'a [f32],
    grad: &'a [f32],
    mean: &'a [f32],
    through: &'a [f32],
    slope: &'a [f32],
    shift: &'a [f32],
    activation: Activation,
    channels: usize,
    rows: usize,
    first: usize,
    grad_x: &'a mut [f32],
    grad_residual: &'a mut [f32],
}

impl WithSimd for Spread<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let channels = self.channels;
        for (index, grad_x) in self.grad_x.chunks_exact_mut(channels).enumerate() {
            let row = index * channels;
            let group = (self.first + index) / self.rows * channels;
            by_registers!(S, channels, 2, |range, N| {
                let here = row + range.start..row + range.end;
                let channel = group + range.start..group + range.end;
                let x = read::<S, N>(simd, &self.x[here.clone()]);
                let y = read::<S, N>(simd, &self.y[here.clone()]);
                let mut grad = read::<S, N>(simd, &self.grad[here.clone()]);
                let mean = read::<S, N>(simd, &self.mean[channel.clone()]);
                let through = read::<S, N>(simd, &self.through[channel.clone()]);
                let slope = read::<S, N>(simd, &self.slope[channel.clone()]);
                let shift = read::<S, N>(simd, &self.shift[channel]);
                let mut out = x;
                for n in 0..N {
                    grad[n] = before_activation(simd, self.activation, y[n], grad[n]);
                    let x = simd.sub_f32s(x[n], mean[n]);
                    out[n] = mul_add(simd, x, slope[n], shift[n]);
                    out[n] = mul_add(simd, grad[n], through[n], out[n]);
                }
                write::<S, N>(simd, &mut grad_x[range], out);
                if !self.grad_residual.is_empty() {
                    write::<S, N>(simd, &mut self.grad_residual[here], grad);
                }
            });
        }
    }
}
