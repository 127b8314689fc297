//! `data check`: each kind of trouble is found, and a clean dataset stays clean.

use std::path::Path;

use burn_ad::data::check::{Problem, Severity};
use burn_ad::data::{CheckReport, IndexOptions, Layout, check};
use image::{GrayImage, Luma, Rgb, RgbImage};

fn picture(root: &Path, name: &str, seed: u8, width: u32) {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("created");
    let image = RgbImage::from_fn(width, 9, |x, y| Rgb([seed, x as u8, y as u8]));
    image.save(path).expect("saved");
}

fn mask(root: &Path, name: &str, value: u8, width: u32) {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("created");
    GrayImage::from_pixel(width, 9, Luma([value]))
        .save(path)
        .expect("saved");
}

fn clean(root: &Path) {
    for i in 0..4 {
        picture(root, &format!("train/good/{i}.png"), i, 12);
    }
    picture(root, "test/good/0.png", 10, 12);
    picture(root, "test/cut/0.png", 11, 12);
    mask(root, "ground_truth/cut/0_mask.png", 255, 12);
}

fn run(root: &Path) -> CheckReport {
    let mut calls = Vec::new();
    let report = check(
        root,
        Layout::Auto,
        &IndexOptions::default(),
        &mut |done, total| {
            calls.push((done, total));
        },
    )
    .expect("a dataset");
    let total = report.train + report.test_normal + report.test_anomalous;
    assert_eq!(
        calls,
        (1..=total).map(|done| (done, total)).collect::<Vec<_>>()
    );
    report
}

fn found(report: &CheckReport, root: &Path) -> Vec<(Problem, String)> {
    report
        .findings
        .iter()
        .map(|finding| {
            let path = finding.path.strip_prefix(root).expect("below the root");
            (finding.problem, path.to_string_lossy().replace('\\', "/"))
        })
        .collect()
}

#[test]
fn a_clean_dataset_has_no_findings() {
    let dir = tempfile::tempdir().expect("temporary directory");
    clean(dir.path());
    let report = run(dir.path());
    assert_eq!(report.findings, []);
    assert!(report.is_usable());
    assert_eq!(
        (
            report.train,
            report.test_normal,
            report.test_anomalous,
            report.masks
        ),
        (4, 1, 1, 1)
    );
    assert_eq!(report.sizes.len(), 1);
    assert_eq!(
        (report.sizes[0].what.as_str(), report.sizes[0].images),
        ("12 x 9", 6)
    );
    assert_eq!(report.modes[0].what, "8-bit colour");
    assert_eq!(report.layout, Layout::MvtecAd);
}

#[test]
fn each_problem_is_found_once_and_the_worst_come_first() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let root = dir.path();
    clean(root);
    std::fs::write(root.join("train/good/broken.png"), b"x").expect("written");
    std::fs::write(root.join("train/good/Thumbs.db"), b"x").expect("written");
    picture(root, "test/cut/mismatch.png", 20, 12);
    mask(root, "ground_truth/cut/mismatch_mask.png", 255, 13);
    picture(root, "test/cut/empty.png", 21, 12);
    mask(root, "ground_truth/cut/empty_mask.png", 0, 12);
    picture(root, "test/cut/unmasked.png", 22, 12);
    picture(root, "test/cut/torn.png", 23, 14);
    std::fs::write(root.join("ground_truth/cut/torn_mask.png"), b"").expect("written");
    mask(root, "ground_truth/cut/stray_mask.png", 255, 12);
    // The same pixels in another format.
    picture(root, "test/good/leak.bmp", 2, 12);
    picture(root, "train/good/twin.png", 3, 12);
    let report = run(root);
    assert_eq!(
        found(&report, root),
        [
            (Problem::UnreadableImage, "train/good/broken.png".to_owned()),
            (
                Problem::UnreadableMask,
                "ground_truth/cut/torn_mask.png".to_owned()
            ),
            (Problem::SizeMismatch, "test/cut/mismatch.png".to_owned()),
            (Problem::TrainTestDuplicate, "test/good/leak.bmp".to_owned()),
            (Problem::Duplicate, "train/good/twin.png".to_owned()),
            (
                Problem::EmptyMask,
                "ground_truth/cut/empty_mask.png".to_owned()
            ),
            (
                Problem::MaskWithoutImage,
                "ground_truth/cut/stray_mask.png".to_owned()
            ),
            (
                Problem::ImageWithoutMask,
                "test/cut/unmasked.png".to_owned()
            ),
            (Problem::OtherFile, "train/good/Thumbs.db".to_owned()),
        ]
    );
    assert!(!report.is_usable());
    assert_eq!(
        (
            report.count(Severity::Error),
            report.count(Severity::Warning)
        ),
        (4, 4)
    );
    assert_eq!(
        report.findings[3].other.as_deref(),
        Some(root.join("train/good/2.png").as_path())
    );
    assert_eq!(
        run(root),
        report,
        "the order must not depend on the threads"
    );
}

#[test]
fn the_report_is_json_and_text() {
    let dir = tempfile::tempdir().expect("temporary directory");
    clean(dir.path());
    std::fs::write(dir.path().join("train/good/broken.png"), b"").expect("written");
    let report = run(dir.path());
    let json = serde_json::to_value(&report).expect("json");
    assert_eq!(json["findings"][0]["severity"], "error");
    assert_eq!(json["findings"][0]["problem"], "unreadable-image");
    assert_eq!(json["layout"], "mvtec-ad");
    let text = report.to_string();
    assert!(
        text.contains("5 training images; 1 normal and 1 anomalous test images, 1 masks"),
        "{text}"
    );
    assert!(
        text.lines()
            .any(|line| line.starts_with("error: ")
                && line.ends_with("broken.png: the file is empty")),
        "{text}"
    );
    assert!(text.ends_with("1 errors, 0 warnings"), "{text}");
}

#[test]
fn an_orientation_that_is_not_applied_is_mentioned() {
    let dir = tempfile::tempdir().expect("temporary directory");
    clean(dir.path());
    let turned: std::path::PathBuf = [env!("CARGO_MANIFEST_DIR"), "fixtures/data/turned.png"]
        .iter()
        .collect();
    std::fs::copy(turned, dir.path().join("train/good/turned.png")).expect("copied");
    let report = run(dir.path());
    assert_eq!(
        found(&report, dir.path()),
        [(Problem::Orientation, "train/good/turned.png".to_owned())]
    );
    assert!(report.is_usable());
}
