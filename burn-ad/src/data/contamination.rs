//! Contamination: anomalous images among the training images that nobody has told apart from the normal ones.
//!
//! The protocol of IGD (Chen et al., AAAI 2022): a share of the anomalous test images is taken out of the test set and
//! trains as if it were normal.

use std::collections::BTreeSet;

use super::sample::{Dataset, Label, Sample};
use super::share::whole;
use crate::error::{Error, Result};
use crate::train::indices_by_seed;

/// Puts `share` of the anomalous test images, rounded half up, among the training images as normal ones.
///
/// Returns them as they were, sorted by name. They are drawn by `seed`, of all kinds alike; the choice depends on the
/// images' names and not on their order, and a higher share takes what a lower one takes. An anomalous
/// [pool](Dataset::pool) is left alone.
///
/// # Errors
/// When the share is not in `[0, 1)`.
pub fn contaminate(dataset: &mut Dataset, share: f64, seed: u64) -> Result<Vec<Sample>> {
    check_contamination(share)?;
    let name = |index: usize| dataset.test[index].image.name().into_owned();
    let mut anomalous: Vec<usize> = (0..dataset.test.len())
        .filter(|&index| dataset.test[index].label.is_anomalous())
        .collect();
    anomalous.sort_by_cached_key(|&index| name(index));
    let count = whole(share, anomalous.len());
    let order = indices_by_seed(anomalous.len(), seed, "contamination").into_iter();
    let drawn: BTreeSet<usize> = order.take(count).map(|place| anomalous[place]).collect();
    let mut taken = Vec::with_capacity(count);
    for (index, sample) in std::mem::take(&mut dataset.test).into_iter().enumerate() {
        match drawn.contains(&index) {
            true => taken.push(sample),
            false => dataset.test.push(sample),
        }
    }
    taken.sort_by_cached_key(|sample| sample.image.name().into_owned());
    dataset.train.extend(taken.iter().map(as_normal));
    Ok(taken)
}

/// # Errors
/// When such a share of the anomalous test images cannot be taken.
pub fn check_contamination(share: f64) -> Result<()> {
    if (0.0..1.0).contains(&share) {
        return Ok(());
    }
    Err(Error::usage(format!(
        "a contamination of {share} is not possible: it is a share of the anomalous test images, in [0, 1)"
    ))
    .help("write ten percent as 10% or 0.1"))
}

/// The same image, taken for a normal one of its product.
fn as_normal(sample: &Sample) -> Sample {
    let kind = match sample.class() {
        Some(class) => format!("{class}/good"),
        None => "good".to_owned(),
    };
    Sample {
        image: sample.image.clone(),
        label: Label::Normal,
        kind,
        mask: None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::data::sample::{ImageSource, MaskSource};

    fn sample(side: &str, kind: &str, index: usize) -> Sample {
        let normal = kind == "good";
        Sample {
            image: ImageSource::File(format!("{side}/{kind}/{index:03}.png").into()),
            label: if normal {
                Label::Normal
            } else {
                Label::Anomalous
            },
            kind: kind.to_owned(),
            mask: (!normal).then(|| MaskSource::File("mask.png".into())),
        }
    }

    /// 10 normal training images, 4 pooled ones, 3 normal test images, `a` and `b` anomalous ones of two kinds.
    fn dataset(a: usize, b: usize) -> Dataset {
        let of = |side: &'static str, kind: &'static str, count: usize| {
            (0..count).map(move |index| sample(side, kind, index))
        };
        let test = of("test", "good", 3);
        Dataset {
            train: of("train", "good", 10).collect(),
            pool: of("train", "b", 4).collect(),
            test: test
                .chain(of("test", "a", a))
                .chain(of("test", "b", b))
                .collect(),
            ..Dataset::default()
        }
    }

    fn names(samples: &[Sample]) -> Vec<String> {
        let names = samples
            .iter()
            .map(|sample| sample.image.name().into_owned());
        names.collect()
    }

    #[test]
    fn the_count_is_exact_and_every_image_is_on_one_side() {
        for (a, b, share, expected) in [
            (20, 10, 0.1, 3),
            (20, 5, 0.1, 3),
            (20, 4, 0.1, 2),
            (30, 20, 0.01, 1),
            (25, 24, 0.01, 0),
            (25, 25, 0.29, 15),
            (20, 10, 0.0, 0),
            (0, 0, 0.5, 0),
        ] {
            for seed in 0..5 {
                let mut data = dataset(a, b);
                let taken = contaminate(&mut data, share, seed).unwrap();
                assert_eq!(taken.len(), expected, "{a} + {b}, {share}");
                assert!(
                    taken
                        .iter()
                        .all(|it| it.label.is_anomalous() && it.mask.is_some())
                );
                assert!(names(&taken).is_sorted());
                assert_eq!(names(&data.train)[10..], names(&taken));
                assert!(data.train.iter().all(|it| {
                    !it.label.is_anomalous() && it.kind == "good" && it.mask.is_none()
                }));
                assert_eq!(data.pool.len(), 4);
                let mut all = [names(&taken), names(&data.test)].concat();
                all.sort();
                let mut before = names(&dataset(a, b).test);
                before.sort();
                assert_eq!(all, before);
                assert_eq!(
                    data.test
                        .iter()
                        .filter(|it| !it.label.is_anomalous())
                        .count(),
                    3
                );
            }
        }
    }

    #[test]
    fn the_seed_draws_a_higher_share_keeps_and_the_order_changes_nothing() {
        let taken = |share: f64, seed: u64, turn: usize| {
            let mut data = dataset(12, 8);
            data.test.rotate_left(turn);
            names(&contaminate(&mut data, share, seed).unwrap())
        };
        let few = taken(0.1, 3, 0);
        assert_eq!(few, taken(0.1, 3, 7));
        assert!((0..9).any(|seed| taken(0.1, seed, 0) != few));
        let more = taken(0.4, 3, 0);
        assert!(few.iter().all(|name| more.contains(name)));
        // Kinds come by chance: both do, over some seeds.
        let kinds: BTreeSet<String> = (0..9)
            .flat_map(|seed| taken(0.05, seed, 0))
            .map(|name| name[5..6].to_owned())
            .collect();
        assert_eq!(kinds.len(), 2);
    }

    #[test]
    fn a_product_keeps_its_name() {
        let mut data = dataset(2, 0);
        for sample in &mut data.test {
            sample.kind = format!("visa/nut/{}", sample.kind);
        }
        contaminate(&mut data, 0.5, 0).unwrap();
        let last = data.train.last().unwrap();
        assert_eq!(
            (last.kind.as_str(), last.class()),
            ("visa/nut/good", Some("visa/nut"))
        );
    }

    #[test]
    fn what_is_no_share_is_refused() {
        for share in [-0.1, 1.0, 10.0, f64::NAN] {
            let error = contaminate(&mut dataset(3, 3), share, 0).unwrap_err();
            assert!(
                error.is_usage() && error.to_string().contains("10%"),
                "{error}"
            );
        }
    }
}
