use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::input::{input_by, turned};
use super::weight::weight_by;
use super::*;
use crate::conv::reference::{Case, close, values};
use crate::conv::{Algorithm, Padding};
use crate::testing::affordable;

/// Relative to the sum of magnitudes; see the tests of `conv`.
fn tolerance(precise: bool) -> f64 {
    if precise { 1e-6 } else { 1e-5 }
}

fn layers(case: &Case) -> impl Iterator<Item = Layer> {
    let (geometry, shape) = (case.geometry, case.shape);
    Isa::available()
        .flat_map(|isa| [true, false].map(|precise| (isa, precise)))
        .map(move |(isa, precise)| Layer {
            isa,
            precise,
            geometry,
            shape,
        })
}

fn check(case: &Case, layer: &Layer, sums: &[Vec<(f64, f64)>; 2]) {
    let what = format!("{layer:?}");
    let added = &case.x;
    let mut dx = vec![f32::NAN; case.x.len()];
    input(layer, &case.other, &case.weight, None, &mut dx);
    close(&dx, &sums[0], tolerance(layer.precise), &what);
    let expected: Vec<_> = (sums[0].iter().zip(added))
        .map(|((sum, size), added)| (sum + f64::from(*added), size + 1.0))
        .collect();
    dx.fill(f32::NAN);
    input(layer, &case.other, &case.weight, Some(added), &mut dx);
    close(&dx, &expected, tolerance(layer.precise), &what);

    let mut dw = vec![f32::NAN; case.weight.len()];
    weight(layer, &case.x, &case.other, &mut dw);
    close(&dw, &sums[1], tolerance(layer.precise), &what);
}

/// Every algorithm, whether or not it would be chosen.
#[test]
fn gradients_by_any_algorithm_equal_their_definitions() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut seen = 0;
    for case in Case::all(&mut rng)
        .into_iter()
        .chain(large(&mut rng).into_iter().filter(|_| !cfg!(miri)))
    {
        let Some(turned) = turned(&case.geometry) else {
            continue;
        };
        let sums = [case.input_gradient(), case.weight_gradient()];
        for layer in layers(&case).filter(|layer| layer.precise) {
            for algorithm in Algorithm::ALL {
                if !algorithm.fits(turned.kernel, turned.stride) {
                    continue;
                }
                let what = format!("{algorithm:?}, {layer:?}");
                let bound = tolerance(algorithm != Algorithm::Winograd4);
                let mut dx = vec![f32::NAN; case.x.len()];
                input_by(algorithm, &layer, &case.other, &case.weight, None, &mut dx);
                close(&dx, &sums[0], bound, &what);
                let mut dw = vec![f32::NAN; case.weight.len()];
                weight_by(algorithm, &layer, &case.x, &case.other, &mut dw);
                close(&dw, &sums[1], bound, &what);
                seen += 1;
            }
        }
    }
    assert!(cfg!(miri) || seen > 50);
}

#[test]
fn gradients_equal_their_definitions() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for case in Case::all(&mut rng) {
        let sums = [case.input_gradient(), case.weight_gradient()];
        for layer in layers(&case) {
            check(&case, &layer, &sums);
        }
    }
}

/// Layers that algorithms divide in all their ways: height and width, kernel and stride, channels.
fn large(rng: &mut ChaCha8Rng) -> Vec<Case> {
    [
        ([40, 33], [3, 1], [40, 24]),
        ([32, 32], [3, 1], [64, 64]),
        ([7, 7], [3, 1], [136, 128]),
        ([4, 4], [3, 1], [144, 160]),
        ([24, 24], [1, 1], [112, 72]),
        ([31, 20], [3, 2], [64, 48]),
        ([31, 20], [1, 2], [24, 48]),
        ([64, 64], [7, 2], [64, 3]),
        ([33, 40], [5, 1], [3, 64]),
        ([33, 40], [3, 2], [4, 20]),
        ([20, 21], [1, 1], [1, 75]),
        ([20, 21], [3, 1], [2, 19]),
        ([21, 20], [3, 3], [75, 4]),
    ]
    .map(|([height, width], [kernel, stride], channels)| {
        let geometry = Geometry {
            batch: 3,
            height,
            width,
            kernel: [kernel; 2],
            stride,
            padding: Padding::all(kernel / 2),
        };
        Case::new(rng, geometry, channels)
    })
    .into()
}

#[test]
#[cfg_attr(miri, ignore = "too many values")]
fn gradients_of_large_layers_equal_their_definitions_too() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for case in large(&mut rng) {
        let sums = [case.input_gradient(), case.weight_gradient()];
        for layer in layers(&case).filter(|layer| layer.isa == Isa::best()) {
            check(&case, &layer, &sums);
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "too many values")]
fn threads_do_not_change_a_bit_of_a_gradient() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for case in large(&mut rng) {
        for layer in layers(&case).filter(|layer| layer.isa == Isa::best()) {
            let results = [1, 2, 5].map(|threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                pool.expect("threads can be started").install(|| {
                    let mut dx = vec![f32::NAN; case.x.len()];
                    input(&layer, &case.other, &case.weight, None, &mut dx);
                    let mut dw = vec![f32::NAN; case.weight.len()];
                    weight(&layer, &case.x, &case.other, &mut dw);
                    let mut db = vec![f32::NAN; case.bias.len()];
                    bias(layer.isa, &case.other, &mut db);
                    (dx, dw, db)
                })
            });
            assert!(
                results[0] == results[1] && results[0] == results[2],
                "{layer:?}"
            );
        }
    }
}

#[test]
fn bias_gradient_is_the_sum_over_positions() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    for (positions, channels) in [(0, 3), (1, 1), (5, 16), (2000, 37), (1100, 64)] {
        if !affordable(positions * channels) {
            continue;
        }
        let dy = values(&mut rng, positions * channels);
        for isa in Isa::available() {
            let mut db = vec![f32::NAN; channels];
            bias(isa, &dy, &mut db);
            for (channel, found) in db.iter().enumerate() {
                let column = dy.iter().skip(channel).step_by(channels);
                let sum: f64 = column.map(|value| f64::from(*value)).sum();
                assert!(
                    (f64::from(*found) - sum).abs() < 1e-4,
                    "{isa}: {found} and {sum}"
                );
            }
        }
    }
}

#[test]
fn gradients_of_an_empty_batch_are_zero() {
    for kernel in [1, 3] {
        let layer = Layer {
            isa: Isa::best(),
            precise: false,
            geometry: Geometry {
                batch: 0,
                height: 4,
                width: 4,
                kernel: [kernel; 2],
                stride: 1,
                padding: Padding::all(kernel / 2),
            },
            shape: [2, 1, kernel, kernel],
        };
        let mut dw = vec![1.0; 2 * kernel * kernel];
        let weights = dw.clone();
        input(&layer, &[], &weights, None, &mut []);
        weight(&layer, &[], &[], &mut dw);
        assert!(dw.iter().all(|value| *value == 0.0));
    }
}

#[test]
fn large_maps_take_the_fast_algorithm_only_when_allowed() {
    let geometry = Geometry {
        batch: 8,
        height: 32,
        width: 32,
        kernel: [3, 3],
        stride: 1,
        padding: Padding::all(1),
    };
    for (precise, algorithm) in [(false, Algorithm::Winograd4), (true, Algorithm::Winograd2)] {
        let shape = [64, 64, 3, 3];
        assert_eq!(Algorithm::choose_once(precise, shape, &geometry), algorithm);
        assert_eq!(Algorithm::choose(precise, shape, &geometry), algorithm);
        let gradient = Algorithm::choose_gradient(precise, shape, &geometry);
        assert_eq!(gradient, algorithm);
    }
}
