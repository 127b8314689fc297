#![allow(clippy::unwrap_used)]
use super::*;
use image::{GrayImage, Luma, Rgb, RgbImage};
use proptest::prelude::*;
use rand_chacha::rand_core::SeedableRng;

/// A picture whose bright pixels are exactly the marked ones.
fn painted(width: u32, height: u32, marked: impl Fn(u32, u32) -> bool) -> Known {
    let value = |x, y| if marked(x, y) { 255 } else { 0 };
    Known::new(
        RgbImage::from_fn(width, height, |x, y| Rgb([value(x, y); 3])),
        GrayImage::from_fn(width, height, |x, y| Luma([value(x, y)])),
    )
    .unwrap()
}

fn blob(x: u32, y: u32) -> bool {
    (x / 3 + y / 2).is_multiple_of(4)
}

const GEOMETRIC: [Augmentation; 6] = [
    Augmentation::Rotate90,
    Augmentation::Flip,
    Augmentation::Transpose,
    Augmentation::Optical,
    Augmentation::ShiftScaleRotate,
    Augmentation::Distortion,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// The mask follows the picture, reflections at the border included: what is fully bright is
    /// marked, what is fully dark is not.
    #[test]
    fn geometric_augmentations_move_mask_and_image_together(
        seed: u64, width in 1u32..40, height in 1u32..40,
    ) {
        let known = painted(width, height, blob);
        for augmentation in GEOMETRIC {
            let out = augmentation.apply(&known, &mut ChaCha8Rng::seed_from_u64(seed));
            for (pixel, mask) in out.image().pixels().zip(out.mask().pixels()) {
                match mask[0] {
                    255 => prop_assert!(pixel[0] > 0, "{augmentation:?}"),
                    0 => prop_assert!(pixel[0] < 255, "{augmentation:?}"),
                    other => panic!("mask value {other}"),
                }
            }
        }
    }

    #[test]
    fn photometric_augmentations_leave_the_mask_and_grey_images_grey(
        seed: u64, width in 1u32..24, height in 1u32..24,
    ) {
        let known = painted(width, height, blob);
        for augmentation in Augmentation::ALL {
            let out = augmentation.apply(&known, &mut ChaCha8Rng::seed_from_u64(seed));
            prop_assert!(photometric::is_grey(out.image()), "{augmentation:?}");
            if !GEOMETRIC.contains(&augmentation) {
                prop_assert_eq!(out.mask(), known.mask());
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes(seed: u64, width in 1u32..24, height in 1u32..24) {
        let known = painted(width, height, blob);
        let run = || RandAugment { picks: 10 }.apply(&known, &mut ChaCha8Rng::seed_from_u64(seed));
        prop_assert_eq!(run(), run());
    }
}

#[test]
fn every_augmentation_changes_a_coloured_picture_and_depends_on_the_seed() {
    let image = RgbImage::from_fn(32, 20, |x, y| {
        Rgb([(8 * x) as u8, (12 * y) as u8, ((x * y) % 200 + 20) as u8])
    });
    let known = Known::unmarked(image).unwrap();
    for augmentation in Augmentation::ALL {
        let outs: Vec<Known> = (0..8)
            .map(|seed| augmentation.apply(&known, &mut ChaCha8Rng::seed_from_u64(seed)))
            .collect();
        assert!(outs.iter().any(|out| *out != known), "{augmentation:?}");
        if augmentation != Augmentation::Transpose {
            assert!(outs.iter().any(|out| *out != outs[0]), "{augmentation:?}");
        }
    }
}

#[test]
fn quarter_turns_and_transposition_are_exact() {
    let known = painted(3, 2, |x, y| (x, y) == (2, 0));
    let at = |known: &Known| {
        let (size, bright) = (known.image().dimensions(), known.mask().as_raw());
        (size, bright.iter().position(|&value| value != 0).unwrap())
    };
    assert_eq!(at(&geometry::rotate90(&known, 1)), ((2, 3), 5));
    assert_eq!(at(&geometry::rotate90(&known, 3)), ((2, 3), 0));
    assert_eq!(at(&geometry::rotate90(&known, 2)), ((3, 2), 3));
    let transposed = Augmentation::Transpose.apply(&known, &mut ChaCha8Rng::seed_from_u64(0));
    assert_eq!(at(&transposed), ((2, 3), 4));
}

#[test]
fn three_are_picked_without_replacement_and_each_equally_often() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut counts = [0; 10];
    for _ in 0..3000 {
        let picks = RandAugment::default().pick(&mut Draws(&mut rng));
        assert_eq!(picks.len(), 3);
        for (i, pick) in picks.iter().enumerate() {
            assert!(!picks[..i].contains(pick));
            counts[Augmentation::ALL.iter().position(|a| a == pick).unwrap()] += 1;
        }
    }
    assert!(
        counts.iter().all(|&count| (780..1020).contains(&count)),
        "{counts:?}"
    );
}

#[test]
fn no_distortion_is_no_change() {
    let known = painted(17, 9, blob);
    assert_eq!(geometry::optical(&known, 0.0), known);
}
