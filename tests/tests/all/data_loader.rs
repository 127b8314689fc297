//! The loader: order, errors in their place, an early end.

use std::path::Path;
use std::sync::Arc;

use burn_ad::data::{
    Filter, Fit, Geometry, ImageSource, Label, Loaded, Loader, MaskSource, Normalisation,
    Preprocess, Sample,
};
use image::{GrayImage, Luma, Rgb, RgbImage};

fn preprocess() -> Preprocess {
    Preprocess {
        geometry: Geometry {
            fit: Fit::Crop,
            size: 24,
            filter: Filter::Bilinear,
        },
        normalisation: Normalisation::IMAGENET,
    }
}

fn picture(seed: u32) -> RgbImage {
    RgbImage::from_fn(30 + seed % 7, 26 + seed % 5, |x, y| {
        Rgb([(x * seed) as u8, (y * 7 + seed) as u8, (x + y) as u8])
    })
}

fn sample(path: &Path) -> Sample {
    Sample {
        image: ImageSource::File(path.to_path_buf()),
        label: Label::Normal,
        kind: "good".to_owned(),
        mask: None,
    }
}

fn files(dir: &Path, count: u32) -> Vec<Sample> {
    (0..count)
        .map(|i| {
            let path = dir.join(format!("bild {i:03} ü.png"));
            picture(i).save(&path).expect("saved");
            sample(&path)
        })
        .collect()
}

fn load(samples: &[Sample], workers: usize) -> Vec<(usize, Result<Loaded, String>)> {
    Loader::new(preprocess())
        .with_workers(workers)
        .stream(samples)
        .map(|(index, loaded)| (index, loaded.map_err(|error| error.to_string())))
        .collect()
}

#[test]
fn order_and_pixels_do_not_depend_on_the_workers() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let samples = files(dir.path(), 41);
    let alone = load(&samples, 0);
    assert_eq!(alone.len(), 41);
    for workers in [1, 2, 3, 16, 1000] {
        let together = load(&samples, workers);
        assert_eq!(together.len(), alone.len());
        for (position, ((index, got), (_, wanted))) in together.iter().zip(&alone).enumerate() {
            let (got, wanted) = (
                got.as_ref().expect("readable"),
                wanted.as_ref().expect("readable"),
            );
            assert_eq!((*index, got.index), (position, position));
            assert_eq!(got.pixels, wanted.pixels);
            assert_eq!(got.placement, wanted.placement);
        }
    }
    let different = |a: usize, b: usize| {
        let pixels = |i: usize| alone[i].1.as_ref().expect("readable").pixels.clone();
        pixels(a) != pixels(b)
    };
    assert!(different(0, 1) && different(7, 40));
}

#[test]
fn a_corrupt_image_is_an_error_in_its_place_only() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let samples = files(dir.path(), 12);
    let ImageSource::File(bad) = &samples[5].image else {
        unreachable!("samples are files");
    };
    std::fs::write(bad, b"\x89PNG\r\n\x1a\n broken").expect("written");
    for workers in [0, 2] {
        for (index, loaded) in load(&samples, workers) {
            assert_eq!(loaded.is_err(), index == 5, "{index}");
            if let Err(error) = loaded {
                assert!(error.contains("bild 005 ü.png"), "{error}");
            }
        }
    }
}

#[test]
fn dropping_the_stream_ends_its_workers_before_all_is_read() {
    let image = Arc::new(picture(3));
    let samples: Vec<Sample> = (0..5000)
        .map(|i| Sample {
            image: ImageSource::Memory {
                name: format!("frame {i}"),
                image: Arc::clone(&image),
            },
            label: Label::Normal,
            kind: "good".to_owned(),
            mask: None,
        })
        .collect();
    let mut stream = Loader::new(preprocess()).with_workers(3).stream(&samples);
    assert_eq!(stream.len(), 5000);
    let (index, loaded) = stream.next().expect("the first");
    assert!(index == 0 && loaded.is_ok());
    drop(stream);
    drop(samples);
    // The workers held clones of every sample; after the drop only ours is left.
    assert_eq!(Arc::strong_count(&image), 1);
}

#[test]
fn an_image_in_memory_loads_like_its_file() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let from_file = files(dir.path(), 1);
    let mut in_memory = from_file.clone();
    in_memory[0].image = ImageSource::Memory {
        name: "camera".to_owned(),
        image: Arc::new(picture(0)),
    };
    let pixels = |samples: &[Sample]| {
        load(samples, 1)[0]
            .1
            .as_ref()
            .expect("readable")
            .pixels
            .clone()
    };
    assert_eq!(pixels(&from_file), pixels(&in_memory));
    in_memory[0].image = ImageSource::Memory {
        name: "camera".to_owned(),
        image: Arc::new(RgbImage::new(0, 0)),
    };
    let error = load(&in_memory, 1).remove(0).1.expect_err("no pixel");
    assert!(error.contains("camera"), "{error}");
}

#[test]
fn a_bad_mask_is_an_error_that_names_both_files() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut samples = files(dir.path(), 3);
    let mask = dir.path().join("mask.png");
    let (width, height) = picture(0).dimensions();
    GrayImage::from_pixel(width, height, Luma([7]))
        .save(&mask)
        .expect("saved");
    samples[0].mask = Some(MaskSource::File(mask.clone()));
    samples[1].mask = Some(MaskSource::File(mask.clone()));
    samples[2].mask = Some(MaskSource::File(dir.path().join("no mask.png")));
    let loaded = load(&samples, 2);
    let good = loaded[0].1.as_ref().expect("readable");
    assert_eq!(good.mask.as_deref(), Some(&[true; 24 * 24][..]));
    let mismatch = loaded[1].1.as_ref().expect_err("other size");
    assert!(
        mismatch.contains("bild 001 ü.png") && mismatch.contains("mask.png"),
        "{mismatch}"
    );
    let missing = loaded[2].1.as_ref().expect_err("missing");
    assert!(
        missing.contains("bild 002 ü.png") && missing.contains("no mask.png"),
        "{missing}"
    );
}

#[test]
fn nothing_to_load_is_an_empty_stream() {
    assert_eq!(Loader::new(preprocess()).stream(&[]).count(), 0);
}
