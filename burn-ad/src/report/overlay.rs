//! Pictures for people: image, heat map and contours side by side.

use std::io::Cursor;
use std::path::Path;

use image::{ImageFormat, Rgb, RgbImage, imageops};

use super::colour::{inferno, outline, position};
use crate::error::{Error, Result};
use crate::files::write_atomically;

/// Colour of the contour at the threshold: found.
const FOUND: Rgb<u8> = Rgb([255, 64, 64]);
/// Colour of the contour of the ground truth: drawn by hand.
const TRUTH: Rgb<u8> = Rgb([64, 224, 255]);
/// Rim around both, so that they stay visible on a bright image.
const RIM: Rgb<u8> = Rgb([0, 0, 0]);
/// Longest side of a panel, in pixels, from which contours are two pixels thick.
const THICK_FROM: usize = 160;
/// Between panels.
const GAP: Rgb<u8> = Rgb([255, 255, 255]);
/// Width of the gap in pixels.
pub const GAP_WIDTH: u32 = 4;

/// What is the same for all pictures of a run, so that a colour means the same in each of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OverlayStyle {
    /// Map values shown as the darkest and the brightest colour.
    pub range: (f32, f32),
    /// Map values at or above it lie inside the contour; `None` draws no contour panel.
    pub threshold: Option<f32>,
    /// Longest side of a panel in pixels; larger images are scaled down, smaller ones stay as they are.
    pub max_side: u32,
}

/// Draws `image | heat map over image | contour at the threshold` beside each other.
///
/// With a `mask`, its contour is drawn in cyan on the image panel; the threshold's contour is red. Each
/// panel is the image's size, or smaller when [`OverlayStyle::max_side`] asks for it; panels are
/// [`GAP_WIDTH`] apart. When scaling down, a panel pixel shows the highest map value it covers and belongs
/// to the mask when any pixel it covers does: small defects do not fade away.
///
/// `map` and `mask` hold `height * width` values, row by row, of the same image.
///
/// # Panics
/// When `map` or `mask` has another number of values than the image has pixels.
pub fn overlay(
    image: &RgbImage,
    map: &[f32],
    mask: Option<&[bool]>,
    style: &OverlayStyle,
) -> RgbImage {
    let (width, height) = image.dimensions();
    let pixels = width as usize * height as usize;
    assert_eq!(map.len(), pixels, "the map is not the image's size");
    if let Some(mask) = mask {
        assert_eq!(mask.len(), pixels, "the mask is not the image's size");
    }
    if pixels == 0 {
        return RgbImage::new(0, 0);
    }

    let grid = Grid::new(width, height, style.max_side);
    let base = if (grid.width, grid.height) == (width, height) {
        image.clone()
    } else {
        imageops::thumbnail(image, grid.width, grid.height)
    };
    // `f32::max` ignores NaN unless all values are.
    let map = grid.reduce(map, f32::max);

    let mut first = base.clone();
    if let Some(mask) = mask {
        draw_outline(&mut first, &grid.reduce(mask, |a, b| a | b), TRUTH);
    }
    let mut panels = vec![first, heat_map(&base, &map, style.range)];
    if let Some(threshold) = style.threshold {
        let found: Vec<bool> = map.iter().map(|value| *value > threshold).collect();
        let mut panel = base;
        draw_outline(&mut panel, &found, FOUND);
        panels.push(panel);
    }
    beside_each_other(&panels)
}

/// Writes an 8-bit RGB PNG under a temporary name and renames it.
///
/// # Errors
/// When the file cannot be written.
pub fn write_png(path: &Path, image: &RgbImage) -> Result<()> {
    let mut bytes = Cursor::new(Vec::new());
    image
        .write_to(&mut bytes, ImageFormat::Png)
        .map_err(|error| Error::data(format!("cannot encode as PNG: {error}")).path(path))?;
    write_atomically(path, |file| {
        Ok(std::io::Write::write_all(file, bytes.get_ref())?)
    })
}

/// The image in grey with the map's colours over it; high values cover more of the image than low ones.
fn heat_map(base: &RgbImage, map: &[f32], range: (f32, f32)) -> RgbImage {
    let mut panel = base.clone();
    for (pixel, value) in panel.pixels_mut().zip(map) {
        let [r, g, b] = pixel.0.map(f32::from);
        // Grey, so that every hue in the panel is the map's.
        let grey = 0.299 * r + 0.587 * g + 0.114 * b;
        let share = position(*value, range);
        let cover = 0.45 + 0.35 * share;
        pixel.0 = inferno(share)
            .map(|channel| (grey + (f32::from(channel) - grey) * cover).round() as u8);
    }
    panel
}

/// A line around the region with a dark rim outside it.
///
/// The line lies on the region's outermost pixels; on panels large enough to be shown scaled down it
/// takes the pixels just outside as well.
fn draw_outline(panel: &mut RgbImage, mask: &[bool], colour: Rgb<u8>) {
    let (width, height) = (panel.width() as usize, panel.height() as usize);
    let mut line = outline(mask, height, width);
    if width.max(height) >= THICK_FROM {
        let grown: Vec<bool> = mask.iter().zip(&line.outer).map(|(a, b)| a | b).collect();
        for (inner, outer) in line.inner.iter_mut().zip(&line.outer) {
            *inner |= outer;
        }
        line.outer = outline(&grown, height, width).outer;
    }
    for (pixel, (inner, outer)) in panel
        .pixels_mut()
        .zip(line.inner.into_iter().zip(line.outer))
    {
        if inner {
            *pixel = colour;
        } else if outer {
            *pixel = RIM;
        }
    }
}

fn beside_each_other(panels: &[RgbImage]) -> RgbImage {
    let (width, height) = panels.first().map_or((0, 0), RgbImage::dimensions);
    let count = panels.len() as u32;
    let mut sheet = RgbImage::from_pixel(count * (width + GAP_WIDTH) - GAP_WIDTH, height, GAP);
    for (index, panel) in panels.iter().enumerate() {
        let left = index as i64 * i64::from(width + GAP_WIDTH);
        imageops::replace(&mut sheet, panel, left, 0);
    }
    sheet
}

/// Which pixels of the image a pixel of a panel covers.
struct Grid {
    source_width: u32,
    source_height: u32,
    width: u32,
    height: u32,
}

impl Grid {
    fn new(source_width: u32, source_height: u32, max_side: u32) -> Self {
        let longest = source_width.max(source_height);
        let side = max_side.clamp(1, longest);
        let scale = |length: u32| -> u32 {
            let scaled =
                (u64::from(length) * u64::from(side) + u64::from(longest) / 2) / u64::from(longest);
            // At most `side`, itself a u32.
            (scaled as u32).max(1)
        };
        Self {
            source_width,
            source_height,
            width: scale(source_width),
            height: scale(source_height),
        }
    }

    /// Folds the values under each panel pixel into one.
    fn reduce<T: Copy>(&self, values: &[T], fold: impl Fn(T, T) -> T) -> Vec<T> {
        let span = |index: u32, count: u32, source: u32| {
            let edge =
                |index: u32| (u64::from(index) * u64::from(source) / u64::from(count)) as usize;
            edge(index)..edge(index + 1)
        };
        let mut reduced = Vec::with_capacity(self.width as usize * self.height as usize);
        for row in 0..self.height {
            let rows = span(row, self.height, self.source_height);
            for column in 0..self.width {
                let columns = span(column, self.width, self.source_width);
                let width = self.source_width as usize;
                let mut value = values[rows.start * width + columns.start];
                for row in rows.clone() {
                    for other in &values[row * width + columns.start..row * width + columns.end] {
                        value = fold(value, *other);
                    }
                }
                reduced.push(value);
            }
        }
        reduced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STYLE: OverlayStyle = OverlayStyle {
        range: (0.0, 1.0),
        threshold: Some(0.5),
        max_side: 1024,
    };

    /// A map of zeros with a hot rectangle, and the rectangle as a mask.
    fn hot(width: u32, height: u32, [left, top, right, bottom]: [u32; 4]) -> (Vec<f32>, Vec<bool>) {
        let mask: Vec<bool> = (0..width * height)
            .map(|i| (left..right).contains(&(i % width)) && (top..bottom).contains(&(i / width)))
            .collect();
        (
            mask.iter().map(|hot| f32::from(u8::from(*hot))).collect(),
            mask,
        )
    }

    #[test]
    fn contours_run_around_the_hot_square_on_bright_and_dark_images() {
        let (map, mask) = hot(40, 30, [10, 8, 20, 18]);
        for grey in [0, 255] {
            let image = RgbImage::from_pixel(40, 30, Rgb([grey; 3]));
            let sheet = overlay(&image, &map, Some(&mask), &STYLE);
            assert_eq!(sheet.dimensions(), (3 * 40 + 2 * GAP_WIDTH, 30));
            for (panel, colour) in [(0, TRUTH), (2, FOUND)] {
                let left = panel * (40 + GAP_WIDTH);
                for (x, y) in (0..40).flat_map(|x| (0..30).map(move |y| (x, y))) {
                    let inside = (10..20).contains(&x) && (8..18).contains(&y);
                    let core = (11..19).contains(&x) && (9..17).contains(&y);
                    let near = (9..21).contains(&x) && (7..19).contains(&y);
                    let expected = match (core, inside, near) {
                        (false, true, _) => colour,
                        (false, false, true) => RIM,
                        _ => Rgb([grey; 3]),
                    };
                    assert_eq!(*sheet.get_pixel(left + x, y), expected, "{panel}: {x}, {y}");
                }
            }
        }
    }

    #[test]
    fn contours_of_large_panels_are_two_pixels_thick() {
        let (map, _) = hot(200, 200, [50, 50, 100, 100]);
        let image = RgbImage::from_pixel(200, 200, Rgb([128; 3]));
        let sheet = overlay(&image, &map, None, &STYLE);
        let left = 2 * (200 + GAP_WIDTH);
        let row = |x: u32| *sheet.get_pixel(left + x, 75);
        let expected = [Rgb([128; 3]), RIM, FOUND, FOUND, Rgb([128; 3])];
        assert_eq!([47, 48, 49, 50, 51].map(row), expected);
        assert_eq!([102, 101, 100, 99, 98].map(row), expected);
    }

    #[test]
    fn a_colour_means_the_same_value_in_every_picture() {
        let image = RgbImage::from_pixel(2, 1, Rgb([90, 90, 90]));
        let alone = overlay(&image, &[0.3, 0.3], None, &STYLE);
        let beside_hot = overlay(&image, &[0.3, 9.0], None, &STYLE);
        let heat = 2 + GAP_WIDTH;
        assert_eq!(alone.get_pixel(heat, 0), beside_hot.get_pixel(heat, 0));
        assert_ne!(
            alone.get_pixel(heat + 1, 0),
            beside_hot.get_pixel(heat + 1, 0)
        );
    }

    #[test]
    fn one_hot_pixel_survives_scaling_down() {
        let image = RgbImage::from_pixel(1000, 400, Rgb([128; 3]));
        let (map, mask) = hot(1000, 400, [777, 123, 778, 124]);
        let style = OverlayStyle {
            max_side: 100,
            ..STYLE
        };
        let sheet = overlay(&image, &map, Some(&mask), &style);
        assert_eq!(sheet.dimensions(), (3 * 100 + 2 * GAP_WIDTH, 40));
        assert_eq!(*sheet.get_pixel(77, 12), TRUTH);
        assert_eq!(*sheet.get_pixel(2 * (100 + GAP_WIDTH) + 77, 12), FOUND);
    }

    #[test]
    fn every_size_can_be_drawn() {
        for (width, height, max_side) in [
            (1, 1, 512),
            (1, 1, 0),
            (1, 999, 10),
            (999, 1, 10),
            (7, 5, 3),
            (0, 0, 9),
        ] {
            let image = RgbImage::new(width, height);
            let map = vec![f32::NAN; (width * height) as usize];
            let mask = vec![true; map.len()];
            let style = OverlayStyle { max_side, ..STYLE };
            let sheet = overlay(&image, &map, Some(&mask), &style);
            assert!(sheet.height() <= max_side.max(1));
            assert_eq!(sheet.height() == 0, height == 0);
        }
    }

    #[test]
    fn without_a_threshold_there_is_no_contour_panel() {
        let style = OverlayStyle {
            threshold: None,
            ..STYLE
        };
        let sheet = overlay(&RgbImage::new(5, 3), &[0.0; 15], None, &style);
        assert_eq!(sheet.dimensions(), (2 * 5 + GAP_WIDTH, 3));
    }

    #[test]
    fn a_written_picture_reads_back_the_same() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("größe 图.png");
        let image = RgbImage::from_fn(9, 4, |x, y| Rgb([x as u8, y as u8, 200]));
        write_png(&path, &image).expect("written");
        assert_eq!(image::open(&path).expect("read").to_rgb8(), image);
    }
}
