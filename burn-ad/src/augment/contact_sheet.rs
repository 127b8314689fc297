//! Pictures to look at: what pseudo-anomalies look like.

use image::imageops::{self, FilterType};
use image::{GrayImage, Rgb, RgbImage};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::known::Known;
use super::{AugmentConfig, Foreground, PseudoAnomaly, pseudo_anomaly};
use crate::error::{Error, Result};

/// Side of a cell and width of the gutters, in pixels.
const CELL: u32 = 192;
const GUTTER: u32 = 4;
const PAPER: Rgb<u8> = Rgb([255; 3]);
/// Around the marked pixels of the known anomaly.
const OUTLINE: Rgb<u8> = Rgb([255, 64, 0]);

/// One row of a sheet: what went in, and what came out.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The known anomaly, texture or patch source as it was given.
    pub source: &'a Known,
    /// The normal image.
    pub normal: &'a RgbImage,
    /// What was made of both.
    pub made: &'a PseudoAnomaly,
}

/// One row of cells for each result: anomaly, augmented anomaly, normal, pasted, mask.
///
/// Pictures keep their proportions; marked pixels of the first two are outlined.
pub fn contact_sheet(rows: &[Row<'_>]) -> RgbImage {
    let step = CELL + GUTTER;
    let height = GUTTER + rows.len() as u32 * step;
    let mut sheet = RgbImage::from_pixel(GUTTER + 5 * step, height, PAPER);
    for (y, row) in (0u32..).zip(rows) {
        let mask = |x, y| Rgb([row.made.mask.get_pixel(x, y)[0]; 3]);
        let (width, height) = row.made.mask.dimensions();
        let cells = [
            outlined(row.source),
            outlined(&row.made.source),
            fitted(row.normal),
            fitted(&row.made.image),
            fitted(&RgbImage::from_fn(width, height, mask)),
        ];
        for (x, cell) in (0u32..).zip(&cells) {
            let left = GUTTER + x * step + (CELL - cell.width()) / 2;
            let top = GUTTER + y * step + (CELL - cell.height()) / 2;
            imageops::replace(&mut sheet, cell, left.into(), top.into());
        }
    }
    sheet
}

/// Makes `rows` pseudo-anomalies and puts them on a [`contact_sheet`].
///
/// Row `i` takes the normal image and the source of number `i`, starting again after the last. It
/// depends on the seed and its number, not on how many rows there are.
///
/// # Errors
/// When there is no normal image or no source, or as [`pseudo_anomaly`].
pub fn preview(
    config: &AugmentConfig,
    foreground: Foreground,
    normals: &[RgbImage],
    sources: &[Known],
    rows: usize,
    seed: u64,
) -> Result<RgbImage> {
    if normals.is_empty() || sources.is_empty() {
        return Err(Error::data(
            "pseudo-anomalies need normal images, and images to take them from",
        ));
    }
    let made = (0..rows)
        .map(|row| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(row as u64);
            let normal = &normals[row % normals.len()];
            let source = &sources[row % sources.len()];
            let product = foreground.mask(normal);
            let made = pseudo_anomaly(config, normal, product.as_ref(), source, &mut rng)?;
            Ok((source, normal, made))
        })
        .collect::<Result<Vec<_>>>()?;
    let rows: Vec<Row<'_>> = made
        .iter()
        .map(|&(source, normal, ref made)| Row {
            source,
            normal,
            made,
        })
        .collect();
    Ok(contact_sheet(&rows))
}

/// Resized so that it just fits a cell.
fn fitted(image: &RgbImage) -> RgbImage {
    let [width, height] = fitted_size(image.dimensions());
    imageops::resize(image, width, height, FilterType::Triangle)
}

fn fitted_size((width, height): (u32, u32)) -> [u32; 2] {
    let scale = f64::from(CELL) / f64::from(width.max(height).max(1));
    [width, height].map(|side| (f64::from(side) * scale).round().max(1.0) as u32)
}

/// Fitted, with the pixels just outside the mask coloured.
fn outlined(known: &Known) -> RgbImage {
    let mut picture = fitted(known.image());
    let (width, height) = picture.dimensions();
    let mask: GrayImage = imageops::resize(known.mask(), width, height, FilterType::Nearest);
    let marked = |x: u32, y: u32| {
        mask.get_pixel_checked(x, y)
            .is_some_and(|value| value[0] != 0)
    };
    for (x, y, pixel) in picture.enumerate_pixels_mut() {
        let near = [
            (x.wrapping_sub(1), y),
            (x + 1, y),
            (x, y.wrapping_sub(1)),
            (x, y + 1),
        ];
        if !marked(x, y) && near.into_iter().any(|(x, y)| marked(x, y)) {
            *pixel = OUTLINE;
        }
    }
    picture
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use image::Luma;

    fn inputs() -> (Vec<RgbImage>, Vec<Known>) {
        let normals = vec![
            RgbImage::from_pixel(40, 20, Rgb([10, 20, 30])),
            RgbImage::from_pixel(20, 20, Rgb([90, 20, 30])),
        ];
        let mask = GrayImage::from_fn(20, 30, |x, y| {
            Luma([u8::from((5..9).contains(&x) && y > 20)])
        });
        let source = Known::new(RgbImage::from_pixel(20, 30, Rgb([200, 0, 0])), mask).unwrap();
        (normals, vec![source])
    }

    #[test]
    fn a_row_does_not_depend_on_how_many_there_are() {
        let (normals, sources) = inputs();
        for name in AugmentConfig::PRESETS {
            let config = AugmentConfig::preset(name).unwrap();
            let sheet =
                |rows| preview(&config, Foreground::Whole, &normals, &sources, rows, 4).unwrap();
            let (two, three) = (sheet(2), sheet(3));
            assert_eq!(two.dimensions(), (4 + 5 * 196, 4 + 2 * 196));
            assert!(three.as_raw().starts_with(two.as_raw()), "{name}");
            let other = preview(&config, Foreground::Whole, &normals, &sources, 3, 5).unwrap();
            assert_eq!(other != three, name == "rpag" || name.starts_with("perlin"));
        }
    }

    #[test]
    fn cells_keep_proportions_and_marks_are_outlined() {
        assert_eq!(fitted_size((400, 100)), [192, 48]);
        assert_eq!(fitted_size((1, 100_000)), [1, 192]);
        let (normals, sources) = inputs();
        let sheet = preview(
            &AugmentConfig::None,
            Foreground::Otsu,
            &normals,
            &sources,
            1,
            0,
        )
        .unwrap();
        assert!(sheet.pixels().any(|pixel| *pixel == OUTLINE));
        assert!(preview(&AugmentConfig::None, Foreground::Whole, &[], &sources, 1, 0).is_err());
    }
}
