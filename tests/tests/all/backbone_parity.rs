//! Feature maps against torchvision and timm on the same generated weights and inputs.
//!
//! On Flex; the other backends are compared with it (`backends`). Tolerance: the largest difference
//! over the largest reference value of a tap is at most 1e-4. The references are computed in f64 from the same f32 weights, so the
//! difference is rounding alone: f32 resolves 6e-8 and each of up to 140 convolutions sums up to
//! 4608 products, which leaves 1e-7 to 1e-5. A wrong padding, epsilon or activation leaves more
//! than 1e-2.

#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::path::Path;

use burn::prelude::*;
use burn_ad::backbone::{Backbone, BackboneConfig};
use burn_ad_tests::reference_fill::{fill, folded, state_dict_shapes};
use burn_flex::{Flex, FlexDevice};
use serde::Deserialize;
use serde::de::DeserializeOwned;

const TOLERANCE: f64 = 1e-4;

#[derive(Deserialize)]
struct Fixture {
    name: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    input: [usize; 4],
    taps: Vec<Tap>,
}

#[derive(Deserialize)]
struct Tap {
    shape: [usize; 4],
    mean: f64,
    std: f64,
    min: f64,
    max: f64,
    samples: Vec<f64>,
}

fn fixture<T: DeserializeOwned>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/backbone")
        .join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path).expect("fixture");
    serde_json::from_str(&text).expect("fixture is JSON")
}

fn network(name: &str, device: &FlexDevice) -> Backbone<Flex> {
    let config: BackboneConfig = name.parse().expect("known name");
    let built = config.build(device, &mut |spec| Ok(folded(spec)));
    built.expect("generated units fit")
}

/// The largest difference of one tap, over its largest reference value.
fn difference(tap: &Tap, values: &[f32]) -> f64 {
    let count = values.len();
    let picked = (0..).map(|k| f64::from(values[k * count / tap.samples.len()]));
    let samples = tap.samples.iter().zip(picked);
    let samples = samples.map(|(a, b)| (a - b).abs());
    let sum: f64 = values.iter().map(|v| f64::from(*v)).sum();
    let mean = sum / count as f64;
    let squares = values.iter().map(|v| (f64::from(*v) - mean).powi(2));
    let std = (squares.sum::<f64>() / count as f64).sqrt();
    let min = f64::from(values.iter().copied().fold(f32::INFINITY, f32::min));
    let max = f64::from(values.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let whole = [
        (mean, tap.mean),
        (std, tap.std),
        (min, tap.min),
        (max, tap.max),
    ];
    let whole = whole.iter().map(|(a, b)| (a - b).abs());
    samples.chain(whole).fold(0.0, f64::max) / tap.max.abs().max(tap.min.abs())
}

fn compare(name: &str) {
    let device = Default::default();
    let network = network(name, &device);
    let fixture: Fixture = fixture(name);
    assert_eq!(fixture.name, name);
    let mut compared = 0;
    for case in &fixture.cases {
        let images = TensorData::new(fill("input", &case.input), case.input);
        let levels: Vec<usize> = (0..case.taps.len()).collect();
        let maps = network.features(Tensor::from_data(images, &device), &levels);
        for (level, (tap, map)) in case.taps.iter().zip(maps).enumerate() {
            assert_eq!(map.dims(), tap.shape, "{name} level {level}");
            let values: Vec<f32> = map.into_data().convert::<f32>().to_vec().expect("f32");
            let difference = difference(tap, &values);
            println!("{name} {:?} level {level}: {difference:.1e}", case.input);
            assert!(
                difference <= TOLERANCE,
                "{name} {:?} level {level}: relative difference {difference:.1e}",
                case.input
            );
            compared += 1;
        }
    }
    assert!(compared > 0, "{name} has no case");
}

#[test]
fn resnet18_equals_torchvision() {
    compare("resnet18");
}

#[test]
fn resnet50_equals_torchvision() {
    compare("resnet50");
}

#[test]
fn wide_resnet50_2_equals_torchvision() {
    compare("wide_resnet50_2");
}

#[test]
fn efficientnet_b0_equals_timm() {
    compare("tf_efficientnet_b0");
}

#[test]
fn efficientnet_b6_equals_timm() {
    compare("tf_efficientnet_b6");
}

#[test]
fn efficientnet_lite0_equals_timm() {
    compare("tf_efficientnet_lite0");
}

/// What the references say of a network: its state dict, without classifier, and its taps.
#[derive(Deserialize)]
struct Summary {
    /// `name AxBxC` of every tensor.
    tensors: Vec<String>,
    channels: Vec<usize>,
    strides: Vec<usize>,
}

#[test]
fn every_published_backbone_has_the_tensors_and_taps_of_its_reference() {
    let summaries: BTreeMap<String, Summary> = fixture("networks");
    assert_eq!(summaries.len(), BackboneConfig::PUBLISHED.len());
    for config in BackboneConfig::PUBLISHED {
        let summary = &summaries[config.name()];
        let ours = state_dict_shapes(config).into_iter().map(|(key, shape)| {
            let sides: Vec<String> = shape.iter().map(ToString::to_string).collect();
            format!("{key} {}", sides.join("x"))
        });
        assert_eq!(ours.collect::<Vec<_>>(), summary.tensors, "{config}");
        let info = config.feature_info();
        let channels: Vec<usize> = info.iter().map(|tap| tap.channels).collect();
        let strides: Vec<usize> = info.iter().map(|tap| tap.stride).collect();
        assert_eq!(channels, summary.channels, "{config}");
        assert_eq!(strides, summary.strides, "{config}");
    }
}
