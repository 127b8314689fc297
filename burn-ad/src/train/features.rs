//! What a frozen backbone computes is computed once.

use std::collections::HashMap;
use std::fs::File;
use std::hash::Hash;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use crate::error::{Error, Result};

/// Features of one image: for each level its vectors, `[positions, channels]` row-major.
pub type Levels = Vec<Vec<f32>>;

const BYTES: usize = size_of::<f32>();

/// Features by key (an image, and which augmented version of it): in memory up to a budget, then in
/// a temporary file that vanishes with the process, however that ends.
#[derive(Debug)]
pub struct FeatureCache<K> {
    entries: HashMap<K, Entry>,
    budget: u64,
    file: Option<File>,
    statistics: CacheStatistics,
}

#[derive(Debug)]
enum Entry {
    Memory(Arc<Levels>),
    Disk { offset: u64, lengths: Vec<usize> },
}

/// How a [`FeatureCache`] fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CacheStatistics {
    /// Times that features were there.
    pub hits: u64,
    /// Times that the backbone had to run.
    pub misses: u64,
    /// Bytes held in memory.
    pub memory_bytes: u64,
    /// Bytes held on disk.
    pub disk_bytes: u64,
}

impl CacheStatistics {
    /// Share of uses for which features were there; 0 before the first.
    pub fn hit_rate(&self) -> f64 {
        match self.hits + self.misses {
            0 => 0.0,
            uses => self.hits as f64 / uses as f64,
        }
    }
}

impl<K: Hash + Eq> FeatureCache<K> {
    /// An empty cache that holds at most `budget` bytes in memory.
    pub fn new(budget: u64) -> Self {
        Self {
            entries: HashMap::new(),
            budget,
            file: None,
            statistics: CacheStatistics::default(),
        }
    }

    /// How it fares so far.
    pub fn statistics(&self) -> CacheStatistics {
        self.statistics
    }

    /// Counts features that were computed and are not worth keeping.
    pub fn count_miss(&mut self) {
        self.statistics.misses += 1;
    }

    /// Whether features are there.
    pub fn contains(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }

    /// Looks features up.
    ///
    /// # Errors
    /// When the temporary file cannot be read.
    pub fn get(&mut self, key: &K) -> Result<Option<Arc<Levels>>> {
        let Some(entry) = self.entries.get(key) else {
            return Ok(None);
        };
        self.statistics.hits += 1;
        match (entry, &mut self.file) {
            (Entry::Memory(levels), _) => Ok(Some(Arc::clone(levels))),
            (Entry::Disk { offset, lengths }, Some(file)) => {
                read(file, *offset, lengths).map(|levels| Some(Arc::new(levels)))
            }
            (Entry::Disk { .. }, None) => unreachable!("an entry on disk has a file"),
        }
    }

    /// Keeps features that were just computed (a miss), and hands them back for use.
    ///
    /// # Errors
    /// When the temporary file cannot be written.
    pub fn insert(&mut self, key: K, levels: Levels) -> Result<Arc<Levels>> {
        self.count_miss();
        let bytes: u64 = levels
            .iter()
            .map(|level| (level.len() * BYTES) as u64)
            .sum();
        let levels = Arc::new(levels);
        let entry = if self.statistics.memory_bytes + bytes <= self.budget {
            self.statistics.memory_bytes += bytes;
            Entry::Memory(Arc::clone(&levels))
        } else {
            let offset = self.spill(&levels)?;
            self.statistics.disk_bytes += bytes;
            Entry::Disk {
                offset,
                lengths: levels.iter().map(Vec::len).collect(),
            }
        };
        self.entries.insert(key, entry);
        Ok(levels)
    }

    /// Appends to the temporary file; where it begins there.
    fn spill(&mut self, levels: &Levels) -> Result<u64> {
        let failed = |error: std::io::Error| {
            Error::io(&error)
                .path(std::env::temp_dir())
                .context("keeping features on disk")
                .help("make room there, or allow more memory with train.feature_memory")
        };
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile().map_err(failed)?),
        };
        let offset = file.seek(SeekFrom::End(0)).map_err(failed)?;
        for level in levels {
            let bytes: Vec<u8> = level.iter().flat_map(|value| value.to_le_bytes()).collect();
            file.write_all(&bytes).map_err(failed)?;
        }
        Ok(offset)
    }
}

fn read(file: &mut File, offset: u64, lengths: &[usize]) -> Result<Levels> {
    file.seek(SeekFrom::Start(offset))?;
    lengths
        .iter()
        .map(|&length| {
            let mut bytes = vec![0u8; length * BYTES];
            file.read_exact(&mut bytes)?;
            let values = bytes.chunks_exact(BYTES);
            Ok(values
                .map(|value| f32::from_le_bytes([value[0], value[1], value[2], value[3]]))
                .collect())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(seed: usize) -> Levels {
        let level = |length: usize| (0..length).map(|i| (i + seed) as f32 * 0.1).collect();
        vec![level(10), level(3)]
    }

    #[test]
    fn memory_then_disk_and_nothing_changes() {
        let bytes = 13 * 4;
        let mut cache = FeatureCache::new(2 * bytes);
        for key in 0..5usize {
            assert!(cache.get(&key).expect("read").is_none());
            cache.insert(key, levels(key)).expect("write");
        }
        for key in [4usize, 0, 3, 1, 2, 4] {
            assert_eq!(*cache.get(&key).expect("read").expect("there"), levels(key));
        }
        let statistics = cache.statistics();
        assert_eq!((statistics.hits, statistics.misses), (6, 5));
        assert_eq!(statistics.memory_bytes, 2 * bytes);
        assert_eq!(statistics.disk_bytes, 3 * bytes);
        assert!((statistics.hit_rate() - 6.0 / 11.0).abs() < 1e-12);
    }
}
