//! The metrics against scikit-learn and an exhaustive AUPRO; `reference/metrics.py` made the fixture.
#![allow(clippy::unwrap_used)]

use burn_ad::metrics::{
    BestF1, ScoreMap, ThresholdGrid, accuracy_at, aupro, aupro_sampled, auroc, average_precision,
    best_f1, mean_image_aupro_sampled, pixel_metrics,
};
use serde::Deserialize;

/// Ours are exact up to the last rounding, the references sum in floating point.
const TOLERANCE: f64 = 1e-12;

#[derive(Deserialize)]
struct Fixture {
    limit_of_sampled: f64,
    labelled: Vec<LabelledCase>,
    maps: Vec<MapCase>,
}

#[derive(Deserialize)]
struct LabelledCase {
    name: String,
    scores_bits: Option<Vec<u32>>,
    labels: Option<String>,
    generated: Option<GeneratedScores>,
    expected: Expected,
}

#[derive(Deserialize)]
struct MapCase {
    name: String,
    shape: Option<[usize; 3]>,
    scores_bits: Option<Vec<u32>>,
    masks: Option<String>,
    valids: Option<String>,
    generated: Option<GeneratedMaps>,
    expected: Expected,
}

#[derive(Deserialize)]
struct GeneratedScores {
    seed: u64,
    count: u64,
    rate: f32,
    lift: f32,
    levels: f32,
}

#[derive(Deserialize)]
struct GeneratedMaps {
    seed: u64,
    maps: usize,
    height: usize,
    width: usize,
    block: usize,
    rate: f32,
    lift: f32,
    levels: f32,
    margin: usize,
}

#[derive(Deserialize)]
struct Expected {
    auroc: Option<f64>,
    average_precision: Option<f64>,
    best_f1: Option<ExpectedF1>,
    accuracy_at_half: Option<f64>,
    #[serde(default)]
    aupro: Vec<ExpectedAupro>,
    #[serde(default)]
    has_sampled: bool,
    sampled_up: Option<f64>,
    sampled_down: Option<f64>,
    sampled_mean_image: Option<f64>,
}

#[derive(Deserialize)]
struct ExpectedF1 {
    f1: f64,
    threshold_bits: u32,
    precision: f64,
    recall: f64,
    accuracy: f64,
}

#[derive(Deserialize)]
struct ExpectedAupro {
    limit: f64,
    value: Option<f64>,
}

fn fixture() -> Fixture {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/fixtures/metrics/expected.json"
    );
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The generator that the reference script documents.
fn uniform(seed: u64, counter: u64) -> f32 {
    let mut z = (seed << 32)
        .wrapping_add(counter)
        .wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32
}

fn lifted(seed: u64, counter: u64, truth: bool, lift: f32, levels: f32) -> f32 {
    let score = uniform(seed, counter) + lift * f32::from(u8::from(truth));
    if levels > 0.0 {
        (score * levels).floor() / levels
    } else {
        score
    }
}

fn flags(text: &str) -> Vec<bool> {
    text.bytes().map(|b| b == b'1').collect()
}

fn floats(bits: &[u32]) -> Vec<f32> {
    bits.iter().map(|&b| f32::from_bits(b)).collect()
}

impl LabelledCase {
    fn input(&self) -> (Vec<f32>, Vec<bool>) {
        if let Some(g) = &self.generated {
            let item = |i| {
                let label = uniform(g.seed + 1, i) < g.rate;
                (lifted(g.seed, i, label, g.lift, g.levels), label)
            };
            return (0..g.count).map(item).unzip();
        }
        (
            floats(self.scores_bits.as_ref().unwrap()),
            flags(self.labels.as_ref().unwrap()),
        )
    }
}

/// All maps of a case, one after the other.
struct Maps {
    shape: [usize; 3],
    scores: Vec<f32>,
    masks: Vec<bool>,
    valids: Option<Vec<bool>>,
}

impl Maps {
    fn views(&self) -> Vec<ScoreMap<'_>> {
        let [maps, height, width] = self.shape;
        let size = height * width;
        (0..maps)
            .map(|map| map * size..(map + 1) * size)
            .map(|pixels| ScoreMap {
                scores: &self.scores[pixels.clone()],
                mask: &self.masks[pixels.clone()],
                valid: self.valids.as_ref().map(|valids| &valids[pixels]),
                height,
                width,
            })
            .collect()
    }
}

impl MapCase {
    fn input(&self) -> Maps {
        let Some(g) = &self.generated else {
            return Maps {
                shape: self.shape.unwrap(),
                scores: floats(self.scores_bits.as_ref().unwrap()),
                masks: flags(self.masks.as_ref().unwrap()),
                valids: self.valids.as_deref().map(flags),
            };
        };
        let (mut scores, mut masks, mut valids) = (Vec::new(), Vec::new(), Vec::new());
        for map in 0..g.maps {
            for y in 0..g.height {
                for x in 0..g.width {
                    let cell = (map * 4096 + y / g.block) * 4096 + x / g.block;
                    let mask = uniform(g.seed + 1, cell as u64) < g.rate;
                    scores.push(lifted(g.seed, masks.len() as u64, mask, g.lift, g.levels));
                    masks.push(mask);
                    let rows = g.margin..g.height - g.margin;
                    valids.push(rows.contains(&y) && (g.margin..g.width - g.margin).contains(&x));
                }
            }
        }
        Maps {
            shape: [g.maps, g.height, g.width],
            scores,
            masks,
            valids: (g.margin > 0).then_some(valids),
        }
    }
}

#[track_caller]
fn assert_close(what: &str, ours: Option<f64>, expected: Option<f64>) {
    let agrees = match (ours, expected) {
        (Some(ours), Some(expected)) => (ours - expected).abs() <= TOLERANCE,
        (None, None) => true,
        _ => false,
    };
    assert!(agrees, "{what}: {ours:?}, reference {expected:?}");
}

#[track_caller]
fn assert_same_f1(name: &str, ours: Option<BestF1>, expected: Option<&ExpectedF1>) {
    assert_eq!(ours.is_some(), expected.is_some(), "{name}");
    let (Some(ours), Some(expected)) = (ours, expected) else {
        return;
    };
    assert_eq!(
        ours.threshold,
        f32::from_bits(expected.threshold_bits),
        "{name}"
    );
    for (field, ours, expected) in [
        ("f1", ours.f1, expected.f1),
        ("precision", ours.precision, expected.precision),
        ("recall", ours.recall, expected.recall),
        ("accuracy", ours.accuracy, expected.accuracy),
    ] {
        assert_close(&format!("{name}, {field}"), Some(ours), Some(expected));
    }
}

#[test]
fn labelled_scores_agree_with_scikit_learn() {
    let cases = fixture().labelled;
    assert!(cases.len() >= 25, "the fixture lost cases");
    for case in &cases {
        let ((scores, labels), name) = (case.input(), &case.name);
        let expected = &case.expected;
        assert_close(
            &format!("{name}, AUROC"),
            auroc(&scores, &labels).unwrap(),
            expected.auroc,
        );
        assert_close(
            &format!("{name}, AP"),
            average_precision(&scores, &labels).unwrap(),
            expected.average_precision,
        );
        assert_same_f1(
            name,
            best_f1(&scores, &labels).unwrap(),
            expected.best_f1.as_ref(),
        );
        let accuracy = accuracy_at(&scores, &labels, 0.5).unwrap();
        assert_close(
            &format!("{name}, accuracy"),
            accuracy,
            expected.accuracy_at_half,
        );
    }
}

#[test]
fn pixel_metrics_agree_with_scikit_learn_and_exhaustive_aupro() {
    let cases = fixture().maps;
    assert!(cases.len() >= 20, "the fixture lost cases");
    for case in &cases {
        let (maps, name, expected) = (case.input(), &case.name, &case.expected);
        assert_eq!(expected.aupro.len(), 3, "{name}");
        for at in &expected.aupro {
            let ours = pixel_metrics(&maps.views(), at.limit).unwrap();
            assert_close(&format!("{name}, AUROC"), ours.auroc, expected.auroc);
            assert_close(
                &format!("{name}, AP"),
                ours.average_precision,
                expected.average_precision,
            );
            assert_same_f1(name, ours.best_f1, expected.best_f1.as_ref());
            assert_close(
                &format!("{name}, AUPRO to {}", at.limit),
                ours.aupro,
                at.value,
            );
            assert_eq!(
                aupro(&maps.views(), at.limit).unwrap(),
                ours.aupro,
                "{name}"
            );
        }
    }
}

#[test]
fn sampled_aupro_agrees_with_the_published_loops() {
    let fixture = fixture();
    let limit = fixture.limit_of_sampled;
    let cases: Vec<_> = fixture
        .maps
        .iter()
        .filter(|case| case.expected.has_sampled)
        .collect();
    assert!(cases.len() >= 18, "the fixture lost cases");
    for case in cases {
        let (maps, name, expected) = (case.input(), &case.name, &case.expected);
        let views = maps.views();
        let up = aupro_sampled(&views, limit, ThresholdGrid::CKAAD).unwrap();
        assert_close(&format!("{name}, up"), up, expected.sampled_up);
        let down = aupro_sampled(&views, limit, ThresholdGrid::BGAD).unwrap();
        assert_close(&format!("{name}, down"), down, expected.sampled_down);
        let mean = mean_image_aupro_sampled(&views, limit, ThresholdGrid::CKAAD).unwrap();
        assert_close(
            &format!("{name}, mean of images"),
            mean,
            expected.sampled_mean_image,
        );
    }
}
