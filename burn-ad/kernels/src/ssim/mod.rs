//! Multi-scale structural similarity of planes, and its gradient, one plane at a time: all that belongs to
//! a plane stays in a core's cache.
//!
//! What is computed is that of `burn-ad`'s `ssim`: of s = x + y and d = x - y, with mean m and variance v
//! below the window, the structure loss is `v_d / ((v_s + v_d) / 2 + C2)` and the luminance loss
//! `m_d ^ 2 / ((m_s ^ 2 + m_d ^ 2) / 2 + C1)`.

mod gradient;
mod halves;
mod moments;
mod plane;

#[cfg(test)]
mod tests;

use rayon::prelude::*;

use crate::isa::Isa;
use crate::memory::scratch;
use crate::rows::TASK;
use plane::Plane;

/// A mean of this or less counts as zero: the slope of its power would leave the finite numbers.
const ZERO: f64 = 1e-12;

/// What similarity means.
#[derive(Clone, Copy, Debug)]
pub struct Measure<'a> {
    /// Weights of the window along one side; their sum is 1.
    pub window: &'a [f32],
    /// Exponent of each scale, the finest first.
    pub exponents: &'a [f64],
    /// `C1`, of luminance, and `C2`, of structure.
    pub constants: [f32; 2],
}

/// Sides of a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Scale {
    height: usize,
    width: usize,
    /// Places of the window.
    down: usize,
    across: usize,
}

impl Scale {
    fn places(self) -> usize {
        self.down * self.across
    }

    fn pixels(self) -> usize {
        self.height * self.width
    }
}

impl Measure<'_> {
    /// Sides of each scale's map, the finest first: the places of the window there.
    ///
    /// # Panics
    /// If there is no scale, or the window does not fit the last one.
    pub fn maps_of(&self, sides: [usize; 2]) -> Vec<[usize; 2]> {
        let scales = self.scales(sides);
        scales.iter().map(|of| [of.down, of.across]).collect()
    }

    fn scales(&self, [mut height, mut width]: [usize; 2]) -> Vec<Scale> {
        let window = self.window.len();
        assert!(
            window > 0 && !self.exponents.is_empty(),
            "no window or scale"
        );
        let mut scales = Vec::with_capacity(self.exponents.len());
        for _ in self.exponents {
            assert!(
                height >= window && width >= window,
                "a window of {window} does not fit {height} x {width} pixels"
            );
            scales.push(Scale {
                height,
                width,
                down: height - window + 1,
                across: width - window + 1,
            });
            (height, width) = (height.div_ceil(2), width.div_ceil(2));
        }
        scales
    }
}

/// Similarity of each plane of `x` to that of `y`, and its gradient with respect to `y` where one is wanted.
/// Planes are `sides` (height and width), row by row.
///
/// # Panics
/// If lengths do not fit, or the planes do not fit the measure.
pub fn similarity(
    isa: Isa,
    measure: &Measure<'_>,
    (x, y): (&[f32], &[f32]),
    sides: [usize; 2],
    out: &mut [f32],
    gradient: Option<&mut [f32]>,
) {
    let scales = measure.scales(sides);
    let pixels = scales[0].pixels();
    assert_eq!(x.len(), out.len() * pixels, "pixels of the first planes");
    assert_eq!(y.len(), x.len(), "pixels of the second planes");
    let one = |(x, y): (&[f32], &[f32]), out: &mut f32, gradient: Option<&mut [f32]>| {
        let length = Plane::length(&scales, gradient.is_some());
        *out = scratch(length, |memory| {
            let mut plane = Plane::new(isa, measure, &scales, memory, gradient.is_some());
            let losses = plane.losses(x, y);
            let (value, slopes) = combined(measure.exponents, &losses);
            if let Some(gradient) = gradient {
                plane.gradient(&slopes, gradient);
            }
            value as f32
        });
    };
    let pairs = x.par_chunks_exact(pixels).zip(y.par_chunks_exact(pixels));
    let together = TASK.div_ceil(pixels);
    match gradient {
        None => pairs
            .zip(out)
            .with_min_len(together)
            .for_each(|(pair, out)| one(pair, out, None)),
        Some(gradient) => {
            assert_eq!(gradient.len(), y.len(), "gradients of pixels");
            pairs
                .zip(out)
                .zip(gradient.par_chunks_exact_mut(pixels))
                .with_min_len(together)
                .for_each(|((pair, out), gradient)| one(pair, out, Some(gradient)));
        }
    }
}

/// SSIM maps of each plane of `x` and `y`: those of all scales ([`Measure::maps_of`]), one after the other.
///
/// # Panics
/// If lengths do not fit, or the planes do not fit the measure.
pub fn maps(
    isa: Isa,
    measure: &Measure<'_>,
    (x, y): (&[f32], &[f32]),
    sides: [usize; 2],
    out: &mut [f32],
) {
    let scales = measure.scales(sides);
    let pixels = scales[0].pixels();
    let places = scales.iter().map(|scale| scale.places()).sum::<usize>();
    assert!(x.len().is_multiple_of(pixels), "pixels of the first planes");
    assert_eq!(y.len(), x.len(), "pixels of the second planes");
    assert_eq!(out.len(), x.len() / pixels * places, "places of maps");
    x.par_chunks_exact(pixels)
        .zip(y.par_chunks_exact(pixels))
        .zip(out.par_chunks_exact_mut(places))
        .with_min_len(TASK.div_ceil(pixels))
        .for_each(|((x, y), out)| {
            scratch(Plane::length(&scales, false), |memory| {
                Plane::new(isa, measure, &scales, memory, false).maps(x, y, out);
            });
        });
}

/// The product of powers of `1 - loss`, and its slope by each loss; both 0 where a factor is not positive.
fn combined(exponents: &[f64], losses: &[f64]) -> (f64, Vec<f64>) {
    let factors = losses.iter().map(|loss| 1.0 - loss);
    // A NaN is not zero, and remains one.
    if factors.clone().any(|factor| factor <= ZERO) {
        return (0.0, vec![0.0; losses.len()]);
    }
    let both = factors.zip(exponents);
    let value = both
        .clone()
        .map(|(factor, exponent)| factor.powf(*exponent));
    let value = value.product::<f64>();
    let slopes = both.map(|(factor, exponent)| -value * exponent / factor);
    (value, slopes.collect())
}
