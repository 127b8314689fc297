//! The data path against Pillow and torchvision; fixtures by `reference/data.py`.

use std::path::PathBuf;

use burn_ad::data::image::{decode, decode_mask};
use burn_ad::data::{Filter, Fit, Geometry};
use image::RgbImage;
use serde::Deserialize;

#[derive(Deserialize)]
struct Cases {
    resize: Vec<Resize>,
    modes: Vec<Mode>,
    /// Height, width, size, resized height and width, top, left.
    centre_crop: Vec<[usize; 7]>,
}

#[derive(Deserialize)]
struct Resize {
    source: String,
    fit: Fit,
    size: usize,
    /// None for a mask.
    filter: Option<Filter>,
    target: String,
}

#[derive(Deserialize)]
struct Mode {
    source: String,
    target: String,
}

fn fixture(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "fixtures", "data", name]
        .iter()
        .collect()
}

fn cases() -> Cases {
    let text = std::fs::read_to_string(fixture("cases.json")).expect("fixture");
    serde_json::from_str(&text).expect("valid fixture")
}

fn deviation(a: &RgbImage, b: &RgbImage) -> u8 {
    assert_eq!(a.dimensions(), b.dimensions());
    let pairs = a.iter().zip(b.iter());
    pairs.map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
}

#[test]
fn resized_photos_equal_pillow_in_every_pixel() {
    let mut compared = 0;
    for case in cases().resize {
        let Some(filter) = case.filter else { continue };
        let geometry = Geometry {
            fit: case.fit,
            size: case.size,
            filter,
        };
        let (got, _) = geometry.apply(&decode(&fixture(&case.source)).expect("source"));
        let worst = deviation(&got, &decode(&fixture(&case.target)).expect("target"));
        assert_eq!(worst, 0, "{}: differs by {worst} of 255", case.target);
        compared += 1;
    }
    assert_eq!(compared, 24);
}

#[test]
fn masks_equal_pillows_nearest_in_every_pixel() {
    let mut compared = 0;
    for case in cases().resize {
        if case.filter.is_some() {
            continue;
        }
        let geometry = Geometry {
            fit: case.fit,
            size: case.size,
            filter: Filter::Bilinear,
        };
        let got = geometry.apply_mask(&decode_mask(&fixture(&case.source)).expect("source"));
        let wanted = decode_mask(&fixture(&case.target)).expect("target");
        let wanted: Vec<bool> = wanted.iter().map(|&value| value != 0).collect();
        assert!(wanted.contains(&true) && wanted.contains(&false));
        assert_eq!(got, wanted, "{}", case.target);
        compared += 1;
    }
    assert_eq!(compared, 8);
}

#[test]
fn resize_and_centre_crop_round_as_torchvision_does() {
    for [height, width, size, scaled_height, scaled_width, top, left] in cases().centre_crop {
        let geometry = Geometry {
            fit: Fit::Crop,
            size,
            filter: Filter::Bilinear,
        };
        let placement = geometry.place([height, width]);
        assert_eq!(placement.scaled, [scaled_height, scaled_width]);
        let case = format!("{height} x {width} to {size}");
        // The first original pixel seen is the first whose centre lies at or behind the corner.
        for (side, scaled, corner, seen) in [
            (height, scaled_height, top, placement.source.top),
            (width, scaled_width, left, placement.source.left),
        ] {
            let behind = |pixel: usize| (2 * pixel + 1) * scaled >= 2 * corner * side;
            assert!(behind(seen), "{case}");
            assert!(seen == 0 || !behind(seen - 1), "{case}");
        }
    }
}

#[test]
fn every_colour_mode_reads_as_in_pillow() {
    for case in cases().modes {
        let got = decode(&fixture(&case.source)).expect("source");
        let wanted = decode(&fixture(&case.target)).expect("target");
        let worst = deviation(&got, &wanted);
        println!("{}: {worst}", case.source);
        // JPEG and lossy WebP leave the last bits, and how colour is interpolated, to the decoder.
        let allowed = match case.source.as_str() {
            "grey.jpg" => 1,
            "colour.jpg" | "progressive.jpg" | "cmyk.jpg" | "subsampled.jpg" => 4,
            "lossy.webp" => 4,
            _ => 0,
        };
        assert!(worst <= allowed, "{}: differs by {worst}", case.source);
    }
}

#[test]
fn floating_point_pixels_are_refused_by_name() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let colour = dir.path().join("colour.tif");
    image::Rgb32FImage::new(3, 2).save(&colour).expect("saved");
    for path in [fixture("float.tif"), colour] {
        let error = decode(&path).expect_err("no range").to_string();
        let name = path.file_name().expect("named").to_string_lossy();
        assert!(error.contains(&*name), "{error}");
        assert!(error.contains("help: save"), "{error}");
    }
}
