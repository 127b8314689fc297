//! `burn-ad predict`.

use serde_json::Value;

use crate::world::{DONE, FAILURE, USAGE, copy, files, predictions, run};

#[test]
fn files_folders_and_patterns_keep_their_order_and_their_names() {
    let dir = copy();
    let args = [
        "predict",
        "model",
        "plate/test/stain/000.png",
        "plate/test/good",
        "plate/test/*/000.png",
        "-o",
        "out",
        "--format",
        "both",
        "--raw-maps",
        "npy",
        "--batch-size",
        "2",
    ];
    let ran = run(dir.path(), args).ends_with(DONE);
    assert!(ran.stdout.contains("5 images"), "{}", ran.stdout);
    let out = dir.path().join("out");
    let rows = predictions(&out.join("predictions.csv"));
    let paths: Vec<&str> = rows.iter().map(|row| row.0.as_str()).collect();
    let expected = [
        "plate/test/stain/000.png",
        "plate/test/good/000.png",
        "plate/test/good/001.png",
        "plate/test/good/002.png",
        "plate/test/missing-hole/000.png",
    ];
    assert_eq!(paths, expected);
    let lines = std::fs::read_to_string(out.join("predictions.jsonl")).unwrap();
    for (line, row) in lines.lines().zip(&rows) {
        let value: Value = serde_json::from_str(line).unwrap();
        assert_eq!(value["path"].as_str().unwrap().replace('\\', "/"), row.0);
        assert_eq!(value["score"].to_string(), row.1);
        assert_eq!(value["decision"], row.2.as_str());
    }
    assert_eq!(
        files(&out),
        [
            "burn-ad-run.json",
            "maps/good/000.npy",
            "maps/good/001.npy",
            "maps/good/002.npy",
            "maps/missing-hole/000.npy",
            "maps/stain/000.npy",
            "overlays/good/000.png",
            "overlays/good/001.png",
            "overlays/good/002.png",
            "overlays/missing-hole/000.png",
            "overlays/stain/000.png",
            "predictions.csv",
            "predictions.jsonl",
        ]
    );
}

#[test]
fn a_score_does_not_depend_on_the_batch() {
    let dir = copy();
    let scores = |batch: &str| {
        let args = [
            "predict",
            "model",
            "plate/test",
            "-o",
            "out",
            "--no-overlays",
            "--batch-size",
        ];
        run(dir.path(), args.iter().chain(&[batch])).ends_with(DONE);
        let rows = predictions(&dir.path().join("out/predictions.csv"));
        rows.into_iter()
            .map(|row| row.1.parse().unwrap())
            .collect::<Vec<f32>>()
    };
    let (alone, together) = (scores("1"), scores("5"));
    for (a, b) in alone.iter().zip(&together) {
        assert!(
            (a - b).abs() <= 1e-4 * a.abs().max(1.0),
            "{alone:?} {together:?}"
        );
    }
}

#[test]
fn one_corrupt_image_loses_no_other() {
    let dir = copy();
    let good = dir.path().join("plate/test/good");
    std::fs::write(good.join("0000.png"), "").unwrap();
    let whole = std::fs::read(good.join("000.png")).unwrap();
    std::fs::write(good.join("0015.png"), &whole[..whole.len() / 2]).unwrap();
    std::fs::create_dir(good.join("folder.png")).unwrap();
    let args = [
        "predict",
        "model",
        "plate/test/good",
        "-o",
        "out",
        "--batch-size",
        "2",
    ];
    run(dir.path(), args)
        .ends_with(DONE)
        .says(&["0000.png", "0015.png", "warning:"]);
    let rows = predictions(&dir.path().join("out/predictions.csv"));
    let names: Vec<(bool, bool)> = rows
        .iter()
        .map(|row| (row.1.is_empty(), row.3.is_empty()))
        .collect();
    let (scored, failed) = ((false, true), (true, false));
    assert_eq!(
        names,
        [scored, failed, scored, failed, scored].map(|row| row)
    );
    run(dir.path(), args.iter().chain(&["--strict"]))
        .ends_with(FAILURE)
        .says(&["2 images"]);
    assert_eq!(
        predictions(&dir.path().join("out/predictions.csv")).len(),
        5
    );
}

#[test]
fn spaces_and_letters_of_all_scripts_work_everywhere() {
    let dir = copy();
    let home = dir.path().join("Prüfung 検査");
    std::fs::create_dir(&home).unwrap();
    std::fs::rename(dir.path().join("model"), home.join("módel – 1")).unwrap();
    std::fs::rename(dir.path().join("plate/test/good"), home.join("Gut & schön")).unwrap();
    std::fs::rename(
        home.join("Gut & schön/000.png"),
        home.join("Gut & schön/ß 裂纹.png"),
    )
    .unwrap();
    let args = [
        "predict",
        "Prüfung 検査/módel – 1",
        "Prüfung 検査/Gut & schön",
        "-o",
        "出力 1",
    ];
    run(dir.path(), args).ends_with(DONE);
    let rows = predictions(&dir.path().join("出力 1/predictions.csv"));
    assert_eq!(rows[2].0, "Prüfung 検査/Gut & schön/ß 裂纹.png");
    assert!(dir.path().join("出力 1/overlays/ß 裂纹.png").is_file());
}

#[test]
fn maps_have_the_size_of_their_image() {
    let dir = copy();
    run(
        dir.path(),
        [
            "data",
            "synth",
            "big",
            "--size",
            "96",
            "--train",
            "1",
            "--per-kind",
            "0",
        ],
    )
    .ends_with(DONE);
    let args = [
        "predict",
        "model",
        "big/test/good/000.png",
        "-o",
        "out",
        "--raw-maps",
        "png16",
    ];
    run(dir.path(), args).ends_with(DONE);
    let size = |path: &str| {
        let bytes = std::fs::read(dir.path().join(path)).unwrap();
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        (number(16), number(20), bytes[24])
    };
    assert_eq!(size("out/maps/000.png"), (96, 96, 16));
    assert_eq!(size("out/overlays/000.png"), (3 * 96 + 2 * 4, 96, 8));
}

#[test]
fn a_folder_without_images_and_a_foreign_output_are_errors() {
    let dir = copy();
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    run(dir.path(), ["predict", "model", "empty", "-o", "out"])
        .ends_with(FAILURE)
        .says(&["no image"]);
    assert!(!dir.path().join("out").exists());
    run(
        dir.path(),
        ["predict", "model", "plate/test", "-o", "plate"],
    )
    .ends_with(USAGE)
    .says(&["--overwrite"]);
    let args = [
        "predict",
        "model",
        "plate/test",
        "-o",
        "plate",
        "--overwrite",
    ];
    run(dir.path(), args).ends_with(DONE);
    assert!(dir.path().join("plate/train/good/000.png").is_file());
}

#[test]
fn results_in_the_folder_of_the_images_are_not_scored_the_next_time() {
    let dir = copy();
    let args = [
        "predict",
        "model",
        "plate/test/good",
        "-o",
        "plate/test/good/out",
    ];
    for _ in 0..2 {
        run(dir.path(), args).ends_with(DONE);
        let rows = predictions(&dir.path().join("plate/test/good/out/predictions.csv"));
        assert_eq!(rows.len(), 3);
    }
}
