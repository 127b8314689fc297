//! IGD against PyTorch (`tests/reference/igd.py`, which computes in f64).

mod steps;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::prelude::*;
use burn_ad::tensors::{HostTensor, TensorSet};
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use serde::de::DeserializeOwned;

type AB = Autodiff<Flex>;

fn path(file: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/igd");
    folder.join(file)
}

/// The facts in `{name}.json`.
fn facts<T: DeserializeOwned>(name: &str) -> T {
    let text = std::fs::read_to_string(path(&format!("{name}.json"))).expect("fixture");
    serde_json::from_str(&text).expect("fixture is JSON")
}

/// The tensors of a fixture.
struct Stored(BTreeMap<String, HostTensor>);

impl Stored {
    /// All in `{name}.safetensors`.
    fn read(name: &str) -> Self {
        let mut all = TensorSet::read(&path(&format!("{name}.safetensors"))).expect("fixture");
        let all = all.iter_mut();
        Self(
            all.map(|(name, tensor)| (name.to_owned(), tensor.clone()))
                .collect(),
        )
    }

    fn host(&self, name: &str) -> &HostTensor {
        let found = self.0.get(name);
        found.unwrap_or_else(|| panic!("the fixture has no {name}"))
    }

    fn values(&self, name: &str) -> &[f32] {
        &self.host(name).values
    }

    fn tensor<B: Backend, const D: usize>(&self, name: &str) -> Tensor<B, D> {
        let HostTensor { shape, values } = self.host(name).clone();
        Tensor::from_data(TensorData::new(values, shape), &Default::default())
    }
}

fn doubles(values: &[f32]) -> impl Iterator<Item = f64> + '_ {
    values.iter().copied().map(f64::from)
}

/// The largest difference; a NaN is as far away as can be.
#[track_caller]
fn apart(found: &[f32], expected: impl IntoIterator<Item = f64>) -> f64 {
    let expected: Vec<f64> = expected.into_iter().collect();
    assert_eq!(found.len(), expected.len(), "number of values");
    let errors = doubles(found).zip(expected).map(|(a, b)| (a - b).abs());
    errors.fold(0.0, |worst, error| {
        if error.is_nan() {
            f64::INFINITY
        } else {
            error.max(worst)
        }
    })
}

/// The Euclidean norm.
fn length(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value.powi(2)).sum::<f64>().sqrt()
}

/// `count` of the values, as the fixtures have of long tensors.
fn sampled(values: &[f32], count: usize) -> Vec<f32> {
    let places = (0..count).map(|k| k * values.len() / count);
    places.map(|place| values[place]).collect()
}
