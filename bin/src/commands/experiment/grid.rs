//! The grid of an experiment: every variant with every value of every axis.

use std::collections::BTreeSet;

use burn_ad::data::{Kinds, KnownCount};
use burn_ad::{Error, Result};

use super::axes::{Axis, Variant, over, short};
use crate::settings::Override;

/// Which kinds of anomaly are learnt from, and which are tested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Split {
    /// Learnt from as the settings say; all are tested.
    General,
    /// Learnt from one, tested on the others; each in turn.
    OneClass(Vec<String>),
    /// Learnt from one, all are tested; each in turn.
    EachKind(Vec<String>),
    /// Learnt from all others, tested on these.
    Unseen(Vec<String>),
}

/// One row of the results.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct GridCell {
    /// One text an axis.
    pub(super) labels: Vec<String>,
    /// Settings of the variant and of the axes.
    pub(super) sets: Vec<Override>,
    /// How many anomalies are known, where an axis says so.
    pub(super) count: Option<KnownCount>,
    /// How many kinds are drawn, where an axis says so.
    pub(super) draw: Option<usize>,
    /// The kinds they are drawn from, where the split says so.
    pub(super) drawn: Option<Kinds>,
    /// The kinds that are tested.
    pub(super) tested: Kinds,
}

/// A mean over rows, shown below the last of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mean {
    /// Ascending.
    pub(super) cells: Vec<usize>,
    pub(super) labels: Vec<String>,
}

/// All rows, and what they are told apart by.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Grid {
    pub(super) axes: Vec<String>,
    pub(super) cells: Vec<GridCell>,
    /// Means over the kinds that are learnt from in turn, and over normal classes.
    pub(super) means: Vec<Mean>,
    /// The axis of normal classes.
    classes: Option<usize>,
}

/// The setting whose values are averaged over.
const NORMAL_CLASS: &str = "data.normal_class";

impl Grid {
    /// The product of all that varies, the last axis fastest.
    pub(super) fn new(
        variants: &[Variant],
        vary: &[Axis],
        counts: &[KnownCount],
        draws: &[usize],
    ) -> Result<Self> {
        let whole = GridCell {
            labels: Vec::new(),
            sets: Vec::new(),
            count: None,
            draw: None,
            drawn: None,
            tested: Kinds::All,
        };
        let (mut axes, mut cells) = (Vec::new(), vec![whole]);
        let varies = !(vary.is_empty() && counts.is_empty() && draws.is_empty());
        if !variants.is_empty() || !varies {
            let plain = [Variant::parse("as given")?];
            let variants = if variants.is_empty() {
                &plain
            } else {
                variants
            };
            axes.push("variant".to_owned());
            cells = product(&cells, variants, |cell, variant| {
                cell.labels.push(variant.name.clone());
                cell.sets.extend(variant.sets.clone());
            });
        }
        let mut classes = None;
        for axis in vary {
            if axis.key == NORMAL_CLASS {
                classes = Some(axes.len());
            }
            let sets: Vec<(String, Override)> = axis
                .values
                .iter()
                .map(|value| {
                    let set = over("--vary", &format!("{}={value}", axis.key))?;
                    Ok((value.clone(), set))
                })
                .collect::<Result<_>>()?;
            axes.push(short(axis, vary));
            cells = product(&cells, &sets, |cell, (value, set)| {
                cell.labels.push(value.clone());
                cell.sets.push(set.clone());
            });
        }
        if !counts.is_empty() {
            axes.push("anomalies".to_owned());
            cells = product(&cells, counts, |cell, &count| {
                cell.labels.push(match count {
                    KnownCount::Total(count) => count.to_string(),
                    KnownCount::PerKind(count) => format!("{count} per kind"),
                    KnownCount::Share(share) => format!("ratio {share}"),
                });
                cell.count = Some(count);
            });
        }
        if !draws.is_empty() {
            axes.push("kinds drawn".to_owned());
            cells = product(&cells, draws, |cell, &draw| {
                cell.labels.push(draw.to_string());
                cell.draw = Some(draw);
            });
        }
        let mut seen = BTreeSet::new();
        if let Some(cell) = cells.iter().find(|cell| !seen.insert(cell.labels.clone())) {
            let name = cell.labels.join(", ");
            return Err(Error::usage(format!("the grid has two rows '{name}'"))
                .help("give variants different names, and each value once"));
        }
        Ok(Self {
            axes,
            cells,
            means: Vec::new(),
            classes,
        })
    }

    /// The same with kinds to learn from and kinds to test, which may differ from row to row.
    ///
    /// # Errors
    /// Those of `split`.
    pub(super) fn with_split(
        mut self,
        mut split: impl FnMut(&GridCell) -> Result<Split>,
    ) -> Result<Self> {
        let mut learnt = None;
        let mut cells = Vec::with_capacity(self.cells.len());
        for mut cell in std::mem::take(&mut self.cells) {
            let split = split(&cell)?;
            match &split {
                Split::General => cells.push(cell),
                Split::Unseen(kinds) => {
                    cell.drawn = Some(Kinds::Except(kinds.clone()));
                    cell.tested = Kinds::Only(kinds.clone());
                    cells.push(cell);
                }
                Split::OneClass(kinds) | Split::EachKind(kinds) => {
                    learnt = Some(self.axes.len());
                    let turns = product(&[cell], kinds, |cell, kind| {
                        cell.labels.push(kind.clone());
                        cell.drawn = Some(Kinds::Only(vec![kind.clone()]));
                        if matches!(split, Split::OneClass(_)) {
                            cell.tested = Kinds::Except(vec![kind.clone()]);
                        }
                    });
                    cells.extend(turns);
                }
            }
        }
        self.cells = cells;
        if learnt.is_some() {
            self.axes.push("learnt kind".to_owned());
        }
        let over_kinds: Vec<usize> = learnt.into_iter().collect();
        self.add_means(&over_kinds);
        if let Some(classes) = self.classes {
            self.add_means(&[&[classes], over_kinds.as_slice()].concat());
        }
        Ok(self)
    }

    /// A mean over the rows that differ in these axes alone.
    fn add_means(&mut self, axes: &[usize]) {
        if axes.is_empty() {
            return;
        }
        let mut means: Vec<Mean> = Vec::new();
        for (position, cell) in self.cells.iter().enumerate() {
            let mut labels = cell.labels.clone();
            for &axis in axes {
                "(mean)".clone_into(&mut labels[axis]);
            }
            match means.iter_mut().find(|mean| mean.labels == labels) {
                Some(mean) => mean.cells.push(position),
                None => means.push(Mean {
                    cells: vec![position],
                    labels,
                }),
            }
        }
        self.means
            .extend(means.into_iter().filter(|mean| mean.cells.len() > 1));
    }
}

/// Every cell once for every choice.
fn product<T>(
    cells: &[GridCell],
    choices: &[T],
    mut choose: impl FnMut(&mut GridCell, &T),
) -> Vec<GridCell> {
    let mut all = Vec::with_capacity(cells.len() * choices.len());
    for cell in cells {
        for choice in choices {
            let mut cell = cell.clone();
            choose(&mut cell, choice);
            all.push(cell);
        }
    }
    all
}

#[cfg(test)]
#[path = "grid_tests.rs"]
mod tests;
