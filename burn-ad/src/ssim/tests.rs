//! Properties that hold for all images.

#![allow(clippy::unwrap_used)]

use burn::prelude::*;
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use rand::RngExt;

use super::*;
use crate::ops::{Kernels, add};
use crate::tensors::to_vec;

type AB = Autodiff<Flex>;

fn four() -> MsSsim {
    MsSsim {
        window: 3,
        sigma: 1.5,
        weights: FOUR_SCALES.to_vec(),
        range: 1.0,
    }
}

/// Pixels in [0, 1), a quarter of which `like` has already.
fn images(name: &str, shape: [usize; 4]) -> Tensor<AB, 4> {
    let mut rng = crate::train::stream_rng(1, name);
    let values = (0..shape.iter().product())
        .map(|_| rng.random::<f32>())
        .collect::<Vec<_>>();
    Tensor::from_data(TensorData::new(values, shape), &Default::default())
}

#[test]
fn equal_images_have_exactly_one_and_no_gradient() {
    for side in [17, 32, 41] {
        let x = images("equal", [2, 3, side, side + 1]);
        let y = x.clone().detach().require_grad();
        let similarity = four().similarity(x.clone(), y.clone());
        assert_eq!(to_vec(similarity.clone().inner()), [1.0; 2]);
        let gradient = y.grad(&similarity.sum().backward()).unwrap();
        assert!(to_vec(gradient).iter().all(|&value| value == 0.0));
        assert_eq!(to_vec(four().ssim(x.clone(), y.clone())), [1.0; 2]);
        for map in four().maps(x, y) {
            assert!(to_vec(map).iter().all(|&value| value == 1.0));
        }
    }
}

#[test]
fn kernels_give_what_tensor_operations_give() {
    for shape in [[2, 3, 32, 32], [1, 2, 41, 18], [3, 1, 17, 64]] {
        let x = images("first", shape).require_grad();
        let mixed = x.clone().detach() * 0.6 + images("second", shape) * 0.4;
        let y = mixed.detach().require_grad();
        let run = |kernels: &str| {
            kernels.parse::<Kernels>().unwrap().scope(|| {
                // Channels-last where the kernels compute.
                let (a, b) = (add(x.clone(), x.clone()) * 0.5, y.clone() * 2.0 - y.clone());
                let similarity = four().similarity(a.clone(), b.clone());
                let weights: Vec<f32> = (0..shape[0]).map(|at| at as f32 - 0.5).collect();
                let weights = Tensor::<AB, 1>::from_floats(weights.as_slice(), &x.device());
                // The images themselves have another gradient, too.
                let loss = (similarity.clone() * weights).sum() + (a * b).sum() * 1e-3;
                let gradients = loss.backward();
                let mut found = vec![to_vec(similarity.inner())];
                found.push(to_vec(x.grad(&gradients).unwrap()));
                found.push(to_vec(y.grad(&gradients).unwrap()));
                let alone = four().similarity(x.clone().inner(), y.clone().inner());
                assert_eq!(to_vec(alone), found[0]);
                let maps = four().maps(x.clone().inner(), y.clone().inner());
                found.extend(maps.into_iter().map(to_vec));
                found
            })
        };
        let expected = run("off");
        for kernels in ["precise", "fast:avx2", "fast:portable"] {
            let found = run(kernels);
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                let largest = expected.iter().fold(0.0f32, |a, b| a.max(b.abs()));
                for (a, b) in found.iter().zip(expected) {
                    // Squares of 1 are summed in another order, and variances of 1e-2 are what they
                    // differ by from the square of the mean.
                    assert!((a - b).abs() <= 1e-4 * largest, "{kernels}: {a} and {b}");
                }
            }
        }
    }
}

#[test]
fn similarity_is_symmetric_and_within_its_range() {
    let shape = [6, 2, 32, 35];
    let x = images("x", shape);
    let mut last = 1.0;
    for share in [0.1, 0.3, 1.0] {
        let y = x.clone() * (1.0 - share) + images("y", shape) * share;
        let similarity = to_vec(four().similarity(x.clone(), y.clone()));
        assert_eq!(similarity, to_vec(four().similarity(y.clone(), x.clone())));
        assert!(similarity.iter().all(|&value| (0.0..last).contains(&value)));
        last = similarity.into_iter().fold(0.0, f32::max);
        for map in four().maps(x.clone(), y.clone()) {
            let values = to_vec(map);
            assert!(
                values
                    .iter()
                    .all(|&value| (-1.0..=1.0 + 1e-5).contains(&value))
            );
        }
    }
}

#[test]
fn images_without_contrast_or_with_the_opposite_keep_gradients_finite() {
    let shape = [2, 1, 32, 32];
    let flat = Tensor::<AB, 4>::full(shape, 0.25, &Default::default());
    let textured = images("textured", shape);
    for (x, y) in [
        (flat.clone(), flat.clone()),
        (flat.clone(), flat.clone() * 3.0),
        (flat.clone(), flat.clone() * -1.0),
        (flat.clone(), textured.clone()),
        (textured.clone(), flat),
        (textured.clone(), textured.neg() + 1.0),
    ] {
        let y = y.detach().require_grad();
        let similarity = four().similarity(x, y.clone());
        let values = to_vec(similarity.clone().inner());
        assert!(
            values.iter().all(|&value| (0.0..=1.0).contains(&value)),
            "{values:?}"
        );
        let gradient = to_vec(y.grad(&similarity.sum().backward()).unwrap());
        assert!(gradient.iter().all(|value| value.is_finite()));
        // Nothing is told where a factor is not positive.
        if values == [0.0; 2] {
            assert!(gradient.iter().all(|&value| value == 0.0));
        }
    }
}

#[test]
fn sizes_and_settings_that_do_not_work_are_refused() {
    assert!(four().check(17, 17).is_ok());
    for (height, width) in [(16, 32), (32, 16), (0, 0)] {
        let error = four().check(height, width).unwrap_err();
        assert!(error.is_usage());
        assert!(error.to_string().contains("from 17 pixels"), "{error}");
    }
    let five = MsSsim {
        window: 11,
        weights: FIVE_SCALES.to_vec(),
        ..four()
    };
    assert!(five.check(161, 256).is_ok());
    let error = five.check(160, 256).unwrap_err().to_string();
    assert!(
        error.contains("256 x 160") && error.contains("161"),
        "{error}"
    );
    for wrong in [
        MsSsim {
            window: 4,
            ..four()
        },
        MsSsim {
            window: 0,
            ..four()
        },
        MsSsim {
            sigma: 0.0,
            ..four()
        },
        MsSsim {
            range: f64::NAN,
            ..four()
        },
        MsSsim {
            weights: Vec::new(),
            ..four()
        },
        MsSsim {
            weights: vec![0.5, -0.5],
            ..four()
        },
    ] {
        assert!(wrong.check(512, 512).unwrap_err().is_usage(), "{wrong:?}");
    }
}

#[test]
fn the_smallest_size_works() {
    for scales in 1..=5 {
        let measure = MsSsim {
            weights: FIVE_SCALES[..scales].to_vec(),
            ..four()
        };
        let side = (1..)
            .find(|&side| measure.check(side, side).is_ok())
            .unwrap();
        let shape = [1, 1, side, side];
        let maps = measure.maps(images("a", shape), images("b", shape));
        assert_eq!(maps.len(), scales);
        assert_eq!(maps.last().unwrap().dims(), [1, 1, 1, 1]);
    }
}
