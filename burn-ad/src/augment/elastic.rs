//! Elastic distortion: an image as if drawn on rubber.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How strongly and how smoothly images are distorted; torchvision's `ElasticTransform`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Elastic {
    /// Shifts are `alpha / 2` pixels times the smoothed noise.
    pub alpha: f64,
    /// Standard deviation of the Gaussian that smooths the noise, in pixels.
    pub sigma: f64,
}

/// CKAAD's published values.
impl Default for Elastic {
    fn default() -> Self {
        Self {
            alpha: 200.0,
            sigma: 5.0,
        }
    }
}

/// Where each pixel of a distorted image comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Displacement {
    size: [usize; 2],
    /// For each pixel its shift (x, y) as torchvision counts: 2 is the width, or the height.
    shifts: Vec<[f32; 2]>,
}

impl Elastic {
    /// # Errors
    /// When a value is out of its range.
    pub fn validate(&self) -> Result<()> {
        let usable = self.alpha.is_finite()
            && self.alpha >= 0.0
            && self.sigma.is_finite()
            && self.sigma > 0.0;
        if usable {
            return Ok(());
        }
        Err(Error::usage(format!(
            "an elastic distortion of alpha {} and sigma {} is not possible",
            self.alpha, self.sigma
        ))
        .help("alpha must not be negative, sigma must be positive"))
    }

    /// A random displacement for images of `[height, width]` pixels.
    pub fn draw(&self, size: [usize; 2], rng: &mut ChaCha8Rng) -> Displacement {
        let count = size[0] * size[1];
        let noise = [(); 2].map(|()| (0..count).map(|_| rng.random_range(-1.0..1.0)).collect());
        self.displacement(size, &noise)
    }

    /// The displacement that noise in [-1, 1] makes, `[height * width]` along x and along y: smoothed,
    /// the border mirrored without its own pixel, and scaled.
    ///
    /// # Panics
    /// If the noise has another size.
    pub fn displacement(&self, size: [usize; 2], noise: &[Vec<f32>; 2]) -> Displacement {
        let [height, width] = size;
        let [x, y] = [(&noise[0], width), (&noise[1], height)].map(|(noise, side)| {
            assert_eq!(noise.len(), height * width, "noise");
            let scale = self.alpha / side as f64;
            let smooth = self.smooth(noise, size);
            smooth.into_iter().map(move |value| (value * scale) as f32)
        });
        Displacement {
            size,
            shifts: x.zip(y).map(|(x, y)| [x, y]).collect(),
        }
    }

    /// A Gaussian blur with torchvision's kernel.
    fn smooth(&self, noise: &[f32], [height, width]: [usize; 2]) -> Vec<f64> {
        let taps = (8.0 * self.sigma + 1.0) as usize | 1;
        let radius = (taps / 2) as isize;
        let weight = |offset: isize| (-0.5 * (offset as f64 / self.sigma).powi(2)).exp();
        let kernel: Vec<f64> = (-radius..=radius).map(weight).collect();
        let total: f64 = kernel.iter().sum();
        let along = |values: &[f64], lines: usize, count: usize, step: usize, skip: usize| {
            let mut out = vec![0.0; values.len()];
            for line in 0..lines {
                for place in 0..count {
                    let offsets = (-radius..=radius).zip(&kernel);
                    let sum: f64 = offsets
                        .map(|(offset, weight)| {
                            let from = mirrored(place as isize + offset, count);
                            weight * values[line * skip + from * step]
                        })
                        .sum();
                    out[line * skip + place * step] = sum / total;
                }
            }
            out
        };
        let values: Vec<f64> = noise.iter().map(|&value| f64::from(value)).collect();
        let rows = along(&values, height, width, 1, width);
        along(&rows, width, height, width, 1)
    }
}

/// The position in `0..count` that stands at `place` of a line mirrored at its end pixels.
fn mirrored(place: isize, count: usize) -> usize {
    let period = 2 * (count as isize - 1).max(1);
    let folded = place.rem_euclid(period);
    folded.min(period - folded).min(count as isize - 1) as usize
}

impl Displacement {
    /// From shifts (x, y) of each pixel, where 2 is the width, or the height.
    ///
    /// # Panics
    /// If there are more or fewer than pixels.
    pub fn new(size: [usize; 2], shifts: Vec<[f32; 2]>) -> Self {
        assert_eq!(shifts.len(), size[0] * size[1], "shifts");
        Self { size, shifts }
    }

    /// The distorted image of one channel `[height * width]`, bilinear; outside the image is `fill`.
    ///
    /// As in torchvision the border fades to `fill` twice: with the share `m` of a pixel's weights that
    /// lie inside, the result is `fill + m * sum(weight * (value - fill))`.
    ///
    /// # Panics
    /// If the channel has another size.
    pub fn apply(&self, channel: &[f32], fill: f32) -> Vec<f32> {
        let [height, width] = self.size;
        assert_eq!(channel.len(), height * width, "pixels of a channel");
        let place = |index: usize, shift: f32, side: usize| {
            index as f64 + f64::from(shift) * side as f64 / 2.0
        };
        let pixels = self.shifts.iter().enumerate();
        pixels
            .map(|(index, &[dx, dy])| {
                let x = place(index % width, dx, width);
                let y = place(index / width, dy, height);
                let (left, top) = (x.floor(), y.floor());
                let (mut sum, mut inside) = (0.0, 0.0);
                for (row, of_row) in [(top, 1.0 - (y - top)), (top + 1.0, y - top)] {
                    for (column, of_column) in [(left, 1.0 - (x - left)), (left + 1.0, x - left)] {
                        let within = (0.0..height as f64).contains(&row)
                            && (0.0..width as f64).contains(&column);
                        if within {
                            let value = channel[row as usize * width + column as usize];
                            sum += of_row * of_column * f64::from(value - fill);
                            inside += of_row * of_column;
                        }
                    }
                }
                (f64::from(fill) + inside * sum) as f32
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::train::stream_rng;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Reference {
        images: Vec<Image>,
        fields: Vec<Field>,
    }

    #[derive(Deserialize)]
    struct Image {
        kind: String,
        height: usize,
        width: usize,
        displacement: Vec<f32>,
        image: Vec<f32>,
        output: Vec<f32>,
    }

    #[derive(Deserialize)]
    struct Field {
        alpha: f64,
        sigma: f64,
        height: usize,
        width: usize,
        noise: Vec<f32>,
        field: Vec<f32>,
    }

    /// `tests/reference/ckaad.py`: torchvision's own results.
    fn reference() -> Reference {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/fixtures/ckaad/elastic.json"
        );
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn pairs(values: &[f32]) -> Vec<[f32; 2]> {
        let (pairs, rest) = values.as_chunks();
        assert!(rest.is_empty());
        pairs.to_vec()
    }

    #[test]
    fn a_given_displacement_gives_torchvisions_image() {
        for image in reference().images {
            let size = [image.height, image.width];
            let displacement = Displacement::new(size, pairs(&image.displacement));
            let planes = image.image.chunks(image.height * image.width);
            let found: Vec<f32> = planes.flat_map(|p| displacement.apply(p, 0.0)).collect();
            // torchvision computes positions in f32; bytes are rounded at the end.
            let whole = image.kind == "uint8";
            let tolerance = if whole { 0.51 } else { 2e-5 };
            for (a, b) in found.iter().zip(&image.output) {
                assert!((a - b).abs() < tolerance, "{}: {a} {b}", image.kind);
            }
        }
    }

    #[test]
    fn noise_becomes_torchvisions_field() {
        for field in reference().fields {
            let elastic = Elastic {
                alpha: field.alpha,
                sigma: field.sigma,
            };
            let (x, y) = field.noise.split_at(field.height * field.width);
            let noise = [x.to_vec(), y.to_vec()];
            let found = elastic.displacement([field.height, field.width], &noise);
            let expected = pairs(&field.field);
            let largest = field.field.iter().fold(0f32, |a, b| a.max(b.abs()));
            for (a, b) in found.shifts.iter().flatten().zip(expected.iter().flatten()) {
                assert!((a - b).abs() < 2e-6 * largest.max(1.0), "{a} {b}");
            }
        }
    }

    #[test]
    fn another_fill_shifts_everything_alike() {
        let elastic = Elastic::default();
        let displacement = elastic.draw([20, 30], &mut stream_rng(0, "elastic"));
        assert_eq!(
            displacement,
            elastic.draw([20, 30], &mut stream_rng(0, "elastic"))
        );
        let image: Vec<f32> = (0..600).map(|i| (i * 7 % 31) as f32 / 31.0).collect();
        let shifted: Vec<f32> = image.iter().map(|value| (value - 0.4) / 0.2).collect();
        let plain = displacement.apply(&image, 0.0);
        let other = displacement.apply(&shifted, -0.4 / 0.2);
        assert_ne!(plain, image);
        for (a, b) in plain.iter().zip(&other) {
            assert!(((a - 0.4) / 0.2 - b).abs() < 1e-5);
        }
    }

    #[test]
    fn a_line_of_one_pixel_is_mirrored_onto_itself() {
        let elastic = Elastic::default();
        let displacement = elastic.draw([1, 3], &mut stream_rng(0, "narrow"));
        assert_eq!(displacement.apply(&[1.0; 3], 1.0), [1.0; 3]);
        for bad in [
            Elastic {
                alpha: -1.0,
                sigma: 5.0,
            },
            Elastic {
                alpha: 1.0,
                sigma: 0.0,
            },
        ] {
            assert!(bad.validate().is_err());
        }
    }
}
