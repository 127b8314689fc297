//! Where in an image the product is.

use image::{GrayImage, Luma, RgbImage, imageops};
use imageproc::contrast::otsu_level;
use serde::{Deserialize, Serialize};

use super::mask;

/// How the foreground of a normal image is found; pseudo-anomalies are put there.
///
/// BGAD's published code ships masks drawn by its authors; where such a mask exists, hand it to
/// [`pseudo_anomaly`](super::pseudo_anomaly) instead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Foreground {
    /// The whole image: textures, and products that fill the picture.
    #[default]
    Whole,
    /// Otsu's threshold on grey: of the darker and the brighter side, the one that the border of
    /// the image touches less. Specks below 0.1 % of the image are dropped, holes up to 1 % are
    /// filled.
    ///
    /// The whole image where that fails: one grey value only, both sides touch the border equally
    /// much, or less than 1 % is left.
    Otsu,
}

/// About how many pixels the threshold is found from.
const SAMPLED: u64 = 1 << 22;

impl Foreground {
    /// The names on the command line and in configurations.
    pub const NAMES: [(Self, &'static str); 2] = [(Self::Whole, "whole"), (Self::Otsu, "otsu")];

    /// 255 in the foreground, else 0; `None` is the whole image.
    pub fn mask(self, image: &RgbImage) -> Option<GrayImage> {
        match self {
            Self::Whole => None,
            Self::Otsu => otsu(image),
        }
    }
}

impl std::fmt::Display for Foreground {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let named = Self::NAMES
            .iter()
            .find(|(foreground, _)| foreground == self);
        f.write_str(named.map_or("", |(_, name)| name))
    }
}

impl std::str::FromStr for Foreground {
    type Err = crate::error::Error;

    fn from_str(name: &str) -> crate::error::Result<Self> {
        let known = Self::NAMES.into_iter().find(|(_, known)| *known == name);
        known.map(|(foreground, _)| foreground).ok_or_else(|| {
            crate::error::Error::usage(format!(
                "there is no way to find the foreground called '{name}'"
            ))
            .help(format!(
                "choose from {}",
                Self::NAMES.map(|(_, name)| name).join(", ")
            ))
        })
    }
}

fn otsu(image: &RgbImage) -> Option<GrayImage> {
    let grey = imageops::grayscale(image);
    let threshold = otsu_level(&sampled(&grey));
    let bright = GrayImage::from_fn(grey.width(), grey.height(), |x, y| {
        let bright = grey.get_pixel(x, y)[0] > threshold;
        Luma([if bright { 255 } else { 0 }])
    });
    let (bright_touches, border) = border(&bright);
    let side = match (2 * bright_touches).cmp(&border) {
        std::cmp::Ordering::Less => bright,
        std::cmp::Ordering::Equal => return None,
        std::cmp::Ordering::Greater => {
            let mut dark = bright;
            imageops::invert(&mut dark);
            dark
        }
    };
    let area = side.as_raw().len();
    let product = mask::fill_holes(&mask::drop_specks(&side, area / 1000), area / 100);
    (mask::marked(&product).len() * 100 >= area).then_some(product)
}

/// Every n-th pixel of an image too large for the 32-bit sums of `imageproc`.
fn sampled(grey: &GrayImage) -> GrayImage {
    let (width, height) = grey.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    let step = pixels.div_ceil(SAMPLED).isqrt().max(1) as u32;
    GrayImage::from_fn(width.div_ceil(step), height.div_ceil(step), |x, y| {
        *grey.get_pixel(x * step, y * step)
    })
}

/// How many pixels of the border are marked, of how many.
fn border(mask: &GrayImage) -> (usize, usize) {
    let (right, bottom) = (mask.width() - 1, mask.height() - 1);
    let at_border = mask
        .enumerate_pixels()
        .filter(|&(x, y, _)| x == 0 || y == 0 || x == right || y == bottom);
    at_border.fold((0, 0), |(marked, all), (_, _, value)| {
        (marked + usize::from(value[0] != 0), all + 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    /// A disc of one grey value on another, with grain and a small glint on it.
    fn disc(inside: u8, outside: u8) -> RgbImage {
        RgbImage::from_fn(60, 40, |x, y| {
            let (dx, dy) = (x as f64 - 30.0, y as f64 - 20.0);
            let glint = (28..31).contains(&x) && (18..21).contains(&y);
            let base = if dx.hypot(dy) < 15.0 && !glint {
                inside
            } else {
                outside
            };
            Rgb([base + ((x * 7 + y * 11) % 9) as u8; 3])
        })
    }

    #[test]
    fn otsu_finds_a_product_that_is_darker_or_brighter_and_fills_its_glint() {
        for (inside, outside) in [(200, 40), (40, 200)] {
            let found = Foreground::Otsu
                .mask(&disc(inside, outside))
                .expect("two sides");
            for (x, y, value) in found.enumerate_pixels() {
                let (dx, dy) = (f64::from(x) - 30.0, f64::from(y) - 20.0);
                assert_eq!(value[0] != 0, dx.hypot(dy) < 15.0, "{x} {y}");
            }
        }
    }

    #[test]
    fn without_two_sides_the_whole_image_is_foreground() {
        let flat = RgbImage::from_pixel(9, 5, Rgb([70, 71, 72]));
        let halves = RgbImage::from_fn(10, 6, |x, _| Rgb([if x < 5 { 0 } else { 200 }; 3]));
        let speck = RgbImage::from_fn(40, 40, |x, y| {
            Rgb([if (x, y) == (9, 9) { 255 } else { 0 }; 3])
        });
        let single = RgbImage::from_pixel(1, 1, Rgb([255; 3]));
        for image in [&flat, &halves, &speck, &single] {
            assert_eq!(Foreground::Otsu.mask(image), None);
        }
        assert_eq!(Foreground::Whole.mask(&disc(0, 200)), None);
    }

    #[test]
    fn large_images_are_sampled() {
        let small = GrayImage::new(300, 200);
        assert_eq!(sampled(&small).dimensions(), (300, 200));
        let large = GrayImage::new(8192, 4096);
        assert!(sampled(&large).as_raw().len() as u64 <= 2 * SAMPLED);
    }

    #[test]
    fn names_are_those_of_the_configuration() {
        for (foreground, name) in Foreground::NAMES {
            assert_eq!(name.parse::<Foreground>().expect("a name"), foreground);
            assert_eq!(foreground.to_string(), name);
            assert_eq!(serde_json::to_value(foreground).expect("serialises"), name);
        }
        assert!("otsy".parse::<Foreground>().is_err());
    }
}
