//! Connected regions of the ground truth.

use std::ops::Range;

use super::score_map::ScoreMap;

/// A stretch of anomalous pixels within one row, as flat indices.
pub(super) struct Run {
    pub(super) pixels: Range<usize>,
    /// Index into [`Regions::sizes`].
    pub(super) region: usize,
}

/// The anomalous pixels of one map: runs row by row, and how many pixels each region has.
pub(super) struct Regions {
    pub(super) runs: Vec<Run>,
    pub(super) sizes: Vec<u64>,
}

/// Finds the 8-connected regions of the anomalous pixels that count; regions are numbered in the order of their
/// first pixel. Union-find over runs: memory and time beyond the scan follow the outline, not the area.
pub(super) fn regions(map: &ScoreMap<'_>) -> Regions {
    let width = map.width;
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut parents: Vec<usize> = Vec::new();
    let mut above = 0..0; // the runs of the row above
    for row in 0..map.height {
        let first = runs.len();
        push_runs(map, row * width..(row + 1) * width, &mut runs);
        parents.extend(first..runs.len());
        let mut candidate = above.start;
        for run in first..runs.len() {
            // Moved down one row, a run above touches if they overlap or meet at a corner.
            while candidate < above.end && runs[candidate].end + width < runs[run].start {
                candidate += 1;
            }
            let mut touching = candidate;
            while touching < above.end && runs[touching].start + width <= runs[run].end {
                union(&mut parents, touching, run);
                touching += 1;
            }
        }
        above = first..runs.len();
    }
    number(runs, &mut parents)
}

/// Appends the runs of one row.
fn push_runs(map: &ScoreMap<'_>, row: Range<usize>, runs: &mut Vec<Range<usize>>) {
    let mut pixel = row.start;
    while let Some(skipped) = map.mask[pixel..row.end].iter().position(|&m| m) {
        let start = pixel + skipped;
        let end = (start..row.end)
            .find(|&i| !map.is_anomalous(i))
            .unwrap_or(row.end);
        if end > start {
            runs.push(start..end);
        }
        pixel = end.max(start + 1); // an anomalous pixel that does not count is an empty run
    }
}

/// Turns trees of runs into numbered regions.
fn number(runs: Vec<Range<usize>>, parents: &mut [usize]) -> Regions {
    let mut sizes: Vec<u64> = Vec::new();
    let mut numbers = vec![0; runs.len()];
    let numbered = (runs.into_iter().enumerate())
        .map(|(run, pixels)| {
            let root = find(parents, run);
            // Roots are the smallest index of their tree: met before any other run of the region.
            if root == run {
                numbers[run] = sizes.len();
                sizes.push(0);
            }
            let region = numbers[root];
            sizes[region] += pixels.len() as u64;
            Run { pixels, region }
        })
        .collect();
    Regions {
        runs: numbered,
        sizes,
    }
}

fn find(parents: &mut [usize], mut run: usize) -> usize {
    while parents[run] != run {
        parents[run] = parents[parents[run]]; // path halving
        run = parents[run];
    }
    run
}

fn union(parents: &mut [usize], a: usize, b: usize) {
    let (a, b) = (find(parents, a), find(parents, b));
    parents[a.max(b)] = a.min(b);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Region sizes of a picture: `#` anomalous, `x` anomalous but not counted, `_` normal and not counted.
    fn sizes(picture: &[&str]) -> Vec<u64> {
        let pixels: Vec<char> = picture.iter().flat_map(|row| row.chars()).collect();
        let mask: Vec<bool> = pixels.iter().map(|c| "#x".contains(*c)).collect();
        let valid: Vec<bool> = pixels.iter().map(|c| "#.".contains(*c)).collect();
        let map = ScoreMap {
            scores: &vec![0.0; mask.len()],
            mask: &mask,
            valid: Some(&valid),
            height: picture.len(),
            width: picture[0].len(),
        };
        let regions = regions(&map);
        let counted: usize = regions.runs.iter().map(|run| run.pixels.len()).sum();
        assert_eq!(counted as u64, regions.sizes.iter().sum::<u64>());
        regions.sizes
    }

    #[test]
    fn diagonals_connect() {
        assert_eq!(sizes(&["#..#", ".##.", "...."]), [4]);
        assert_eq!(sizes(&["..#", ".#.", "#.."]), [3]);
    }

    #[test]
    fn one_empty_row_or_column_separates() {
        assert_eq!(sizes(&["##.#", "....", "###."]), [2, 1, 3]);
    }

    #[test]
    fn rows_do_not_wrap_around() {
        assert_eq!(sizes(&["..#", "#..", "..."]), [1, 1]);
        assert_eq!(sizes(&["...#", "....", "#..."]), [1, 1]);
    }

    #[test]
    fn branches_that_meet_later_are_one_region() {
        assert_eq!(sizes(&["#.#.#", "#.#.#", "#.#.#", "#####"]), [14]);
        assert_eq!(sizes(&["..#..", ".#.#.", "#...#", ".#.#.", "..#.."]), [8]);
    }

    #[test]
    fn pixels_that_do_not_count_leave_their_region() {
        assert_eq!(sizes(&["#x#", "_x_", "xx."]), [1, 1]);
        assert_eq!(sizes(&["x##x#"]), [2, 1]);
    }

    #[test]
    fn empty_pictures_have_no_region() {
        assert!(sizes(&["...", "..."]).is_empty());
        let nothing = ScoreMap {
            scores: &[],
            mask: &[],
            valid: None,
            height: 3,
            width: 0,
        };
        assert!(regions(&nothing).sizes.is_empty());
    }
}
