//! Known anomalies: the few defective images that a method may learn from, and the test set without them.
//!
//! Most datasets of this field keep every defective image for testing. A method that learns from some of them must be
//! tested on the others, so they are chosen here, in one place, from the seed of the run alone. Where a dataset has
//! anomalous images on its training side ([`Dataset::pool`]), they are chosen from those and every test image stays.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::kinds::Kinds;
use super::sample::{Dataset, ImageSource, Sample};
use crate::error::{Error, Result};
use crate::train::indices_by_seed;

/// How many anomalies are known.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KnownCount {
    /// This many in total: as many of each kind as go evenly, the remainder drawn from all that is left.
    Total(usize),
    /// This many of each kind.
    PerKind(usize),
    /// So many in total that they are this share of normal training images and known anomalies together, in `[0, 1)`:
    /// `round(n / (1 - share) - n)` beside `n` normal images (CKAAD's ratio of known anomalies).
    Share(f64),
}

impl KnownCount {
    /// Whether nothing is known.
    pub fn is_none(self) -> bool {
        matches!(self, Self::Total(0) | Self::PerKind(0)) || self == Self::Share(0.0)
    }

    /// With a share turned into a total.
    fn beside(self, normal: usize) -> Self {
        match self {
            Self::Share(share) => {
                let normal = normal as f64;
                Self::Total((normal / (1.0 - share) - normal).round() as usize)
            }
            count => count,
        }
    }
}

/// Which anomalies are known.
///
/// In a file: `count = { total = 10 }`, `{ per-kind = 5 }` or `{ share = 0.05 }`, `kinds = "all"`,
/// `{ only = ["crack"] }` or `{ except = ["crack"] }`, `draw = 3`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct KnownAnomalies {
    /// How many.
    pub count: KnownCount,
    /// The kinds they are drawn from.
    pub kinds: Kinds,
    /// Where given, they come from this many of those kinds, which are drawn by the seed; fewer are among more.
    #[serde(default)]
    pub draw: Option<usize>,
}

/// Nothing is known.
impl Default for KnownAnomalies {
    fn default() -> Self {
        Self {
            count: KnownCount::Total(0),
            kinds: Kinds::All,
            draw: None,
        }
    }
}

/// A dataset taken apart.
#[derive(Clone, Debug, Default)]
pub struct KnownSplit {
    /// The known anomalies, sorted by name; each with a mask where masks were asked for.
    pub known: Vec<Sample>,
    /// The dataset without them.
    pub dataset: Dataset,
    /// Anomalous images that could not be chosen because nobody drew their mask.
    pub without_mask: usize,
    /// Anomalous images that train as normal ones, where [`contaminate`](super::contaminate) has put them before; sorted
    /// by name.
    pub contamination: Vec<Sample>,
}

/// The images that known anomalies are chosen from.
fn learnable(dataset: &Dataset) -> &[Sample] {
    if dataset.pool.is_empty() {
        &dataset.test
    } else {
        &dataset.pool
    }
}

/// The kinds of anomaly that can be learnt from: those of the pool, else those of the test images.
pub fn learnable_kinds(dataset: &Dataset) -> BTreeSet<String> {
    let anomalous = learnable(dataset).iter().filter(|s| s.label.is_anomalous());
    anomalous.map(|sample| sample.kind.clone()).collect()
}

impl KnownAnomalies {
    /// # Errors
    /// When a share or a number of kinds is not possible.
    pub fn validate(&self) -> Result<()> {
        match (self.count, self.draw) {
            (KnownCount::Share(share), _) if !(0.0..1.0).contains(&share) => Err(Error::usage(
                format!("known anomalies cannot be a share of {share} of the training images"),
            )
            .help("give a number from 0 up to but not 1, for instance 0.05")),
            (_, Some(0)) => Err(Error::usage("known anomalies cannot come from 0 kinds")
                .help("draw at least 1 kind, or ask for no anomalies")),
            _ => Ok(()),
        }
    }

    /// Chooses among the anomalous images of the pool, or where there is none among those that are tested; with
    /// `needs_masks` among those that have a mask.
    ///
    /// The choice depends on the images' names, the kinds and the seed, not on the order of the images. What is
    /// chosen evenly from a kind does not depend on the other kinds, and grows with the count.
    ///
    /// # Errors
    /// When a kind does not exist, a share or a number of kinds is not possible, or there are fewer images or kinds
    /// than asked for; the message says how many there are.
    pub fn choose(&self, dataset: &Dataset, seed: u64, needs_masks: bool) -> Result<KnownSplit> {
        self.validate()?;
        self.kinds.check(dataset)?;
        let mut split = KnownSplit {
            dataset: dataset.clone(),
            ..KnownSplit::default()
        };
        if self.count.is_none() {
            return Ok(split);
        }
        let source = learnable(dataset);
        let mut queues: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, sample) in source.iter().enumerate() {
            if !sample.label.is_anomalous() || !self.kinds.contains(&sample.kind) {
                continue;
            }
            let queue = queues.entry(&sample.kind).or_default();
            if sample.mask.is_some() || !needs_masks {
                queue.push(index);
            } else {
                split.without_mask += 1;
            }
        }
        self.draw_kinds(&mut queues, seed)?;
        let by_name = |queue: &mut Vec<usize>| {
            queue.sort_by_cached_key(|&index| source[index].image.name().into_owned());
        };
        for (kind, queue) in &mut queues {
            by_name(queue);
            let order = indices_by_seed(queue.len(), seed, &format!("known anomalies {kind}"));
            *queue = order.into_iter().map(|place| queue[place]).collect();
        }
        let supply = Supply {
            needs_masks,
            without_mask: split.without_mask,
        };
        let chosen = match self.count.beside(dataset.train.len()) {
            KnownCount::PerKind(count) => supply.per_kind(&queues, count)?,
            KnownCount::Total(count) => {
                let (even, mut rest) = supply.total(queues, count)?;
                by_name(&mut rest);
                let order = indices_by_seed(rest.len(), seed, "known anomalies, remainder");
                let more = count - even.len();
                let drawn = order.into_iter().take(more).map(|place| rest[place]);
                even.iter().copied().chain(drawn).collect()
            }
            // Turned into a total.
            KnownCount::Share(_) => Vec::new(),
        };
        let chosen: BTreeSet<usize> = chosen.into_iter().collect();
        let side = match dataset.pool.is_empty() {
            true => &mut split.dataset.test,
            false => &mut split.dataset.pool,
        };
        for (index, sample) in std::mem::take(side).into_iter().enumerate() {
            match chosen.contains(&index) {
                true => split.known.push(sample),
                false => side.push(sample),
            }
        }
        split
            .known
            .sort_by_cached_key(|sample| sample.image.name().into_owned());
        Ok(split)
    }

    /// Leaves as many kinds as are to be drawn, of those that have an image.
    fn draw_kinds(&self, queues: &mut BTreeMap<&str, Vec<usize>>, seed: u64) -> Result<()> {
        let Some(draw) = self.draw else { return Ok(()) };
        queues.retain(|_, queue| !queue.is_empty());
        let names: Vec<&str> = queues.keys().copied().collect();
        if draw > names.len() {
            let message = format!(
                "there are {} kinds of anomaly to draw from, not {draw}",
                names.len()
            );
            return Err(Error::usage(message).help(format!("they are {}", names.join(", "))));
        }
        let order = indices_by_seed(names.len(), seed, "known kinds");
        let drawn: BTreeSet<&str> = order[..draw].iter().map(|&place| names[place]).collect();
        queues.retain(|kind, _| drawn.contains(kind));
        Ok(())
    }
}

/// What can be chosen, for the errors.
struct Supply {
    needs_masks: bool,
    without_mask: usize,
}

impl Supply {
    /// The first `count` of every queue.
    fn per_kind(&self, queues: &BTreeMap<&str, Vec<usize>>, count: usize) -> Result<Vec<usize>> {
        let short: Vec<String> = queues
            .iter()
            .filter(|(_, queue)| queue.len() < count)
            .map(|(kind, queue)| format!("{kind} has {}", queue.len()))
            .collect();
        if !short.is_empty() || queues.is_empty() {
            return Err(self.too_few(
                format!(
                    "there are not {count} anomalous images of each kind{}",
                    self.masked()
                ),
                &short,
            ));
        }
        Ok(queues
            .values()
            .flat_map(|queue| queue[..count].to_vec())
            .collect())
    }

    /// The even share of every queue, and all that is left.
    fn total(
        &self,
        queues: BTreeMap<&str, Vec<usize>>,
        count: usize,
    ) -> Result<(Vec<usize>, Vec<usize>)> {
        let available: usize = queues.values().map(Vec::len).sum();
        if available < count {
            return Err(self.too_few(
                format!(
                    "there are {available} anomalous images{}, not {count}",
                    self.masked()
                ),
                &[],
            ));
        }
        let share = count / queues.len().max(1);
        let (mut even, mut rest) = (Vec::new(), Vec::new());
        for mut queue in queues.into_values() {
            let left = queue.split_off(share.min(queue.len()));
            even.extend(queue);
            rest.extend(left);
        }
        Ok((even, rest))
    }

    fn masked(&self) -> &'static str {
        match self.needs_masks {
            true => " with a mask",
            false => "",
        }
    }

    fn too_few(&self, what: String, short: &[String]) -> Error {
        let mut message = what;
        if !short.is_empty() {
            message += &format!(": {}", short.join(", "));
        }
        if self.without_mask > 0 {
            message += &format!(" ({} more have no mask)", self.without_mask);
        }
        Error::usage(message).help("ask for fewer, or for other kinds")
    }
}

/// A sample's name below the dataset's folder, with `/` between folders: the same wherever the dataset lies.
pub fn relative_name(sample: &Sample, root: &Path) -> String {
    match &sample.image {
        ImageSource::File(path) => {
            let below = path.strip_prefix(root).unwrap_or(path);
            let parts = below
                .components()
                .map(|part| part.as_os_str().to_string_lossy());
            parts.collect::<Vec<_>>().join("/")
        }
        ImageSource::Memory { .. } | ImageSource::Packed(_) => sample.image.name().into_owned(),
    }
}

/// Leaves the test images with these [relative names](relative_name) out; how many there were.
pub fn leave_out(dataset: &mut Dataset, root: &Path, names: &[String]) -> usize {
    let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let before = dataset.test.len();
    dataset
        .test
        .retain(|sample| !names.contains(relative_name(sample, root).as_str()));
    before - dataset.test.len()
}

#[cfg(test)]
#[path = "known_tests.rs"]
mod tests;
