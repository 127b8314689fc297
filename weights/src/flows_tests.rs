use std::path::PathBuf;

use safetensors::SafeTensors;
use safetensors::tensor::{TensorView, serialize_to_file};

use super::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures/flow")
        .join(name)
}

/// Tensors of a safetensors file of `f32`, by name.
fn tensors(name: &str) -> BTreeMap<String, HostTensor> {
    let bytes = std::fs::read(fixture(name)).expect("fixture");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let read = |view: TensorView| HostTensor {
        shape: view.shape().to_vec(),
        values: view
            .data()
            .as_chunks()
            .0
            .iter()
            .copied()
            .map(f32::from_le_bytes)
            .collect(),
    };
    let tensors = file.tensors().into_iter();
    tensors.map(|(name, view)| (name, read(view))).collect()
}

fn layer(block: &BTreeMap<String, HostTensor>, name: &str, x: &[f64]) -> Vec<f64> {
    let weight = &block[&format!("{name}.weight")].values;
    let bias = &block[&format!("{name}.bias")].values;
    let rows = weight.chunks_exact(x.len()).zip(bias);
    rows.map(|(row, &b)| f64::from(b) + dot(row, x)).collect()
}

fn dot(a: &[f32], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * b).sum()
}

/// One vector through a flow, from the formulas; `scaled` divides the clamp's argument by alpha.
fn forward(flow: &FlowStateDict, x: &[f32], condition: &[f32], scaled: bool) -> (Vec<f64>, f64) {
    const ALPHA: f64 = 1.9;
    let mut x: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
    let (kept, moved) = (x.len() - x.len() / 2, x.len() / 2);
    let mut log_det = 0.0;
    for block in &flow.blocks {
        let mut input = x[..kept].to_vec();
        input.extend(condition.iter().map(|&v| f64::from(v)));
        let mut hidden = layer(block, "subnet.0", &input);
        hidden.iter_mut().for_each(|h| *h = h.max(0.0));
        let a = layer(block, "subnet.2", &hidden);
        for i in 0..moved {
            let divisor = if scaled { ALPHA } else { 1.0 };
            let log_s = ALPHA * (0.1 * a[i] / divisor).tanh();
            x[kept + i] = x[kept + i] * log_s.exp() + 0.1 * a[moved + i];
            log_det += log_s;
        }
        let (scale, offset) = (
            &block["global_scale"].values,
            &block["global_offset"].values,
        );
        for (x, (&theta, &b)) in x.iter_mut().zip(scale.iter().zip(offset)) {
            let g = 0.2 * (0.5 * f64::from(theta)).exp().ln_1p();
            *x = *x * g + f64::from(b);
            log_det += g.ln();
        }
        let rotation = block["w_perm"].values.chunks_exact(x.len());
        x = rotation.map(|row| dot(row, &x)).collect();
    }
    (x, log_det)
}

/// Compares with what FrEIA made of the same vectors in `f64`; only its rounding to `f32` is left.
fn assert_agrees(
    flow: &FlowStateDict,
    expected: &BTreeMap<String, HostTensor>,
    level: &str,
    scaled: bool,
) {
    let get = |name: &str| expected.get(&format!("{level}{name}"));
    let rows = |name: &str| {
        let tensor = get(name).expect("in the fixture");
        tensor.values.chunks_exact(tensor.shape[1])
    };
    assert_eq!(rows("x").len(), 5);
    for (vector, (x, z)) in rows("x").zip(rows("z")).enumerate() {
        let condition = match get("condition") {
            Some(_) => rows("condition").nth(vector).expect("one per vector"),
            None => &[],
        };
        let (ours, log_det) = forward(flow, x, condition, scaled);
        for (a, &b) in ours.iter().zip(z) {
            assert!(
                (a - f64::from(b)).abs() <= 1e-5 * (1.0 + a.abs()),
                "{a} {b}"
            );
        }
        let expected = f64::from(get("log_det").expect("in the fixture").values[vector]);
        assert!((log_det - expected).abs() <= 1e-5, "{log_det} {expected}");
    }
}

#[test]
fn the_levels_of_bgad_give_the_outputs_of_freia() {
    let flows = read_flows(&fixture("bgad_style.pth")).expect("readable");
    let expected = tensors("bgad_style.safetensors");
    assert_eq!(flows.len(), 2);
    for (level, flow) in flows.iter().enumerate() {
        assert_eq!(flow.name, format!("decoder_state_dict.{level}"));
        assert_eq!((flow.channels, flow.condition), ([6, 8][level], 8));
        assert_eq!(flow.blocks.len(), 2);
        assert_agrees(flow, &expected, &format!("l{level}."), false);
    }
}

#[test]
fn safetensors_holds_the_same_flows() {
    let nested = read_flows(&fixture("bgad_style.pth")).expect("readable");
    let flat = read_flows(&fixture("bgad_style_flat.safetensors")).expect("readable");
    assert_eq!(nested, flat);
}

#[test]
fn a_bare_state_dict_with_index_permutations_is_one_flow() {
    let flows = read_flows(&fixture("plain_hard.pth")).expect("readable");
    let [flow] = flows.as_slice() else {
        panic!("{} flows", flows.len());
    };
    assert_eq!((flow.name.as_str(), flow.condition), ("", 0));
    assert_agrees(flow, &tensors("plain_hard.safetensors"), "", true);
}

#[test]
fn levels_are_in_the_order_of_their_numbers() {
    let flows = read_flows(&fixture("several.pth")).expect("readable");
    let channels: Vec<_> = flows.iter().map(|flow| flow.channels).collect();
    assert_eq!(channels, Vec::from_iter(2..13));
    assert_eq!(flows[10].name, "decoder_state_dict.10");
}

/// The error for the tensors of the first level of BGAD's file after `change`.
fn refused(change: impl FnOnce(&mut BTreeMap<String, HostTensor>)) -> String {
    let mut tensors = tensors("bgad_style_flat.safetensors");
    tensors.retain(|name, _| name.starts_with("decoder_state_dict.0"));
    change(&mut tensors);
    let bytes: BTreeMap<_, Vec<u8>> = tensors
        .iter()
        .map(|(name, tensor)| {
            let values = tensor.values.iter().flat_map(|value| value.to_le_bytes());
            (name, values.collect())
        })
        .collect();
    let views = tensors.iter().map(|(name, tensor)| {
        let (kind, shape) = (safetensors::Dtype::F32, tensor.shape.clone());
        let view = TensorView::new(kind, shape, &bytes[name]);
        (name, view.expect("sizes fit"))
    });
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join("changed.safetensors");
    serialize_to_file(views, None, &path).expect("writable");
    let message = read_flows(&path).expect_err("must be refused").to_string();
    assert!(message.contains("changed.safetensors"), "{message}");
    message
}

const FIRST: &str = "decoder_state_dict.0.module_list.0";
const SECOND: &str = "decoder_state_dict.0.module_list.1";

fn assert_names(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

#[test]
fn an_unknown_tensor_is_named() {
    for key in [
        format!("{SECOND}.vk_householder"),
        "decoder_state_dict.0.module_list.01.w_perm".to_owned(),
        "fc.weight".to_owned(),
    ] {
        let message = refused(|tensors| {
            let copy = tensors[&format!("{FIRST}.w_perm")].clone();
            tensors.insert(key.clone(), copy);
        });
        assert_names(&message, &[&key, "no part of a flow", "AllInOneBlock"]);
    }
}

#[test]
fn a_missing_tensor_or_block_is_named() {
    let key = format!("{SECOND}.subnet.2.bias");
    let message = refused(|tensors| drop(tensors.remove(&key)));
    assert_names(&message, &[&key, "missing"]);
    let message = refused(|tensors| tensors.retain(|name, _| !name.starts_with(FIRST)));
    assert_names(&message, &[FIRST, "missing"]);
    let message = refused(|tensors| tensors.clear());
    assert_names(&message, &["no tensors"]);
}

#[test]
fn a_wrong_shape_is_named() {
    let key = format!("{SECOND}.subnet.2.weight");
    let message = refused(|tensors| {
        let tensor = tensors.get_mut(&key).expect("in the fixture");
        tensor.shape.reverse();
    });
    assert_names(&message, &[&key, "[22, 6]", "[6, 22]"]);
    let message = refused(|tensors| {
        let scale = tensors.get_mut(&format!("{FIRST}.global_scale"));
        scale.expect("in the fixture").shape = vec![6];
    });
    assert_names(&message, &[FIRST, "global_scale", "do not fit"]);
}

#[test]
fn a_value_that_is_not_finite_is_named() {
    let key = format!("{FIRST}.subnet.0.bias");
    let message = refused(|tensors| {
        tensors.get_mut(&key).expect("in the fixture").values[3] = f32::NAN;
    });
    assert_names(&message, &[&key, "finite"]);
}

#[test]
fn permutations_must_be_orthogonal_and_fit_their_inverse() {
    let (rotation, inverse) = (format!("{FIRST}.w_perm"), format!("{FIRST}.w_perm_inv"));
    let message = refused(|tensors| {
        tensors.get_mut(&inverse).expect("in the fixture").values[1] += 2e-4;
    });
    assert_names(&message, &[&inverse, "transpose"]);
    let message = refused(|tensors| {
        for key in [&rotation, &inverse] {
            let tensor = tensors.get_mut(key).expect("in the fixture");
            tensor.values.iter_mut().for_each(|value| *value *= 1.001);
        }
    });
    assert_names(&message, &[&rotation, "orthogonal"]);
}

#[test]
fn indices_that_are_no_permutation_give_no_matrix() {
    assert_eq!(matrix(&[1, 0], 2), Some(vec![0.0, 1.0, 1.0, 0.0]));
    for wrong in [&[0, 0][..], &[0, 2], &[0, -1], &[0], &[0, 1, 1]] {
        assert_eq!(matrix(wrong, 2), None, "{wrong:?}");
    }
}

#[test]
fn a_damaged_file_is_an_error_or_flows_that_fit() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join("damaged.pth");
    let whole = std::fs::read(fixture("bgad_style.pth")).expect("fixture");
    let mut refused = 0;
    for at in (0..whole.len()).step_by(13) {
        let mut bytes = whole.clone();
        bytes[at] ^= [0x01, 0x80, 0xff][at % 3];
        std::fs::write(&path, bytes).expect("writable");
        match read_flows(&path) {
            Ok(flows) => assert!(flows.iter().all(|flow| !flow.blocks.is_empty())),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 100, "{refused}");
}
