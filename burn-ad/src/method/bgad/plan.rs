//! Which images a pass sees, in which batches.

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::config::ScheduleConfig;

/// One image of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// A normal image.
    Normal(usize),
    /// An entry of the list of anomalous images, in which each known anomaly stands several times.
    Anomaly {
        /// Position in the list.
        entry: usize,
        /// How often the pass came to this entry before.
        turn: usize,
    },
}

/// The batches of one pass: every normal image once, anomalous ones as often as the balance asks.
pub(super) fn batches(
    schedule: &ScheduleConfig,
    normals: usize,
    anomalies: usize,
    rng: &mut ChaCha8Rng,
) -> Vec<Vec<Item>> {
    let mut order: Vec<usize> = (0..normals).collect();
    order.shuffle(rng);
    let normal_items =
        |chunk: &[usize]| -> Vec<Item> { chunk.iter().map(|&image| Item::Normal(image)).collect() };
    if anomalies == 0 {
        return order.chunks(schedule.batch).map(normal_items).collect();
    }
    let normal = normals_of_batch(schedule, anomalies);
    let anomalous = (schedule.batch - normal).max(1);
    let mut entries = Entries {
        order: (0..anomalies * schedule.repeats).collect(),
        next: usize::MAX,
        turn: 0,
    };
    order
        .chunks(normal)
        .map(|chunk| {
            let mut batch = normal_items(chunk);
            batch.extend((0..anomalous).map(|_| entries.draw(rng)));
            batch
        })
        .collect()
}

/// How many batches [`batches`] makes.
pub(super) fn count(schedule: &ScheduleConfig, normals: usize, anomalies: usize) -> usize {
    normals.div_ceil(normals_of_batch(schedule, anomalies))
}

/// Normal images of a full batch.
fn normals_of_batch(schedule: &ScheduleConfig, anomalies: usize) -> usize {
    if anomalies == 0 {
        return schedule.batch;
    }
    let normal = (schedule.batch as f64 * schedule.normal_share).round() as usize;
    normal.clamp(1, schedule.batch.saturating_sub(1).max(1))
}

/// The list of anomalous images, gone through again and again in a new order each time.
struct Entries {
    order: Vec<usize>,
    next: usize,
    turn: usize,
}

impl Entries {
    fn draw(&mut self, rng: &mut ChaCha8Rng) -> Item {
        if self.next >= self.order.len() {
            self.turn += usize::from(self.next != usize::MAX);
            self.order.shuffle(rng);
            self.next = 0;
        }
        self.next += 1;
        Item::Anomaly {
            entry: self.order[self.next - 1],
            turn: self.turn,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::bgad::BgadConfig;
    use crate::train::stream_rng;

    #[test]
    fn every_normal_image_once_and_two_thirds_of_a_batch() {
        let schedule = BgadConfig::bgad().schedule;
        let plan = batches(&schedule, 100, 3, &mut stream_rng(0, "plan"));
        let mut normals: Vec<usize> = plan
            .iter()
            .flatten()
            .filter_map(|item| match item {
                Item::Normal(image) => Some(*image),
                Item::Anomaly { .. } => None,
            })
            .collect();
        normals.sort_unstable();
        assert_eq!(normals, (0..100).collect::<Vec<_>>());
        let anomalous = |batch: &[Item]| {
            let is = |item: &&Item| matches!(item, Item::Anomaly { .. });
            batch.iter().filter(is).count()
        };
        assert_eq!((plan[0].len(), anomalous(&plan[0])), (32, 11));
        assert_eq!(plan.len(), 5);
        assert_eq!(count(&schedule, 100, 3), 5);
        assert_eq!(
            count(&schedule, 100, 0),
            batches(&schedule, 100, 0, &mut stream_rng(0, "plan")).len()
        );
        // 55 draws from 30 entries: each once before any comes again, and no draw twice.
        let mut draws: Vec<(usize, usize)> = plan
            .iter()
            .flatten()
            .filter_map(|item| match *item {
                Item::Anomaly { entry, turn } => Some((turn, entry)),
                Item::Normal(_) => None,
            })
            .collect();
        assert_eq!(draws.len(), 55);
        assert!(draws[..30].iter().all(|&(turn, _)| turn == 0));
        draws.sort_unstable();
        draws.dedup();
        assert_eq!(draws.len(), 55);
    }

    #[test]
    fn small_batches_still_hold_both_kinds() {
        let mut schedule = BgadConfig::bgad().schedule;
        for batch in 1..4 {
            schedule.batch = batch;
            for items in batches(&schedule, 5, 1, &mut stream_rng(0, "plan")) {
                assert!(matches!(items[0], Item::Normal(_)));
                assert!(matches!(items[items.len() - 1], Item::Anomaly { .. }));
            }
        }
    }
}
