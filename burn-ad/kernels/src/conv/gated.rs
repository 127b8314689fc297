//! A 1x1 convolution of a map whose channels are multiplied by gates first, as behind
//! squeeze-and-excitation, without the multiplied map.

use pulp::{Simd, WithSimd};

use super::direct::convolve;
use super::epilogue::Epilogue;
use super::geometry::Geometry;
use super::narrow::is_narrow;
use super::tile::{panel, panel_count};
use super::weights::{Packed, Weights};
use super::windows::Windows;
use super::{Algorithm, compute};
use crate::channels;
use crate::memory::scratch;
use crate::rows::for_rows;
use crate::window::Map;

/// `out = activation(convolution(x * gate) + bias + residual)`, with one gate for each image and channel
/// (`[batch, channels]`); `map` is the size of `x`.
///
/// Each image has weights of its own, multiplied by its gates, where these are fewer than its values.
///
/// # Panics
/// If a slice does not fit its size, or the weights are none of a 1x1 convolution packed for
/// [`Algorithm::Direct`].
pub fn forward(
    x: &[f32],
    map: Map,
    gate: &[f32],
    weights: &Weights,
    epilogue: Epilogue<'_>,
    out: &mut [f32],
) {
    let shape @ [outputs, inputs, ..] = weights.shape();
    let whole = Geometry::pointwise(map);
    super::check_all(x, &whole, shape, weights.algorithm(), &epilogue, out);
    assert_eq!(weights.algorithm(), Algorithm::Direct);
    assert_eq!(gate.len(), map.batch * map.channels, "gates");
    let one = Map { batch: 1, ..map };
    if out.is_empty() || one.is_empty() {
        return compute(x, &whole, weights.packed(), epilogue, out);
    }
    let packed = weights.packed();
    let windows = Windows::of(&Geometry::pointwise(one), inputs, outputs);
    let positions = map.height * map.width;
    let images = x.chunks_exact(one.len()).zip(gate.chunks_exact(inputs));
    let outs = out.chunks_exact_mut(positions * outputs);
    for (index, ((x, gate), out)) in images.zip(outs).enumerate() {
        let epilogue = Epilogue {
            residual: epilogue
                .residual
                .map(|residual| &residual[index * out.len()..][..out.len()]),
            ..epilogue
        };
        if positions > outputs && !is_narrow(packed.isa, outputs, inputs) {
            let length = outputs.next_multiple_of(packed.isa.lanes()) * inputs;
            scratch(length, |values| {
                multiply(packed, gate, values);
                convolve(packed.isa, x, &windows, values, epilogue, out);
            });
        } else {
            scratch(x.len(), |values| {
                channels::scale(packed.isa, x, one, gate, values);
                convolve(packed.isa, values, &windows, packed.values, epilogue, out);
            });
        }
    }
}

/// Writes the weights of each input times its gate.
fn multiply(packed: Packed<'_>, gate: &[f32], out: &mut [f32]) {
    let Packed {
        isa,
        outputs,
        inputs,
        values,
        ..
    } = packed;
    let lanes = isa.lanes();
    for index in 0..panel_count(isa, outputs) {
        let panel = panel(isa, outputs, index);
        let (start, width) = (panel.first * lanes * inputs, panel.width * lanes);
        let values = &values[start..][..width * inputs];
        let out = &mut out[start..][..width * inputs];
        for_rows(out, width, 2 * width, |first, out| {
            let rows = out.len() / width;
            isa.run(Multiply {
                values: &values[first * width..][..out.len()],
                gate: &gate[first..][..rows],
                width,
                out,
            });
        });
    }
}

struct Multiply<'a> {
    values: &'a [f32],
    /// One for each row.
    gate: &'a [f32],
    /// Of a row: whole registers.
    width: usize,
    out: &'a mut [f32],
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let rows = self.values.chunks_exact(self.width);
        let outs = self.out.chunks_exact_mut(self.width);
        for ((row, out), &gate) in rows.zip(outs).zip(self.gate) {
            let gate = simd.splat_f32s(gate);
            let (row, out) = (S::as_simd_f32s(row).0, S::as_mut_simd_f32s(out).0);
            for (value, out) in row.iter().zip(out) {
                *out = simd.mul_f32s(*value, gate);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;
    use crate::Isa;
    use crate::activation::Activation;
    use crate::testing::{self, draw};

    /// Beside sums in 64 bits; the tolerance is that of so many roundings of 32.
    #[test]
    fn it_is_the_convolution_of_the_multiplied_map() {
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        for isa in Isa::available() {
            for case in testing::cases(40) {
                let side = if case >= 36 { 20..40 } else { 1..12 };
                let map = Map {
                    batch: rng.random_range(1..4),
                    height: rng.random_range(side.clone()),
                    width: rng.random_range(side),
                    channels: rng.random_range(1..testing::most(90)),
                };
                let outputs = rng.random_range(1..testing::most(100));
                let weight = draw(&mut rng, outputs * map.channels);
                let shape = [outputs, map.channels, 1, 1];
                let weights = Weights::pack(isa, Algorithm::Direct, &weight, shape);
                let x = draw(&mut rng, map.len());
                let gate = draw(&mut rng, map.batch * map.channels);
                let bias = draw(&mut rng, outputs);
                let positions = map.height * map.width;
                let residual = draw(&mut rng, map.batch * positions * outputs);
                let epilogue = Epilogue {
                    bias: (case % 2 == 0).then_some(&bias),
                    residual: (case % 3 == 0).then_some(&residual),
                    activation: Activation::Identity,
                };
                let mut out = vec![f32::NAN; residual.len()];
                forward(&x, map, &gate, &weights, epilogue, &mut out);
                for (index, out) in out.iter().enumerate() {
                    let (position, output) = (index / outputs, index % outputs);
                    let gate = &gate[position / positions * map.channels..][..map.channels];
                    let x = &x[position * map.channels..][..map.channels];
                    let weight = &weight[output * map.channels..][..map.channels];
                    let products = x.iter().zip(gate).zip(weight);
                    let sum: f64 = products
                        .map(|((x, gate), weight)| {
                            f64::from(*x) * f64::from(*gate) * f64::from(*weight)
                        })
                        .sum();
                    let bias = epilogue.bias.map_or(0.0, |bias| f64::from(bias[output]));
                    let residual = epilogue.residual.map_or(0.0, |from| f64::from(from[index]));
                    let error = (f64::from(*out) - sum - bias - residual).abs();
                    assert!(error < 1e-5, "{isa} {map:?} {outputs}: {error}");
                }
            }
        }
    }
}
