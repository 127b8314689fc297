//! Pictures that show what pseudo-anomalies look like.

use image::imageops::{self, FilterType};
use image::{GrayImage, Rgb, RgbImage};

use super::PseudoAnomaly;
use super::known::Known;

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
    let mut sheet = blank(rows.len());
    for (place, row) in rows.iter().enumerate() {
        draw_row(&mut sheet, place, row);
    }
    sheet
}

/// From one cell to the next.
const STEP: u32 = CELL + GUTTER;

/// A sheet with room for some rows.
pub(super) fn blank(rows: usize) -> RgbImage {
    RgbImage::from_pixel(GUTTER + 5 * STEP, GUTTER + rows as u32 * STEP, PAPER)
}

pub(super) fn draw_row(sheet: &mut RgbImage, place: usize, row: &Row<'_>) {
    let (width, height) = row.made.mask.dimensions();
    let mask = |x, y| Rgb([row.made.mask.get_pixel(x, y)[0]; 3]);
    let cells = [
        outlined(row.source),
        outlined(&row.made.source),
        fitted(row.normal),
        fitted(&row.made.image),
        fitted(&RgbImage::from_fn(width, height, mask)),
    ];
    for (column, cell) in (0u32..).zip(&cells) {
        let left = GUTTER + column * STEP + (CELL - cell.width()) / 2;
        let top = GUTTER + place as u32 * STEP + (CELL - cell.height()) / 2;
        imageops::replace(sheet, cell, left.into(), top.into());
    }
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

    #[test]
    fn cells_keep_proportions_and_marks_are_outlined() {
        assert_eq!(fitted_size((400, 100)), [192, 48]);
        assert_eq!(fitted_size((1, 100_000)), [1, 192]);
        let mask = GrayImage::from_fn(20, 30, |x, y| {
            Luma([u8::from((5..9).contains(&x) && y > 20)])
        });
        let known =
            Known::new(RgbImage::from_pixel(20, 30, Rgb([200, 0, 0])), mask.clone()).unwrap();
        let normal = RgbImage::from_pixel(20, 30, Rgb([0, 0, 200]));
        let made = PseudoAnomaly {
            image: normal.clone(),
            mask,
            source: known.clone(),
            foreground_shares: Vec::new(),
            moved: false,
        };
        let row = Row {
            source: &known,
            normal: &normal,
            made: &made,
        };
        let sheet = contact_sheet(&[row, row]);
        assert_eq!(sheet.dimensions(), (4 + 5 * 196, 4 + 2 * 196));
        let count = |colour| sheet.pixels().filter(|pixel| **pixel == colour).count();
        // Around 4 x 9 of 20 x 30 pixels at 6.4 times the size; the lower side is the image's edge.
        let outline = count(OUTLINE) as f64 / 4.0;
        assert!((outline - 6.4 * 22.0).abs() < 6.0, "{outline}");
        assert!(count(Rgb([0, 0, 200])) > 4 * 120 * 190);
        assert_eq!(contact_sheet(&[]).height(), GUTTER);
    }
}
