//! Augmentations that change values and move nothing: noise, blur, colour.

use image::{GrayImage, Luma, Rgb, RgbImage};
use imageproc::drawing::draw_line_segment_mut;
use imageproc::filter::{filter, median_filter};
use imageproc::kernel::Kernel;

use super::super::draws::Draws;

/// Whether every pixel has three equal channels.
pub(in super::super) fn is_grey(image: &RgbImage) -> bool {
    image.pixels().all(|Rgb([r, g, b])| r == g && g == b)
}

/// Rounds to the nearest grey level.
pub(in super::super) fn level(value: f64) -> u8 {
    value.round().clamp(0.0, 255.0) as u8
}

pub(super) fn noise(image: &RgbImage, draws: &mut Draws<'_>) -> RgbImage {
    let deviation = draws.uniform(10.0, 50.0).sqrt();
    let grey = is_grey(image);
    let mut noisy = image.clone();
    for pixel in noisy.pixels_mut() {
        let mut change = deviation * draws.gaussian();
        for channel in 0..3 {
            if !grey && channel > 0 {
                change = deviation * draws.gaussian();
            }
            pixel[channel] = level(f64::from(pixel[channel]) + change);
        }
    }
    noisy
}

pub(super) fn blur(image: &RgbImage, draws: &mut Draws<'_>) -> RgbImage {
    type Blur = fn(&RgbImage, &mut Draws<'_>) -> RgbImage;
    draws.weighted(&[
        (0.2, motion_blur as Blur),
        (0.1, |image, _| median_filter(image, 1, 1)),
        (0.1, |image, _| correlate(image, 3, &[1.0 / 9.0; 9])),
    ])(image, draws)
}

/// The mean along a line between two random pixels of a square of 3, 5 or 7 pixels.
fn motion_blur(image: &RgbImage, draws: &mut Draws<'_>) -> RgbImage {
    let side = [3usize, 5, 7][draws.below(3)];
    let start = draws.below(side * side);
    // Another pixel: skips the start.
    let end = (start + 1 + draws.below(side * side - 1)) % (side * side);
    let point = |place: usize| ((place % side) as f32, (place / side) as f32);
    let mut line = GrayImage::new(side as u32, side as u32);
    draw_line_segment_mut(&mut line, point(start), point(end), Luma([1]));
    let length: f32 = line.as_raw().iter().map(|&value| f32::from(value)).sum();
    let weights: Vec<f32> = line
        .as_raw()
        .iter()
        .map(|&value| f32::from(value) / length)
        .collect();
    correlate(image, side as u32, &weights)
}

/// Correlation with a square kernel; edge pixels are repeated.
pub(super) fn correlate(image: &RgbImage, side: u32, weights: &[f32]) -> RgbImage {
    filter::<Rgb<u8>, f32, _, Rgb<u8>>(image, Kernel::new(weights, side, side), |sum| {
        level(f64::from(sum))
    })
}

/// Shifts in the 8-bit scale of the published code's library, where half the hue's degrees count.
pub(super) fn hue_saturation_value(image: &RgbImage, draws: &mut Draws<'_>) -> RgbImage {
    let hue = draws.around_zero(2.0 * 20.0);
    let saturation = draws.around_zero(30.0 / 255.0);
    let value = draws.around_zero(20.0);
    let grey = is_grey(image);
    let mut shifted = image.clone();
    for pixel in shifted.pixels_mut() {
        *pixel = if grey {
            Rgb([level(f64::from(pixel[0]) + value); 3])
        } else {
            let [h, s, v] = to_hsv(*pixel);
            from_hsv([
                (h + hue).rem_euclid(360.0),
                (s + saturation).clamp(0.0, 1.0),
                (v + value).clamp(0.0, 255.0),
            ])
        };
    }
    shifted
}

/// Hue in degrees `[0, 360)`, saturation in `[0, 1]`, value in `[0, 255]`.
pub(in super::super) fn to_hsv(Rgb(pixel): Rgb<u8>) -> [f64; 3] {
    let [r, g, b] = pixel.map(f64::from);
    let value = r.max(g).max(b);
    let range = value - r.min(g).min(b);
    if range == 0.0 {
        return [0.0, 0.0, value];
    }
    let sextant = if value == r {
        ((g - b) / range).rem_euclid(6.0)
    } else if value == g {
        (b - r) / range + 2.0
    } else {
        (r - g) / range + 4.0
    };
    [60.0 * sextant, range / value, value]
}

/// Back from [`to_hsv`].
pub(in super::super) fn from_hsv([hue, saturation, value]: [f64; 3]) -> Rgb<u8> {
    // Each channel falls linearly with the distance of the hue from its own.
    let channel = |offset: f64| {
        let place = (offset + hue / 60.0).rem_euclid(6.0);
        let drop = place.min(4.0 - place).clamp(0.0, 1.0);
        level(value - value * saturation * drop)
    };
    Rgb([channel(5.0), channel(3.0), channel(1.0)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hsv_and_back_is_the_identity() {
        for (r, g, b) in [
            (0, 0, 0),
            (255, 0, 0),
            (0, 255, 3),
            (1, 2, 255),
            (90, 90, 90),
            (200, 10, 201),
        ] {
            let pixel = Rgb([r, g, b]);
            assert_eq!(from_hsv(to_hsv(pixel)), pixel);
        }
        assert_eq!(to_hsv(Rgb([0, 0, 255])), [240.0, 1.0, 255.0]);
    }

    #[test]
    fn a_kernel_that_sums_to_one_keeps_a_flat_image() {
        let flat = RgbImage::from_pixel(5, 4, Rgb([100, 7, 255]));
        assert_eq!(correlate(&flat, 3, &[1.0 / 9.0; 9]), flat);
    }
}
