#![allow(clippy::unwrap_used)]

use super::*;

fn minis() -> impl Iterator<Item = SyntheticConfig> {
    Product::ALL.into_iter().map(SyntheticConfig::mini)
}

/// Mean absolute difference in 8-bit levels.
fn difference(a: &RgbImage, b: &RgbImage) -> f64 {
    let total: u64 = a
        .as_raw()
        .iter()
        .zip(b.as_raw())
        .map(|(a, b)| u64::from(a.abs_diff(*b)))
        .sum();
    total as f64 / a.as_raw().len() as f64
}

#[test]
fn same_seed_same_bytes_whatever_the_counts_and_threads() {
    for config in minis() {
        let larger = SyntheticConfig {
            train: 50,
            test_normal: 9,
            per_kind: 7,
            ..config.clone()
        };
        let alone = rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .build()
            .unwrap()
            .install(|| in_memory(&config).unwrap());
        let pixels = |sample: &Sample| match &sample.image {
            ImageSource::Memory { image, .. } => image.clone(),
            other => panic!("not in memory: {other:?}"),
        };
        for (index, sample) in alone.train.iter().enumerate() {
            assert_eq!(
                *pixels(sample),
                render_normal(&larger, Split::Train, index).unwrap()
            );
        }
        for (&kind, sample) in config.kinds.iter().zip(&alone.test[config.test_normal..]) {
            assert_eq!(sample.kind, kind.name());
            assert_eq!(
                *pixels(sample),
                render_defect(&larger, kind, 0).unwrap().0,
                "{kind}"
            );
        }
    }
}

#[test]
fn seeds_splits_kinds_and_indices_give_different_pictures_of_one_product() {
    for product in Product::ALL {
        let config = SyntheticConfig::new(product);
        let other = SyntheticConfig {
            seed: 1,
            ..config.clone()
        };
        let pictures = [
            render_normal(&config, Split::Train, 0).unwrap(),
            render_normal(&config, Split::Train, 1).unwrap(),
            render_normal(&config, Split::Test, 0).unwrap(),
            render_normal(&other, Split::Train, 0).unwrap(),
            render_pair(&config, DefectKind::Stain, 0).unwrap().0,
        ];
        for (i, a) in pictures.iter().enumerate() {
            for b in &pictures[..i] {
                let difference = difference(a, b);
                assert!(
                    (2.0..20.0).contains(&difference),
                    "{product}: {difference} levels on average"
                );
            }
        }
    }
}

#[test]
fn the_mask_is_exactly_what_the_defect_changed_and_visible() {
    for product in Product::ALL {
        for (size, count) in [(64, 12), (96, 4), (256, 3)] {
            let config = SyntheticConfig {
                size,
                ..SyntheticConfig::new(product)
            };
            for &kind in product.kinds() {
                for index in 0..count {
                    let (clean, defective, mask) = render_pair(&config, kind, index).unwrap();
                    let mut marked = 0;
                    for (x, y, mask) in mask.enumerate_pixels() {
                        let (a, b) = (clean.get_pixel(x, y), defective.get_pixel(x, y));
                        let change = (0..3).map(|c| a[c].abs_diff(b[c])).max().unwrap();
                        match mask[0] {
                            0 => assert_eq!(change, 0, "{kind} {index} at {x}, {y}"),
                            255 => assert!(change >= change::VISIBLE, "{kind} {index}"),
                            other => panic!("mask value {other}"),
                        }
                        marked += usize::from(mask[0] != 0);
                    }
                    let share = marked as f64 / (size * size) as f64;
                    // A lost stripe is two threads wide, and threads have at least four pixels.
                    assert!(
                        (0.0004..0.15).contains(&share),
                        "{kind} {index} at {size}: {share} of the picture"
                    );
                }
            }
        }
    }
}

#[test]
fn a_missing_hole_is_a_disc_and_a_misplaced_one_two() {
    let config = SyntheticConfig::default();
    let area = |kind| {
        let (_, mask) = render_defect(&config, kind, 0).unwrap();
        change::area(&mask) as f64
    };
    let disc = std::f64::consts::PI * f64::from(plate::HOLE_RADIUS).powi(2);
    assert!((0.8 * disc..3.0 * disc).contains(&area(DefectKind::MissingHole)));
    assert!((1.7 * disc..6.0 * disc).contains(&area(DefectKind::MisplacedHole)));
}

#[test]
fn wrong_settings_are_usage_errors_that_say_what_would_do() {
    let plate = SyntheticConfig::default();
    let tiny = SyntheticConfig {
        size: 8,
        ..plate.clone()
    };
    let twice = SyntheticConfig {
        kinds: vec![DefectKind::Dent, DefectKind::Dent],
        ..plate.clone()
    };
    let foreign = SyntheticConfig {
        kinds: vec![DefectKind::Tear],
        ..plate.clone()
    };
    for config in [&tiny, &twice, &foreign] {
        assert!(in_memory(config).unwrap_err().is_usage());
    }
    let error = render_defect(&plate, DefectKind::Tear, 0).unwrap_err();
    assert!(
        error.is_usage() && error.to_string().contains("misplaced-hole"),
        "{error}"
    );
}

#[test]
fn the_set_has_the_counts_asked_for_and_masks_for_defects_only() {
    for config in minis() {
        let set = in_memory(&config).unwrap();
        assert_eq!(set.train.len(), config.train);
        assert_eq!(
            set.test.len(),
            config.test_normal + config.per_kind * config.kinds.len()
        );
        for sample in set.train.iter().chain(&set.test) {
            assert_eq!(sample.mask.is_some(), sample.label.is_anomalous());
            assert_eq!(sample.kind != "good", sample.label.is_anomalous());
        }
        assert!(set.train.iter().all(|sample| !sample.label.is_anomalous()));
    }
}
