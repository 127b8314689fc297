//! Losses and gradients against PyTorch's autograd (`tests/reference/hgad.py`, in f64).
//!
//! Products with centres are formed in f32; 1e-5 of the largest value of each tensor leaves room
//! for that and none for another formula.

use std::path::Path;

use burn::tensor::{Tensor, TensorData};
use burn_flex::Flex;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::evidence::Posterior;
use super::loss::{LossConfig, Workspace};
use super::mixture::Mixture;
use super::scale::{Levels, ScaleFit, anomaly};
use crate::data::Region;
use crate::method::padding::max_inside;
use crate::ops;
use crate::tensors::to_vec;
use crate::train::stream_rng;

fn fixture<T: DeserializeOwned>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures/hgad")
        .join(name);
    let text = std::fs::read_to_string(path).expect("fixture");
    serde_json::from_str(&text).expect("fixture is JSON")
}

fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1e-6f32, |a, b| a.max(b.abs()));
    for (index, (a, b)) in found.iter().zip(expected).enumerate() {
        let difference = (a - b).abs();
        assert!(
            difference <= tolerance * largest,
            "{what} at {index}: {a}, expected {b} (largest {largest})"
        );
    }
}

#[derive(Deserialize)]
struct Case {
    name: String,
    channels: usize,
    classes: usize,
    centres: usize,
    labels: Vec<u32>,
    z: Vec<f32>,
    log_det: Vec<f32>,
    mu: Vec<f32>,
    delta: Vec<f32>,
    phi_inter: Vec<f32>,
    phi_intra: Vec<f32>,
    phases: Vec<Phase>,
}

#[derive(Deserialize)]
struct Phase {
    phase: String,
    lambda_g: f64,
    lambda_mi: f64,
    lambda_e: f64,
    l_g: f64,
    l_mi: f64,
    l_e: f64,
    l_in: f64,
    l_z: f64,
    total: f64,
    gradients: Gradients,
}

#[derive(Deserialize)]
struct Gradients {
    z: Vec<f32>,
    log_det: Vec<f32>,
    mu: Vec<f32>,
    delta: Vec<f32>,
    phi_inter: Vec<f32>,
    phi_intra: Vec<f32>,
}

impl Case {
    fn mixture(&self) -> Mixture {
        Mixture {
            classes: self.classes,
            centres: self.centres,
            channels: self.channels,
            mu: self.mu.clone(),
            deltas: self.delta.clone(),
            inter: self.phi_inter.clone(),
            intra: self.phi_intra.clone(),
        }
    }
}

#[test]
fn losses_and_gradients_equal_autograd() {
    let mut compared = 0;
    for case in fixture::<Vec<Case>>("losses.json") {
        for phase in &case.phases {
            compared += 1;
            let config = LossConfig {
                lambda_likelihood: phase.lambda_g,
                lambda_information: phase.lambda_mi,
                lambda_entropy: phase.lambda_e,
                ..LossConfig::hgad()
            };
            let intra = phase.phase == "all";
            let loss = config.evaluate(
                &case.mixture(),
                &case.z,
                &case.log_det,
                &case.labels,
                intra,
                &mut Workspace::default(),
            );
            let what = format!("{}, phase {}", case.name, phase.phase);
            let close = |name: &str, found: f64, expected: f64| {
                let difference = (found - expected).abs();
                assert!(
                    difference <= 1e-5 * expected.abs().max(1.0),
                    "{what}, {name}: {found}, expected {expected}"
                );
            };
            let terms = loss.terms;
            close("L_g", terms.likelihood, phase.l_g);
            close("L_mi", terms.information, phase.l_mi);
            close("L_e", terms.entropy, phase.l_e);
            if intra {
                close("L_in", terms.intra, phase.l_in);
                close("L_z", terms.intra_sigmoid, phase.l_z);
            }
            close("total", loss.total(), phase.total);
            let Gradients {
                z,
                log_det,
                mu,
                delta,
                phi_inter,
                phi_intra,
            } = &phase.gradients;
            for (name, found, expected) in [
                ("z", &loss.gradient_z, z),
                ("J", &loss.gradient_log_det, log_det),
                ("mu", &loss.gradient.mu, mu),
                ("deltas", &loss.gradient.deltas, delta),
                ("inter", &loss.gradient.inter, phi_inter),
                ("intra", &loss.gradient.intra, phi_intra),
            ] {
                assert_close(
                    &format!("{what}, gradient of {name}"),
                    found,
                    expected,
                    1e-5,
                );
            }
        }
    }
    assert_eq!(compared, 15);
}

#[test]
fn centres_begin_where_the_reference_puts_them() {
    #[derive(Deserialize)]
    struct Start {
        classes: usize,
        channels: usize,
        mu: Vec<f32>,
    }
    for start in fixture::<Vec<Start>>("centres.json") {
        let mut rng = stream_rng(0, "mixture");
        let mixture = Mixture::init(start.classes, 2, start.channels, &mut rng);
        assert_close("mu", &mixture.mu, &start.mu, 1e-6);
    }
}

#[test]
fn scores_of_vectors_equal_the_reference() {
    #[derive(Deserialize)]
    struct Expected {
        likelihoods: Vec<f32>,
        entropies: Vec<f32>,
    }
    let expected: Vec<Expected> = fixture("losses.json");
    for (case, expected) in fixture::<Vec<Case>>("losses.json").iter().zip(expected) {
        let votes = Posterior::new(&case.mixture()).votes(&case.z, &case.log_det);
        let what = format!("{}, likelihoods", case.name);
        assert_close(&what, &votes.likelihoods, &expected.likelihoods, 1e-5);
        let what = format!("{}, entropies", case.name);
        assert_close(&what, &votes.entropies, &expected.entropies, 1e-5);
    }
}

#[test]
fn anomaly_maps_equal_the_reference() {
    #[derive(Deserialize)]
    struct Scores {
        size: usize,
        images: usize,
        grids: Vec<[usize; 2]>,
        likelihoods: Vec<Vec<f32>>,
        entropies: Vec<Vec<f32>>,
        map: Vec<f32>,
        scores: Vec<f32>,
    }
    let fixture: Scores = fixture("scores.json");
    let (device, size, images) = (Default::default(), fixture.size, fixture.images);
    let valid = vec![
        Region {
            top: 0,
            left: 0,
            height: size,
            width: size,
        };
        images
    ];
    let map = |levels: &[Vec<f32>], sign: f32| {
        let levels: Levels<Flex> = levels
            .iter()
            .zip(&fixture.grids)
            .map(|(values, &[rows, columns])| {
                let values: Vec<f32> = values.iter().map(|value| value * sign).collect();
                Tensor::from_data(TensorData::new(values, [images, rows, columns]), &device)
            })
            .collect();
        let mut fit = ScaleFit::new(1, levels.len());
        fit.add(&levels, &valid, &vec![0; images]);
        let scale = &fit.finish::<Flex>(&[], size, &device)[0];
        ops::gaussian_blur(anomaly(&vec![scale; images], &levels, size), 4.0)
    };
    let maps = map(&fixture.likelihoods, 1.0) * map(&fixture.entropies, -1.0);
    let scores = to_vec(max_inside(&maps, &valid));
    assert_close("maps", &to_vec(maps), &fixture.map, 1e-5);
    assert_close("scores", &scores, &fixture.scores, 1e-5);
}
