use super::*;
use crate::testing::{self, draw, window_on};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// Random maps and windows with every instruction set; the last ones are large enough for threads.
fn cases(mut check: impl FnMut(Isa, Map, Window, &mut ChaCha8Rng)) {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    for isa in Isa::available() {
        for case in testing::cases(80) {
            let large = case >= 78;
            let side = |rng: &mut ChaCha8Rng| {
                if large {
                    rng.random_range(30..40)
                } else {
                    rng.random_range(1..testing::most(24))
                }
            };
            let map = Map {
                batch: rng.random_range(1..3),
                height: side(&mut rng),
                width: side(&mut rng),
                // Whole registers and others.
                channels: if case % 2 == 0 {
                    16 * rng.random_range(1..testing::most(5))
                } else {
                    rng.random_range(1..testing::most(70))
                },
            };
            let kernel = [1, 3, 5, 7][rng.random_range(0..4)];
            let window = window_on(map, kernel, 1..4, &mut rng);
            check(isa, map, window, &mut rng);
        }
    }
}

/// Calls `visit` with the places of output, input and weight of every product of the convolution.
fn products(map: Map, window: &Window, mut visit: impl FnMut(usize, usize, usize)) {
    let size = window.output(map);
    let [kernel_height, kernel_width] = window.kernel;
    for image in 0..map.batch {
        for row in 0..size.height {
            for column in 0..size.width {
                for ky in 0..kernel_height {
                    for kx in 0..kernel_width {
                        let y = (row * window.stride[0] + ky).checked_sub(window.padding[0]);
                        let x = (column * window.stride[1] + kx).checked_sub(window.padding[2]);
                        let (Some(y), Some(x)) = (y, x) else { continue };
                        if y >= map.height || x >= map.width {
                            continue;
                        }
                        for c in 0..map.channels {
                            let to = (image * size.height + row) * size.width + column;
                            let from = (image * map.height + y) * map.width + x;
                            let weight = c * kernel_height * kernel_width + ky * kernel_width + kx;
                            visit(to * map.channels + c, from * map.channels + c, weight);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn values_equal_the_definition() {
    let activations = [
        Activation::Identity,
        Activation::Relu,
        Activation::Relu6,
        Activation::Swish,
        Activation::LeakyRelu(0.1),
    ];
    let mut case = 0;
    cases(|isa, map, window, rng| {
        case += 1;
        let size = window.output(map);
        let taps = window.kernel[0] * window.kernel[1];
        let (x, weight) = (draw(rng, map.len()), draw(rng, taps * map.channels));
        let bias = draw(rng, map.channels);
        let packed = pack(isa, &weight, map.channels);
        assert_eq!(unpack(isa, &packed, map.channels), weight);
        let activation = activations[case % 5];
        let depthwise = Depthwise {
            window,
            weight: &packed,
            bias: (case % 3 > 0).then_some(&bias),
            activation,
        };
        let mut found = vec![f32::NAN; size.len()];
        forward(isa, &x, map, &depthwise, &mut found);
        let start = |i: usize| {
            depthwise
                .bias
                .map_or(0.0, |bias| f64::from(bias[i % map.channels]))
        };
        let mut expected: Vec<f64> = (0..size.len()).map(start).collect();
        products(map, &window, |to, from, tap| {
            expected[to] += f64::from(x[from]) * f64::from(weight[tap]);
        });
        for (&found, &sum) in found.iter().zip(&expected) {
            let expected = match activation {
                Activation::Identity => sum,
                Activation::Relu => sum.max(0.0),
                Activation::Relu6 => sum.clamp(0.0, 6.0),
                Activation::Swish => sum / (1.0 + (-sum).exp()),
                Activation::LeakyRelu(slope) => sum.max(f64::from(slope) * sum),
            };
            // Up to 50 products of size 1.
            let error = (f64::from(found) - expected).abs();
            assert!(
                error < 5e-6,
                "{isa} {map:?} {window:?} {activation:?}: {error}"
            );
        }
    });
}

#[test]
fn input_gradients_are_the_transpose() {
    cases(|isa, map, window, rng| {
        let size = window.output(map);
        let taps = window.kernel[0] * window.kernel[1];
        let (grad, weight) = (draw(rng, size.len()), draw(rng, taps * map.channels));
        let packed = pack(isa, &weight, map.channels);
        let mut found = vec![f32::NAN; map.len()];
        input_gradient(isa, &grad, map, window, &packed, &mut found);
        let mut expected = vec![0.0f64; map.len()];
        products(map, &window, |to, from, tap| {
            expected[from] += f64::from(grad[to]) * f64::from(weight[tap]);
        });
        for (&found, expected) in found.iter().zip(&expected) {
            // Up to 49 products of size 1.
            let error = (f64::from(found) - expected).abs();
            assert!(error < 5e-6, "{isa} {map:?} {window:?}: {error}");
        }
    });
}

#[test]
fn weight_gradients_are_sums_of_products() {
    cases(|isa, map, window, rng| {
        let size = window.output(map);
        let taps = window.kernel[0] * window.kernel[1];
        let (x, grad) = (draw(rng, map.len()), draw(rng, size.len()));
        let mut packed = vec![f32::NAN; taps * map.channels];
        weight_gradient(isa, &x, map, window, &grad, &mut packed);
        let found = unpack(isa, &packed, map.channels);
        let mut expected = vec![0.0f64; taps * map.channels];
        products(map, &window, |to, from, tap| {
            expected[tap] += f64::from(grad[to]) * f64::from(x[from]);
        });
        for (&found, expected) in found.iter().zip(&expected) {
            // One rounding for each of up to 3000 products of size 1.
            let bound = 1e-6 + 1e-7 * (size.batch * size.height * size.width) as f64;
            let error = (f64::from(found) - expected).abs();
            assert!(error < bound, "{isa} {map:?} {window:?}: {error}");
        }
    });
}

#[test]
#[should_panic(expected = "weights of a depthwise convolution")]
fn a_wrong_number_of_weights_is_refused() {
    let map = Map {
        batch: 1,
        height: 4,
        width: 4,
        channels: 3,
    };
    let depthwise = Depthwise {
        window: Window::square(3, 1, 1),
        weight: &[0.0; 26],
        bias: None,
        activation: Activation::Identity,
    };
    forward(Isa::best(), &[0.0; 48], map, &depthwise, &mut [0.0; 48]);
}
