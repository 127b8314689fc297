//! Gradients of a layer normalisation.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{Layer, parts};
use crate::activation::Activation;
use crate::isa::Isa;
use crate::norm::Moments;
use crate::rows::{TASK, for_rows};
use crate::simd_math::{before_activation, mul_add};
use crate::sums::lanes;
use crate::vector::{by_registers, read, write};

/// Places of an image that one thread sums over all images, so that the sums stay in its nearest cache.
const PLACES: usize = 1024;

/// Gradients of [`forward`](super::forward()): with respect to `x`, to the weight and to the bias.
///
/// `y` is what `forward` gave: the activation's slope is read from it (at 0 it is the slope to the left).
/// For `Identity` it is not read and may be empty.
///
/// # Panics
/// If a slice does not fit the layer. If the activation is `Swish`, whose slope is not in `y`.
pub fn backward(
    isa: Isa,
    (x, y, grad): (&[f32], &[f32], &[f32]),
    layer: &Layer<'_>,
    moments: &Moments,
    grad_x: &mut [f32],
    (grad_weight, grad_bias): (&mut [f32], &mut [f32]),
) {
    layer.check();
    layer.check_moments(moments);
    assert!(
        layer.activation != Activation::Swish,
        "the slope of swish is not in its result"
    );
    // Where it is not read, something of the right length stands for it.
    let y = if layer.activation == Activation::Identity {
        grad
    } else {
        y
    };
    for values in [x.len(), y.len(), grad.len(), grad_x.len()] {
        assert_eq!(values, layer.len(), "values of a layer normalisation");
    }
    for values in [grad_weight.len(), grad_bias.len()] {
        assert_eq!(values, layer.values(), "gradients of weights and biases");
    }
    let through = Through {
        x,
        y,
        grad,
        layer,
        moments,
    };
    let sums = through.sums(isa, grad_weight, grad_bias);
    let count = layer.values() as f64;
    let (mut slope, mut shift) = (Vec::new(), Vec::new());
    for (image, [sum, product]) in sums.into_iter().enumerate() {
        let inv_std = f64::from(moments.inv_std[image]);
        let bend = -inv_std * inv_std * product / count;
        slope.push(bend as f32);
        shift.push((-inv_std * sum / count - bend * f64::from(moments.rest[image])) as f32);
    }
    for_rows(grad_x, 1, 5, |first, grad_x| {
        isa.run(Spread {
            through,
            slope: &slope,
            shift: &shift,
            first,
            grad_x,
        });
    });
}

/// What both passes read.
#[derive(Clone, Copy)]
struct Through<'a> {
    x: &'a [f32],
    y: &'a [f32],
    grad: &'a [f32],
    layer: &'a Layer<'a>,
    moments: &'a Moments,
}

impl Through<'_> {
    /// Writes the gradients with respect to weight and bias; returns for each image the sum of
    /// `g * weight` and that of `g * weight * (x - mean) * inv_std`, g the gradient before the activation.
    fn sums(self, isa: Isa, grad_weight: &mut [f32], grad_bias: &mut [f32]) -> Vec<[f64; 2]> {
        let batch = self.layer.batch;
        if batch == 0 || grad_weight.is_empty() {
            grad_weight.fill(0.0);
            grad_bias.fill(0.0);
            return vec![[0.0; 2]; batch];
        }
        let chunks = grad_weight.len().div_ceil(PLACES);
        let mut partial = vec![[0.0; 2]; chunks * batch];
        let one = |(index, ((grad_weight, grad_bias), sums)): (usize, Chunk<'_>)| {
            isa.run(Sums {
                through: self,
                start: index * PLACES,
                grad_weight,
                grad_bias,
                sums,
            });
        };
        let work = 3 * self.x.len();
        if work <= 2 * TASK {
            grad_weight
                .chunks_mut(PLACES)
                .zip(grad_bias.chunks_mut(PLACES))
                .zip(partial.chunks_exact_mut(batch))
                .enumerate()
                .for_each(one);
        } else {
            grad_weight
                .par_chunks_mut(PLACES)
                .zip(grad_bias.par_chunks_mut(PLACES))
                .zip(partial.par_chunks_exact_mut(batch))
                .enumerate()
                .with_min_len(TASK.div_ceil(3 * PLACES * batch))
                .for_each(one);
        }
        // In order, whoever summed what.
        let mut totals = vec![[0.0; 2]; batch];
        for sums in partial.chunks_exact(batch) {
            for (total, sum) in totals.iter_mut().zip(sums) {
                total[0] += sum[0];
                total[1] += sum[1];
            }
        }
        totals
    }
}

/// Gradients of weight and bias of some places, and the sums of each image over them.
type Chunk<'a> = ((&'a mut [f32], &'a mut [f32]), &'a mut [[f64; 2]]);

/// The places of an image from `start` on, as many as `grad_weight` has, in all images.
struct Sums<'a> {
    through: Through<'a>,
    start: usize,
    grad_weight: &'a mut [f32],
    grad_bias: &'a mut [f32],
    sums: &'a mut [[f64; 2]],
}

impl WithSimd for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Through {
            x,
            y,
            grad,
            layer,
            moments,
        } = self.through;
        let count = self.grad_weight.len();
        let weight = &layer.weight[self.start..][..count];
        let (grad_weight, grad_bias) = (self.grad_weight, self.grad_bias);
        grad_weight.fill(0.0);
        grad_bias.fill(0.0);
        let zero = simd.splat_f32s(0.0);
        for (image, sums) in self.sums.iter_mut().enumerate() {
            let at = image * layer.values() + self.start;
            let (x, y, grad) = (&x[at..][..count], &y[at..][..count], &grad[at..][..count]);
            let inv_std = moments.inv_std[image];
            let mean = simd.splat_f32s(moments.mean[image]);
            let rest = simd.splat_f32s(-moments.rest[image] * inv_std);
            let inv_std = simd.splat_f32s(inv_std);
            let (mut sum, mut product) = ([zero; 4], [zero; 4]);
            by_registers!(S, count, 4, |range, N| {
                let x = read::<S, N>(simd, &x[range.clone()]);
                let y = read::<S, N>(simd, &y[range.clone()]);
                let grad = read::<S, N>(simd, &grad[range.clone()]);
                let weight = read::<S, N>(simd, &weight[range.clone()]);
                let mut of_weight = read::<S, N>(simd, &grad_weight[range.clone()]);
                let mut of_bias = read::<S, N>(simd, &grad_bias[range.clone()]);
                for n in 0..N {
                    let grad = before_activation(simd, layer.activation, y[n], grad[n]);
                    let normal = mul_add(simd, simd.sub_f32s(x[n], mean), inv_std, rest);
                    of_bias[n] = simd.add_f32s(of_bias[n], grad);
                    of_weight[n] = mul_add(simd, grad, normal, of_weight[n]);
                    // Lanes beyond the end have the weight 0.
                    let grad = simd.mul_f32s(grad, weight[n]);
                    sum[n] = simd.add_f32s(sum[n], grad);
                    product[n] = mul_add(simd, grad, normal, product[n]);
                }
                write::<S, N>(simd, &mut grad_weight[range.clone()], of_weight);
                write::<S, N>(simd, &mut grad_bias[range], of_bias);
            });
            let total = |registers: &[S::f32s; 4]| -> f64 {
                let lanes = lanes::<S, 4>(registers);
                lanes.iter().map(|&lane| f64::from(lane)).sum()
            };
            *sums = [total(&sum), total(&product)];
        }
    }
}

/// `grad_x = g * weight * inv_std + (x - mean) * slope + shift`, from value `first` of all images on.
struct Spread<'a> {
    through: Through<'a>,
    slope: &'a [f32],
    shift: &'a [f32],
    first: usize,
    grad_x: &'a mut [f32],
}

impl WithSimd for Spread<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Through {
            x,
            y,
            grad,
            layer,
            moments,
        } = self.through;
        for (image, start, part) in parts(layer.values(), self.first, self.grad_x.len()) {
            let all = self.first + part.start..self.first + part.end;
            let (x, y, grad) = (&x[all.clone()], &y[all.clone()], &grad[all]);
            let weight = &layer.weight[start..][..part.len()];
            let out = &mut self.grad_x[part];
            let inv_std = simd.splat_f32s(moments.inv_std[image]);
            let mean = simd.splat_f32s(moments.mean[image]);
            let slope = simd.splat_f32s(self.slope[image]);
            let shift = simd.splat_f32s(self.shift[image]);
            by_registers!(S, x.len(), 4, |range, N| {
                let x = read::<S, N>(simd, &x[range.clone()]);
                let y = read::<S, N>(simd, &y[range.clone()]);
                let mut values = read::<S, N>(simd, &grad[range.clone()]);
                let weight = read::<S, N>(simd, &weight[range.clone()]);
                for n in 0..N {
                    let grad = before_activation(simd, layer.activation, y[n], values[n]);
                    let bent = mul_add(simd, simd.sub_f32s(x[n], mean), slope, shift);
                    let grad = simd.mul_f32s(grad, weight[n]);
                    values[n] = mul_add(simd, grad, inv_std, bent);
                }
                write::<S, N>(simd, &mut out[range], values);
            });
        }
    }
}
