//! Fewer images than a dataset has, for small budgets.

use std::collections::{BTreeMap, BTreeSet};

use super::IndexOptions;
use crate::data::sample::{Dataset, Sample};
use crate::error::{Error, Result};
use crate::train::indices_by_seed;

/// Seed of the choice of test images: the same whatever the seed of a run, so that runs are tested on the same.
const TEST_SEED: u64 = 0;

/// Leaves out what is beyond the limits. The order stays, what is kept depends on names and not on the order, and a
/// higher limit keeps what a lower one keeps.
///
/// # Errors
/// When a limit is 0, or no share.
pub(super) fn limit(dataset: &mut Dataset, options: &IndexOptions) -> Result<()> {
    if options.test_limit == Some(0) {
        let error = Error::usage("a test limit of 0 leaves no image");
        return Err(error.help("give at least 1, or no limit"));
    }
    if let Some(limit) = options.train_limit {
        limit.check()?;
        let count = dataset.train.len();
        let (all, limit) = ((0..count).collect(), limit.of(count));
        let kept = draw(&dataset.train, all, limit, options.seed, "train limit");
        retain(&mut dataset.train, &kept.into_iter().collect());
    }
    if let Some(limit) = options.test_limit {
        let mut kinds: BTreeMap<(bool, &str), Vec<usize>> = BTreeMap::new();
        for (index, sample) in dataset.test.iter().enumerate() {
            let kind = (sample.label.is_anomalous(), sample.kind.as_str());
            kinds.entry(kind).or_default().push(index);
        }
        let mut kept = BTreeSet::new();
        for ((_, kind), members) in kinds {
            let stream = format!("test limit {kind}");
            kept.extend(draw(&dataset.test, members, limit, TEST_SEED, &stream));
        }
        retain(&mut dataset.test, &kept);
    }
    Ok(())
}

/// At most `limit` of `members`, which are positions in `samples`.
fn draw(
    samples: &[Sample],
    mut members: Vec<usize>,
    limit: usize,
    seed: u64,
    stream: &str,
) -> Vec<usize> {
    members.sort_by_cached_key(|&index| samples[index].image.name().into_owned());
    let order = indices_by_seed(members.len(), seed, stream).into_iter();
    order.take(limit).map(|place| members[place]).collect()
}

fn retain(samples: &mut Vec<Sample>, kept: &BTreeSet<usize>) {
    let mut index = 0;
    samples.retain(|_| {
        index += 1;
        kept.contains(&(index - 1))
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::data::sample::{ImageSource, Label};
    use crate::data::share::TrainLimit;

    fn samples(kinds: &[(&str, usize)]) -> Vec<Sample> {
        let all = kinds.iter().flat_map(|&(kind, count)| {
            (0..count).map(move |index| Sample {
                image: ImageSource::File(format!("{kind}/{index:02}.png").into()),
                label: match kind {
                    "good" => Label::Normal,
                    _ => Label::Anomalous,
                },
                kind: kind.to_owned(),
                mask: None,
            })
        });
        all.collect()
    }

    fn dataset() -> Dataset {
        Dataset {
            train: samples(&[("good", 20)]),
            pool: samples(&[("x", 9)]),
            test: samples(&[("a", 12), ("good", 9), ("b", 2)]),
            ..Dataset::default()
        }
    }

    fn limited(seed: u64, train: Option<usize>, test: Option<usize>) -> [Vec<String>; 2] {
        let mut dataset = dataset();
        let options = IndexOptions {
            seed,
            train_limit: train.map(TrainLimit::Count),
            test_limit: test,
            ..IndexOptions::default()
        };
        limit(&mut dataset, &options).unwrap();
        assert_eq!(dataset.pool.len(), 9);
        [dataset.train, dataset.test].map(|samples| {
            let name = |sample: &Sample| sample.image.name().into_owned();
            samples.iter().map(name).collect()
        })
    }

    #[test]
    fn each_kind_is_limited_and_the_order_stays() {
        let [train, test] = limited(1, None, Some(3));
        assert_eq!(train.len(), 20);
        let kinds: Vec<&str> = test.iter().map(|name| &name[..1]).collect();
        assert_eq!(kinds, ["a", "a", "a", "g", "g", "g", "b", "b"]);
        let of = |kind: &str| -> Vec<&String> {
            test.iter().filter(|name| name.starts_with(kind)).collect()
        };
        assert!(of("a").is_sorted() && of("g").is_sorted());
    }

    #[test]
    fn training_images_follow_the_seed_and_test_images_do_not() {
        let [train, test] = limited(1, Some(5), Some(3));
        assert_eq!((train.len(), train.is_sorted()), (5, true));
        let [other_train, other_test] = limited(2, Some(5), Some(3));
        assert_ne!(train, other_train);
        assert_eq!(test, other_test);
    }

    #[test]
    fn a_higher_limit_keeps_what_a_lower_one_keeps() {
        let [few, tested] = limited(3, Some(4), Some(2));
        let [more, more_tested] = limited(3, Some(9), Some(5));
        assert!(few.iter().all(|name| more.contains(name)));
        assert!(tested.iter().all(|name| more_tested.contains(name)));
        assert_eq!(limited(3, Some(99), Some(99)), limited(0, None, None));
    }

    #[test]
    fn a_share_keeps_what_the_same_number_keeps() {
        let of = |train_limit: TrainLimit| {
            let mut dataset = dataset();
            let options = IndexOptions {
                seed: 3,
                train_limit: Some(train_limit),
                ..IndexOptions::default()
            };
            limit(&mut dataset, &options).unwrap();
            let names = dataset.train.iter().map(|it| it.image.name().into_owned());
            names.collect::<Vec<_>>()
        };
        for (percent, count) in [(20.0, 4), (60.0, 12), (100.0, 20), (12.5, 3), (1.0, 1)] {
            let share = of(TrainLimit::Percent(percent));
            assert_eq!(share.len(), count, "{percent}");
            assert_eq!(share, of(TrainLimit::Count(count)));
        }
    }

    #[test]
    fn no_image_at_all_is_a_usage_error() {
        for (train, test) in [(Some(0), None), (None, Some(0))] {
            let options = IndexOptions {
                train_limit: train.map(TrainLimit::Count),
                test_limit: test,
                ..IndexOptions::default()
            };
            assert!(limit(&mut dataset(), &options).unwrap_err().is_usage());
        }
    }
}
