//! Losses, boundaries and gradients against PyTorch's autograd (`tests/reference/bgad.py`, in f64).
//!
//! Gradients are handed on in f32, whose resolution is 6e-8; 1e-6 of the largest value leaves room for
//! the rounding of `l` in intermediate steps and none for another selection.

use std::path::Path;

use serde::Deserialize;

use super::loss::{Boundary, BoundaryReduction, LossConfig, WeightConfig};

#[derive(Deserialize)]
struct Fixture {
    chunks: Vec<Chunk>,
}

#[derive(Deserialize)]
struct Chunk {
    name: String,
    l: Vec<f32>,
    anomalous: Vec<bool>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    loss: String,
    reduction: String,
    weighting: String,
    beta: f64,
    b_n: Option<f64>,
    b_a: Option<f64>,
    l_ml: f64,
    l_n: f64,
    l_a: f64,
    total: f64,
    gradient: Vec<f64>,
}

fn config(case: &Case) -> Option<LossConfig> {
    let base = match case.loss.as_str() {
        "nfad" => LossConfig::nfad(),
        "bgad" => LossConfig::bgad(),
        "dagger" => LossConfig::dagger(),
        "normal-boundary" => LossConfig {
            boundary: Boundary::Always,
            ..LossConfig::bgad()
        },
        other => panic!("no loss {other}"),
    };
    let weights = match case.weighting.as_str() {
        "off" => WeightConfig::off(),
        "published" => WeightConfig::published(),
        "paper-scaled" => WeightConfig::paper(),
        // The other reading of the paper's thresholds, which is not offered.
        "paper" => return None,
        other => panic!("no weighting {other}"),
    };
    Some(LossConfig {
        beta: case.beta,
        reduction: match case.reduction.as_str() {
            "mean" => BoundaryReduction::Mean,
            _ => BoundaryReduction::Sum,
        },
        weights,
        ..base
    })
}

#[test]
fn losses_boundaries_and_gradients_equal_autograd() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/bgad/losses.json");
    let text = std::fs::read_to_string(path).expect("fixture");
    let fixture: Fixture = serde_json::from_str(&text).expect("fixture is JSON");
    let mut compared = 0;
    for chunk in &fixture.chunks {
        let side = |anomalous: bool| -> Vec<f32> {
            let all = chunk.l.iter().zip(&chunk.anomalous);
            all.filter(|(_, a)| **a == anomalous)
                .map(|(l, _)| *l)
                .collect()
        };
        let (normal, anomalous) = (side(false), side(true));
        for case in &chunk.cases {
            let Some(config) = config(case) else {
                continue;
            };
            compared += 1;
            let found = config.evaluate(&normal, &anomalous, true);
            let what = format!(
                "{}: {} {} {} beta {}",
                chunk.name, case.loss, case.reduction, case.weighting, case.beta
            );
            let close = |name: &str, found: f64, expected: f64, scale: f64| {
                let difference = (found - expected).abs();
                assert!(
                    difference <= 1e-6 * scale.max(1.0),
                    "{what}, {name}: {found}, {expected}"
                );
            };
            close("L_ml", found.likelihood, case.l_ml, case.l_ml.abs());
            close("total", found.total(), case.total, case.total.abs());
            // The reference gives the boundary terms also where a loss does not use them.
            if let Some([b_n, b_a]) = found.boundaries {
                close("b_n", b_n, case.b_n.expect("boundary"), 1.0);
                close("b_a", b_a, case.b_a.expect("boundary"), 1.0);
                close("L_n", found.pull, case.l_n, case.l_n.abs());
                close("L_a", found.push, case.l_a, case.l_a.abs());
            }
            let largest = case.gradient.iter().fold(1e-3f64, |a, b| a.max(b.abs()));
            let (mut of_normal, mut of_anomalous) = {
                let (n, a) = found.gradient.split_at(normal.len());
                (n.iter(), a.iter())
            };
            for (&anomalous, &expected) in chunk.anomalous.iter().zip(&case.gradient) {
                let next = if anomalous {
                    of_anomalous.next()
                } else {
                    of_normal.next()
                };
                let found = f64::from(*next.expect("one gradient a vector"));
                assert!(
                    (found - expected).abs() <= 1e-6 * largest,
                    "{what}, gradient: {found}, {expected}"
                );
            }
        }
    }
    assert!(compared > 100, "{compared} cases");
}
