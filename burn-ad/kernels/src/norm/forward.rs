//! Normalised values.

use pulp::{Simd, WithSimd};

use super::{Moments, Norm, moments};
use crate::activation::Activation;
use crate::isa::Isa;
use crate::rows::for_rows;
use crate::simd_math::{activate, mul_add};
use crate::vector::{by_registers, read, write};

/// Normalises `x` by its own moments, which it returns, into `y`; both `[groups, rows, channels]`.
///
/// # Panics
/// If a slice does not fit the size, or a group has no rows.
pub fn forward(isa: Isa, x: &[f32], norm: &Norm<'_>, epsilon: f64, y: &mut [f32]) -> Moments {
    let moments = moments(isa, x, norm.size, epsilon);
    apply(isa, x, norm, &moments, y);
    moments
}

/// Normalises `x` by given moments into `y`.
///
/// # Panics
/// If a slice does not fit the size.
pub fn apply(isa: Isa, x: &[f32], norm: &Norm<'_>, moments: &Moments, y: &mut [f32]) {
    let size = norm.size;
    assert_eq!(x.len(), size.len(), "values to normalise");
    assert_eq!(y.len(), size.len(), "normalised values");
    norm.check();
    moments.check(size);
    let channels = size.channels;
    let count = size.groups * channels;
    let (mut factor, mut offset) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for at in 0..count {
        let channel = at % channels;
        let slope = f64::from(moments.inv_std[at]) * norm.scale(channel);
        let shift = norm
            .affine
            .map_or(0.0, |(_, offset)| f64::from(offset[channel]));
        factor.push(slope as f32);
        // The mean is subtracted in two steps, so that a large one costs no digits.
        offset.push((shift - f64::from(moments.rest[at]) * slope) as f32);
    }
    for_rows(y, channels, 3 * channels, |first, y| {
        let range = first * channels..first * channels + y.len();
        isa.run(Apply {
            x: &x[range.clone()],
            residual: norm.residual.map(|residual| &residual[range]),
            mean: &moments.mean,
            factor: &factor,
            offset: &offset,
            activation: norm.activation,
            channels,
            rows: size.rows,
            first,
            y,
        });
    });
}

struct Apply<'a> {
    x: &'a [f32],
    residual: Option<&'a [f32]>,
    mean: &'a [f32],
    factor: &'a [f32],
    offset: &'a [f32],
    activation: Activation,
    channels: usize,
    rows: usize,
    first: usize,
    y: &'a mut [f32],
}

impl WithSimd for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let channels = self.channels;
        let rows = self
            .x
            .chunks_exact(channels)
            .zip(self.y.chunks_exact_mut(channels));
        for (index, (x, y)) in rows.enumerate() {
            let group = (self.first + index) / self.rows * channels;
            let mean = &self.mean[group..][..channels];
            let factor = &self.factor[group..][..channels];
            let offset = &self.offset[group..][..channels];
            let residual = self
                .residual
                .map(|residual| &residual[index * channels..][..channels]);
            by_registers!(S, channels, 4, |range, N| {
                let x = read::<S, N>(simd, &x[range.clone()]);
                let mean = read::<S, N>(simd, &mean[range.clone()]);
                let factor = read::<S, N>(simd, &factor[range.clone()]);
                let offset = read::<S, N>(simd, &offset[range.clone()]);
                let mut out = x;
                for n in 0..N {
                    out[n] = mul_add(simd, simd.sub_f32s(x[n], mean[n]), factor[n], offset[n]);
                }
                if let Some(residual) = residual {
                    let residual = read::<S, N>(simd, &residual[range.clone()]);
                    for n in 0..N {
                        out[n] = simd.add_f32s(out[n], residual[n]);
                    }
                }
                for value in &mut out {
                    *value = activate(simd, self.activation, *value);
                }
                write::<S, N>(simd, &mut y[range], out);
            });
        }
    }
}
