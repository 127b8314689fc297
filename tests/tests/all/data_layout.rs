//! Folder layouts: what is found, how it is split, and what is said when nothing is found.

use std::path::Path;

use burn_ad::data::{Dataset, ImageSource, IndexOptions, Layout, MaskSource, index};

/// Empty files will do: an index reads no image.
fn touch(root: &Path, names: &[&str]) {
    for name in names {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("created");
        std::fs::write(path, b"").expect("written");
    }
}

fn listed(root: &Path, dataset: &Dataset) -> (Vec<String>, Vec<String>) {
    let relative = |path: &Path| {
        let path = path.strip_prefix(root).expect("below the root");
        path.to_string_lossy().replace('\\', "/")
    };
    let list = |samples: &[burn_ad::data::Sample]| {
        samples
            .iter()
            .map(|sample| {
                let ImageSource::File(path) = &sample.image else {
                    unreachable!("an index lists files");
                };
                let mask = match &sample.mask {
                    Some(MaskSource::File(mask)) => format!(" <- {}", relative(mask)),
                    _ => String::new(),
                };
                format!(
                    "{:?} {}: {}{mask}",
                    sample.label,
                    sample.kind,
                    relative(path)
                )
            })
            .collect()
    };
    (list(&dataset.train), list(&dataset.test))
}

fn auto(root: &Path) -> burn_ad::error::Result<Dataset> {
    index(root, Layout::Auto, &IndexOptions::default())
}

#[test]
fn mvtec_is_found_and_paired_with_its_masks() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let root = dir.path().join("Flasche süß 1");
    touch(
        &root,
        &[
            "train/good/002.png",
            "train/good/001.PNG",
            "train/good/.hidden.png",
            "train/good/notes.txt",
            "test/good/000.png",
            "test/broken large/000.png",
            "test/broken large/001.png",
            "test/cut/000.png",
            "ground_truth/broken large/000_mask.png",
            "ground_truth/cut/000.png",
        ],
    );
    let dataset = auto(&root).expect("a dataset");
    assert_eq!(dataset.name, "Flasche süß 1");
    let (train, test) = listed(&root, &dataset);
    assert_eq!(
        train,
        [
            "Normal good: train/good/001.PNG",
            "Normal good: train/good/002.png"
        ]
    );
    assert_eq!(
        test,
        [
            "Anomalous broken large: test/broken large/000.png <- ground_truth/broken large/000_mask.png",
            "Anomalous broken large: test/broken large/001.png",
            "Anomalous cut: test/cut/000.png <- ground_truth/cut/000.png",
            "Normal good: test/good/000.png",
        ]
    );
}

#[test]
fn a_plain_folder_is_split_by_seed_and_share() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let root = dir.path();
    for i in 0..10 {
        touch(root, &[format!("Good/{i}.jpg").as_str()]);
    }
    touch(
        root,
        &[
            "defect/loose.bmp",
            "defect/scratch/a.png",
            "defect/dent/a.png",
            "masks/loose_mask.png",
            "masks/scratch/a.png",
            "masks/dent/a_mask.png",
        ],
    );
    let dataset = auto(root).expect("a dataset");
    let (train, test) = listed(root, &dataset);
    assert_eq!((train.len(), test.len()), (8, 5));
    assert_eq!(
        test[2..],
        [
            "Anomalous defect: defect/loose.bmp <- masks/loose_mask.png",
            "Anomalous dent: defect/dent/a.png <- masks/dent/a_mask.png",
            "Anomalous scratch: defect/scratch/a.png <- masks/scratch/a.png",
        ]
    );
    assert!(train.is_sorted());
    assert!(train.iter().all(|normal| !test.contains(normal)));
    let with = |seed, train_share| {
        let options = IndexOptions {
            seed,
            train_share,
            ..IndexOptions::default()
        };
        listed(
            root,
            &index(root, Layout::Folder, &options).expect("a dataset"),
        )
        .0
    };
    assert_eq!(with(0, 0.8), train);
    assert!((1..9).any(|seed| with(seed, 0.8) != train));
    assert_eq!(with(0, 0.5).len(), 5);
    assert_eq!(with(0, 1.0).len(), 10);
}

#[test]
fn magnetic_tile_keeps_images_and_masks_apart() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let root = dir.path();
    for i in 0..5 {
        touch(
            root,
            &[
                format!("MT_Free/Imgs/{i}.jpg").as_str(),
                format!("MT_Free/Imgs/{i}.png").as_str(),
            ],
        );
    }
    touch(
        root,
        &[
            "MT_Blowhole/Imgs/x.jpg",
            "MT_Blowhole/Imgs/x.png",
            "MT_Crack/Imgs/y.jpg",
        ],
    );
    let (train, test) = listed(root, &auto(root).expect("a dataset"));
    assert_eq!((train.len(), test.len()), (4, 3));
    assert!(
        train
            .iter()
            .all(|sample| sample.starts_with("Normal good: MT_Free/Imgs/"))
    );
    assert_eq!(
        test[1..],
        [
            "Anomalous blowhole: MT_Blowhole/Imgs/x.jpg <- MT_Blowhole/Imgs/x.png",
            "Anomalous crack: MT_Crack/Imgs/y.jpg",
        ]
    );
}

fn message(root: &Path, layout: Layout) -> String {
    let error = index(root, layout, &IndexOptions::default()).expect_err("no dataset");
    let text = error.to_string();
    assert!(
        text.contains(&root.display().to_string()) && text.contains("help:"),
        "{text}"
    );
    text
}

#[test]
fn errors_say_what_was_looked_for_and_what_to_do() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let root = dir.path();
    assert!(message(&root.join("nowhere"), Layout::Auto).contains("no such folder"));
    assert!(message(root, Layout::Auto).contains("train/good"));
    assert!(message(root, Layout::MvtecAd).contains("train/good"));
    assert!(message(root, Layout::Folder).contains("normal"));
    assert!(message(root, Layout::MagneticTile).contains("MT_Free/Imgs"));
    touch(root, &["file.png", "odd/1.png"]);
    assert!(message(&root.join("file.png"), Layout::Auto).contains("this is a file"));
    assert!(message(root, Layout::Auto).contains("odd"));
    touch(root, &["bottle/train/good/1.png", "cable/train/good/1.png"]);
    assert!(message(root, Layout::Auto).contains("bottle, cable"));
    std::fs::create_dir_all(root.join("hollow/normal")).expect("created");
    assert!(message(&root.join("hollow"), Layout::Auto).contains("no image to train on"));
}

#[test]
fn an_impossible_share_is_a_usage_error() {
    let dir = tempfile::tempdir().expect("temporary directory");
    touch(dir.path(), &["ok/1.png"]);
    for train_share in [0.0, -0.5, 1.5, f64::NAN] {
        let options = IndexOptions {
            train_share,
            ..IndexOptions::default()
        };
        let error = index(dir.path(), Layout::Auto, &options).expect_err("impossible");
        assert!(error.is_usage(), "{error}");
    }
}

#[test]
fn a_mask_that_fits_two_images_is_refused() {
    let dir = tempfile::tempdir().expect("temporary directory");
    touch(
        dir.path(),
        &["ok/1.png", "bad/dent/a.png", "bad/cut/a.png", "mask/a.png"],
    );
    let text = auto(dir.path()).expect_err("ambiguous").to_string();
    assert!(text.contains("fits two images"), "{text}");
}

#[test]
fn names_and_text_agree() {
    for (layout, name) in Layout::NAMES {
        assert_eq!(layout.to_string(), name);
        assert_eq!(name.parse::<Layout>().expect("known"), layout);
        assert_eq!(
            serde_json::to_string(&layout).expect("json"),
            format!("\"{name}\"")
        );
    }
    let error = "mvtec".parse::<Layout>().expect_err("unknown");
    assert!(
        error.is_usage() && error.to_string().contains("mvtec-ad"),
        "{error}"
    );
}
