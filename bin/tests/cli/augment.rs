//! `burn-ad augment`.

use crate::world::{DONE, FAILURE, USAGE, copy, run};

#[test]
fn a_preview_is_the_same_for_the_same_seed_and_shows_every_strategy() {
    let dir = copy();
    let preview = |name: &str, more: &str| {
        let args = ["augment", "preview", "plate", "--rows", "2", "-o", name];
        run(dir.path(), args.into_iter().chain(more.split(' '))).ends_with(DONE);
        std::fs::read(dir.path().join(name)).unwrap()
    };
    let first = preview("a.png", "--seed 3");
    assert!(first.starts_with(b"\x89PNG"));
    assert_eq!(first, preview("sheets/b.png", "--strategy rpag --seed 3"));
    for more in [
        "--seed 4",
        "--seed 3 --strategy perlin",
        "--seed 3 --strategy poisson --foreground otsu",
    ] {
        assert_ne!(first, preview("c.png", more), "{more}");
    }
}

#[test]
fn without_known_anomalies_the_way_out_is_named() {
    let dir = copy();
    std::fs::remove_dir_all(dir.path().join("plate/ground_truth")).unwrap();
    let args = ["augment", "preview", "plate", "-o", "a.png"];
    run(dir.path(), args)
        .ends_with(FAILURE)
        .says(&["plate", "mask", "poisson"]);
    run(dir.path(), args.into_iter().chain(["--rows", "0"])).ends_with(USAGE);
    assert!(!dir.path().join("a.png").exists());
}
