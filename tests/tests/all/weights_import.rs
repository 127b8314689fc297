//! Strict import: what fits, what does not, and what the error says.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use burn_ad::backbone::{BackboneConfig, Interpolation, Pixels, WeightsFile};
use burn_ad_weights::checkpoint::Container;
use burn_ad_weights::{Checkpoint, KeyStyle, detect_arch, import, info};
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::Value;
use tempfile::TempDir;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/weights")
        .join(name)
}

fn arch(name: &str) -> BackboneConfig {
    name.parse().unwrap()
}

/// Shapes and a constant per tensor: enough to be strict about.
type State = BTreeMap<String, (Vec<usize>, f32)>;

/// A checkpoint of `arch` in canonical keys, as torchvision and timm write it.
fn canonical(arch: BackboneConfig) -> State {
    let mut state = State::new();
    for unit in arch.units() {
        let channels = vec![unit.shape[0]];
        state.insert(format!("{}.weight", unit.name), (unit.shape.to_vec(), 0.25));
        if unit.bias {
            state.insert(format!("{}.bias", unit.name), (channels.clone(), 0.5));
        }
        if let Some(norm) = unit.norm {
            for (part, value) in [
                ("weight", 2.0),
                ("bias", 0.125),
                ("running_mean", 3.0),
                ("running_var", 4.0),
                ("num_batches_tracked", 9.0),
            ] {
                state.insert(format!("{}.{part}", norm.name), (channels.clone(), value));
            }
        }
    }
    state
}

fn write(dir: &TempDir, state: &State) -> PathBuf {
    let bytes: Vec<_> = state
        .values()
        .map(|(shape, value)| value.to_le_bytes().repeat(shape.iter().product()))
        .collect();
    let views = state.iter().zip(&bytes).map(|((name, (shape, _)), bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap();
        (name.clone(), view)
    });
    let path = dir.path().join("model.safetensors");
    std::fs::write(&path, serialize(views, None::<HashMap<_, _>>).unwrap()).unwrap();
    path
}

#[test]
fn a_constant_checkpoint_folds_to_the_formula() {
    let dir = tempfile::tempdir().unwrap();
    for (name, epsilon) in [("resnet18", 1e-5), ("tf_efficientnet_lite0", 1e-3)] {
        let path = write(&dir, &canonical(arch(name)));
        let weights = import(&path, Some(arch(name))).unwrap();
        let scale = 2.0 / f64::sqrt(4.0 + epsilon);
        for unit in &weights.units {
            assert!(unit.weight.iter().all(|&w| w == (0.25 * scale) as f32));
            assert!(unit.bias.iter().all(|&b| b == (0.125 - 3.0 * scale) as f32));
        }
    }
}

#[test]
fn a_bias_without_norm_is_taken_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let b0 = arch("tf_efficientnet_b0");
    let weights = import(&write(&dir, &canonical(b0)), Some(b0)).unwrap();
    let specs = b0.units();
    let plain = specs.iter().position(|unit| unit.norm.is_none()).unwrap();
    assert!(weights.units[plain].weight.iter().all(|&w| w == 0.25));
    assert!(weights.units[plain].bias.iter().all(|&b| b == 0.5));
}

#[test]
fn strided_pytorch_files_of_real_size_fold_as_torch_does() {
    let expected: Value =
        serde_json::from_slice(&std::fs::read(fixture("full.json")).unwrap()).unwrap();
    for (name, file, container) in [
        ("resnet18", "resnet18.pth", Container::TorchZip),
        (
            "tf_efficientnet_lite0",
            "lite0-legacy.pth",
            Container::TorchLegacy,
        ),
    ] {
        let path = fixture(file);
        let checkpoint = Checkpoint::open(&path).unwrap();
        assert_eq!(checkpoint.container(), container);
        assert_eq!(detect_arch(&checkpoint).len(), 1);
        let weights = import(&path, None).unwrap();
        assert_eq!(weights.arch, arch(name));
        let specs = weights.arch.units();
        for (unit, sums) in expected[name].as_object().unwrap() {
            let at = specs.iter().position(|spec| &spec.name == unit).unwrap();
            let unit_values = &weights.units[at];
            let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
            let (weight, bias) = (wide(&unit_values.weight), wide(&unit_values.bias));
            let found = [
                weight.iter().sum::<f64>(),
                weight
                    .iter()
                    .enumerate()
                    .map(|(i, w)| w * (i % 97) as f64)
                    .sum(),
                bias.iter().sum(),
                bias.iter().map(|b| b.abs()).sum(),
            ];
            // Rounding to f32 moves a sum of n values by about n * |value| * 2^-25.
            let room = [1.0, 97.0, 1.0, 1.0].map(|ramp| ramp * weight.len() as f64 * 1e-8 + 1e-5);
            for ((found, sum), room) in found.iter().zip(sums.as_array().unwrap()).zip(room) {
                let sum = sum.as_f64().unwrap();
                assert!(
                    (found - sum).abs() <= room,
                    "{unit}: {found} instead of {sum}"
                );
            }
        }
    }
}

#[test]
fn classifier_and_head_may_be_there_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let lite0 = arch("tf_efficientnet_lite0");
    let mut state = canonical(lite0);
    for key in ["conv_head.weight", "bn2.running_mean", "classifier.bias"] {
        state.insert(key.to_owned(), (vec![3], 1.0));
    }
    let found = detect_arch(&Checkpoint::open(&write(&dir, &state)).unwrap());
    assert_eq!(found, [(lite0, KeyStyle::TimmEfficientNet)]);
}

#[test]
fn every_architecture_is_detected_as_itself_only() {
    let dir = tempfile::tempdir().unwrap();
    for name in [
        "resnet34",
        "wide_resnet50_2",
        "tf_efficientnet_b1",
        "tf_efficientnet_lite2",
    ] {
        let state = canonical(arch(name));
        let found = detect_arch(&Checkpoint::open(&write(&dir, &state)).unwrap());
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        assert_eq!(found[0].0, arch(name));
    }
}

#[test]
fn the_error_lists_missing_unexpected_and_misshapen_keys() {
    let dir = tempfile::tempdir().unwrap();
    let resnet18 = arch("resnet18");
    let mut state = canonical(resnet18);
    state.remove("layer1.0.bn1.running_var");
    state.insert("conv1.weight".to_owned(), (vec![64, 1, 7, 7], 0.0));
    state.insert("head.weight".to_owned(), (vec![2], 0.0));
    state.insert("stray.num_batches_tracked".to_owned(), (vec![1], 0.0));
    let error = import(&write(&dir, &state), Some(resnet18))
        .unwrap_err()
        .to_string();
    for line in [
        "missing (1):\n    layer1.0.bn1.running_var",
        "unexpected (2):\n    head.weight\n    stray.num_batches_tracked",
        "wrong shape or type (1):\n    conv1.weight: [64, 1, 7, 7] in the file, [64, 3, 7, 7] needed",
        "model.safetensors",
    ] {
        assert!(error.contains(line), "{line:?} is not in\n{error}");
    }
}

#[test]
fn a_checkpoint_of_another_architecture_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(&dir, &canonical(arch("resnet34")));
    let error = import(&path, Some(arch("resnet18")))
        .unwrap_err()
        .to_string();
    assert!(error.contains("this looks like resnet34"), "{error}");
    assert!(error.contains("more"), "long lists are cut: {error}");
    assert!(error.lines().count() < 40, "{error}");
}

#[test]
fn values_that_cannot_be_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (key, value, message) in [
        (
            "bn1.running_var",
            -1.0,
            "bn1.running_var: 64 variances are negative",
        ),
        (
            "bn1.weight",
            f32::NAN,
            "bn1.weight: 64 values are not finite",
        ),
        (
            "conv1.weight",
            f32::INFINITY,
            "conv1.weight: 9408 values are not finite",
        ),
    ] {
        let mut state = canonical(arch("resnet18"));
        state.get_mut(key).unwrap().1 = value;
        let error = import(&write(&dir, &state), None).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn an_imported_file_is_read_back_described_and_not_imported_twice() {
    let dir = tempfile::tempdir().unwrap();
    let weights = import(&fixture("lite0-legacy.pth"), None).unwrap();
    let path = dir.path().join("lite0.safetensors");
    weights.write(&path).unwrap();
    assert_eq!(WeightsFile::read(&path).unwrap(), weights);
    assert_eq!(weights.pixels, Pixels::HALF);
    assert_eq!(weights.pixels.interpolation, Interpolation::Bicubic);
    assert_eq!(weights.source, "lite0-legacy.pth");

    let about = info(&path).unwrap();
    let imported = about.imported.unwrap();
    assert_eq!(imported.digest, weights.digest());
    assert_eq!(imported.source_sha256, weights.source_sha256);
    let error = import(&path, None).unwrap_err().to_string();
    assert!(error.contains("imported before"), "{error}");
}

#[test]
fn info_counts_tensors_parameters_and_types() {
    let about = info(&fixture("lite0-legacy.pth")).unwrap();
    assert_eq!(about.tensors, 296);
    assert_eq!(about.parameters, 4_652_008); // timm's tf_efficientnet_lite0
    assert_eq!(
        about.dtypes,
        BTreeMap::from([("f32".to_owned(), 247), ("i64".to_owned(), 49)])
    );
    assert_eq!(about.detected.len(), 1);
    assert_eq!(about.detected[0].keys, KeyStyle::EfficientNetPytorch);
    assert_eq!(about.catalogue, None);
    assert_eq!(about.sha256.len(), 64);
    let json = serde_json::to_value(&about).unwrap();
    assert_eq!(json["container"], "torch-legacy");
    assert_eq!(json["detected"][0]["arch"], "tf_efficientnet_lite0");
    assert_eq!(json["detected"][0]["keys"], "efficientnet-pytorch");
}
