//! Seeded splits.

use rand::seq::SliceRandom;

use super::stream_rng;

/// The indices `0..count` in an order that depends on the seed alone.
pub fn indices_by_seed(count: usize, seed: u64, stream: &str) -> Vec<usize> {
    let mut indices: Vec<usize> = (0..count).collect();
    indices.shuffle(&mut stream_rng(seed, stream));
    indices
}

/// Places `first..first + count` of `0..length` gone through again and again, each time in another
/// order.
pub(crate) fn cycled(
    length: usize,
    first: usize,
    count: usize,
    seed: u64,
    stream: &str,
) -> Vec<usize> {
    let (mut places, mut turn, mut order) = (Vec::with_capacity(count), usize::MAX, Vec::new());
    for draw in first..first + count {
        if draw / length != turn {
            turn = draw / length;
            order = indices_by_seed(length, seed, &format!("{stream} {turn}"));
        }
        places.push(order[draw % length]);
    }
    places
}

/// Splits `0..count` into (kept, held out), both ascending.
///
/// `share` of the items, rounded, are held out: at least one as long as two remain, none when
/// there are fewer than three items or `share` is 0.
pub fn hold_out(count: usize, share: f64, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let held = if count < 3 || share <= 0.0 {
        0
    } else {
        ((count as f64 * share).round() as usize).clamp(1, count - 2)
    };
    let order = indices_by_seed(count, seed, "hold-out");
    let (mut out, mut kept) = (order[..held].to_vec(), order[held..].to_vec());
    out.sort_unstable();
    kept.sort_unstable();
    (kept, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hold_out_partitions_and_depends_on_the_seed_alone() {
        let (kept, out) = hold_out(50, 0.1, 3);
        assert_eq!((kept.len(), out.len()), (45, 5));
        let mut all = [kept.clone(), out.clone()].concat();
        all.sort_unstable();
        assert_eq!(all, (0..50).collect::<Vec<_>>());
        assert_eq!(hold_out(50, 0.1, 3), (kept, out.clone()));
        assert_ne!(hold_out(50, 0.1, 4).1, out);
    }

    #[test]
    fn every_place_comes_once_before_any_comes_again() {
        let draw = |step: usize| cycled(10, step * 4, 4, 3, "turn");
        let mut drawn: Vec<usize> = (0..5).flat_map(draw).collect();
        assert_ne!(drawn[..10], drawn[10..]);
        for turn in drawn.chunks_mut(10) {
            turn.sort_unstable();
            assert_eq!(turn, (0..10).collect::<Vec<_>>());
        }
        assert!(cycled(0, 0, 0, 3, "turn").is_empty());
    }

    #[test]
    fn hold_out_never_empties_the_training_set() {
        assert_eq!(hold_out(1, 0.5, 0), (vec![0], vec![]));
        assert_eq!(hold_out(2, 0.9, 0).1.len(), 0);
        assert_eq!(hold_out(3, 0.9, 0).0.len(), 2);
        assert_eq!(hold_out(100, 0.0, 0).1.len(), 0);
    }
}
