//! The checkpoint reader against files written by PyTorch and safetensors.
#![allow(clippy::unwrap_used)]

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use burn_ad_weights::Checkpoint;
use burn_ad_weights::checkpoint::Container;
use serde_json::Value;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/weights")
        .join(name)
}

fn expected() -> Value {
    serde_json::from_slice(&std::fs::read(fixture("tiny.json")).unwrap()).unwrap()
}

fn assert_tiny(checkpoint: &Checkpoint) {
    for (name, tensor) in expected().as_object().unwrap() {
        let shape: Vec<usize> = serde_json::from_value(tensor["shape"].clone()).unwrap();
        let values: Vec<f32> = serde_json::from_value(tensor["values"].clone()).unwrap();
        assert_eq!(checkpoint.entries()[name].shape, shape, "{name}");
        assert_eq!(checkpoint.read(name).unwrap(), values, "{name}");
    }
    assert_eq!(checkpoint.entries().len(), 8);
    let counter = checkpoint.read("bn.num_batches_tracked").unwrap_err();
    assert!(counter.to_string().contains("i64"), "{counter}");
}

#[test]
fn every_container_gives_the_same_tensors() {
    for (name, container) in [
        ("tiny-zip.pth", Container::TorchZip),
        ("tiny-legacy.pth", Container::TorchLegacy),
        ("tiny-tar.pth", Container::TorchTar),
        ("tiny.safetensors", Container::Safetensors),
    ] {
        let checkpoint = Checkpoint::open(&fixture(name)).unwrap();
        assert_eq!(checkpoint.container(), container);
        assert_tiny(&checkpoint);
    }
}

#[test]
fn wrapper_and_prefix_are_dropped_and_reported() {
    let checkpoint = Checkpoint::open(&fixture("tiny-wrapped.pth")).unwrap();
    assert_eq!(checkpoint.wrapper(), Some("state_dict"));
    assert_eq!(checkpoint.prefix(), "module.");
    assert_tiny(&checkpoint);
}

#[test]
fn content_decides_and_not_the_extension() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("weights.safetensors");
    std::fs::copy(fixture("tiny-zip.pth"), &path).unwrap();
    assert_eq!(
        Checkpoint::open(&path).unwrap().container(),
        Container::TorchZip
    );
}

#[test]
fn a_pickle_that_calls_os_system_is_refused_and_nothing_runs() {
    for name in ["hostile-zip.pth", "hostile-legacy.pth"] {
        let error = Checkpoint::open(&fixture(name)).unwrap_err().to_string();
        assert!(error.contains("posix.system"), "{error}");
        assert!(error.contains(name), "{error}");
    }
    assert!(!Path::new("burn-ad-was-here").exists());
}

/// Reads every tensor that a file claims to have.
fn read_all(path: &Path) {
    if let Ok(checkpoint) = Checkpoint::open(path) {
        for name in checkpoint.entries().keys() {
            let _ = checkpoint.read(name);
        }
    }
}

#[test]
fn every_truncation_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cut");
    for name in ["tiny-zip.pth", "tiny-legacy.pth", "tiny.safetensors"] {
        let whole = std::fs::read(fixture(name)).unwrap();
        for end in (0..whole.len()).step_by(7) {
            std::fs::write(&path, &whole[..end]).unwrap();
            assert!(Checkpoint::open(&path).is_err(), "{name} cut at {end}");
        }
    }
}

#[test]
fn a_flipped_byte_never_panics() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("flipped");
    for name in [
        "tiny-zip.pth",
        "tiny-legacy.pth",
        "tiny-tar.pth",
        "tiny.safetensors",
    ] {
        let whole = std::fs::read(fixture(name)).unwrap();
        std::fs::write(&path, &whole).unwrap();
        let mut file = OpenOptions::new().write(true).open(&path).unwrap();
        let mut put = |at: usize, byte: u8| {
            file.seek(SeekFrom::Start(at as u64)).unwrap();
            file.write_all(&[byte]).unwrap();
        };
        for at in 0..whole.len() {
            put(at, whole[at] ^ [0x01, 0x80, 0xff][at % 3]);
            read_all(&path);
            put(at, whole[at]);
        }
    }
}

#[test]
fn what_is_no_checkpoint_is_said_to_be_none() {
    let dir = tempfile::tempdir().unwrap();
    for (content, message) in [
        (&b""[..], "empty"),
        (b"<!DOCTYPE html><html>404", "web page"),
        (b"hello", "neither"),
    ] {
        let path = dir.path().join("a file.pth");
        std::fs::write(&path, content).unwrap();
        let error = Checkpoint::open(&path).unwrap_err().to_string();
        assert!(
            error.contains(message) && error.contains("a file.pth"),
            "{error}"
        );
    }
}
