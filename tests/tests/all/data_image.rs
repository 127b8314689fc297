//! Broken and odd image files: an error that names the file, never a panic.

use std::path::{Path, PathBuf};

use burn_ad::data::image::{decode, decode_mask, is_image_path};
use image::{Rgb, RgbImage};

fn photo() -> RgbImage {
    RgbImage::from_fn(40, 30, |x, y| {
        Rgb([(x * 6) as u8, (y * 8) as u8, (x * y) as u8])
    })
}

fn refused(path: &Path, reason: &str) {
    for error in [
        decode(path).expect_err("refused").to_string(),
        decode_mask(path).expect_err("refused").to_string(),
    ] {
        assert!(error.starts_with(&path.display().to_string()), "{error}");
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn broken_files_are_refused_by_name() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let at = |name: &str| -> PathBuf { dir.path().join(name) };
    std::fs::write(at("empty.png"), b"").expect("written");
    std::fs::write(at("text.jpg"), b"not an image at all").expect("written");
    std::fs::create_dir(at("folder.png")).expect("created");
    refused(&at("empty.png"), "empty");
    refused(&at("text.jpg"), "not an image");
    refused(&at("folder.png"), "folder");
    refused(&at("missing.png"), "");
    for extension in ["png", "jpg", "bmp", "tif", "webp"] {
        let whole = at(&format!("whole.{extension}"));
        photo().save(&whole).expect("saved");
        let bytes = std::fs::read(&whole).expect("read");
        let half = at(&format!("half.{extension}"));
        std::fs::write(&half, &bytes[..bytes.len() / 2]).expect("written");
        refused(&half, "help:");
    }
}

#[test]
fn damaged_bytes_never_panic() {
    let dir = tempfile::tempdir().expect("temporary directory");
    for extension in ["png", "jpg", "bmp", "tif", "webp"] {
        let path = dir.path().join(format!("image.{extension}"));
        photo().save(&path).expect("saved");
        let bytes = std::fs::read(&path).expect("read");
        for round in 0..150usize {
            let mut broken = bytes.clone();
            let place = (round * 7919) % broken.len();
            broken[place] = broken[place].wrapping_add(1 + round as u8);
            if round % 3 == 0 {
                broken.truncate(place);
            }
            std::fs::write(&path, &broken).expect("written");
            if let Err(error) = decode(&path) {
                assert!(error.to_string().contains(&format!("image.{extension}")));
            }
        }
    }
}

#[test]
fn a_picture_of_billions_of_pixels_is_refused_before_memory_is_taken() {
    // The header of a 60,000 x 60,000 bitmap without its pixels.
    let mut bytes = b"BM".to_vec();
    for value in [54u32, 0, 54, 40, 60_000, 60_000] {
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend([1, 0, 24, 0]);
    bytes.extend([0; 24]);
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("huge.bmp");
    std::fs::write(&path, bytes).expect("written");
    refused(&path, "too large");
}

#[test]
fn the_content_decides_about_the_format() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("a png.jpg");
    photo()
        .save_with_format(&path, image::ImageFormat::Png)
        .expect("saved");
    assert_eq!(decode(&path).expect("readable"), photo());
}

#[test]
fn a_mask_marks_what_is_not_black_in_any_mode() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let marked = |path: &Path| -> Vec<bool> {
        decode_mask(path)
            .expect("mask")
            .iter()
            .map(|&value| value != 0)
            .collect()
    };
    // The weakest mark in each mode: grey 1, blue 1, 16-bit 1.
    let grey = dir.path().join("grey.png");
    image::GrayImage::from_raw(2, 1, vec![0, 1])
        .expect("size")
        .save(&grey)
        .expect("saved");
    let colour = dir.path().join("colour.png");
    RgbImage::from_raw(2, 1, vec![0, 0, 0, 0, 0, 1])
        .expect("size")
        .save(&colour)
        .expect("saved");
    let wide = dir.path().join("wide.png");
    image::ImageBuffer::<image::Luma<u16>, _>::from_raw(2, 1, vec![0u16, 1])
        .expect("size")
        .save(&wide)
        .expect("saved");
    // Opaque everywhere: alpha marks nothing.
    let alpha = dir.path().join("alpha.png");
    image::RgbaImage::from_raw(2, 1, vec![0, 0, 0, 255, 9, 0, 0, 255])
        .expect("size")
        .save(&alpha)
        .expect("saved");
    for path in [grey, colour, wide, alpha] {
        assert_eq!(marked(&path), [false, true], "{}", path.display());
    }
}

#[test]
fn ringing_of_a_jpeg_mask_marks_nothing() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("mask.jpg");
    let mask = image::GrayImage::from_fn(64, 64, |x, y| {
        image::Luma([if (21..43).contains(&x) && (21..43).contains(&y) {
            255
        } else {
            0
        }])
    });
    mask.save(&path).expect("saved");
    let raw = decode(&path).expect("readable");
    assert!(
        raw.pixels().any(|pixel| (1..128).contains(&pixel[0])),
        "the JPEG must ring"
    );
    let marked = decode_mask(&path).expect("mask");
    let count = marked.iter().filter(|&&value| value != 0).count();
    assert_eq!(count, 22 * 22);
}

#[test]
fn extensions_are_recognised_in_any_case() {
    for name in [
        "a.png", "a b.JPG", "ü.Jpeg", "x.TIFF", "x.tif", "x.bmp", "x.WebP",
    ] {
        assert!(is_image_path(name), "{name}");
    }
    for name in ["png", "a.txt", "a.png.txt", "Thumbs.db", ""] {
        assert!(!is_image_path(name), "{name}");
    }
}
