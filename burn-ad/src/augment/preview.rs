//! A contact sheet straight from a dataset.

use std::collections::HashMap;

use image::RgbImage;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::contact_sheet::{Row, blank, draw_row};
use super::draws::Draws;
use super::known::Known;
use super::{AugmentConfig, Foreground, pseudo_anomaly};
use crate::data::sample::{Dataset, Sample};
use crate::error::{Error, Result};

/// Makes `rows` pseudo-anomalies from a dataset and puts them on a
/// [`contact_sheet`](super::contact_sheet()).
///
/// Normal images are training images in random order. The sources are test anomalies that have a
/// mask, one kind after the other; for a strategy that needs none, other training images. Where
/// there are fewer than `rows` they come again. A row depends on the seed and its number, not on how
/// many rows there are. Only images that are shown are read.
///
/// # Errors
/// When there is no image to take, one cannot be read, or as [`pseudo_anomaly`].
pub fn preview(
    config: &AugmentConfig,
    foreground: Foreground,
    dataset: &Dataset,
    rows: usize,
    seed: u64,
) -> Result<RgbImage> {
    config.validate()?;
    let (normals, sources) = order(config, dataset, seed)?;
    let mut sheet = blank(rows);
    for row in 0..rows {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // Stream 0 made the order.
        rng.set_stream(1 + row as u64);
        let (normal, _) = Known::load(normals[row % normals.len()])?.into_parts();
        let source = Known::load(sources[row % sources.len()])?;
        let product = foreground.mask(&normal);
        let made = pseudo_anomaly(config, &normal, product.as_ref(), &source, &mut rng)?;
        let cells = Row {
            source: &source,
            normal: &normal,
            made: &made,
        };
        draw_row(&mut sheet, row, &cells);
    }
    Ok(sheet)
}

type Samples<'a> = Vec<&'a Sample>;

/// Normal images and sources, in the order in which rows take them; neither is empty.
fn order<'a>(
    config: &AugmentConfig,
    dataset: &'a Dataset,
    seed: u64,
) -> Result<(Samples<'a>, Samples<'a>)> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut normals: Samples<'_> = dataset.train.iter().collect();
    if normals.is_empty() {
        return Err(Error::data("there is no normal training image"));
    }
    Draws(&mut rng).shuffle(&mut normals);
    let mut sources: Samples<'_>;
    if config.needs_anomaly() {
        let known = |sample: &&Sample| sample.label.is_anomalous() && sample.mask.is_some();
        sources = dataset.test.iter().filter(known).collect();
        Draws(&mut rng).shuffle(&mut sources);
        let mut seen: HashMap<&str, usize> = HashMap::new();
        // The first of every kind, then the second of every kind, ..; stable, so still shuffled.
        sources.sort_by_cached_key(|sample| {
            let count = seen.entry(&sample.kind).or_default();
            *count += 1;
            *count
        });
    } else {
        sources = normals.clone();
        sources.rotate_left(1);
    }
    if sources.is_empty() {
        return Err(Error::data("there is no anomaly with a mask")
            .help("perlin and poisson make pseudo-anomalies of normal images alone"));
    }
    Ok((normals, sources))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::*;
    use crate::data::sample::{ImageSource, Label, MaskSource};
    use image::{GrayImage, Luma, Rgb};

    fn sample(name: &str, kind: &str, masked: bool) -> Sample {
        let level = name.len() as u8 * 20;
        let image = RgbImage::from_fn(30, 20, |x, y| Rgb([level, (x * 5) as u8, (y * 9) as u8]));
        let mask = GrayImage::from_fn(30, 20, |x, y| Luma([u8::from(x > 9 && x < y)]));
        Sample {
            image: ImageSource::Memory {
                name: name.into(),
                image: Arc::new(image),
            },
            label: if kind == "good" {
                Label::Normal
            } else {
                Label::Anomalous
            },
            kind: kind.into(),
            mask: masked.then(|| MaskSource::Memory(Arc::new(mask))),
        }
    }

    fn dataset() -> Dataset {
        let test = [
            ("dent", true),
            ("dent", true),
            ("dent", true),
            ("hole", true),
            ("tear", false),
        ];
        Dataset {
            name: "part".into(),
            train: ["a", "bb", "ccc"]
                .map(|name| sample(name, "good", false))
                .to_vec(),
            test: test
                .map(|(kind, masked)| sample("dddd", kind, masked))
                .to_vec(),
            ..Dataset::default()
        }
    }

    #[test]
    fn a_row_does_not_depend_on_how_many_there_are_but_on_the_seed() {
        let dataset = dataset();
        for name in AugmentConfig::PRESETS {
            let config = AugmentConfig::preset(name).unwrap();
            let sheet =
                |rows, seed| preview(&config, Foreground::Whole, &dataset, rows, seed).unwrap();
            let (two, five) = (sheet(2, 4), sheet(5, 4));
            assert!(five.as_raw().starts_with(two.as_raw()), "{name}");
            assert!(sheet(5, 5) != five, "{name}");
        }
    }

    #[test]
    fn kinds_take_turns_and_anomalies_without_mask_are_left_out() {
        let dataset = dataset();
        for seed in 0..5 {
            let (normals, sources) = order(&AugmentConfig::None, &dataset, seed).unwrap();
            let mut first: Vec<&str> = sources[..2].iter().map(|s| s.kind.as_str()).collect();
            first.sort_unstable();
            assert_eq!(
                (normals.len(), sources.len(), first),
                (3, 4, vec!["dent", "hole"])
            );
        }
    }

    #[test]
    fn other_normal_images_serve_where_no_anomaly_is_needed() {
        let mut dataset = dataset();
        dataset.test.clear();
        let rpag = AugmentConfig::preset("rpag").unwrap();
        let error = preview(&rpag, Foreground::Otsu, &dataset, 2, 0).unwrap_err();
        assert!(error.to_string().contains("poisson"), "{error}");
        let perlin = AugmentConfig::preset("perlin").unwrap();
        let (normals, sources) = order(&perlin, &dataset, 0).unwrap();
        for (normal, source) in normals.iter().zip(&sources) {
            assert_ne!(normal.image.name(), source.image.name());
        }
        assert!(preview(&perlin, Foreground::Otsu, &dataset, 4, 0).is_ok());
        dataset.train.clear();
        assert!(preview(&perlin, Foreground::Otsu, &dataset, 4, 0).is_err());
    }
}
