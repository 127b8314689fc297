//! Pictures of what a model found.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use burn_ad::data::image::decode_mask;
use burn_ad::data::{MaskSource, Sample};
use burn_ad::method::{Calibration, ScoredImage};
use burn_ad::report::overlay::{OverlayStyle, overlay, write_png};
use burn_ad::{Error, Result};

use crate::output::Names;

/// Longest side of one panel, in pixels.
const PANEL: u32 = 512;

/// How many heat maps to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heatmaps {
    /// One for every image.
    All,
    /// None at all.
    None,
    /// This many, spread evenly over the kinds of images.
    Count(usize),
}

impl FromStr for Heatmaps {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            "none" => Ok(Self::None),
            number => number
                .parse()
                .map(Self::Count)
                .map_err(|_| "give all, none, or a number".to_owned()),
        }
    }
}

/// What is the same in all pictures of a model.
pub(crate) fn style(calibration: &Calibration) -> OverlayStyle {
    OverlayStyle {
        range: calibration.display_range.into(),
        threshold: Some(calibration.pixel_threshold),
        max_side: PANEL,
    }
}

/// Draws `image | map | contour` at the image's own resolution.
///
/// # Errors
/// When the image cannot be read again, or the picture cannot be written.
pub(crate) fn overlay_file(
    path: &Path,
    sample: &Sample,
    scored: &ScoredImage,
    style: &OverlayStyle,
) -> Result<()> {
    let image = sample.image.read()?;
    let mask = match &sample.mask {
        None => None,
        Some(MaskSource::File(path)) => Some(decode_mask(path)?),
        Some(MaskSource::Memory(mask)) => Some(mask.as_ref().clone()),
    };
    let mask: Option<Vec<bool>> =
        mask.map(|mask| mask.as_raw().iter().map(|&value| value != 0).collect());
    let map = scored.placement.restore(&scored.map, scored.placement.size);
    if map.len() != image.width() as usize * image.height() as usize {
        return Err(Error::data("the image changed while it was looked at")
            .path(sample.image.name().as_ref()));
    }
    write_png(path, &overlay(&image, &map, mask.as_deref(), style))
}

/// Writes `heatmaps/<kind>/<stem>.png` for the images chosen.
pub(super) struct HeatmapWriter<'a> {
    chosen: HashSet<usize>,
    out: &'a Path,
    style: OverlayStyle,
    names: Names,
    /// Below `out`.
    files: HashMap<usize, PathBuf>,
}

impl<'a> HeatmapWriter<'a> {
    pub(super) fn new(
        heatmaps: Heatmaps,
        samples: &[Sample],
        out: &'a Path,
        style: OverlayStyle,
    ) -> Self {
        Self {
            chosen: choose(heatmaps, samples),
            out,
            style,
            names: Names::default(),
            files: HashMap::new(),
        }
    }

    pub(super) fn write(
        &mut self,
        index: usize,
        sample: &Sample,
        scored: &ScoredImage,
    ) -> Result<()> {
        if !self.chosen.contains(&index) {
            return Ok(());
        }
        let name = sample.image.name();
        let file = Path::new(name.as_ref()).file_name().unwrap_or_default();
        let path = Path::new("heatmaps").join(&sample.kind).join(file);
        let path = self.names.unique(&path, "png");
        overlay_file(&self.out.join(&path), sample, scored, &self.style)?;
        self.files.insert(index, path);
        Ok(())
    }

    /// The picture of an image, relative to the folder of results, with `/`.
    pub(super) fn file_of(&self, index: usize) -> Option<String> {
        let path = self.files.get(&index)?;
        let parts: Vec<_> = path
            .components()
            .map(|part| part.as_os_str().to_string_lossy())
            .collect();
        Some(parts.join("/"))
    }
}

/// One of each kind in turn, until there are enough.
fn choose(heatmaps: Heatmaps, samples: &[Sample]) -> HashSet<usize> {
    let count = match heatmaps {
        Heatmaps::None => 0,
        Heatmaps::All => samples.len(),
        Heatmaps::Count(count) => count,
    };
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut rounds: Vec<(usize, usize)> = samples
        .iter()
        .enumerate()
        .map(|(index, sample)| {
            let before = seen.entry(&sample.kind).or_default();
            *before += 1;
            (*before, index)
        })
        .collect();
    rounds.sort_unstable();
    rounds
        .into_iter()
        .take(count)
        .map(|(_, index)| index)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_ad::data::{ImageSource, Label};

    #[test]
    fn the_number_is_spread_over_the_kinds() {
        let sample = |kind: &str| Sample {
            image: ImageSource::File("x.png".into()),
            label: Label::Normal,
            kind: kind.to_owned(),
            mask: None,
        };
        let samples = ["a", "a", "a", "b", "c", "c"].map(sample);
        let chosen = |heatmaps| {
            let mut chosen: Vec<_> = choose(heatmaps, &samples).into_iter().collect();
            chosen.sort_unstable();
            chosen
        };
        assert_eq!(chosen(Heatmaps::Count(4)), [0, 1, 3, 4]);
        assert_eq!(chosen(Heatmaps::Count(99)).len(), 6);
        assert_eq!(chosen(Heatmaps::All).len(), 6);
        assert!(chosen(Heatmaps::None).is_empty());
    }

    #[test]
    fn a_number_of_heatmaps_is_read() {
        assert_eq!("all".parse(), Ok(Heatmaps::All));
        assert_eq!("0".parse(), Ok(Heatmaps::Count(0)));
        assert!("some".parse::<Heatmaps>().is_err());
    }
}
