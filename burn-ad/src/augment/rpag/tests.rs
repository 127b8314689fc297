#![allow(clippy::unwrap_used)]
use super::*;
use image::{Luma, Rgb};
use proptest::prelude::*;
use rand_chacha::rand_core::SeedableRng;

/// Every pixel of the source is bright, every pixel of the normal image dark.
fn normal(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([(x % 90) as u8, (y % 90) as u8, 7])
    })
}

fn known(width: u32, height: u32, marked: impl Fn(u32, u32) -> bool) -> Known {
    Known::new(
        RgbImage::from_fn(width, height, |x, y| {
            Rgb([200, 150 + (x % 90) as u8, 150 + (y % 90) as u8])
        }),
        GrayImage::from_fn(width, height, |x, y| Luma([u8::from(marked(x, y))])),
    )
    .unwrap()
}

fn unaltered() -> Rpag {
    Rpag {
        augmentations: 0,
        ..Rpag::default()
    }
}

fn apply(
    rpag: &Rpag,
    normal: &RgbImage,
    foreground: Option<&GrayImage>,
    source: &Known,
    seed: u64,
) -> PseudoAnomaly {
    let area = Area::new(normal, foreground).unwrap();
    rpag.apply(normal, &area, source, &mut ChaCha8Rng::seed_from_u64(seed))
}

fn strips(kind: u8) -> impl Fn(u32, u32) -> bool {
    move |x, y| match kind {
        0 => false,
        1 => true,
        2 => x == 0 || (x + y).is_multiple_of(11),
        3 => x.is_multiple_of(9) && y < 4,
        _ => (x, y) == (0, 0),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Every pixel outside the mask is unchanged, every pixel inside is one of the source's; the
    /// normal image's size stays; the same seed gives the same bytes.
    #[test]
    fn the_mask_marks_what_was_pasted_and_nothing_else(
        seed: u64, width in 1u32..40, height in 1u32..40, source_width in 1u32..40,
        source_height in 1u32..40, kind in 0u8..5, split in 0u32..40,
    ) {
        let normal = normal(width, height);
        let source = known(source_width, source_height, strips(kind));
        let foreground = GrayImage::from_fn(width, height, |x, y| Luma([u8::from(x + y < split)]));
        let run = || apply(&Rpag::default(), &normal, Some(&foreground), &source, seed);
        let made = run();
        prop_assert_eq!(made.image.dimensions(), (width, height));
        prop_assert_eq!(made.mask.dimensions(), (width, height));
        let pasted: std::collections::HashSet<[u8; 3]> = made.source.image().pixels().map(|p| p.0).collect();
        for (x, y, pixel) in made.image.enumerate_pixels() {
            match made.mask.get_pixel(x, y)[0] {
                0 => prop_assert_eq!(pixel, normal.get_pixel(x, y)),
                255 => prop_assert!(pasted.contains(&pixel.0)),
                other => panic!("mask value {other}"),
            }
        }
        if size(source.image()) == size(&normal) {
            prop_assert_eq!(made.source.is_marked(), source.is_marked(), "an anomaly was lost");
        }
        prop_assert_eq!(run(), made);
    }

    /// With a foreground large enough, more than 2/3 of every pasted region lies in it, as the
    /// shares returned say.
    #[test]
    fn regions_lie_in_a_foreground_that_has_room(seed: u64, left in 0u32..30, top in 0u32..30, kind in 3u8..5) {
        let normal = normal(64, 64);
        let source = known(64, 64, |x, y| x < 12 && strips(kind)(x, y));
        let foreground = GrayImage::from_fn(64, 64, |x, y| {
            Luma([u8::from((left..left + 34).contains(&x) && (top..top + 34).contains(&y))])
        });
        let made = apply(&Rpag::default(), &normal, Some(&foreground), &source, seed);
        prop_assert!(!made.foreground_shares.is_empty());
        for &share in &made.foreground_shares {
            prop_assert!(share > 2.0 / 3.0, "{:?}", made.foreground_shares);
        }
        let all = marked(&made.mask);
        let inside = all.iter().filter(|&&[x, y]| foreground.get_pixel(x as u32, y as u32)[0] != 0);
        prop_assert!(inside.count() * 3 > all.len() * 2);
    }
}

#[test]
fn an_anomaly_in_the_foreground_stays_where_it_is() {
    let (normal, source) = (
        normal(20, 10),
        known(20, 10, |x, y| (3..6).contains(&x) && y > 7),
    );
    // Exactly 2/3 of the six pixels are not enough, five of them are.
    let columns = |x: u32, _: u32| x < 5;
    let but_one = |x: u32, y: u32| x < 6 && (x, y) != (5, 9);
    let drawn = |inside: &dyn Fn(u32, u32) -> bool| {
        GrayImage::from_fn(20, 10, |x, y| Luma([u8::from(inside(x, y))]))
    };
    let made = apply(&unaltered(), &normal, Some(&drawn(&columns)), &source, 1);
    assert!(made.moved);
    let made = apply(&unaltered(), &normal, Some(&drawn(&but_one)), &source, 1);
    assert_eq!((&made.mask, made.moved), (source.mask(), false));
    assert_eq!(made.foreground_shares, [5.0 / 6.0]);
    for [x, y] in marked(&made.mask) {
        let at = (x as u32, y as u32);
        assert_eq!(made.image[at], source.image()[at]);
    }
    let whole = apply(&unaltered(), &normal, None, &source, 1);
    assert_eq!((whole.mask, whole.moved), (source.mask().clone(), false));
}

#[test]
fn each_region_moves_on_its_own_with_its_shape() {
    let (normal, source) = (
        normal(40, 40),
        known(40, 40, |x, y| {
            (x < 3 && y < 2) || (x > 37 && (10..15).contains(&y))
        }),
    );
    let foreground = GrayImage::from_fn(40, 40, |x, y| {
        Luma([u8::from((8..30).contains(&x) && y > 12)])
    });
    let mut patterns = std::collections::HashSet::new();
    for seed in 0..10 {
        let made = apply(&unaltered(), &normal, Some(&foreground), &source, seed);
        assert!(made.moved && made.foreground_shares.len() == 2);
        // The source's colours tell where they were.
        let offsets: std::collections::HashSet<[i64; 2]> = marked(&made.mask)
            .into_iter()
            .map(|[x, y]| {
                let colour = made.image[(x as u32, y as u32)];
                let from = [colour[1] - 150, colour[2] - 150].map(u32::from);
                assert_eq!(source.mask()[(from[0], from[1])][0], 255);
                [x - i64::from(from[0]), y - i64::from(from[1])]
            })
            .collect();
        assert!((1..=2).contains(&offsets.len()), "{offsets:?}");
        let regions = external_regions(&made.mask);
        if let [a, b] = &regions[..] {
            let mut sizes = [a.len(), b.len()];
            sizes.sort_unstable();
            assert_eq!(
                sizes,
                [6, 10],
                "two shapes apart from each other, nothing lost"
            );
            patterns.insert(made.mask.into_raw());
        }
    }
    assert!(patterns.len() > 5, "places depend on the seed");
}

#[test]
fn without_foreground_or_marks_nothing_is_moved() {
    let (normal, empty) = (normal(9, 7), GrayImage::new(9, 7));
    let source = known(9, 7, |x, _| x == 0);
    let made = apply(&unaltered(), &normal, Some(&empty), &source, 3);
    assert_eq!((&made.mask, made.moved), (source.mask(), false));
    assert_eq!(made.foreground_shares, [0.0]);
    let made = apply(
        &Rpag::default(),
        &normal,
        Some(&empty),
        &known(9, 7, |_, _| false),
        3,
    );
    assert_eq!((&made.image, &made.mask), (&normal, &empty));
    assert!(made.foreground_shares.is_empty());
}

#[test]
fn a_quarter_turn_is_laid_centre_on_centre_and_a_larger_image_is_scaled() {
    let normal = normal(20, 10);
    let upright = known(10, 20, |_, y| y == 10);
    let made = apply(&unaltered(), &normal, None, &upright, 0);
    // Row 10 of 20 becomes row 5 of 10; columns 0 to 9 become 5 to 14.
    let expected: Vec<[i64; 2]> = (5..15).map(|x| [x, 5]).collect();
    assert_eq!((marked(&made.mask), made.moved), (expected, false));
    let large = known(40, 20, |x, y| x < 20 && y < 10);
    let made = apply(&unaltered(), &normal, None, &large, 0);
    assert_eq!(marked(&made.mask).len(), 50);
}

#[test]
fn the_margin_is_half_the_largest_box() {
    assert_eq!(
        margins(&[vec![[0, 0], [4, 1]], vec![[7, 3]], vec![[1, 0], [1, 5]]]),
        [3, 1]
    );
    assert_eq!(margins(&[]), [0, 0]);
}
