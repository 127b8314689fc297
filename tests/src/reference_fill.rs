//! Checkpoint values from a counter-based generator, the same in Rust and in Python.
//!
//! The rule stands at the head of `tests/reference/backbone.py`: a value depends only on the name
//! of its tensor in the state dict, its shape and its index.

use burn_ad::backbone::{BackboneConfig, Unit, UnitSpec};

/// Multiples of this separate the counters of splitmix64.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// One tensor of a state dict.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name.
    pub key: String,
    /// Its sides, outermost first.
    pub shape: Vec<usize>,
    /// Its values, row-major.
    pub values: Vec<f32>,
}

/// `count` numbers in [0, 1) belonging to `key`.
pub fn uniform(key: &str, count: usize) -> impl Iterator<Item = f64> {
    let start = key.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    });
    (1..=count as u64).map(move |index| {
        let mut z = start.wrapping_add(index.wrapping_mul(GOLDEN));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        (z >> 40) as f64 / 16_777_216.0
    })
}

/// The values of the tensor called `key`, of `shape`.
pub fn fill(key: &str, shape: &[usize]) -> Vec<f32> {
    let count = shape.iter().product();
    let uniform = uniform(key, count);
    if key == "input" {
        let scale = 3f64.sqrt();
        uniform.map(|u| ((2.0 * u - 1.0) * scale) as f32).collect()
    } else if shape.len() == 4 {
        let fan_in: usize = shape[1..].iter().product();
        let scale = (6.0 / fan_in as f64).sqrt();
        uniform.map(|u| ((2.0 * u - 1.0) * scale) as f32).collect()
    } else if key.ends_with(".bias") || key.ends_with(".running_mean") {
        uniform.map(|u| (0.4 * (u - 0.5)) as f32).collect()
    } else if key.ends_with("bn3.weight") {
        uniform.map(|u| (0.25 + u / 2.0) as f32).collect()
    } else {
        uniform.map(|u| (0.5 + u) as f32).collect()
    }
}

/// Names and shapes of a backbone's state dict, in the reference's order, without classifier and
/// without `num_batches_tracked`.
pub fn state_dict_shapes(config: BackboneConfig) -> Vec<(String, Vec<usize>)> {
    let mut shapes = Vec::new();
    for spec in config.units() {
        let outputs = vec![spec.shape[0]];
        shapes.push((format!("{}.weight", spec.name), spec.shape.to_vec()));
        if spec.bias {
            shapes.push((format!("{}.bias", spec.name), outputs.clone()));
        }
        for part in ["weight", "bias", "running_mean", "running_var"] {
            let norm = spec.norm.iter();
            shapes.extend(norm.map(|norm| (format!("{}.{part}", norm.name), outputs.clone())));
        }
    }
    shapes
}

/// The generated state dict of a backbone.
pub fn state_dict(config: BackboneConfig) -> Vec<Entry> {
    let shapes = state_dict_shapes(config).into_iter();
    shapes
        .map(|(key, shape)| Entry {
            values: fill(&key, &shape),
            key,
            shape,
        })
        .collect()
}

/// One unit of the generated checkpoint, its BatchNorm folded in f64:
/// `w' = w gamma / sqrt(var + eps)`, `b' = beta + (b - mean) gamma / sqrt(var + eps)`.
pub fn folded(spec: &UnitSpec) -> Unit {
    let [outputs, ..] = spec.shape;
    let mut weight = fill(&format!("{}.weight", spec.name), &spec.shape);
    let mut bias = if spec.bias {
        fill(&format!("{}.bias", spec.name), &[outputs])
    } else {
        vec![0.0; outputs]
    };
    if let Some(norm) = &spec.norm {
        let part = |part: &str| fill(&format!("{}.{part}", norm.name), &[outputs]);
        let [gamma, beta, mean, variance] =
            ["weight", "bias", "running_mean", "running_var"].map(part);
        let filters = weight.chunks_exact_mut(spec.shape[1..].iter().product());
        for (channel, filter) in filters.enumerate() {
            let scale =
                f64::from(gamma[channel]) / (f64::from(variance[channel]) + norm.epsilon).sqrt();
            for value in filter {
                *value = (f64::from(*value) * scale) as f32;
            }
            let centred = f64::from(bias[channel]) - f64::from(mean[channel]);
            bias[channel] = (f64::from(beta[channel]) + centred * scale) as f32;
        }
    }
    Unit { weight, bias }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_equal_the_python_generator() {
        // `filled(key, shape)` of tests/reference/backbone.py.
        let cases: [(&str, &[usize], &[f32]); 4] = [
            (
                "conv1.weight",
                &[2, 1, 1, 2],
                &[0.156_144_17, 0.849_265_1, -1.652_647_7, 0.818_213_05],
            ),
            (
                "bn1.running_var",
                &[3],
                &[1.142_307_5, 1.286_753_4, 1.470_778_8],
            ),
            ("bn1.bias", &[2], &[-0.131_121_52, -0.183_938_18]),
            ("input", &[2], &[-1.393_198_3, 0.527_791_86]),
        ];
        for (key, shape, expected) in cases {
            assert_eq!(fill(key, shape), expected, "{key}");
        }
    }
}
