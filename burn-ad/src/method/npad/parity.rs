//! Agreement with `tests/reference/npad.py`, an independent f64 implementation in NumPy.
//!
//! Tolerance 1e-4 relative: features, moments on the device and whitening matrices are 32-bit, and
//! with 6 training images in 7 dimensions the covariances at radius 0 are singular up to epsilon,
//! so rounding of the moments (1e-7 of their size) is amplified by their condition number (about
//! 200 here).
#![allow(clippy::unwrap_used)]

use burn::tensor::{Tensor, TensorData};
use burn_flex::Flex;
use serde_json::Value;

use super::Bank;
use super::bank::{Vectors, greedy_k_centre};
use super::mahalanobis::Gaussians;
use super::statistics::MomentStream;
use crate::ops::Neighbours;
use crate::tensors::to_vec;

const TOLERANCE: f64 = 1e-4;

fn reference() -> Value {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/fixtures/npad/npad.json"
    );
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// All numbers of nested arrays, in order.
fn flat(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(flat).collect(),
        other => vec![other.as_f64().unwrap()],
    }
}

fn size(reference: &Value, name: &str) -> usize {
    reference["shape"][name].as_u64().unwrap() as usize
}

/// `[image, channel, row, column]` in the file to `[images, positions, width]`.
fn features(reference: &Value, name: &str) -> Tensor<Flex, 3> {
    let [images, width] = [size(reference, name), size(reference, "channels")];
    let positions = size(reference, "rows") * size(reference, "columns");
    let values: Vec<f32> = flat(&reference[name])
        .into_iter()
        .map(|v| v as f32)
        .collect();
    let data = TensorData::new(values, [images, width, positions]);
    Tensor::<Flex, 3>::from_data(data, &Default::default()).swap_dims(1, 2)
}

fn assert_close(found: &[f32], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0f64, |a, b| a.max(b.abs()));
    for (found, expected) in found.iter().zip(expected) {
        let error = (f64::from(*found) - expected).abs();
        assert!(
            error <= TOLERANCE * largest,
            "{what}: {found} is not {expected}"
        );
    }
}

/// Fits on the training features, image by image as a stream would, and maps the test features.
fn gaussian_map(reference: &Value, radius: usize) -> (Vec<f32>, Vec<f32>) {
    let grid = [size(reference, "rows"), size(reference, "columns")];
    let device = Default::default();
    let train = features(reference, "train");
    let [images, positions, width] = train.dims();
    let mut stream = MomentStream::<Flex>::new(grid, width, &device);
    for image in 0..images {
        stream.add(train.clone().narrow(0, image, 1), vec![true; positions]);
    }
    let whitening = stream
        .finish()
        .unwrap()
        .whiten(radius, reference["eps"].as_f64().unwrap());
    let whitening = whitening.unwrap();
    let means = whitening.means.clone();
    let gaussians = Gaussians::<Flex>::new(whitening, width, &device);
    (
        means,
        to_vec(gaussians.distances(features(reference, "test"), grid, radius)),
    )
}

#[test]
fn padim_matches_the_reference() {
    let reference = reference();
    let (means, map) = gaussian_map(&reference, 0);
    assert_close(&means, &flat(&reference["padim"]["mean"]), "means");
    assert_close(&map, &flat(&reference["padim"]["map"]), "map");
}

#[test]
fn npad_matches_the_reference() {
    let reference = reference();
    let (means, map) = gaussian_map(&reference, 1);
    assert_close(&means, &flat(&reference["npad"]["mean"]), "means");
    assert_close(&map, &flat(&reference["npad"]["map"]), "map");
}

#[test]
fn patchcore_matches_the_reference() {
    let reference = reference();
    let expected = &reference["patchcore"];
    let train = features(&reference, "train");
    let [images, positions, width] = train.dims();
    let values = to_vec(train.reshape([images * positions, width]));
    let candidates = Vectors { width, values };
    let coreset: Vec<f64> = flat(&expected["coreset"]);
    let chosen = greedy_k_centre(&candidates, coreset.len(), 0, &mut |_, _| Ok(())).unwrap();
    assert_eq!(
        chosen.iter().map(|&row| row as f64).collect::<Vec<_>>(),
        coreset
    );

    let members: Vec<f32> = chosen
        .iter()
        .flat_map(|&row| &candidates.values[row * width..][..width])
        .copied()
        .collect();
    let device = Default::default();
    let bank = Bank::<Flex> {
        centre: Tensor::zeros([1, width], &device),
        members: Neighbours::new(Tensor::from_data(
            TensorData::new(members, [chosen.len(), width]),
            &device,
        )),
    };
    let test = features(&reference, "test");
    let images = test.dims()[0];
    let rows = test.reshape([images * positions, width]);
    let (distance, index) = bank.members.nearest(rows.clone());
    let distance = to_vec(distance);
    assert_close(&distance, &flat(&expected["map"]), "map");
    let index: Vec<i32> = index.into_data().convert::<i32>().into_vec().unwrap();
    let neighbours = expected["reweight"].as_u64().unwrap() as usize;
    let scores: Vec<f32> = (0..images)
        .map(|image| {
            let own = image * positions..(image + 1) * positions;
            let farthest = own
                .max_by(|&a, &b| distance[a].total_cmp(&distance[b]))
                .unwrap();
            let feature = rows.clone().narrow(0, farthest, 1);
            let (member, score) = (index[farthest] as usize, distance[farthest]);
            score * bank.crowding(feature, member, score, neighbours)
        })
        .collect();
    assert_close(&scores, &flat(&expected["score"]), "image scores");
}
