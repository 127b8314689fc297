#![allow(clippy::unwrap_used)]
use super::super::mask::marked;
use super::*;
use proptest::prelude::*;
use rand_chacha::rand_core::SeedableRng;

fn wavy(width: u32, height: u32, tint: u8) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let wave = (60.0
            * (f64::from(x) * 0.5 + f64::from(tint)).sin()
            * (f64::from(y) * 0.3).cos()) as i16;
        Rgb([(120 + wave) as u8, (100 - wave) as u8, tint])
    })
}

fn apply(
    poisson: &Poisson,
    normal: &RgbImage,
    foreground: Option<&GrayImage>,
    source: RgbImage,
    seed: u64,
) -> PseudoAnomaly {
    let area = Area::new(normal, foreground).unwrap();
    let source = Known::unmarked(source).unwrap();
    poisson.apply(normal, &area, &source, &mut ChaCha8Rng::seed_from_u64(seed))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn only_marked_pixels_of_the_foreground_change(
        seed: u64, width in 1u32..40, height in 1u32..40, source_side in 1u32..40,
    ) {
        let normal = wavy(width, height, 3);
        // Gaps so narrow that the median would close them.
        let inside = |x: u32, y: u32| x < 25 && (x + 5 * y) % 17 != 3;
        let foreground = GrayImage::from_fn(width, height, |x, y| Luma([u8::from(inside(x, y))]));
        let run = || apply(&Poisson::default(), &normal, Some(&foreground), wavy(source_side, 9, 90), seed);
        let made = run();
        for (x, y, pixel) in made.image.enumerate_pixels() {
            if made.mask.get_pixel(x, y)[0] == 0 {
                prop_assert_eq!(pixel, normal.get_pixel(x, y));
            } else {
                prop_assert!(inside(x, y));
            }
        }
        prop_assert_eq!(run(), made);
    }
}

#[test]
fn pictures_of_usual_size_get_an_anomaly_that_is_visible() {
    let normal = wavy(80, 60, 3);
    for seed in 0..12 {
        let made = apply(&Poisson::default(), &normal, None, wavy(80, 60, 91), seed);
        let region = marked(&made.mask);
        assert!(!region.is_empty(), "{seed}");
        let change: u32 = region
            .iter()
            .map(|&[x, y]| {
                let at = (x as u32, y as u32);
                u32::from(
                    normal.get_pixel(at.0, at.1)[0].abs_diff(made.image.get_pixel(at.0, at.1)[0]),
                )
            })
            .sum();
        assert!(
            change as usize > region.len(),
            "{seed}: {change} levels in all"
        );
    }
}

#[test]
fn the_image_itself_and_an_empty_foreground_change_nothing() {
    let flat = RgbImage::from_pixel(30, 20, Rgb([99, 98, 97]));
    let brighter = RgbImage::from_pixel(30, 20, Rgb([199; 3]));
    // Seamless: a patch that differs by a constant vanishes.
    let made = apply(&Poisson::default(), &flat, None, brighter, 1);
    assert_eq!((&made.image, marked(&made.mask).len()), (&flat, 0));
    let nothing = GrayImage::new(30, 20);
    let made = apply(
        &Poisson::default(),
        &flat,
        Some(&nothing),
        wavy(30, 20, 9),
        1,
    );
    assert_eq!((&made.image, marked(&made.mask).len()), (&flat, 0));
}

#[test]
fn a_blended_patch_has_no_seam() {
    // A wave on a flat normal image: seen from the rim, values start at the normal image's.
    let normal = RgbImage::from_pixel(100, 100, Rgb([120; 3]));
    let poisson = Poisson {
        patches: 1,
        half_side: [0.2, 0.2],
        ..Poisson::default()
    };
    let slow = RgbImage::from_fn(100, 100, |x, y| {
        Rgb([(60.0 + f64::from(x + y) * 0.4 + f64::from(x * x) * 0.01) as u8; 3])
    });
    let made = apply(&poisson, &normal, None, slow, 5);
    assert!(!marked(&made.mask).is_empty());
    for (a, b) in made.image.rows().flat_map(|row| {
        let values: Vec<u8> = row.map(|pixel| pixel[0]).collect();
        values
            .windows(2)
            .map(|pair| (pair[0], pair[1]))
            .collect::<Vec<_>>()
    }) {
        // The source differs by at most 3 from pixel to pixel.
        assert!(a.abs_diff(b) <= 8, "{a} beside {b}");
    }
}
