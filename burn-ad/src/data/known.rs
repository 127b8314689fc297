//! Known anomalies: the few defective images that a method may learn from, and the test set without them.
//!
//! Datasets of this field keep every defective image for testing. A method that learns from some of them must be
//! tested on the others, so they are chosen here, in one place, from the seed of the run alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::sample::{Dataset, ImageSource, Sample};
use crate::error::{Error, Result};
use crate::train::indices_by_seed;

/// How many anomalies are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KnownCount {
    /// This many in total: as many of each kind as go evenly, the remainder drawn from all that is left.
    Total(usize),
    /// This many of each kind.
    PerKind(usize),
}

impl KnownCount {
    /// Whether nothing is known.
    pub fn is_none(self) -> bool {
        matches!(self, Self::Total(0) | Self::PerKind(0))
    }
}

/// Some of the kinds of defect of a dataset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kinds {
    /// All of them.
    #[default]
    All,
    /// These.
    Only(Vec<String>),
    /// All but these.
    Except(Vec<String>),
}

impl Kinds {
    /// Whether `kind` is one of them; `crack` is that of every product, `bottle/crack` that of one.
    pub fn contains(&self, kind: &str) -> bool {
        let listed = |kinds: &[String]| kinds.iter().any(|name| is_named(kind, name));
        match self {
            Self::All => true,
            Self::Only(kinds) => listed(kinds),
            Self::Except(kinds) => !listed(kinds),
        }
    }

    /// # Errors
    /// When a kind is listed that no anomalous test image has; the message names those that exist.
    pub fn check(&self, dataset: &Dataset) -> Result<()> {
        let (Self::Only(kinds) | Self::Except(kinds)) = self else {
            return Ok(());
        };
        let known = anomalous_kinds(dataset);
        let exists = |name: &&String| known.iter().any(|kind| is_named(kind, name));
        match kinds.iter().find(|name| !exists(name)) {
            None => Ok(()),
            Some(kind) => {
                let known: Vec<String> = known.into_iter().collect();
                let error = Error::usage(format!("there is no kind of anomaly '{kind}'"));
                Err(error.help(format!("the kinds are {}", known.join(", "))))
            }
        }
    }

    /// The test set with anomalous images of these kinds alone; normal images stay.
    ///
    /// # Errors
    /// Those of [`check`](Self::check).
    pub fn tested(&self, mut dataset: Dataset) -> Result<Dataset> {
        self.check(&dataset)?;
        dataset
            .test
            .retain(|sample| !sample.label.is_anomalous() || self.contains(&sample.kind));
        Ok(dataset)
    }
}

/// Whether `name` is a kind, or its part behind the product.
fn is_named(kind: &str, name: &str) -> bool {
    kind == name || kind.rsplit_once('/').is_some_and(|(_, own)| own == name)
}

/// The kinds of the anomalous test images.
pub fn anomalous_kinds(dataset: &Dataset) -> BTreeSet<String> {
    let anomalous = dataset.test.iter().filter(|s| s.label.is_anomalous());
    anomalous.map(|sample| sample.kind.clone()).collect()
}

/// Which anomalies are known.
///
/// In a file: `count = { total = 10 }` or `{ per-kind = 5 }`, `kinds = "all"`, `{ only = ["crack"] }` or
/// `{ except = ["crack"] }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct KnownAnomalies {
    /// How many.
    pub count: KnownCount,
    /// The kinds they are drawn from.
    pub kinds: Kinds,
}

/// Nothing is known.
impl Default for KnownAnomalies {
    fn default() -> Self {
        Self {
            count: KnownCount::Total(0),
            kinds: Kinds::All,
        }
    }
}

/// A dataset taken apart.
#[derive(Clone, Debug, Default)]
pub struct KnownSplit {
    /// The known anomalies, each with a mask, sorted by name.
    pub known: Vec<Sample>,
    /// The dataset whose test images are all the others.
    pub dataset: Dataset,
    /// Anomalous images that could not be chosen because nobody drew their mask.
    pub without_mask: usize,
}

impl KnownAnomalies {
    /// Chooses among the anomalous test images that have a mask.
    ///
    /// The choice depends on the images' names, the kinds and the seed, not on the order of the images. What is
    /// chosen evenly from a kind does not depend on the other kinds, and grows with the count.
    ///
    /// # Errors
    /// When a kind does not exist, or there are fewer images than asked for; the message says how many there are.
    pub fn choose(&self, dataset: &Dataset, seed: u64) -> Result<KnownSplit> {
        self.kinds.check(dataset)?;
        let mut split = KnownSplit::default();
        if self.count.is_none() {
            split.dataset = dataset.clone();
            return Ok(split);
        }
        let mut queues: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, sample) in dataset.test.iter().enumerate() {
            if !sample.label.is_anomalous() || !self.kinds.contains(&sample.kind) {
                continue;
            }
            let queue = queues.entry(&sample.kind).or_default();
            if sample.mask.is_some() {
                queue.push(index);
            } else {
                split.without_mask += 1;
            }
        }
        let name = |index: usize| dataset.test[index].image.name();
        for (kind, queue) in &mut queues {
            queue.sort_by_key(|&index| name(index));
            let order = indices_by_seed(queue.len(), seed, &format!("known anomalies {kind}"));
            *queue = order.into_iter().map(|place| queue[place]).collect();
        }
        let chosen = match self.count {
            KnownCount::PerKind(count) => per_kind(&queues, count, split.without_mask)?,
            KnownCount::Total(count) => {
                let (even, mut rest) = total(queues, count, split.without_mask)?;
                rest.sort_by_key(|&index| name(index));
                let order = indices_by_seed(rest.len(), seed, "known anomalies, remainder");
                let more = count - even.len();
                let drawn = order.into_iter().take(more).map(|place| rest[place]);
                even.iter().copied().chain(drawn).collect()
            }
        };
        let chosen: BTreeSet<usize> = chosen.into_iter().collect();
        split.dataset = Dataset {
            name: dataset.name.clone(),
            train: dataset.train.clone(),
            test: Vec::with_capacity(dataset.test.len()),
        };
        for (index, sample) in dataset.test.iter().enumerate() {
            let side = match chosen.contains(&index) {
                true => &mut split.known,
                false => &mut split.dataset.test,
            };
            side.push(sample.clone());
        }
        split
            .known
            .sort_by_cached_key(|sample| sample.image.name().into_owned());
        Ok(split)
    }
}

/// The first `count` of every queue.
fn per_kind(
    queues: &BTreeMap<&str, Vec<usize>>,
    count: usize,
    without_mask: usize,
) -> Result<Vec<usize>> {
    let short: Vec<String> = queues
        .iter()
        .filter(|(_, queue)| queue.len() < count)
        .map(|(kind, queue)| format!("{kind} has {}", queue.len()))
        .collect();
    if !short.is_empty() || queues.is_empty() {
        return Err(too_few(
            format!("there are not {count} anomalous images of each kind with a mask"),
            &short,
            without_mask,
        ));
    }
    Ok(queues
        .values()
        .flat_map(|queue| queue[..count].to_vec())
        .collect())
}

/// The even share of every queue, and all that is left.
fn total(
    queues: BTreeMap<&str, Vec<usize>>,
    count: usize,
    without_mask: usize,
) -> Result<(Vec<usize>, Vec<usize>)> {
    let available: usize = queues.values().map(Vec::len).sum();
    if available < count {
        return Err(too_few(
            format!("there are {available} anomalous images with a mask, not {count}"),
            &[],
            without_mask,
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

fn too_few(what: String, short: &[String], without_mask: usize) -> Error {
    let mut message = what;
    if !short.is_empty() {
        message += &format!(": {}", short.join(", "));
    }
    if without_mask > 0 {
        message += &format!(" ({without_mask} more have no mask)");
    }
    Error::usage(message).help("ask for fewer, or for other kinds")
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
        ImageSource::Memory { name, .. } => name.clone(),
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
