//! The contrast group: CLAHE, sharpening, embossing, brightness and contrast.

use image::{Rgb, RgbImage};

use super::super::draws::Draws;
use super::photometric::{correlate, level};

pub(super) fn contrast(image: &RgbImage, draws: &mut Draws<'_>) -> RgbImage {
    match draws.below(4) {
        0 => clahe(image, draws.uniform(1.0, 2.0)),
        1 => sharpen(image, draws.uniform(0.2, 0.5), draws.uniform(0.5, 1.0)),
        2 => emboss(image, draws.uniform(0.2, 0.5), draws.uniform(0.2, 0.7)),
        _ => {
            let (gain, lift) = (1.0 + draws.around_zero(0.2), draws.around_zero(0.2));
            let table: Vec<u8> = (0..=255)
                .map(|value| level(f64::from(value) * gain + 255.0 * lift))
                .collect();
            let mut changed = image.clone();
            for value in changed.iter_mut() {
                *value = table[usize::from(*value)];
            }
            changed
        }
    }
}

/// Mixes the image with an edge-enhanced one.
fn sharpen(image: &RgbImage, share: f64, lightness: f64) -> RgbImage {
    let mut kernel = [-share; 9];
    kernel[4] = 1.0 - share + share * (8.0 + lightness);
    correlate(image, 3, &kernel.map(|weight| weight as f32))
}

/// Mixes the image with one that looks lit from the upper left.
fn emboss(image: &RgbImage, share: f64, strength: f64) -> RgbImage {
    let (far, near) = (share * (1.0 + strength), share * strength);
    let kernel = [-far, -near, 0.0, -near, 1.0, near, 0.0, near, far];
    correlate(image, 3, &kernel.map(|weight| weight as f32))
}

/// Contrast-limited adaptive histogram equalisation on 8 x 8 tiles of the luminance.
///
/// The published code's library equalises the lightness of Lab; here every channel gets the change
/// of the luminance, so that grey stays grey.
fn clahe(image: &RgbImage, clip_limit: f64) -> RgbImage {
    let sides = [image.width() as usize, image.height() as usize];
    let tiles = sides.map(|side| side.min(8));
    let edges: [Vec<usize>; 2] = std::array::from_fn(|axis| {
        let count = tiles[axis];
        (0..=count).map(|tile| tile * sides[axis] / count).collect()
    });
    let mut tables = Vec::with_capacity(tiles[0] * tiles[1]);
    for rows in edges[1].windows(2) {
        for columns in edges[0].windows(2) {
            let pixels =
                (rows[0]..rows[1]).flat_map(|y| (columns[0]..columns[1]).map(move |x| (x, y)));
            let values = pixels.map(|(x, y)| luminance(image.get_pixel(x as u32, y as u32)));
            tables.push(equalising_table(values, clip_limit));
        }
    }
    // Per column and row: the two tiles whose centres are around it, and the second one's share.
    let between: [Vec<(usize, usize, f64)>; 2] = std::array::from_fn(|axis| {
        (0..sides[axis])
            .map(|at| {
                let place = (at as f64 + 0.5) * tiles[axis] as f64 / sides[axis] as f64 - 0.5;
                let place = place.clamp(0.0, (tiles[axis] - 1) as f64);
                let first = place as usize;
                (
                    first,
                    (first + 1).min(tiles[axis] - 1),
                    place - first as f64,
                )
            })
            .collect()
    });
    let mut equalised = image.clone();
    for (x, y, pixel) in equalised.enumerate_pixels_mut() {
        let luminance = luminance(pixel);
        let (left, right, right_share) = between[0][x as usize];
        let (upper, lower, lower_share) = between[1][y as usize];
        let of =
            |row: usize, column: usize| tables[row * tiles[0] + column][usize::from(luminance)];
        let mix = |a: f64, b: f64, share: f64| a + (b - a) * share;
        let target = mix(
            mix(of(upper, left), of(upper, right), right_share),
            mix(of(lower, left), of(lower, right), right_share),
            lower_share,
        );
        *pixel = Rgb(pixel
            .0
            .map(|value| level(f64::from(value) + target - f64::from(luminance))));
    }
    equalised
}

/// Grey level of a pixel.
pub(in super::super) fn luminance(&Rgb([r, g, b]): &Rgb<u8>) -> u8 {
    let sum = 299 * u32::from(r) + 587 * u32::from(g) + 114 * u32::from(b);
    // The weights add up to 1000.
    ((sum + 500) / 1000) as u8
}

/// The cumulative histogram, scaled to 255, after what exceeds `clip_limit` times the mean count
/// was spread over all values.
fn equalising_table(values: impl Iterator<Item = u8>, clip_limit: f64) -> [f64; 256] {
    let mut histogram = [0.0; 256];
    for value in values {
        histogram[usize::from(value)] += 1.0;
    }
    let count: f64 = histogram.iter().sum();
    let limit = (clip_limit * count / 256.0).max(1.0);
    let excess: f64 = histogram
        .iter()
        .map(|bin: &f64| (bin - limit).max(0.0))
        .sum();
    let mut below = 0.0;
    histogram.map(|bin| {
        below += bin.min(limit) + excess / 256.0;
        below * 255.0 / count
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clahe_stretches_a_narrow_range_by_up_to_its_limit() {
        // 64 equally frequent values: their bins are four times the mean, twice the limit of 2.
        let narrow = RgbImage::from_fn(128, 128, |x, y| {
            Rgb([100 + ((x * 7 + y * 13) % 64) as u8; 3])
        });
        let out = clahe(&narrow, 2.0);
        let (mut low, mut high) = (255, 0);
        for pixel in out.pixels() {
            assert!(pixel[0] == pixel[1] && pixel[1] == pixel[2]);
            (low, high) = (low.min(pixel[0]), high.max(pixel[0]));
        }
        // A slope of 2 from the bins and 1/2 from what was spread.
        assert!((148..165).contains(&(high - low)), "{low} {high}");
        let tiny = RgbImage::from_pixel(1, 3, Rgb([9, 8, 7]));
        assert_eq!(clahe(&tiny, 1.5).dimensions(), (1, 3));
    }

    #[test]
    fn a_uniform_histogram_is_left_as_it_is() {
        let table = equalising_table(0..=255, 1.0);
        for (value, &target) in table.iter().enumerate() {
            assert!((target - value as f64).abs() <= 1.0, "{value}: {target}");
        }
    }

    #[test]
    fn sharpening_and_embossing_brighten_as_their_kernels_say() {
        let flat = RgbImage::from_pixel(4, 4, Rgb([100; 3]));
        // Weights sum to 1 + share * lightness - share, and to 1.
        assert!(sharpen(&flat, 0.5, 1.0).iter().all(|&value| value == 100));
        assert!(sharpen(&flat, 0.5, 0.5).iter().all(|&value| value == 75));
        assert!(emboss(&flat, 0.4, 0.5).iter().all(|&value| value == 100));
    }
}
