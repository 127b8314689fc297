//! MS-SSIM and its gradients against PyTorch in f64 (`tests/reference/igd.py`, which compares itself with
//! `pytorch-msssim`).
//!
//! Values may differ by 1e-5, gradients by 1e-4 of the largest.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use burn::prelude::*;
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use serde::Deserialize;

use super::MsSsim;
use crate::ops::Kernels;
use crate::tensors::{TensorSet, to_vec};

type AB = Autodiff<Flex>;

#[derive(Deserialize)]
struct Fixture {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    shape: [usize; 4],
    window: usize,
    sigma: f64,
    weights: Vec<f64>,
    range: f64,
    stored: bool,
    similarity: Vec<f32>,
    ssim: Vec<f32>,
    maps: bool,
    norm: f64,
    ssim_norm: f64,
    largest_gradient: f32,
    largest_ssim_gradient: f32,
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures/igd")
        .join(name)
}

/// Numbers in [0, 1) that belong to `key`, as `tests/reference/backbone.py` draws them.
fn uniform(key: &str, count: usize) -> Vec<f64> {
    let start = key.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    });
    let number = |index: u64| {
        let mut z = start.wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        (z >> 40) as f64 / 16_777_216.0
    };
    (1..=count as u64).map(number).collect()
}

/// Both images of a case whose images are not stored.
fn drawn(case: &Case) -> [Vec<f32>; 2] {
    let count = case.shape.iter().product();
    let images = |name: &str| -> Vec<f32> {
        let numbers = uniform(&format!("ssim.{}.{name}", case.name), count);
        let pixel = |u: f64| (case.range * u - 2.1179) as f32;
        numbers.into_iter().map(pixel).collect()
    };
    let (x, other) = (images("x"), images("y"));
    let mix = |(&x, &other): (&f32, &f32)| (0.75 * f64::from(x) + 0.25 * f64::from(other)) as f32;
    let y = x.iter().zip(&other).map(mix).collect();
    [x, y]
}

fn close(found: &[f32], expected: &[f32], bound: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let error = |(a, b): (&f32, &f32)| (a - b).abs();
    let largest = found.iter().zip(expected).map(error).fold(0.0, f32::max);
    println!("{what}: {largest:.2e} of {bound:.2e}");
    assert!(largest <= bound, "{what}: {largest} is more than {bound}");
}

fn close_norm(found: &[f32], expected: f64, what: &str) {
    let norm = found.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>();
    let error = (norm.sqrt() - expected).abs();
    assert!(error <= 1e-4 * expected, "{what}: norm differs by {error}");
}

fn check(case: &Case, tensors: &mut TensorSet) {
    let name = &case.name;
    let mut stored = |part: &str| {
        let name = format!("{name}.{part}");
        let found = tensors.iter_mut().find(|(key, _)| **key == name);
        found.map(|(_, tensor)| tensor.values.clone()).expect(&name)
    };
    let pixels = match case.stored {
        true => [stored("x"), stored("y")],
        false => drawn(case),
    };
    let [x, y] = pixels.map(|values| {
        let data = TensorData::new(values, case.shape);
        Tensor::<AB, 4>::from_data(data, &Default::default())
    });
    let y = y.require_grad();
    let measure = MsSsim {
        window: case.window,
        sigma: case.sigma,
        weights: case.weights.clone(),
        range: case.range,
    };
    measure.check(case.shape[2], case.shape[3]).unwrap();

    let similarity = measure.similarity(x.clone(), y.clone());
    let values = to_vec(similarity.clone().inner());
    close(
        &values,
        &case.similarity,
        1e-5,
        &format!("{name} similarity"),
    );
    let gradient = to_vec(y.grad(&similarity.sum().backward()).unwrap());
    close_norm(&gradient, case.norm, name);
    let expected = stored("gradient");
    let step = |k: usize| k * gradient.len() / expected.len();
    let sampled: Vec<f32> = (0..expected.len()).map(|k| gradient[step(k)]).collect();
    let bound = 1e-4 * case.largest_gradient;
    close(&sampled, &expected, bound, &format!("{name} gradient"));

    let ssim = measure.ssim(x.clone(), y.clone());
    let values = to_vec(ssim.clone().inner());
    close(&values, &case.ssim, 1e-5, &format!("{name} ssim"));
    let gradient = to_vec(y.grad(&ssim.sum().backward()).unwrap());
    close_norm(&gradient, case.ssim_norm, name);
    if !case.maps {
        return;
    }
    let bound = 1e-4 * case.largest_ssim_gradient;
    let what = format!("{name} gradient of ssim");
    close(&gradient, &stored("ssim_gradient"), bound, &what);
    for (scale, map) in measure.maps(x, y).into_iter().enumerate() {
        let expected = stored(&format!("map.{scale}"));
        close(
            &to_vec(map),
            &expected,
            1e-5,
            &format!("{name} map {scale}"),
        );
    }
}

#[test]
fn values_gradients_and_maps_equal_pytorch() {
    let text = std::fs::read_to_string(path("ssim.json")).unwrap();
    let fixture: Fixture = serde_json::from_str(&text).unwrap();
    let mut tensors = TensorSet::read(&path("ssim.safetensors")).unwrap();
    for kernels in ["fast", "off"] {
        kernels.parse::<Kernels>().unwrap().scope(|| {
            for case in &fixture.cases {
                check(case, &mut tensors);
            }
        });
    }
}
