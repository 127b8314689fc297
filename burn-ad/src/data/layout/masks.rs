//! Which mask belongs to which image.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::files::stem;

/// Mask files, found by kind of defect and stem.
#[derive(Debug, Default)]
pub(super) struct Masks {
    /// By lower-case kind (`None` where the masks of all kinds lie together) and stem.
    files: BTreeMap<(Option<String>, String), PathBuf>,
    used: BTreeSet<PathBuf>,
    /// Second files for the same place.
    surplus: Vec<PathBuf>,
}

impl Masks {
    /// Adds the masks of one folder; `kind` where the folder belongs to one kind of defect.
    pub(super) fn add(&mut self, kind: Option<&str>, paths: Vec<PathBuf>) {
        for path in paths {
            let key = (kind.map(str::to_lowercase), stem(&path));
            match self.files.entry(key) {
                Entry::Vacant(place) => {
                    place.insert(path);
                }
                Entry::Occupied(_) => self.surplus.push(path),
            }
        }
    }

    /// The mask of an image: `<stem>_mask` before `<stem>`, the kind's own folder first.
    pub(super) fn find(&mut self, kind: &str, stem: &str) -> Option<PathBuf> {
        let kind = Some(kind.to_lowercase());
        let found = [kind, None].into_iter().find_map(|kind| {
            [format!("{stem}_mask"), stem.to_owned()]
                .into_iter()
                .find_map(|stem| self.files.get(&(kind.clone(), stem)))
        })?;
        self.used.insert(found.clone());
        Some(found.clone())
    }

    /// Files that no image asked for.
    pub(super) fn unused(self) -> Vec<PathBuf> {
        let Self {
            files,
            used,
            surplus,
        } = self;
        files
            .into_values()
            .filter(|path| !used.contains(path))
            .chain(surplus)
            .collect()
    }
}
