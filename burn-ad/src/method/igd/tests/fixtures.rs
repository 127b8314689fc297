//! The E-step and the scores against `tests/reference/igd.py`, which computes in f64.
//!
//! Numbers of order 1 may differ by 1e-5: f32 resolves 1e-7, and MS-SSIM of patches that are
//! reconstructed well is a quotient of small variances.

use std::path::Path;

use burn::prelude::*;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::data::Region;
use crate::method::igd::config::{PATCH, Scale};
use crate::method::igd::eye::Eye;
use crate::method::igd::network::{Generator, GeneratorPlan};
use crate::method::igd::patches::{Mosaic, corners};
use crate::method::igd::residual_map::residual_maps;
use crate::method::igd::{Gaussian, IgdConfig, Objective, Strategy};
use crate::network::residual::{Maker, Normalisation};
use crate::network::{Init, NormMode};
use crate::ssim::MsSsim;
use crate::tensors::{TensorSet, to_vec};
use crate::train::stream_rng;

use super::Flex;

const TOLERANCE: f64 = 1e-5;

fn path(file: &str) -> std::path::PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/igd");
    folder.join(file)
}

fn facts<T: DeserializeOwned>(name: &str) -> T {
    let text = std::fs::read_to_string(path(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[track_caller]
fn assert_near(found: impl IntoIterator<Item = f64>, expected: &[f64]) {
    let found: Vec<f64> = found.into_iter().collect();
    assert_eq!(found.len(), expected.len());
    for (place, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= TOLERANCE, "{place}: {a} instead of {b}");
    }
}

fn doubles(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

#[derive(Deserialize)]
struct Steps {
    cases: Vec<Step>,
    moved: Moved,
}

#[derive(Deserialize)]
struct Step {
    width: usize,
    batches: Vec<Latents>,
    centre: Vec<f64>,
    scale: f64,
}

#[derive(Deserialize)]
struct Latents {
    count: usize,
    z: Vec<f32>,
}

#[derive(Deserialize)]
struct Moved {
    mean: Vec<f32>,
    centre: Vec<f64>,
}

#[test]
fn the_e_step_finds_what_the_reference_finds() {
    let Steps { cases, moved } = facts("estep.json");
    assert_eq!(cases.len(), 2);
    for case in cases {
        let batches: Vec<Vec<f32>> = case.batches.iter().map(|batch| batch.z.clone()).collect();
        for (batch, values) in case.batches.iter().zip(&batches) {
            assert_eq!(values.len(), batch.count * case.width);
        }
        let found = Gaussian::of(&batches, case.width);
        assert_near(doubles(&found.centre), &case.centre);
        assert_near([found.scale], &[case.scale]);
    }
    let found = Gaussian::of(std::slice::from_ref(&moved.mean), moved.mean.len());
    assert_near(doubles(&found.centre), &moved.centre);
    assert!(found.centre.iter().all(|value| value.abs() >= 0.1));
}

#[derive(Deserialize)]
struct Scoring {
    size: usize,
    patch: usize,
    stride: usize,
    range: f64,
    rho: f64,
    sigma: f64,
    whole: Whole,
    local: Local,
    scores: Scores,
}

#[derive(Deserialize)]
struct Whole {
    window: usize,
    weights: Vec<f64>,
    scale: f64,
    distance: f64,
    reconstruction: f64,
    gaussian: f64,
}

#[derive(Deserialize)]
struct Local {
    window: usize,
    weights: Vec<f64>,
    scale: f64,
    distances: Vec<f64>,
    reconstruction: Vec<f64>,
    gaussian: Vec<f64>,
}

#[derive(Deserialize)]
struct Scores {
    published: Score,
    paper: Score,
    validation: Score,
}

#[derive(Deserialize)]
struct Score {
    whole: [f64; 2],
    local: [f64; 2],
    image: f64,
    patches: f64,
    best: usize,
    score: f64,
    joined: String,
}

/// The fixture, ready to be judged.
struct World {
    facts: Scoring,
    tensors: TensorSet,
}

impl World {
    fn read() -> Self {
        Self {
            facts: facts("scoring.json"),
            tensors: TensorSet::read(&path("scoring.safetensors")).unwrap(),
        }
    }

    fn values(&self, name: &str) -> Vec<f32> {
        let mut tensors = self.tensors.clone();
        let mut found = tensors.iter_mut().filter(|(key, _)| *key == name);
        found.next().unwrap().1.values.clone()
    }

    fn maps(&self, name: &str, shape: [usize; 4]) -> Tensor<Flex, 4> {
        Tensor::from_data(
            TensorData::new(self.values(name), shape),
            &Default::default(),
        )
    }

    fn corners(&self) -> Vec<[usize; 2]> {
        let whole = Region {
            top: 0,
            left: 0,
            height: self.facts.size,
            width: self.facts.size,
        };
        let config = IgdConfig::products();
        assert_eq!(config.patches.stride, self.facts.stride);
        corners(config.patches, self.facts.size, &whole)
    }

    /// The image, its patches, and their reconstructions.
    fn images(&self) -> ([Tensor<Flex, 4>; 2], [Tensor<Flex, 4>; 2]) {
        let size = self.facts.size;
        let pixels = self.values("x");
        let corners = self.corners();
        let mut cut = Vec::new();
        for &corner in &corners {
            super::super::patches::cut(&pixels, size, corner, &mut cut);
        }
        let shape = [corners.len(), 3, PATCH, PATCH];
        let patches = Tensor::from_data(TensorData::new(cut, shape), &Default::default());
        let whole = ["x", "x_hat"].map(|name| self.maps(name, [1, 3, size, size]));
        (whole, [patches, self.maps("patches", shape)])
    }

    /// A trained model of one latent value, whose centre is 0.
    fn eye(&self, scale: Scale, weights: [f64; 2]) -> Eye<Flex> {
        let facts = &self.facts;
        let (window, of_scales, squared) = match scale {
            Scale::Global => (facts.whole.window, &facts.whole.weights, facts.whole.scale),
            Scale::Local => (facts.local.window, &facts.local.weights, facts.local.scale),
        };
        let mut config = IgdConfig::products();
        config.loss.rho = facts.rho;
        let plan = GeneratorPlan {
            side: PATCH,
            width: 1,
            decoder_width: 1,
            latent: 1,
            frozen: None,
            decodes: false,
        };
        let mut maker = Maker {
            norm: Normalisation::Batch(NormMode::Eval),
            init: Init::Zeros,
            offsets: true,
            rng: &mut stream_rng(0, "zeros"),
            device: &Default::default(),
        };
        Eye {
            scale,
            generator: Generator::new(&plan, &mut maker),
            gaussian: Gaussian {
                centre: vec![0.0],
                scale: squared,
            },
            objective: Objective {
                strategy: Strategy::Igd,
                loss: config.loss,
                ssim: MsSsim {
                    window,
                    sigma: facts.sigma,
                    weights: of_scales.clone(),
                    range: facts.range,
                },
            },
            weights,
            patches: config.patches,
            frozen: false,
            size: facts.size,
        }
    }
}

/// Latent vectors at these squared distances from 0.
fn latents(distances: &[f64]) -> Tensor<Flex, 2> {
    let values: Vec<f32> = distances.iter().map(|d| d.sqrt() as f32).collect();
    Tensor::from_data(
        TensorData::new(values, [distances.len(), 1]),
        &Default::default(),
    )
}

#[test]
fn losses_of_images_and_patches_are_those_of_the_reference() {
    let world = World::read();
    let facts = &world.facts;
    assert_eq!(facts.patch, PATCH);
    let ([x, found], [patches, found_patches]) = world.images();
    for (scale, images, found, distances, reconstruction, gaussian) in [
        (
            Scale::Global,
            x,
            found,
            &vec![facts.whole.distance],
            &vec![facts.whole.reconstruction],
            &vec![facts.whole.gaussian],
        ),
        (
            Scale::Local,
            patches,
            found_patches,
            &facts.local.distances,
            &facts.local.reconstruction,
            &facts.local.gaussian,
        ),
    ] {
        let Eye {
            objective,
            gaussian: of,
            ..
        } = world.eye(scale, [1.0, 1.0]);
        let losses = objective.losses(&images, &latents(distances), Some(&found), &of);
        assert_near(doubles(&to_vec(losses.distance)), distances);
        assert_near(doubles(&to_vec(losses.classifier.unwrap())), gaussian);
        assert_near(
            doubles(&to_vec(losses.reconstruction.unwrap())),
            reconstruction,
        );
    }
}

#[test]
fn scores_are_those_of_the_reference() {
    let world = World::read();
    let facts = &world.facts;
    let ([x, found], [patches, found_patches]) = world.images();
    let published = IgdConfig::products().score;
    assert_eq!(published.global, facts.scores.published.whole);
    assert_eq!(published.local, facts.scores.published.local);
    assert_eq!(IgdConfig::scratch().score.local, facts.scores.paper.local);
    for score in [
        &facts.scores.published,
        &facts.scores.paper,
        &facts.scores.validation,
    ] {
        let of_image = world.eye(Scale::Global, score.whole);
        let z = latents(&[facts.whole.distance]);
        let (of_image, _) = of_image.judge(x.clone(), &z, Some(found.clone()), false);
        assert_near(doubles(&of_image), &[score.image]);

        let of_patches = world.eye(Scale::Local, score.local);
        let z = latents(&facts.local.distances);
        let (of_patches, _) =
            of_patches.judge(patches.clone(), &z, Some(found_patches.clone()), false);
        let greatest = of_patches.iter().copied().fold(0.0, f32::max);
        assert_near([f64::from(greatest)], &[score.patches]);
        let best = of_patches.iter().position(|&value| value == greatest);
        assert_eq!(best, Some(score.best));

        // Ours is the mean of both; a sum tells images apart no differently.
        let mean = f64::midpoint(f64::from(of_image[0]), f64::from(greatest));
        let factor = if score.joined == "sum" { 2.0 } else { 1.0 };
        assert_near([factor * mean], &[score.score]);
    }
}

#[test]
fn pixel_maps_are_those_of_the_reference() {
    let world = World::read();
    let size = world.facts.size;
    let ([x, found], [patches, found_patches]) = world.images();
    let eye = world.eye(Scale::Global, [1.0, 1.0]);
    let whole = residual_maps(&eye.objective, x, found).concat();
    assert_near(doubles(&whole), &doubles(&world.values("map_whole")));

    let eye = world.eye(Scale::Local, [1.0, 1.0]);
    let maps = residual_maps(&eye.objective, patches, found_patches);
    assert_near(
        doubles(&maps.concat()),
        &doubles(&world.values("map_patches")),
    );
    let mut mosaic = Mosaic::new(size);
    for (corner, map) in world.corners().into_iter().zip(&maps) {
        mosaic.add(corner, map);
    }
    let local = mosaic.finish();
    assert_near(doubles(&local), &doubles(&world.values("map_local")));
    let both = whole
        .iter()
        .zip(&local)
        .map(|(a, b)| f64::from((a + b) / 2.0));
    assert_near(both, &doubles(&world.values("map")));
}
