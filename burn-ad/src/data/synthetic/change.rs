//! What a defect changed: the exact mask, without pixels whose change nobody could see.

use image::{GrayImage, Luma, RgbImage};

/// Smallest change of a component, in 8-bit levels, that counts as visible: about three times the sensor's noise.
pub(super) const VISIBLE: u8 = 8;

/// Merges a picture with a defect into the same picture without it.
///
/// Changes below [`VISIBLE`] and specks smaller than `smallest` pixels (8-connected) are taken back, so that the
/// mask returned (255 where different) is exactly the set of pixels in which the returned picture differs from `clean`.
pub(super) fn keep_visible(
    clean: &RgbImage,
    mut changed: RgbImage,
    smallest: usize,
) -> (RgbImage, GrayImage) {
    let (width, height) = clean.dimensions();
    let mut mask = GrayImage::from_fn(width, height, |x, y| {
        let (a, b) = (clean.get_pixel(x, y), changed.get_pixel(x, y));
        let visible = (0..3).any(|c| a[c].abs_diff(b[c]) >= VISIBLE);
        Luma([if visible { 255 } else { 0 }])
    });
    remove_specks(&mut mask, smallest);
    for (x, y, marked) in mask.enumerate_pixels() {
        if marked[0] == 0 {
            changed.put_pixel(x, y, *clean.get_pixel(x, y));
        }
    }
    (changed, mask)
}

/// Number of pixels marked.
pub(super) fn area(mask: &GrayImage) -> usize {
    mask.pixels().filter(|pixel| pixel[0] != 0).count()
}

fn remove_specks(mask: &mut GrayImage, smallest: usize) {
    let (width, height) = mask.dimensions();
    let mut seen = vec![false; (width * height) as usize];
    for start in 0..width * height {
        let mut region = vec![];
        let mut visit = |x: u32, y: u32, region: &mut Vec<(u32, u32)>| {
            let fresh = !std::mem::replace(&mut seen[(y * width + x) as usize], true);
            if fresh && mask.get_pixel(x, y)[0] != 0 {
                region.push((x, y));
            }
        };
        visit(start % width, start / width, &mut region);
        let mut next = 0;
        while let Some(&(x, y)) = region.get(next) {
            next += 1;
            for near_y in y.saturating_sub(1)..(y + 2).min(height) {
                for near_x in x.saturating_sub(1)..(x + 2).min(width) {
                    visit(near_x, near_y, &mut region);
                }
            }
        }
        if region.len() < smallest {
            for (x, y) in region {
                mask.put_pixel(x, y, Luma([0]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    #[test]
    fn faint_changes_and_specks_are_taken_back() {
        let clean = RgbImage::from_pixel(8, 8, Rgb([100; 3]));
        let mut changed = clean.clone();
        for i in 0..4 {
            changed.put_pixel(i, i, Rgb([100, 100, 100 + VISIBLE])); // a diagonal is one region
        }
        changed.put_pixel(7, 0, Rgb([0; 3])); // a speck
        changed.put_pixel(0, 7, Rgb([101; 3])); // too faint
        let (kept, mask) = keep_visible(&clean, changed, 3);
        assert_eq!(area(&mask), 4);
        for (x, y, pixel) in kept.enumerate_pixels() {
            assert_eq!(pixel != clean.get_pixel(x, y), x == y && x < 4, "{x} {y}");
        }
    }
}
