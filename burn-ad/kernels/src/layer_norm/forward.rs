//! Normalised images.

use pulp::{Simd, WithSimd};

use super::{Layer, parts};
use crate::isa::Isa;
use crate::norm::{self, Moments, Size};
use crate::rows::for_rows;
use crate::simd_math::{activate, mul_add};
use crate::vector::{by_registers, read, write};

/// Normalises each image of `x` by its own moments, which it returns (`[batch]` each), into `y`.
///
/// # Panics
/// If a slice does not fit the layer, or an image has no values.
pub fn forward(isa: Isa, x: &[f32], layer: &Layer<'_>, epsilon: f64, y: &mut [f32]) -> Moments {
    layer.check();
    assert_eq!(x.len(), layer.len(), "values to normalise");
    assert_eq!(y.len(), layer.len(), "normalised values");
    let moments = moments(isa, x, layer, epsilon);
    for_rows(y, 1, 4, |first, y| {
        isa.run(Apply {
            x: &x[first..][..y.len()],
            layer,
            moments: &moments,
            first,
            y,
        });
    });
    moments
}

/// Of each image, from those of its channels: the variance is that inside the channels and that of their
/// means, so a mean far larger than the spread costs no digits.
fn moments(isa: Isa, x: &[f32], layer: &Layer<'_>, epsilon: f64) -> Moments {
    let channels = layer.channels;
    let size = Size {
        groups: layer.batch,
        rows: layer.values() / channels,
        channels,
    };
    let each = norm::moments(isa, x, size, epsilon);
    let mut out = Moments::new(&[], &[], epsilon);
    for image in (0..layer.batch).map(|image| image * channels..(image + 1) * channels) {
        let means = each.mean[image.clone()]
            .iter()
            .zip(&each.rest[image.clone()])
            .map(|(&mean, &rest)| f64::from(mean) + f64::from(rest));
        let mean = means.clone().sum::<f64>() / channels as f64;
        let spread = means.zip(&each.variance[image]);
        let spread = spread.map(|(of_channel, &variance)| {
            let distance = of_channel - mean;
            f64::from(variance) + distance * distance
        });
        let variance = spread.sum::<f64>() / channels as f64;
        out.mean.push(mean as f32);
        out.rest.push((mean - f64::from(mean as f32)) as f32);
        out.variance.push(variance as f32);
        out.inv_std.push((1.0 / (variance + epsilon).sqrt()) as f32);
    }
    out
}

/// `x` and `y` begin at value `first` of all images.
struct Apply<'a> {
    x: &'a [f32],
    layer: &'a Layer<'a>,
    moments: &'a Moments,
    first: usize,
    y: &'a mut [f32],
}

impl WithSimd for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (layer, moments) = (self.layer, self.moments);
        for (image, start, part) in parts(layer.values(), self.first, self.y.len()) {
            let weight = &layer.weight[start..][..part.len()];
            let bias = &layer.bias[start..][..part.len()];
            let (x, y) = (&self.x[part.clone()], &mut self.y[part]);
            let inv_std = moments.inv_std[image];
            let mean = simd.splat_f32s(moments.mean[image]);
            let rest = simd.splat_f32s(-moments.rest[image] * inv_std);
            let inv_std = simd.splat_f32s(inv_std);
            by_registers!(S, x.len(), 4, |range, N| {
                let mut out = read::<S, N>(simd, &x[range.clone()]);
                let weight = read::<S, N>(simd, &weight[range.clone()]);
                let bias = read::<S, N>(simd, &bias[range.clone()]);
                for n in 0..N {
                    // The mean is subtracted in two steps, so that a large one costs no digits.
                    let normal = mul_add(simd, simd.sub_f32s(out[n], mean), inv_std, rest);
                    out[n] = mul_add(simd, normal, weight[n], bias[n]);
                    out[n] = activate(simd, layer.activation, out[n]);
                }
                write::<S, N>(simd, &mut y[range], out);
            });
        }
    }
}
