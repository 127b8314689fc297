#![allow(clippy::unwrap_used)]
use std::path::Path;

use crate::data::layout::{IndexOptions, Layout, index, survey};
use crate::data::sample::{Dataset, Sample};

fn touch(root: &Path, names: &[&str]) {
    for name in names {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"").unwrap();
    }
}

/// Layout and dataset of a folder with these files.
fn found(names: &[&str]) -> (Layout, Dataset) {
    let dir = tempfile::tempdir().unwrap();
    touch(dir.path(), names);
    let survey = survey(dir.path(), Layout::Auto, &IndexOptions::default()).unwrap();
    (survey.layout, survey.dataset)
}

/// Kind and label of each sample.
fn kinds(samples: &[Sample]) -> Vec<(&str, bool)> {
    samples
        .iter()
        .map(|sample| (sample.kind.as_str(), sample.label.is_anomalous()))
        .collect()
}

#[test]
fn anomalies_on_the_training_side_are_the_pool() {
    let (layout, dataset) = found(&[
        "train/NORMAL/a.jpeg",
        "train/NORMAL/deeper/b.jpeg",
        "train/CNV/c.jpeg",
        "train/DRUSEN/d.jpeg",
        "val/NORMAL/e.jpeg",
        "val/CNV/f.jpeg",
        "test/NORMAL/g.jpeg",
        "test/CNV/h.jpeg",
        "test/DME/i.jpeg",
    ]);
    assert_eq!(layout, Layout::Labelled);
    assert_eq!(kinds(&dataset.train), [("good", false), ("good", false)]);
    assert_eq!(kinds(&dataset.pool), [("CNV", true), ("DRUSEN", true)]);
    assert_eq!(
        kinds(&dataset.test),
        [("CNV", true), ("DME", true), ("good", false)]
    );
}

#[test]
fn names_of_normal_folders() {
    for name in ["Normal", "HEALTHY", "ok", "NV", "nv"] {
        let (layout, dataset) = found(&[&format!("train/{name}/a.png"), "test/MEL/b.png"]);
        assert_eq!(
            (layout, dataset.train.len(), dataset.pool.len()),
            (Layout::Labelled, 1, 0),
            "{name}"
        );
    }
    // Beside a folder that says so, naevi are a kind of their own, on both sides.
    let (_, dataset) = found(&["train/normal/a.png", "train/NV/b.png", "test/NV/c.png"]);
    assert_eq!(kinds(&dataset.pool), [("NV", true)]);
    assert_eq!(kinds(&dataset.test), [("NV", true)]);
}

#[test]
fn mvtec_is_taken_for_what_it_was() {
    let mvtec = ["train/good/a.png", "test/cut/b.png", "test/good/c.png"];
    assert_eq!(found(&mvtec).0, Layout::MvtecAd);
    let masks = [&mvtec[..], &["train/cut/d.png", "ground_truth/cut/b.png"]].concat();
    assert_eq!(found(&masks).0, Layout::MvtecAd);
    let (layout, dataset) = found(&[&mvtec[..], &["train/cut/d.png"]].concat());
    assert_eq!((layout, dataset.pool.len()), (Layout::Labelled, 1));
    // Other layouts are not shadowed either.
    assert_eq!(found(&["normal/a.png", "bad/b.png"]).0, Layout::Folder);
}

#[test]
fn without_normal_images_it_says_where_they_belong() {
    let dir = tempfile::tempdir().unwrap();
    touch(dir.path(), &["train/CNV/c.jpeg"]);
    let error = index(dir.path(), Layout::Labelled, &IndexOptions::default()).unwrap_err();
    assert!(error.to_string().contains("train/normal"), "{error}");
}

#[test]
fn yes_and_no_are_names_where_both_exist() {
    let (layout, dataset) = found(&["no/a.jpg", "no/b.jpg", "yes/c.jpg"]);
    assert_eq!(layout, Layout::Folder);
    assert_eq!(kinds(&dataset.train), [("good", false)]);
    assert_eq!(kinds(&dataset.test), [("good", false), ("yes", true)]);
    let dir = tempfile::tempdir().unwrap();
    touch(dir.path(), &["no/a.jpg"]);
    assert!(index(dir.path(), Layout::Auto, &IndexOptions::default()).is_err());
    // Where another folder holds the normal images, they mean something else.
    let (_, dataset) = found(&["good/x.jpg", "no/a.jpg", "yes/c.jpg"]);
    assert_eq!((dataset.train.len(), dataset.test.len()), (1, 0));
}
