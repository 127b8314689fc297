use super::*;
use crate::isa::Isa;
use crate::testing::affordable;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

const EPSILON: f64 = 1e-5;

/// Activation and its slope, in `f64`.
fn activated(activation: Activation, z: f64) -> (f64, f64) {
    let step = |known: bool| if known { 1.0 } else { 0.0 };
    match activation {
        Activation::Identity => (z, 1.0),
        Activation::Relu => (z.max(0.0), step(z > 0.0)),
        Activation::Relu6 => (z.clamp(0.0, 6.0), step(z > 0.0 && z < 6.0)),
        Activation::LeakyRelu(slope) => {
            let slope = if z > 0.0 { 1.0 } else { f64::from(slope) };
            (slope * z, slope)
        }
        Activation::Swish => (z / (1.0 + (-z).exp()), f64::NAN),
    }
}

/// Values, then gradients with respect to x, weight and bias for the gradient `grad` of the values; and
/// the distance of the activation's input from its nearest kink.
fn reference(x: &[f32], layer: &Layer<'_>, grad: &[f32]) -> ([Vec<f64>; 4], f64) {
    let (values, wide) = (layer.values(), |value: &f32| f64::from(*value));
    let (mut y, mut of_x) = (Vec::new(), Vec::new());
    let (mut of_weight, mut of_bias) = (vec![0.0; values], vec![0.0; values]);
    let mut nearest = f64::INFINITY;
    for (x, grad) in x.chunks_exact(values).zip(grad.chunks_exact(values)) {
        let count = values as f64;
        let mean = x.iter().map(wide).sum::<f64>() / count;
        let variance = x.iter().map(|x| (wide(x) - mean).powi(2)).sum::<f64>() / count;
        let inv_std = 1.0 / (variance + EPSILON).sqrt();
        let (mut inner, mut sums) = (Vec::new(), [0.0; 2]);
        for place in 0..values {
            let normal = (wide(&x[place]) - mean) * inv_std;
            let z = normal * wide(&layer.weight[place]) + wide(&layer.bias[place]);
            nearest = nearest.min(z.abs()).min((z - 6.0).abs());
            let (value, slope) = activated(layer.activation, z);
            y.push(value);
            let g = wide(&grad[place]) * slope;
            of_weight[place] += g * normal;
            of_bias[place] += g;
            let g = g * wide(&layer.weight[place]);
            sums[0] += g;
            sums[1] += g * normal;
            inner.push((g, normal));
        }
        let back = |(g, normal)| inv_std * (g - sums[0] / count - normal * sums[1] / count);
        of_x.extend(inner.into_iter().map(back));
    }
    ([y, of_x, of_weight, of_bias], nearest)
}

fn draw(rng: &mut ChaCha8Rng, count: usize, centre: f32) -> Vec<f32> {
    (0..count)
        .map(|_| centre + rng.random_range(-1.7..1.7))
        .collect()
}

/// Images, positions, channels: single positions, single values, tails, and enough for threads.
const SIZES: [[usize; 3]; 7] = [
    [1, 1, 5],
    [3, 1, 64],
    [2, 4, 3],
    [2, 9, 1],
    [3, 35, 17],
    [4, 64, 64],
    [3, 700, 43],
];

#[test]
fn values_and_gradients_equal_the_definition() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let activations = [
        Activation::Identity,
        Activation::Relu,
        Activation::Relu6,
        Activation::LeakyRelu(0.2),
    ];
    for [batch, positions, channels] in SIZES {
        if !affordable(batch * positions * channels) {
            continue;
        }
        for (centre, activation) in [0.0, 1000.0].into_iter().flat_map(|centre| {
            activations
                .into_iter()
                .map(move |activation| (centre, activation))
        }) {
            let values = positions * channels;
            let mut x = draw(&mut rng, batch * values, centre);
            let grad = draw(&mut rng, x.len(), 0.0);
            let weight = draw(&mut rng, values, 1.0);
            let mut bias = draw(&mut rng, values, 0.5);
            let layer = loop {
                let layer = Layer {
                    batch,
                    channels,
                    weight: &weight,
                    bias: &bias,
                    activation,
                };
                let (_, nearest) = reference(&x, &layer, &grad);
                // A value at a kink has another slope after rounding; few sizes need another draw.
                if activation == Activation::Identity || nearest > 2e-6 {
                    break layer;
                }
                x = draw(&mut rng, batch * values, centre);
                bias = draw(&mut rng, values, 0.5);
            };
            let (expected, _) = reference(&x, &layer, &grad);
            for isa in Isa::available() {
                let new = |count: usize| vec![f32::NAN; count];
                let (mut y, mut of_x) = (new(x.len()), new(x.len()));
                let (mut of_weight, mut of_bias) = (new(values), new(values));
                let moments = forward(isa, &x, &layer, EPSILON, &mut y);
                backward(
                    isa,
                    (&x, &y, &grad),
                    &layer,
                    &moments,
                    &mut of_x,
                    (&mut of_weight, &mut of_bias),
                );
                for (found, expected) in [y, of_x, of_weight, of_bias].iter().zip(&expected) {
                    assert_eq!(found.len(), expected.len());
                    for (found, expected) in found.iter().zip(expected) {
                        // Values of a few units; sums of a thousand values in f32, then in f64.
                        let error = (f64::from(*found) - expected).abs();
                        assert!(
                            error < 1e-5,
                            "{isa} {batch} {positions} {channels} {centre} {activation:?}: {error}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn an_image_of_one_value_is_its_bias() {
    let layer = Layer {
        batch: 2,
        channels: 1,
        weight: &[3.0],
        bias: &[-0.5],
        activation: Activation::Identity,
    };
    for isa in Isa::available() {
        let (mut y, mut of_x) = ([f32::NAN; 2], [f32::NAN; 2]);
        let (mut of_weight, mut of_bias) = ([f32::NAN], [f32::NAN]);
        let x = [7.0, 1.1];
        let moments = forward(isa, &x, &layer, EPSILON, &mut y);
        assert_eq!(y, [-0.5; 2], "{isa}");
        backward(
            isa,
            (&x, &[], &[1.0, 2.0]),
            &layer,
            &moments,
            &mut of_x,
            (&mut of_weight, &mut of_bias),
        );
        assert_eq!((of_weight, of_bias), ([0.0], [3.0]), "{isa}");
        // 1 / sqrt(epsilon) is 316.
        assert!(of_x.iter().all(|value| value.abs() < 1e-3), "{isa}");
    }
}

#[test]
#[cfg_attr(miri, ignore = "too many values")]
fn nothing_depends_on_the_number_of_threads() {
    let (batch, values) = (5, 70 * 301);
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let (x, grad) = (
        draw(&mut rng, batch * values, 5.0),
        draw(&mut rng, batch * values, 0.0),
    );
    let (weight, bias) = (draw(&mut rng, values, 1.0), draw(&mut rng, values, 0.0));
    let layer = Layer {
        batch,
        channels: 70,
        weight: &weight,
        bias: &bias,
        activation: Activation::Relu,
    };
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.expect("threads start").install(|| {
            let (mut y, mut of_x) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            let (mut of_weight, mut of_bias) = (vec![0.0; values], vec![0.0; values]);
            let moments = forward(Isa::best(), &x, &layer, EPSILON, &mut y);
            backward(
                Isa::best(),
                (&x, &y, &grad),
                &layer,
                &moments,
                &mut of_x,
                (&mut of_weight, &mut of_bias),
            );
            [y, of_x, of_weight, of_bias]
        })
    };
    let one = run(1);
    assert!([2, 3].into_iter().all(|threads| run(threads) == one));
}
