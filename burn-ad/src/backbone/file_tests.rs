use super::*;
use burn_flex::Flex;
use safetensors::tensor::TensorView;
use std::path::PathBuf;
use tempfile::TempDir;

type Tensors = Vec<(String, Dtype, Vec<usize>, Vec<u8>)>;

fn weights() -> WeightsFile {
    let arch: BackboneConfig = "tf_efficientnet_lite0".parse().expect("known name");
    let units = arch.random_units(3).into_iter();
    WeightsFile {
        arch,
        pixels: arch.pixels(),
        source: "random weights, seed 3".to_owned(),
        source_sha256: String::new(),
        recipe: None,
        units: units.map(|(_, unit)| unit).collect(),
    }
}

fn written() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("lite0 weights.safetensors");
    weights().write(&path).expect("written");
    (dir, path)
}

/// Writes the file anew after `edit` changed its header and tensors.
fn edited(path: &Path, edit: impl FnOnce(&mut serde_json::Value, &mut Tensors)) {
    let bytes = std::fs::read(path).expect("readable");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let (_, metadata) = SafeTensors::read_metadata(&bytes).expect("safetensors");
    let metadata = metadata.metadata().as_ref().expect("metadata");
    let mut header = serde_json::from_str(&metadata[METADATA]).expect("JSON");
    let owned = |(name, tensor): (String, TensorView<'_>)| {
        let shape = tensor.shape().to_vec();
        (name, tensor.dtype(), shape, tensor.data().to_vec())
    };
    let mut tensors: Tensors = file.tensors().into_iter().map(owned).collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    edit(&mut header, &mut tensors);
    let views = tensors.iter().map(|(name, dtype, shape, data)| {
        let view = TensorView::new(*dtype, shape.clone(), data).expect("consistent");
        (name.as_str(), view)
    });
    let metadata = HashMap::from([(METADATA.to_owned(), header.to_string())]);
    std::fs::write(path, serialize(views, Some(metadata)).expect("bytes")).expect("written");
}

fn refusal(path: &Path) -> String {
    let error = WeightsFile::read(path).expect_err("must be refused");
    let text = error.to_string();
    assert!(text.contains("lite0 weights"), "names no file: {text}");
    text
}

#[test]
fn reading_returns_what_was_written() {
    let (_dir, path) = written();
    let read = WeightsFile::read(&path).expect("readable");
    assert_eq!(read, weights());
    let network = read.backbone::<Flex>(&Default::default()).expect("fits");
    assert_eq!(network.digest(), weights().digest());
}

#[test]
fn a_recipe_comes_back_and_is_absent_from_files_without_one() {
    let (_dir, path) = written();
    edited(&path, |header, _| {
        assert!(header.get("recipe").is_none());
        // What a newer version may add.
        header["mood"] = "good".into();
    });
    assert_eq!(WeightsFile::read(&path).expect("readable"), weights());
    let recipe =
        serde_json::json!({ "teacher": "resnet18", "steps": 50_000, "settings": { "size": 32 } });
    let made = WeightsFile {
        recipe: Some(recipe),
        ..weights()
    };
    made.write(&path).expect("written");
    assert_eq!(WeightsFile::read(&path).expect("readable"), made);
    assert_eq!(made.digest(), weights().digest());
}

#[test]
fn no_backbone_has_a_file_too() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("none.safetensors");
    let none = WeightsFile {
        arch: BackboneConfig::None,
        units: Vec::new(),
        ..weights()
    };
    none.write(&path).expect("written");
    let read = WeightsFile::read(&path).expect("readable");
    assert_eq!(read, none);
    let network = read.backbone::<Flex>(&Default::default()).expect("fits");
    assert_eq!(network.digest(), none.digest());
}

#[test]
fn the_same_weights_give_the_same_bytes() {
    let (_first, a) = written();
    let (_second, b) = written();
    assert_eq!(std::fs::read(a).expect("a"), std::fs::read(b).expect("b"));
}

#[test]
fn the_digest_depends_on_every_value() {
    let mut changed = weights();
    let last = changed.units.last_mut().expect("units");
    last.bias[0] = f32::from_bits(1);
    assert_ne!(changed.digest(), weights().digest());
}

#[test]
fn every_fault_of_the_tensors_is_listed() {
    let (_dir, path) = written();
    edited(&path, |_, tensors| {
        let at = |name: &str| {
            let found = tensors.iter().position(|tensor| tensor.0 == name);
            found.expect("present")
        };
        let [gone, half, turned, poisoned] = [
            "conv_stem.bias",
            "blocks.1.0.conv_pw.bias",
            "blocks.2.0.conv_pw.weight",
            "blocks.3.0.conv_pw.bias",
        ]
        .map(at);
        tensors[half].1 = Dtype::F16;
        let sides = tensors[half].2[0];
        tensors[half].3.truncate(2 * sides);
        tensors[turned].2.reverse();
        tensors[poisoned].3[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        tensors[gone].0 = "head.bias".to_owned();
    });
    let text = refusal(&path);
    for fault in [
        "conv_stem.bias is missing",
        "blocks.1.0.conv_pw.bias has type F16 instead of F32",
        "blocks.2.0.conv_pw.weight has shape [1, 1, 24, 144] instead of [144, 24, 1, 1]",
        "blocks.3.0.conv_pw.bias has 1 values that are not finite",
        "head.bias is not part of the network",
    ] {
        assert!(text.contains(fault), "{fault:?} is not in {text}");
    }
}

#[test]
fn a_changed_value_is_noticed() {
    let (_dir, path) = written();
    edited(&path, |_, tensors| tensors[0].3[0] ^= 1);
    assert!(refusal(&path).contains("digest"));
}

#[test]
fn a_newer_format_is_refused_before_anything_else() {
    let (_dir, path) = written();
    edited(&path, |header, tensors| {
        header["format_version"] = 2.into();
        header["arch"] = "a network of the future".into();
        tensors.clear();
    });
    assert!(refusal(&path).contains("newer"));
}

#[test]
fn cut_and_foreign_files_are_refused() {
    let (_dir, path) = written();
    let whole = std::fs::read(&path).expect("readable");
    for length in [0, 5, 400, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).expect("written");
        let text = refusal(&path);
        assert!(text.contains("not a complete safetensors file"), "{text}");
    }
    let tensor = TensorView::new(Dtype::F32, vec![1], &[0; 4]).expect("consistent");
    let foreign = serialize([("x", tensor)], None).expect("bytes");
    std::fs::write(&path, foreign).expect("written");
    assert!(refusal(&path).contains("not a weight file of burn-ad"));
    let (_dir, path) = written();
    edited(&path, |header, _| header["kind"] = "detector".into());
    assert!(refusal(&path).contains("it holds detector"));
}

#[test]
fn weights_that_do_not_fit_are_not_written() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("out.safetensors");
    let mut weights = weights();
    weights.units[0].bias[0] = f32::INFINITY;
    weights.units[1].weight.pop();
    let text = weights.write(&path).expect_err("refused").to_string();
    assert!(text.contains("conv_stem.bias has 1 values that are not finite"));
    assert!(
        text.contains("blocks.0.0.conv_dw has 287 weights"),
        "{text}"
    );
    assert!(!path.exists());
}
