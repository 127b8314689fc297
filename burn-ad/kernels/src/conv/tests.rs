use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::reference::{Case, activation, close};
use super::*;
use crate::{Activation, Isa};

/// Relative to the sum of magnitudes: a few roundings of 6e-8 each; F(4x4) multiplies by up to 8 and
/// subtracts again.
fn tolerance(algorithm: Algorithm) -> f64 {
    match algorithm {
        Algorithm::Direct | Algorithm::Winograd2 | Algorithm::Winograd2Stride2 => 1e-6,
        Algorithm::Winograd4 | Algorithm::Winograd4Stride2 => 1e-5,
    }
}

const EPILOGUES: [(bool, bool, Activation); 6] = [
    (false, false, Activation::Identity),
    (true, false, Activation::Relu),
    (false, true, Activation::Relu6),
    (true, true, Activation::Swish),
    (true, true, Activation::LeakyRelu(0.1)),
    (true, true, Activation::Relu),
];

fn algorithms(geometry: &Geometry) -> impl Iterator<Item = Algorithm> {
    let (kernel, stride) = (geometry.kernel, geometry.stride);
    Algorithm::ALL
        .into_iter()
        .filter(move |algorithm| algorithm.fits(kernel, stride))
}

#[test]
fn every_convolution_equals_its_definition() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for case in Case::all(&mut rng) {
        let sums = case.forward();
        for isa in Isa::available() {
            for algorithm in algorithms(&case.geometry) {
                let weights = Weights::pack(isa, algorithm, &case.weight, case.shape);
                for (bias, residual, last) in EPILOGUES {
                    let epilogue = Epilogue {
                        bias: bias.then_some(&case.bias),
                        residual: residual.then_some(&case.other),
                        activation: last,
                    };
                    let mut out = vec![f32::NAN; case.other.len()];
                    forward(&case.x, &case.geometry, &weights, epilogue, &mut out);
                    let added = |at: usize| {
                        let bias = epilogue.bias.map_or(0.0, |bias| bias[at % bias.len()]);
                        let residual = epilogue.residual.map_or(0.0, |values| values[at]);
                        f64::from(bias) + f64::from(residual)
                    };
                    let expected: Vec<_> = (sums.iter().enumerate())
                        .map(|(at, (sum, size))| (activation(last, sum + added(at)), size + 2.0))
                        .collect();
                    let what = format!(
                        "{isa}, {algorithm:?}, {epilogue:?}, {:?}, {:?}",
                        case.geometry, case.shape
                    );
                    let what = what.get(..400).unwrap_or(&what);
                    close(&out, &expected, tolerance(algorithm), what);
                }
            }
        }
    }
}

/// A layer large enough for several tasks, on which algorithms divide work in all their ways.
fn layers(rng: &mut ChaCha8Rng) -> Vec<Case> {
    [
        (40, 33, [3, 3], 1, 1, [40, 24]),
        (7, 7, [3, 3], 1, 1, [136, 128]),
        (24, 24, [1, 1], 1, 0, [112, 72]),
        (31, 20, [3, 3], 2, 1, [64, 48]),
        (64, 64, [7, 7], 2, 3, [64, 3]),
        (33, 40, [5, 5], 1, 2, [3, 64]),
        (33, 40, [3, 3], 2, 1, [4, 20]),
        (20, 21, [1, 1], 1, 0, [1, 75]),
        (20, 21, [3, 2], 1, 1, [2, 19]),
    ]
    .map(|(height, width, kernel, stride, padding, channels)| {
        let geometry = Geometry {
            batch: 3,
            height,
            width,
            kernel,
            stride,
            padding: Padding::all(padding),
        };
        Case::new(rng, geometry, channels)
    })
    .into()
}

/// A kernel of 3x3 over images of `side` x `side`, which keep their size.
fn three_by_three(batch: usize, side: usize) -> Geometry {
    Geometry {
        batch,
        height: side,
        width: side,
        kernel: [3, 3],
        stride: 1,
        padding: Padding::all(1),
    }
}

fn run(case: &Case, batch: std::ops::Range<usize>, weights: &Weights) -> Vec<f32> {
    let [x, other] = [&case.x, &case.other].map(|values| {
        let each = values.len() / case.geometry.batch;
        &values[batch.start * each..batch.end * each]
    });
    let geometry = Geometry {
        batch: batch.len(),
        ..case.geometry
    };
    let epilogue = Epilogue {
        bias: Some(&case.bias),
        residual: Some(other),
        activation: Activation::Swish,
    };
    let mut out = vec![f32::NAN; other.len()];
    forward(x, &geometry, weights, epilogue, &mut out);
    out
}

#[test]
#[cfg_attr(miri, ignore = "too many values")]
fn an_image_alone_gives_the_bits_it_gives_in_a_batch() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for case in layers(&mut rng) {
        for isa in Isa::available() {
            for algorithm in algorithms(&case.geometry) {
                let weights = Weights::pack(isa, algorithm, &case.weight, case.shape);
                let together = run(&case, 0..3, &weights);
                let alone: Vec<f32> = (0..3)
                    .flat_map(|image| run(&case, image..image + 1, &weights))
                    .collect();
                assert!(together == alone, "{isa}, {algorithm:?}, {:?}", case.shape);
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "too many values")]
fn threads_do_not_change_a_bit() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for case in layers(&mut rng) {
        for algorithm in algorithms(&case.geometry) {
            let results = [1, 2, 5].map(|threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                pool.expect("threads can be started").install(|| {
                    let weights = Weights::pack(Isa::best(), algorithm, &case.weight, case.shape);
                    run(&case, 0..3, &weights)
                })
            });
            assert!(results[0] == results[1] && results[0] == results[2]);
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "too many values")]
fn large_layers_equal_their_definition_too() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    for case in layers(&mut rng) {
        let sums = case.forward();
        for algorithm in algorithms(&case.geometry) {
            let weights = Weights::pack(Isa::best(), algorithm, &case.weight, case.shape);
            let mut out = vec![f32::NAN; case.other.len()];
            forward(
                &case.x,
                &case.geometry,
                &weights,
                Epilogue::default(),
                &mut out,
            );
            close(
                &out,
                &sums,
                tolerance(algorithm),
                &format!("{algorithm:?} {:?}", case.shape),
            );
        }
    }
}

#[test]
fn weights_packed_again_are_the_new_weights() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let geometry = three_by_three(1, 6);
    let [old, new] = [0; 2].map(|_| Case::new(&mut rng, geometry, [20, 10]));
    for algorithm in algorithms(&geometry) {
        let mut weights = Weights::pack(Isa::best(), algorithm, &old.weight, old.shape);
        weights.repack(&new.weight);
        let fresh = Weights::pack(Isa::best(), algorithm, &new.weight, new.shape);
        assert_eq!(run(&new, 0..1, &weights), run(&new, 0..1, &fresh));
    }
}

#[test]
#[cfg_attr(miri, ignore = "too many values")]
fn a_weight_used_once_gives_the_bits_of_packed_weights() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    for case in layers(&mut rng) {
        for isa in Isa::available() {
            for algorithm in algorithms(&case.geometry) {
                let weights = Weights::pack(isa, algorithm, &case.weight, case.shape);
                let packed = run(&case, 0..3, &weights);
                let epilogue = Epilogue {
                    bias: Some(&case.bias),
                    residual: Some(&case.other),
                    activation: Activation::Swish,
                };
                let mut out = vec![f32::NAN; packed.len()];
                let weight = (case.weight.as_slice(), case.shape);
                let how = (isa, algorithm);
                forward_once(how, &case.x, &case.geometry, weight, epilogue, &mut out);
                assert!(out == packed, "{isa}, {algorithm:?}, {:?}", case.shape);
            }
        }
    }
}

#[test]
fn weights_of_another_length_are_refused() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let geometry = three_by_three(1, 6);
    let case = Case::new(&mut rng, geometry, [20, 10]);
    let longer: Vec<f32> = case.weight.iter().copied().chain([0.0]).collect();
    for weight in [&case.weight[1..], &longer] {
        let refused = std::panic::catch_unwind(|| {
            let mut out = vec![0.0; case.other.len()];
            let how = (Isa::best(), Algorithm::Direct);
            let weight = (weight, case.shape);
            forward_once(
                how,
                &case.x,
                &geometry,
                weight,
                Epilogue::default(),
                &mut out,
            );
        });
        let reason = refused.expect_err("too many or too few values");
        let reason = reason.downcast_ref::<String>().expect("a message");
        assert!(reason.contains("length of weights"), "{reason}");
    }
}

/// A NaN among the inputs reaches every output it belongs to.
#[test]
fn nan_stays_nan() {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let geometry = three_by_three(1, 4);
    let mut case = Case::new(&mut rng, geometry, [5, 3]);
    case.x.fill(f32::NAN);
    for isa in Isa::available() {
        for algorithm in algorithms(&geometry) {
            for activation in [
                Activation::Identity,
                Activation::Relu,
                Activation::Relu6,
                Activation::Swish,
                Activation::LeakyRelu(0.1),
            ] {
                let epilogue = Epilogue {
                    activation,
                    ..Epilogue::default()
                };
                let mut out = vec![0.0; case.other.len()];
                let weight = (case.weight.as_slice(), case.shape);
                forward_once(
                    (isa, algorithm),
                    &case.x,
                    &geometry,
                    weight,
                    epilogue,
                    &mut out,
                );
                assert!(
                    out.iter().all(|value| value.is_nan()),
                    "{isa} {algorithm:?} {activation:?}"
                );
            }
        }
    }
}

#[test]
fn no_images_and_no_outputs_are_no_work() {
    let geometry = three_by_three(0, 4);
    for algorithm in algorithms(&geometry) {
        let weights = Weights::pack(Isa::best(), algorithm, &[1.0; 18], [2, 1, 3, 3]);
        forward(&[], &geometry, &weights, Epilogue::default(), &mut []);
        let weights = Weights::pack(Isa::best(), algorithm, &[], [0, 1, 3, 3]);
        let one = Geometry {
            batch: 1,
            ..geometry
        };
        forward(&[1.0; 16], &one, &weights, Epilogue::default(), &mut []);
    }
}

#[test]
#[should_panic(expected = "length of the output")]
fn a_short_output_is_refused() {
    let geometry = Geometry {
        batch: 1,
        height: 2,
        width: 2,
        kernel: [1, 1],
        stride: 1,
        padding: Padding::default(),
    };
    let weights = Weights::pack(Isa::best(), Algorithm::Direct, &[1.0], [1, 1, 1, 1]);
    forward(
        &[1.0; 4],
        &geometry,
        &weights,
        Epilogue::default(),
        &mut [0.0; 3],
    );
}
