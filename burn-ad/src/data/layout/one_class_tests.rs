#![allow(clippy::unwrap_used)]
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::data::layout::{IndexOptions, Layout, index, index_products};
use crate::data::sample::{Dataset, ImageSource, Label, Sample};
use crate::data::{CheckReport, check};
use crate::error::{Error, Result};
use std::path::Path;

/// An IDX file of dimensions `shape`.
fn idx(magic: u32, shape: &[u32], bytes: &[u8]) -> Vec<u8> {
    let numbers = std::iter::once(&magic).chain(shape);
    let head = numbers.flat_map(|number| number.to_be_bytes());
    head.chain(bytes.iter().copied()).collect()
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

const TRAIN: [u8; 6] = [0, 3, 1, 3, 0, 9];
const TEST: [u8; 4] = [3, 0, 3, 7];

/// Pixels of image `index`, 3 rows of 2.
fn pixels(index: usize) -> [u8; 6] {
    std::array::from_fn(|at| (10 * index + at) as u8)
}

fn images(count: usize) -> Vec<u8> {
    idx(
        0x803,
        &[count as u32, 3, 2],
        &(0..count).flat_map(pixels).collect::<Vec<_>>(),
    )
}

fn labels(labels: &[u8]) -> Vec<u8> {
    idx(0x801, &[labels.len() as u32], labels)
}

/// The training side as `.gz`, the test side plain.
fn write_idx(root: &Path) {
    std::fs::create_dir_all(root).unwrap();
    for (name, bytes) in [
        ("train-images-idx3-ubyte.gz", gz(&images(TRAIN.len()))),
        ("train-labels-idx1-ubyte.gz", gz(&labels(&TRAIN))),
        ("t10k-images-idx3-ubyte", images(TEST.len())),
        ("t10k-labels-idx1-ubyte", labels(&TEST)),
    ] {
        std::fs::write(root.join(name), bytes).unwrap();
    }
}

fn normal(class: &str) -> IndexOptions {
    IndexOptions {
        normal_class: Some(class.to_owned()),
        ..IndexOptions::default()
    }
}

fn auto(root: &Path, class: &str) -> Result<Dataset> {
    index(root, Layout::Auto, &normal(class))
}

fn listed(samples: &[Sample]) -> Vec<String> {
    samples
        .iter()
        .map(|sample| {
            let anomalous = match sample.label {
                Label::Normal => "",
                Label::Anomalous => "!",
            };
            assert!(sample.mask.is_none());
            format!("{anomalous}{} {}", sample.kind, sample.image.name())
        })
        .collect()
}

#[test]
fn one_class_of_idx_files_is_normal() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("digits");
    write_idx(&root);
    let dataset = auto(&root, "3").unwrap();
    assert_eq!(dataset.name, "digits");
    assert_eq!(
        listed(&dataset.train),
        ["good train/00001", "good train/00003"]
    );
    assert_eq!(
        listed(&dataset.pool),
        [
            "!0 train/00000",
            "!1 train/00002",
            "!0 train/00004",
            "!9 train/00005"
        ]
    );
    assert_eq!(
        listed(&dataset.test),
        [
            "good test/00000",
            "!0 test/00001",
            "good test/00002",
            "!7 test/00003"
        ]
    );
    let image = dataset.pool[1].image.read().unwrap();
    assert_eq!(image.dimensions(), (2, 3));
    let expected: Vec<u8> = pixels(2).iter().flat_map(|&grey| [grey; 3]).collect();
    assert_eq!(image.as_raw(), &expected);

    let products = index_products(dir.path(), Layout::Auto, &normal("0")).unwrap();
    assert_eq!(
        (products.train.len(), products.pool[0].kind.as_str()),
        (2, "digits/3")
    );
    let CheckReport {
        layout,
        pool,
        findings,
        sizes,
        ..
    } = check(&root, Layout::Idx, &normal("3"), &mut |_, _| {}).unwrap();
    assert_eq!(
        (layout, pool, sizes[0].what.as_str()),
        (Layout::Idx, 4, "2 x 3")
    );
    // Images 0 to 3 of both sides have the same pixels.
    assert_eq!(findings.len(), 4, "{findings:?}");
}

#[test]
fn files_are_read_once_while_somebody_uses_them() {
    let dir = tempfile::tempdir().unwrap();
    write_idx(dir.path());
    let lies_in = |dataset: &Dataset| match &dataset.test[0].image {
        ImageSource::Packed(image) => std::sync::Arc::as_ptr(image.images()),
        other => panic!("{other:?} is not packed"),
    };
    let (first, second) = (
        auto(dir.path(), "3").unwrap(),
        auto(dir.path(), "0").unwrap(),
    );
    assert_eq!(lies_in(&first), lies_in(&second));
    // A file that has changed is read again.
    let more = [TEST.to_vec(), vec![1]].concat();
    std::fs::write(dir.path().join("t10k-labels-idx1-ubyte"), labels(&more)).unwrap();
    std::fs::write(dir.path().join("t10k-images-idx3-ubyte"), images(5)).unwrap();
    assert_eq!(auto(dir.path(), "3").unwrap().test.len(), 5);
}

#[test]
fn the_normal_class_must_be_one_of_those_that_exist() {
    let dir = tempfile::tempdir().unwrap();
    write_idx(dir.path());
    let says = |error: Error, parts: &[&str]| {
        let text = error.to_string();
        for part in parts {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(error.is_usage(), "{text}");
    };
    let none = index(dir.path(), Layout::Auto, &IndexOptions::default()).unwrap_err();
    says(none, &["--normal-class", "data.normal_class", "0, 1, 2"]);
    for class in ["10", "boot", "-1", ""] {
        says(auto(dir.path(), class).unwrap_err(), &["0, 1, 2", "class"]);
    }
    // No image of it to train on.
    let error = auto(dir.path(), "7").unwrap_err().to_string();
    assert!(error.contains("the normal class"), "{error}");
    let folders = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folders.path().join("good")).unwrap();
    says(
        auto(folders.path(), "3").unwrap_err(),
        &["folder", "--normal-class"],
    );
}

#[test]
fn damaged_idx_files_name_themselves() {
    let (train, truth) = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz");
    let good = images(TRAIN.len());
    let cases: [(&str, Vec<u8>, &str); 11] = [
        (train, gz(&good[..good.len() - 1]), "1 before its end"),
        (train, gz(&[&good[..], &[0]].concat()), "bytes behind"),
        (train, gz(&good)[..30].to_vec(), "damaged"),
        (train, good.clone(), "damaged"),
        (train, gz(&labels(&TRAIN)), "0x00000803"),
        (train, gz(&images(5)), "5 images, but there are 6 labels"),
        (train, gz(&idx(0x803, &[6, 0, 2], &[])), "2 x 0 pixels"),
        (train, gz(&idx(0x803, &[6, 9999, 2], &[])), "2 x 9999"),
        (
            truth,
            gz(&labels(&[0, 3, 1, 10, 0, 9])),
            "image 3 is of class 10",
        ),
        (truth, gz(&idx(0x801, &[u32::MAX], &[1, 2])), "MiB"),
        (truth, Vec::new(), "damaged"),
    ];
    for (name, bytes, part) in cases {
        let dir = tempfile::tempdir().unwrap();
        write_idx(dir.path());
        std::fs::write(dir.path().join(name), bytes).unwrap();
        let text = auto(dir.path(), "3").unwrap_err().to_string();
        assert!(
            text.contains(part) && text.contains(name) && text.contains("help:"),
            "{part} is not in {text}"
        );
    }
    let dir = tempfile::tempdir().unwrap();
    write_idx(dir.path());
    std::fs::remove_file(dir.path().join("t10k-labels-idx1-ubyte")).unwrap();
    let text = auto(dir.path(), "3").unwrap_err().to_string();
    assert!(text.contains("no t10k-labels-idx1-ubyte"), "{text}");
}

/// A few zeros behind a header that announces many do not take the memory of many.
#[test]
fn a_bomb_is_not_unpacked() {
    let dir = tempfile::tempdir().unwrap();
    write_idx(dir.path());
    let bomb = gz(&[idx(0x803, &[6, 3, 2], &[]), vec![0; 1 << 22]].concat());
    assert!(bomb.len() < 1 << 16);
    std::fs::write(dir.path().join("train-images-idx3-ubyte.gz"), bomb).unwrap();
    let text = auto(dir.path(), "3").unwrap_err().to_string();
    assert!(text.contains("bytes behind"), "{text}");
}

/// A record of class `label` with `shade`, `shade + 1`, `shade + 2` as red, green and blue.
fn record(label: u8, shade: u8) -> Vec<u8> {
    let planes = (0..3).flat_map(|channel| [shade + channel; 1024]);
    std::iter::once(label).chain(planes).collect()
}

fn write_cifar(root: &Path) {
    for batch in 1..=5u8 {
        let records = [record(batch, 10 * batch), record(0, 100 + batch)].concat();
        std::fs::write(root.join(format!("data_batch_{batch}.bin")), records).unwrap();
    }
    let test = [record(0, 1), record(5, 2), record(9, 3)].concat();
    std::fs::write(root.join("test_batch.bin"), test).unwrap();
}

const NAMES: &str = "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n";

#[test]
fn cifar_goes_by_names_where_there_are_some() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    write_cifar(root);
    let by_number = auto(root, "0").unwrap();
    assert_eq!((by_number.train.len(), by_number.pool.len()), (5, 5));
    assert_eq!(
        listed(&by_number.test),
        ["good test/00000", "!5 test/00001", "!9 test/00002"]
    );
    assert!(auto(root, "dog").is_err());

    std::fs::write(root.join("batches.meta.txt"), NAMES).unwrap();
    for dog in ["dog", "Dog", "5"] {
        let dataset = auto(root, dog).unwrap();
        assert_eq!(listed(&dataset.train), ["good train/00008"]);
        assert_eq!(dataset.pool[0].kind, "automobile");
        assert_eq!(
            listed(&dataset.test),
            [
                "!airplane test/00000",
                "good test/00001",
                "!truck test/00002"
            ]
        );
        let image = dataset.train[0].image.read().unwrap();
        assert_eq!(image.dimensions(), (32, 32));
        assert!(image.pixels().all(|pixel| pixel.0 == [50, 51, 52]));
    }
}

#[test]
fn damaged_cifar_files_name_themselves() {
    for (name, bytes, part) in [
        ("data_batch_3.bin", record(0, 1)[1..].to_vec(), "3072 bytes"),
        ("data_batch_3.bin", Vec::new(), "0 bytes"),
        (
            "test_batch.bin",
            [record(1, 1), record(10, 1)].concat(),
            "image 1 is of class 10",
        ),
        ("batches.meta.txt", b"cat\ndog\n".to_vec(), "2 names"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        write_cifar(dir.path());
        std::fs::write(dir.path().join(name), bytes).unwrap();
        let text = auto(dir.path(), "0").unwrap_err().to_string();
        assert!(
            text.contains(part) && text.contains(name) && text.contains("help:"),
            "{part} is not in {text}"
        );
    }
    let dir = tempfile::tempdir().unwrap();
    write_cifar(dir.path());
    std::fs::remove_file(dir.path().join("data_batch_4.bin")).unwrap();
    let text = auto(dir.path(), "0").unwrap_err().to_string();
    assert!(text.contains("data_batch_4.bin"), "{text}");
}
