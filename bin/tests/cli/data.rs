//! `burn-ad data`.

use serde_json::Value;

use crate::world::{DONE, FAILURE, USAGE, copy, draw, files, run};

#[test]
fn check_finds_nothing_in_a_drawn_product_and_what_is_broken_afterwards() {
    let dir = copy();
    let ran = run(dir.path(), ["data", "check", "plate"]).ends_with(DONE);
    assert!(
        ran.stdout.contains("0 errors, 0 warnings"),
        "{}",
        ran.stdout
    );
    let plate = dir.path().join("plate");
    std::fs::write(plate.join("train/good/000.png"), "no image").unwrap();
    std::fs::remove_file(plate.join("ground_truth/stain/000_mask.png")).unwrap();
    let ran = run(dir.path(), ["data", "check", "plate", "--json"]).ends_with(FAILURE);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    let problems: Vec<&str> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["problem"].as_str().unwrap())
        .collect();
    assert_eq!(problems, ["unreadable-image", "image-without-mask"]);
}

#[test]
fn info_counts_by_kind() {
    let dir = copy();
    let ran = run(dir.path(), ["data", "info", "plate"]).ends_with(DONE);
    let line = |name: &str| {
        let line = ran
            .stdout
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap();
        line.split_whitespace()
            .skip(1)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(line("(training)"), ["8", "-"]);
    assert_eq!(line("good"), ["3", "-"]);
    assert_eq!(line("stain"), ["1", "1"]);
}

#[test]
fn a_drawn_product_is_the_same_for_the_same_seed_and_replaces_only_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (draw(dir.path(), "a"), draw(dir.path(), "b/c"));
    for name in files(&first).iter().filter(|name| name.ends_with(".png")) {
        let read = |root: &std::path::Path| std::fs::read(root.join(name)).unwrap();
        assert!(read(&first) == read(&second), "{name}");
    }
    draw(dir.path(), "a");
    std::fs::create_dir(dir.path().join("mine")).unwrap();
    std::fs::write(dir.path().join("mine/x"), "x").unwrap();
    run(dir.path(), ["data", "synth", "mine"]).ends_with(USAGE);
    assert_eq!(files(&dir.path().join("mine")), ["x"]);
}
