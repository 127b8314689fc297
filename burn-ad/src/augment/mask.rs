//! Masks: counting, regions, holes. 255 marks a pixel, 0 does not.

use image::{GrayImage, Luma};

/// Any value but 0 becomes 255.
pub(super) fn binary(mask: &GrayImage) -> GrayImage {
    GrayImage::from_fn(mask.width(), mask.height(), |x, y| {
        Luma([if mask.get_pixel(x, y)[0] == 0 { 0 } else { 255 }])
    })
}

/// The pixels of one part of a mask, as columns and rows, in raster order.
pub(super) type Region = Vec<[i64; 2]>;

/// The marked pixels.
pub(super) fn marked(mask: &GrayImage) -> Region {
    mask.enumerate_pixels()
        .filter(|(_, _, value)| value[0] != 0)
        .map(|(x, y, _)| [i64::from(x), i64::from(y)])
        .collect()
}

/// Smallest box that holds a region: first and last column, first and last row.
pub(super) fn bounds(region: &[[i64; 2]]) -> Option<[[i64; 2]; 2]> {
    let &[x, y] = region.first()?;
    let mut bounds = [[x, x], [y, y]];
    for point in region {
        for (range, &at) in bounds.iter_mut().zip(point) {
            *range = [range[0].min(at), range[1].max(at)];
        }
    }
    Some(bounds)
}

/// The parts enclosed by the external contours of a mask: for each 8-connected part that lies in
/// no hole of another, the mask inside its bounding box, which may hold (pieces of) other parts.
///
/// Ordered by their first pixel in raster order. (Of `imageproc` 0.27, `find_contours` sees no
/// outer border of a part along the left edge, and `connected_components` panics where a single
/// pixel is the whole image; hence ours.)
pub(super) fn external_regions(mask: &GrayImage) -> Vec<Region> {
    let filled = fill_holes(mask, usize::MAX);
    let parts = components(&filled, 255, Connectivity::Eight);
    let boxes = parts.iter().filter_map(|part| bounds(part));
    boxes
        .map(|[[left, right], [top, bottom]]| {
            let rows = (top..=bottom).flat_map(|y| (left..=right).map(move |x| [x, y]));
            rows.filter(|&[x, y]| mask.get_pixel(x as u32, y as u32)[0] != 0)
                .collect()
        })
        .collect()
}

/// Marks the unmarked parts that touch no border of the image and have at most `largest` pixels.
pub(super) fn fill_holes(mask: &GrayImage, largest: usize) -> GrayImage {
    let (right, bottom) = (i64::from(mask.width()) - 1, i64::from(mask.height()) - 1);
    let mut filled = mask.clone();
    for part in components(mask, 0, Connectivity::Four) {
        let at_border = |&[x, y]: &[i64; 2]| x == 0 || y == 0 || x == right || y == bottom;
        if part.len() <= largest && !part.iter().any(at_border) {
            paint(&mut filled, &part, 255);
        }
    }
    filled
}

/// Unmarks the 8-connected parts of fewer than `smallest` pixels.
pub(super) fn drop_specks(mask: &GrayImage, smallest: usize) -> GrayImage {
    let mut kept = mask.clone();
    for part in components(mask, 255, Connectivity::Eight) {
        if part.len() < smallest {
            paint(&mut kept, &part, 0);
        }
    }
    kept
}

fn paint(mask: &mut GrayImage, region: &[[i64; 2]], value: u8) {
    for &[x, y] in region {
        mask.put_pixel(x as u32, y as u32, Luma([value]));
    }
}

/// The pixels that make two of them neighbours.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Connectivity {
    /// Sides touch.
    Four,
    /// Sides or corners touch.
    Eight,
}

/// The connected parts of the pixels of one value, ordered by their first pixel; the pixels of a
/// part are in no particular order.
fn components(mask: &GrayImage, value: u8, connectivity: Connectivity) -> Vec<Region> {
    let (width, height) = (i64::from(mask.width()), i64::from(mask.height()));
    let mut fresh: Vec<bool> = mask.as_raw().iter().map(|&at| at == value).collect();
    let mut parts = Vec::new();
    for y in 0..height {
        for x in 0..width {
            let mut part = Vec::new();
            let mut visit = |[x, y]: [i64; 2], part: &mut Region| {
                let inside = (0..width).contains(&x) && (0..height).contains(&y);
                if inside && std::mem::take(&mut fresh[(y * width + x) as usize]) {
                    part.push([x, y]);
                }
            };
            visit([x, y], &mut part);
            let mut next = 0;
            while let Some(&[x, y]) = part.get(next) {
                next += 1;
                for (dx, dy) in [(1, 0), (-1, 0), (0, 1), (0, -1)] {
                    visit([x + dx, y + dy], &mut part);
                }
                if connectivity == Connectivity::Eight {
                    for (dx, dy) in [(1, 1), (-1, 1), (1, -1), (-1, -1)] {
                        visit([x + dx, y + dy], &mut part);
                    }
                }
            }
            if !part.is_empty() {
                parts.push(part);
            }
        }
    }
    parts
}

#[cfg(test)]
pub(super) fn drawn(rows: &[&str]) -> GrayImage {
    let (width, height) = (rows[0].len() as u32, rows.len() as u32);
    GrayImage::from_fn(width, height, |x, y| {
        let marked = rows[y as usize].as_bytes()[x as usize] == b'#';
        Luma([if marked { 255 } else { 0 }])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn external_regions_include_what_is_in_their_box_but_not_islands_in_holes() {
        let mask = drawn(&[
            "#####..#", //
            "#...#.##", "#.#.#...", "#...#...", "#####..#",
        ]);
        let regions = external_regions(&mask);
        let sizes: Vec<usize> = regions.iter().map(Vec::len).collect();
        // The ring with the island in its hole; the corner piece; the single pixel.
        assert_eq!(sizes, [17, 3, 1]);
        // An L holds the pixel inside its box, which is a region of its own as well.
        let ell = drawn(&["#..", "#.#", "###"]);
        assert_eq!(external_regions(&ell).len(), 1);
        let ell = drawn(&["#.#", "#..", "###"]);
        let sizes: Vec<usize> = external_regions(&ell).iter().map(Vec::len).collect();
        assert_eq!(sizes, [6, 1]);
    }

    #[test]
    fn regions_at_the_border_are_found_and_a_diagonal_is_one() {
        for rows in [
            &["##", "##"][..],
            &["#"],
            &["#.", ".#"],
            &["#..", "...", "..."],
        ] {
            assert_eq!(external_regions(&drawn(rows)).len(), 1, "{rows:?}");
        }
        assert!(external_regions(&GrayImage::new(3, 3)).is_empty());
    }

    #[test]
    fn holes_are_filled_up_to_a_size_and_bays_are_not() {
        let mask = drawn(&["######", "#.#..#", "#####.", "######"]);
        // The larger hole reaches a gap in the border diagonally only.
        assert_eq!(marked(&fill_holes(&mask, 1)).len(), 21);
        assert_eq!(marked(&fill_holes(&mask, 2)).len(), 23);
        let bay = drawn(&["###", "#..", "###"]);
        assert_eq!(fill_holes(&bay, usize::MAX), bay);
    }

    #[test]
    fn specks_go() {
        let mask = drawn(&["##..", "..#.", "....", "#..."]);
        assert_eq!(marked(&drop_specks(&mask, 2)).len(), 3);
    }
}
