//! Dividing normal images into training and test images.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::IndexOptions;

/// Splits into (training, test); both keep the order of `items`.
///
/// The shuffle is written out here so that a seed keeps its meaning whatever a library does.
pub(super) fn split<T>(items: Vec<T>, options: &IndexOptions) -> (Vec<T>, Vec<T>) {
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let mut order: Vec<usize> = (0..items.len()).collect();
    for last in (1..order.len()).rev() {
        // Uniform up to a bias of 2^-40 for a million images.
        let drawn = (u128::from(rng.next_u64()) * (last as u128 + 1)) >> 64;
        order.swap(last, drawn as usize);
    }
    // The product may fall just below a whole number: 0.29 * 100 is 28.999999999999996.
    let share = (options.train_share * items.len() as f64 + 1e-9).floor() as usize;
    let count = share.max(1).min(items.len());
    let mut trains = vec![false; items.len()];
    for &index in &order[..count] {
        trains[index] = true;
    }
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for (item, trains) in items.into_iter().zip(trains) {
        if trains { &mut train } else { &mut test }.push(item);
    }
    (train, test)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(seed: u64, train_share: f64) -> IndexOptions {
        IndexOptions {
            seed,
            train_share,
            ..IndexOptions::default()
        }
    }

    #[test]
    fn each_item_goes_to_one_side_and_the_share_is_rounded_down() {
        for (count, share, expected) in [
            (952, 0.8, 761),
            (100, 0.29, 29),
            (1, 0.5, 1),
            (10, 1.0, 10),
            (3, 0.01, 1),
        ] {
            let (train, test) = split((0..count).collect(), &options(3, share));
            assert_eq!(train.len(), expected, "{count} x {share}");
            let mut all = [train, test].concat();
            all.sort_unstable();
            assert_eq!(all, (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_seed_keeps_its_meaning() {
        let (_, test) = split((0..20).collect::<Vec<_>>(), &options(0, 0.8));
        assert_eq!(test, PINNED);
        let (_, other) = split((0..20).collect::<Vec<_>>(), &options(1, 0.8));
        assert_ne!(test, other);
    }

    /// What this code drew when it was written; a change would silently change every result.
    const PINNED: [i32; 4] = [1, 8, 12, 14];

    #[test]
    fn nothing_splits_into_nothing() {
        let (train, test) = split(Vec::<u8>::new(), &options(0, 0.8));
        assert!(train.is_empty() && test.is_empty());
    }
}
