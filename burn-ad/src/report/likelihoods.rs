//! How far log-likelihoods tell normal vectors from anomalous ones, and classes from one another: for
//! methods that have likelihoods (HGAD, figure 1).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::histogram::short;
use super::html::escape;
use crate::error::Result;
use crate::metrics::auroc;

const BINS: usize = 32;
/// Shares of normal and of anomalous vectors that the first bin takes in, whatever their value: tails
/// are long.
const TAILS: [f64; 2] = [0.002, 0.05];
/// Beyond this number of classes distances are in the JSON file alone.
const CLASSES_SHOWN: usize = 30;

/// What a likelihood model says about test images.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Likelihoods {
    /// One entry a class and map size.
    pub histograms: Vec<ClassHistogram>,
    /// Distances between class centres, one entry a map size; empty for methods without classes.
    pub centres: Vec<CentreDistances>,
}

/// Log-likelihoods a dimension of one class's vectors.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassHistogram {
    /// The product.
    pub class: String,
    /// Rows and columns of the feature map.
    pub grid: [usize; 2],
    /// Lower edge of the first bin, which also holds everything below.
    pub low: f64,
    /// Upper edge of the last bin, the largest value.
    pub high: f64,
    /// Vectors in each bin whose cell shows no anomalous pixel.
    pub normal: Vec<u64>,
    /// Vectors in each bin whose cell shows one or more.
    pub anomalous: Vec<u64>,
    /// Mean of each group; `null` where there is none.
    pub normal_mean: Option<f64>,
    /// See [`normal_mean`](Self::normal_mean).
    pub anomalous_mean: Option<f64>,
    /// AUROC of the negative log-likelihood over vectors; `null` unless there are both.
    pub auroc: Option<f64>,
}

/// Distances between the centres of classes in a flow's latent space.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CentreDistances {
    /// Rows and columns of the feature map.
    pub grid: [usize; 2],
    /// Names, in the order of the matrix.
    pub classes: Vec<String>,
    /// Euclidean, `classes x classes`, in standard deviations of the latent Gaussians.
    pub distances: Vec<Vec<f32>>,
}

/// Collects vectors while images are scored.
#[derive(Clone, Debug, Default)]
pub struct Collector {
    groups: BTreeMap<(String, usize), Group>,
}

#[derive(Clone, Debug, Default)]
struct Group {
    grid: [usize; 2],
    values: Vec<f32>,
    anomalous: Vec<bool>,
}

impl Collector {
    /// Adds one map of an image: `scale` is its place among the image's maps, `values` are row-major
    /// over `grid`, `mask` and `shown` say which pixels of the `size` x `size` input are anomalous and
    /// which show picture. Cells without picture are left out.
    ///
    /// # Panics
    /// If a slice does not have the size it should have.
    pub fn add(
        &mut self,
        class: &str,
        scale: usize,
        (grid, values): ([usize; 2], &[f32]),
        mask: Option<&[bool]>,
        shown: &[bool],
    ) {
        let [rows, columns] = grid;
        assert_eq!(values.len(), rows * columns, "one value a cell");
        let size = shown.len().isqrt();
        assert!(
            size * size == shown.len() && mask.is_none_or(|mask| mask.len() == shown.len()),
            "square inputs"
        );
        let group = self.groups.entry((class.to_owned(), scale)).or_default();
        group.grid = grid;
        let anomalous = mask.map(|mask| cells(mask, size, grid));
        let shown = cells(shown, size, grid);
        for (cell, &value) in values.iter().enumerate() {
            if shown[cell] && !value.is_nan() {
                group.values.push(value);
                let anomalous = anomalous.as_ref().is_some_and(|cells| cells[cell]);
                group.anomalous.push(anomalous);
            }
        }
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The histograms, by class and then by size of map.
    ///
    /// # Errors
    /// Never, as NaNs are left out; the signature is that of the metrics.
    pub fn finish(self) -> Result<Vec<ClassHistogram>> {
        let groups = self.groups.into_iter();
        let groups = groups.filter(|(_, group)| !group.values.is_empty());
        groups
            .map(|((class, _), group)| group.histogram(class))
            .collect()
    }
}

/// Whether any pixel of a cell is set.
fn cells(pixels: &[bool], size: usize, [rows, columns]: [usize; 2]) -> Vec<bool> {
    let mut cells = vec![false; rows * columns];
    for (row, pixels) in pixels.chunks_exact(size).enumerate() {
        for (column, _) in pixels.iter().enumerate().filter(|(_, set)| **set) {
            cells[row * rows / size * columns + column * columns / size] = true;
        }
    }
    cells
}

impl Group {
    fn histogram(self, class: String) -> Result<ClassHistogram> {
        let of = |wanted: bool| {
            let all = self.values.iter().zip(&self.anomalous);
            let mut values: Vec<f32> = all
                .filter(|(_, anomalous)| **anomalous == wanted)
                .map(|(value, _)| *value)
                .collect();
            values.sort_by(f32::total_cmp);
            values
        };
        let (normal, anomalous) = (of(false), of(true));
        let quantile = |values: &[f32], share: f64| {
            let place = (values.len() as f64 * share) as usize;
            values.get(place).map(|&value| f64::from(value))
        };
        let lows = [quantile(&normal, TAILS[0]), quantile(&anomalous, TAILS[1])];
        let highs = [normal.last(), anomalous.last()];
        let low = lows.into_iter().flatten().fold(f64::INFINITY, f64::min);
        let high = highs.into_iter().flatten().copied().map(f64::from);
        let high = high.fold(f64::NEG_INFINITY, f64::max);
        let bins = |values: &[f32]| {
            let mut bins = vec![0; BINS];
            for &value in values {
                let share = (f64::from(value) - low) / (high - low).max(f64::MIN_POSITIVE);
                bins[((share * BINS as f64) as usize).min(BINS - 1)] += 1;
            }
            bins
        };
        let mean = |values: &[f32]| {
            let sum: f64 = values.iter().map(|&value| f64::from(value)).sum();
            (!values.is_empty()).then(|| sum / values.len() as f64)
        };
        let scores: Vec<f32> = self.values.iter().map(|value| -value).collect();
        Ok(ClassHistogram {
            class,
            grid: self.grid,
            low,
            high,
            normal: bins(&normal),
            anomalous: bins(&anomalous),
            normal_mean: mean(&normal),
            anomalous_mean: mean(&anomalous),
            auroc: auroc(&scores, &self.anomalous)?,
        })
    }
}

impl Likelihoods {
    /// The pictures as HTML.
    pub(super) fn section(&self) -> String {
        let mut page = String::from(
            "<section><h2>Log-likelihoods</h2><p>Of the test images' feature vectors under their product, a dimension; \
             each group's bars add up to one. <span class=\"key normal\"></span>cells without an anomalous pixel\
             <span class=\"key anomalous\"></span>cells with one or more</p><div class=\"small\">",
        );
        for histogram in &self.histograms {
            page.push_str(&histogram.figure());
        }
        page.push_str("</div>");
        let shown = |centres: &&CentreDistances| centres.classes.len() <= CLASSES_SHOWN;
        if self.centres.iter().any(|centres| shown(&centres)) {
            page.push_str(
                "<h2>Distances of the products' centres</h2><p>In standard deviations of the latent Gaussians; \
                 products that lie close are easily taken for one another.</p><div class=\"small\">",
            );
            for centres in self.centres.iter().filter(shown) {
                page.push_str(&centres.figure());
            }
            page.push_str("</div>");
        }
        page.push_str("</section>\n");
        page
    }
}

const WIDTH: f64 = 256.0;
const HEIGHT: f64 = 96.0;

impl ClassHistogram {
    fn figure(&self) -> String {
        let [rows, columns] = self.grid;
        let auroc = self
            .auroc
            .map_or_else(String::new, |auroc| format!(", AUROC {auroc:.3}"));
        let mut svg = format!(
            r#"<figure><figcaption>{}, {rows} x {columns}{auroc}</figcaption><svg class="histogram" viewBox="0 0 {} {}" role="img"><title>Log-likelihoods of {} normal and {} anomalous vectors</title>"#,
            escape(&self.class),
            WIDTH + 40.0,
            HEIGHT + 26.0,
            self.normal.iter().sum::<u64>(),
            self.anomalous.iter().sum::<u64>(),
        );
        let groups = [("normal", &self.normal), ("anomalous", &self.anomalous)];
        let shares = groups.map(|(_, bins)| {
            let total = bins.iter().sum::<u64>().max(1) as f64;
            bins.iter()
                .map(|&count| count as f64 / total)
                .collect::<Vec<_>>()
        });
        let tallest = shares.iter().flatten().copied().fold(1e-9, f64::max);
        let step = WIDTH / BINS as f64;
        for (group, (name, counts)) in groups.iter().enumerate() {
            for (bin, share) in shares[group].iter().enumerate().filter(|(_, s)| **s > 0.0) {
                let height = HEIGHT * share / tallest;
                let from = self.low + (self.high - self.low) * bin as f64 / BINS as f64;
                let _ = write!(
                    svg,
                    r#"<rect class="{name}" x="{:.2}" y="{:.2}" width="{:.2}" height="{height:.2}"><title>{} {name} from {}</title></rect>"#,
                    20.0 + step * (bin as f64 + 0.06 + 0.44 * group as f64),
                    HEIGHT - height,
                    step * 0.44,
                    counts[bin],
                    short(from),
                );
            }
        }
        let _ = write!(svg, r#"<path class="axis" d="M20 {HEIGHT}h{WIDTH}"/>"#);
        for share in [0.0, 0.5, 1.0] {
            let _ = write!(
                svg,
                r#"<text x="{:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
                20.0 + WIDTH * share,
                HEIGHT + 16.0,
                short(self.low + (self.high - self.low) * share)
            );
        }
        svg.push_str("</svg></figure>");
        svg
    }
}

impl CentreDistances {
    fn figure(&self) -> String {
        let [rows, columns] = self.grid;
        let count = self.classes.len();
        // Names stand left of the rows and, as numbers, above the columns.
        let (left, cell) = (110.0, 34.0);
        let side = cell * count as f64;
        let mut svg = format!(
            r#"<figure><figcaption>{rows} x {columns}</figcaption><svg class="histogram centres" viewBox="0 0 {} {}" role="img"><title>Distances between {count} centres</title>"#,
            left + side,
            cell + side
        );
        let largest = self
            .distances
            .iter()
            .flatten()
            .copied()
            .fold(1e-9, f32::max);
        for (row, (name, distances)) in self.classes.iter().zip(&self.distances).enumerate() {
            let y = cell * (row + 1) as f64;
            let _ = write!(
                svg,
                r#"<text x="{}" y="{:.1}" text-anchor="end">{} {}</text><text x="{:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
                left - 6.0,
                y + cell * 0.6,
                escape(&ending(name)),
                row + 1,
                left + cell * (row as f64 + 0.5),
                cell * 0.7,
                row + 1
            );
            for (column, distance) in distances.iter().enumerate() {
                let x = left + cell * column as f64;
                let _ = write!(
                    svg,
                    r#"<rect class="normal" x="{x:.1}" y="{y:.1}" width="{cell}" height="{cell}" fill-opacity="{:.3}"/><text x="{:.1}" y="{:.1}" text-anchor="middle">{distance:.1}</text>"#,
                    0.6 * distance / largest,
                    x + cell / 2.0,
                    y + cell * 0.6
                );
            }
        }
        svg.push_str("</svg></figure>");
        svg
    }
}

/// The last characters of a long name.
fn ending(name: &str) -> String {
    const SHOWN: usize = 13;
    let length = name.chars().count();
    if length <= SHOWN {
        return name.to_owned();
    }
    let end: String = name.chars().skip(length - SHOWN + 1).collect();
    format!("…{end}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn cells_are_anomalous_where_any_of_their_pixels_is() {
        let mut mask = vec![false; 36];
        mask[6 + 4] = true;
        assert_eq!(
            cells(&mask, 6, [3, 2]),
            [false, true, false, false, false, false]
        );
    }

    #[test]
    fn every_vector_that_shows_picture_is_in_one_bin() {
        let mut collector = Collector::default();
        let mut mask = vec![false; 64];
        mask[0] = true;
        // The right half is filling.
        let shown: Vec<bool> = (0..64).map(|pixel| pixel % 8 < 4).collect();
        let values: Vec<f32> = (0..16).map(|cell| cell as f32).collect();
        collector.add("a", 0, ([4, 4], &values), Some(&mask), &shown);
        collector.add("a", 0, ([4, 4], &[f32::NAN; 16]), None, &shown);
        collector.add("b", 1, ([1, 1], &[2.0]), None, &shown);
        let found = collector.finish().unwrap();
        assert_eq!(found.len(), 2);
        let a = &found[0];
        // Cells 0, 1, 4, 5, 8, 9, 12, 13; the first is anomalous and the least likely.
        assert_eq!(a.anomalous.iter().sum::<u64>(), 1);
        assert_eq!(a.normal.iter().sum::<u64>(), 7);
        assert_eq!((a.low, a.high), (0.0, 13.0));
        assert_eq!((a.auroc, a.anomalous_mean), (Some(1.0), Some(0.0)));
        assert_eq!(a.normal_mean, Some(52.0 / 7.0));
        assert_eq!((found[1].class.as_str(), found[1].auroc), ("b", None));
        assert_eq!(found[1].normal.iter().sum::<u64>(), 1);
    }

    #[test]
    fn pictures_name_everything_and_nothing_leaves_its_place() {
        let nasty = "<script>alert(1)</script>";
        let mut collector = Collector::default();
        let mask = [true, false, true, false];
        collector.add(nasty, 0, ([1, 2], &[1.0, -3.0]), Some(&mask), &[true; 4]);
        let likelihoods = Likelihoods {
            histograms: collector.finish().unwrap(),
            centres: vec![CentreDistances {
                grid: [1, 2],
                classes: vec![nasty.into(), "plate".into()],
                distances: vec![vec![0.0, 5.0], vec![5.0, 0.0]],
            }],
        };
        let page = likelihoods.section();
        assert!(!page.contains("<script") && !page.contains("NaN"));
        for part in ["1 x 2", "plate", ">5.0<", "class=\"anomalous\""] {
            assert!(page.contains(part), "{part}");
        }
        // As many figures as there are, and no matrix for a hundred classes.
        let many = CentreDistances {
            classes: vec![String::new(); 100],
            distances: vec![vec![0.0; 100]; 100],
            grid: [1, 1],
        };
        let page = Likelihoods {
            histograms: Vec::new(),
            centres: vec![many],
        };
        assert!(!page.section().contains("<svg"));
    }
}
