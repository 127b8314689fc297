//! Moving pixels through a map from target to source, image and mask alike.

use image::{GrayImage, Rgb, RgbImage};

use super::super::known::Known;

/// Takes each target pixel from `source_of(column, row)`, in pixels; centres have whole numbers.
///
/// The image is interpolated bilinearly, the mask takes the nearest pixel, and both are reflected
/// at their edges.
pub(super) fn warp(known: &Known, source_of: impl Fn(f64, f64) -> [f64; 2]) -> Known {
    let (width, height) = known.image().dimensions();
    let mut image = RgbImage::new(width, height);
    let mut mask = GrayImage::new(width, height);
    for (x, y, pixel) in image.enumerate_pixels_mut() {
        let [u, v] = source_of(f64::from(x), f64::from(y));
        *pixel = bilinear(known.image(), u, v);
        let (u, v) = (nearest(u, width), nearest(v, height));
        mask.put_pixel(x, y, *known.mask().get_pixel(u, v));
    }
    Known::from_parts(image, mask)
}

fn bilinear(image: &RgbImage, u: f64, v: f64) -> Rgb<u8> {
    let (left, top) = (u.floor(), v.floor());
    let (right_share, lower_share) = (u - left, v - top);
    let columns = [left, left + 1.0].map(|at| reflect(at as i64, image.width()));
    let rows = [top, top + 1.0].map(|at| reflect(at as i64, image.height()));
    let upper = columns.map(|x| image.get_pixel(x, rows[0]).0);
    let lower = columns.map(|x| image.get_pixel(x, rows[1]).0);
    let mix = |a: f64, b: f64, share: f64| a + (b - a) * share;
    Rgb(std::array::from_fn(|c| {
        let of =
            |[left, right]: [[u8; 3]; 2]| mix(f64::from(left[c]), f64::from(right[c]), right_share);
        // Between 0 and 255, as the four pixels are.
        (mix(of(upper), of(lower), lower_share) + 0.5) as u8
    }))
}

/// One of the two pixels that interpolation mixes: the one with the larger weight.
fn nearest(at: f64, length: u32) -> u32 {
    reflect((at + 0.5).floor() as i64, length)
}

/// `.. 2 1 | 0 1 2 .. n-1 | n-2 ..`
fn reflect(at: i64, length: u32) -> u32 {
    let last = i64::from(length) - 1;
    if last == 0 {
        return 0;
    }
    let place = at.rem_euclid(2 * last);
    // Within the image after folding, so it fits.
    place.min(2 * last - place) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reflection_does_not_repeat_the_edge() {
        let places: Vec<u32> = (-3..7).map(|at| reflect(at, 3)).collect();
        assert_eq!(places, [1, 2, 1, 0, 1, 2, 1, 0, 1, 2]);
        assert_eq!(reflect(-5, 1), 0);
        assert_eq!(reflect(7, 2), 1);
    }

    #[test]
    fn a_whole_shift_moves_pixels_and_half_a_one_mixes_them() {
        let image = RgbImage::from_fn(4, 1, |x, _| Rgb([10 * x as u8; 3]));
        let known = Known::unmarked(image).expect("pixels");
        let values = |known: &Known| known.image().pixels().map(|p| p[0]).collect::<Vec<_>>();
        assert_eq!(values(&warp(&known, |x, y| [x - 1.0, y])), [10, 0, 10, 20]);
        assert_eq!(values(&warp(&known, |x, y| [x + 0.5, y])), [5, 15, 25, 25]);
    }
}
