//! DRAEM's anomalies: a texture shows through where Perlin noise is high.
//!
//! Source: Zavrtanik, Kristan, Skocaj, "DRAEM" (ICCV 2021), section 3.1.

use image::{GrayImage, Luma, Rgb, RgbImage};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::PseudoAnomaly;
use super::area::Area;
use super::draws::Draws;
use super::known::{Known, size};
use super::rand_augment::RandAugment;
use crate::error::{Error, Result};

/// Settings of DRAEM's anomalies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Perlin {
    /// Range of the texture's weight in the blend, within 0 to 1; the normal image has the rest.
    pub texture_weight: [f64; 2],
}

impl Default for Perlin {
    fn default() -> Self {
        Self::paper()
    }
}

/// Noise above this makes the mask (published code).
const THRESHOLD: f64 = 0.5;
/// How often noise that is nowhere high enough is drawn again.
const ATTEMPTS: usize = 16;

impl Perlin {
    /// The paper's equation 1: the texture's weight (its beta) is from 0.1 to 1.
    pub fn paper() -> Self {
        Self {
            texture_weight: [0.1, 1.0],
        }
    }

    /// The published code: its beta, 0 to 0.8, weighs the normal image, so the texture has 0.2 to 1.
    pub fn published_code() -> Self {
        Self {
            texture_weight: [0.2, 1.0],
        }
    }

    pub(super) fn validate(&self) -> Result<()> {
        let [low, high] = self.texture_weight;
        if !(0.0 <= low && low <= high && high <= 1.0) {
            return Err(Error::usage(format!(
                "perlin's texture_weight is [{low}, {high}], not a range within 0 to 1"
            )));
        }
        Ok(())
    }

    /// Blends a texture into a normal image: `(1 - w) normal + w texture` where the noise is above
    /// 0.5 and the foreground is, with one random weight.
    ///
    /// The texture is squashed to the normal image's size and augmented by three of *our* ten
    /// augmentations ([`RandAugment`]). Every draw yields an anomaly if it can; the half of DRAEM's
    /// images that stay normal is the caller's business.
    // Differs from the paper: DRAEM picks from a list of its own (posterise, solarise, invert and
    // others).
    pub(super) fn apply(
        &self,
        normal: &RgbImage,
        foreground: &Area<'_>,
        source: &Known,
        rng: &mut ChaCha8Rng,
    ) -> PseudoAnomaly {
        let augmented = RandAugment::default().apply(source, rng);
        // Once more the normal's size: a quarter turn may have swapped width and height.
        let texture = augmented.resized(size(normal));
        let draws = &mut Draws(rng);
        let weight = draws.uniform(self.texture_weight[0], self.texture_weight[1]);
        let mask = noise_mask(size(normal), foreground, draws);
        let mut image = normal.clone();
        for (x, y, pixel) in image.enumerate_pixels_mut() {
            if mask.get_pixel(x, y)[0] != 0 {
                let other = texture.image().get_pixel(x, y);
                *pixel = Rgb(std::array::from_fn(|c| {
                    let (a, b) = (f64::from(pixel[c]), f64::from(other[c]));
                    // Between the two, so it fits.
                    (a + (b - a) * weight).round() as u8
                }));
            }
        }
        PseudoAnomaly {
            image,
            mask,
            source: texture,
            foreground_shares: Vec::new(),
            moved: false,
        }
    }
}

/// Where noise is high in the foreground; empty if it is nowhere so in all attempts.
fn noise_mask(
    [width, height]: [u32; 2],
    foreground: &Area<'_>,
    draws: &mut Draws<'_>,
) -> GrayImage {
    let mut mask = GrayImage::new(width, height);
    for _ in 0..ATTEMPTS {
        let noise = Noise::draw([width, height], draws);
        let mut found = false;
        for (x, y, value) in mask.enumerate_pixels_mut() {
            let inside = foreground.contains([x.into(), y.into()]);
            if inside && noise.at(f64::from(x), f64::from(y)) > THRESHOLD {
                *value = Luma([255]);
                found = true;
            }
        }
        if found {
            break;
        }
    }
    mask
}

/// Gradients repeat after so many cells; only a rotated frame more than twice as long as high can
/// see that.
const PERIOD: usize = 64;

/// Perlin noise (one octave) on a rotated lattice of 1, 2, 4, .. 32 cells along each side, in `[-1, 1]`.
struct Noise {
    /// Unit vectors.
    gradients: Vec<[f64; 2]>,
    sides: [f64; 2],
    cells: [f64; 2],
    sin: f64,
    cos: f64,
}

impl Noise {
    fn draw(sides: [u32; 2], draws: &mut Draws<'_>) -> Self {
        let mut angle = || draws.uniform(0.0, std::f64::consts::TAU).sin_cos();
        let gradients = (0..PERIOD * PERIOD).map(|_| angle().into()).collect();
        let cells = [0, 1].map(|_| f64::from(1u32 << draws.below(6)));
        let (sin, cos) = draws.around_zero(90f64.to_radians()).sin_cos();
        Self {
            gradients,
            sides: sides.map(f64::from),
            cells,
            sin,
            cos,
        }
    }

    fn at(&self, x: f64, y: f64) -> f64 {
        // Rotated about the centre; the lattice starts at the frame's corner, as without rotation.
        let [width, height] = self.sides;
        let (x, y) = (x + 0.5 - width / 2.0, y + 0.5 - height / 2.0);
        let u = ((self.cos * x + self.sin * y) / width + 0.5) * self.cells[0];
        let v = ((self.cos * y - self.sin * x) / height + 0.5) * self.cells[1];
        let (column, row) = (u.floor(), v.floor());
        let (u, v) = (u - column, v - row);
        let slope = |right: usize, down: usize| {
            let wrap = |at: f64, step: usize| (at as i64).rem_euclid(PERIOD as i64) as usize + step;
            let place = wrap(row, down) % PERIOD * PERIOD + wrap(column, right) % PERIOD;
            let [a, b] = self.gradients[place];
            a * (u - right as f64) + b * (v - down as f64)
        };
        let fade = |t: f64| t * t * t * (t * (6.0 * t - 15.0) + 10.0);
        let mix = |a: f64, b: f64, share: f64| a + (b - a) * share;
        let upper = mix(slope(0, 0), slope(1, 0), fade(u));
        let lower = mix(slope(0, 1), slope(1, 1), fade(u));
        2f64.sqrt() * mix(upper, lower, fade(v))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::mask::marked;
    use super::*;
    use proptest::prelude::*;
    use rand_chacha::rand_core::SeedableRng;

    #[test]
    fn noise_is_bounded_continuous_and_zero_on_average() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut sum = 0.0;
        for _ in 0..50 {
            let noise = Noise::draw([100, 60], &mut Draws(&mut rng));
            for i in 0..400 {
                let (x, y) = (f64::from(i % 20) * 5.0, f64::from(i / 20) * 3.0);
                let value = noise.at(x, y);
                assert!(value.abs() <= 1.0 + 1e-12, "{value}");
                assert!((value - noise.at(x + 1e-4, y)).abs() < 1e-3);
                sum += value;
            }
        }
        assert!((sum / 20_000.0).abs() < 0.03, "{sum}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn only_marked_pixels_of_the_foreground_change_and_lie_between_both(
            seed: u64, width in 1u32..40, height in 1u32..40, source_side in 1u32..40,
        ) {
            let normal = RgbImage::from_fn(width, height, |x, y| Rgb([10 + x as u8, y as u8, 50]));
            let texture = RgbImage::from_fn(source_side, 7, |x, y| Rgb([200, 90 + x as u8, y as u8]));
            let foreground = GrayImage::from_fn(width, height, |x, _| Luma([u8::from(x < 20)]));
            let area = Area::new(&normal, Some(&foreground)).unwrap();
            let source = Known::unmarked(texture).unwrap();
            let run = || {
                let rng = &mut ChaCha8Rng::seed_from_u64(seed);
                Perlin::paper().apply(&normal, &area, &source, rng)
            };
            let made = run();
            for (x, y, pixel) in made.image.enumerate_pixels() {
                let (a, b) = (normal.get_pixel(x, y), made.source.image().get_pixel(x, y));
                if made.mask.get_pixel(x, y)[0] == 0 {
                    prop_assert_eq!(pixel, a);
                } else {
                    prop_assert!(x < 20);
                    for c in 0..3 {
                        prop_assert!((a[c].min(b[c])..=a[c].max(b[c])).contains(&pixel[c]));
                    }
                }
            }
            prop_assert_eq!(run(), made);
        }
    }

    #[test]
    fn pictures_of_usual_size_always_get_an_anomaly() {
        let normal = RgbImage::from_pixel(96, 64, Rgb([30; 3]));
        let source = Known::unmarked(RgbImage::from_pixel(64, 64, Rgb([200; 3]))).unwrap();
        let area = Area::new(&normal, None).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        for _ in 0..40 {
            let made = Perlin::published_code().apply(&normal, &area, &source, &mut rng);
            let count = marked(&made.mask).len();
            assert!((1..96 * 64 / 2).contains(&count), "{count}");
        }
    }
}
