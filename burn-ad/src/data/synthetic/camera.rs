//! From the scene to 8-bit pixels: lens, light, sensor.

use image::{Rgb, RgbImage};

use super::canvas::{Canvas, Colour, DESIGN};
use super::stream::Draws;

/// How one picture was taken. Two canvases seen by the same exposure differ only where the canvases do.
pub(super) struct Exposure {
    size: usize,
    gain: Colour,
    /// Brightness change per unit to the right and downwards.
    gradient: [f32; 2],
    vignette: f32,
    /// Standard normal numbers, one per pixel and component.
    noise: Vec<Colour>,
}

/// Standard deviation of the noise that does not depend on the brightness, and of that at full brightness.
const READ_NOISE: f32 = 0.006;
const SHOT_NOISE: f32 = 0.010;
/// Share of a pixel's light that reaches each of its neighbours along an axis.
const LENS_BLUR: f32 = 0.12;

impl Exposure {
    pub(super) fn draw(size: usize, draws: &mut Draws) -> Self {
        let brightness = draws.uniform(0.95, 1.05);
        let warmth = draws.around_zero(0.012);
        let direction = draws.angle();
        let slope = draws.uniform(0.0, 0.07) / DESIGN;
        let vignette = draws.uniform(0.10, 0.15);
        let noise = (0..size * size)
            .map(|_| {
                // A colour sensor's noise is mostly common to the components after demosaicing.
                let common = 0.8 * draws.gaussian();
                std::array::from_fn(|_| common + 0.6 * draws.gaussian())
            })
            .collect();
        Self {
            size,
            gain: [1.0 + warmth, 1.0, 1.0 - warmth].map(|tint| brightness * tint),
            gradient: [slope * direction.cos(), slope * direction.sin()],
            vignette,
            noise,
        }
    }

    /// Takes the picture.
    pub(super) fn take(&self, canvas: &Canvas) -> RgbImage {
        let size = self.size;
        let rows = blurred(&canvas.pixels, size, 1);
        let sharp = blurred(&rows, size, size);
        let centre = DESIGN / 2.0;
        let unit = canvas.unit();
        RgbImage::from_fn(size as u32, size as u32, |column, row| {
            let pixel = row as usize * size + column as usize;
            let x = (column as f32 + 0.5) * unit - centre;
            let y = (row as f32 + 0.5) * unit - centre;
            let radius = (x * x + y * y) / (2.0 * centre * centre);
            let light = (1.0 + self.gradient[0] * x + self.gradient[1] * y)
                * (1.0 - self.vignette * radius);
            Rgb(std::array::from_fn(|c| {
                let value = (sharp[pixel][c] * light * self.gain[c]).max(0.0);
                let deviation = READ_NOISE + SHOT_NOISE * value.sqrt();
                let seen = value + deviation * self.noise[pixel][c];
                (seen * 255.0).round().clamp(0.0, 255.0) as u8
            }))
        })
    }
}

/// Three-tap blur along one axis (`stride` 1: rows, `size`: columns), edge pixels repeated.
fn blurred(pixels: &[Colour], size: usize, stride: usize) -> Vec<Colour> {
    (0..pixels.len())
        .map(|pixel| {
            let place = pixel / stride % size;
            let before = pixels[if place > 0 { pixel - stride } else { pixel }];
            let after = pixels[if place + 1 < size {
                pixel + stride
            } else {
                pixel
            }];
            std::array::from_fn(|c| {
                pixels[pixel][c] * (1.0 - 2.0 * LENS_BLUR) + LENS_BLUR * (before[c] + after[c])
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blur_keeps_the_total_light_inside() {
        let mut pixels = vec![[0.0; 3]; 49];
        pixels[24] = [1.0, 2.0, 3.0];
        let out = blurred(&blurred(&pixels, 7, 1), 7, 7);
        let total: f32 = out.iter().map(|p| p[1]).sum();
        assert!((total - 2.0).abs() < 1e-5);
        assert!(out[24][2] > out[23][2] && out[23][2] == out[17][2]);
        assert_eq!(out[21], [0.0; 3]);
    }
}
