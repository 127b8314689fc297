use super::*;
use crate::testing::affordable;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// Sides, window, exponents: odd and even sides, one place at the last scale, tails, one scale.
fn cases() -> Vec<([usize; 2], usize, Vec<f64>)> {
    vec![
        ([9, 12], 3, vec![0.3, 0.2, 0.5]),
        ([13, 7], 3, vec![0.4, 0.6]),
        ([5, 6], 5, vec![1.0]),
        ([3, 3], 3, vec![0.7]),
        ([41, 44], 11, vec![0.5, 0.25, 0.3]),
        ([37, 70], 3, vec![0.0516, 0.3295, 0.3463, 0.2726]),
    ]
}

fn window(size: usize) -> Vec<f32> {
    let weight = |at: usize| (-0.2 * (at as f64 - (size / 2) as f64).powi(2)).exp();
    let total: f64 = (0..size).map(weight).sum();
    (0..size).map(|at| (weight(at) / total) as f32).collect()
}

fn draw(rng: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| rng.random_range(-1.0..2.0)).collect()
}

/// Nearer to `x` than chance, so that no factor is negative.
fn near(rng: &mut ChaCha8Rng, x: &[f32]) -> Vec<f32> {
    let other = draw(rng, x.len());
    x.iter()
        .zip(&other)
        .map(|(x, other)| 0.6 * x + 0.4 * other)
        .collect()
}

/// A plane in `f64`.
#[derive(Clone)]
struct Image {
    sides: [usize; 2],
    pixels: Vec<f64>,
}

impl Image {
    fn new(sides: [usize; 2], pixels: &[f32]) -> Self {
        Self {
            sides,
            pixels: pixels.iter().map(|&value| f64::from(value)).collect(),
        }
    }

    /// 0 outside.
    fn at(&self, row: usize, column: usize) -> f64 {
        let [height, width] = self.sides;
        let inside = row < height && column < width;
        if inside {
            self.pixels[row * width + column]
        } else {
            0.0
        }
    }

    fn half(&self) -> Self {
        let [height, width] = self.sides;
        let sides = [height.div_ceil(2), width.div_ceil(2)];
        let mean = |place: usize| {
            let (row, column) = (place / sides[1] * 2, place % sides[1] * 2);
            let cell = |down: usize, across: usize| {
                let row = (row + down).wrapping_sub(height % 2);
                self.at(row, (column + across).wrapping_sub(width % 2))
            };
            (cell(0, 0) + cell(0, 1) + cell(1, 0) + cell(1, 1)) / 4.0
        };
        Self {
            sides,
            pixels: (0..sides[0] * sides[1]).map(mean).collect(),
        }
    }
}

/// SSIM and its structure factor at each place, as Wang et al. define them.
fn maps_of(x: &Image, y: &Image, measure: &Measure<'_>) -> Vec<[f64; 2]> {
    let size = measure.window.len();
    let [c1, c2] = measure.constants.map(f64::from);
    let places = [x.sides[0] - size + 1, x.sides[1] - size + 1];
    let each = |place: usize| {
        let (row, column) = (place / places[1], place % places[1]);
        let (mut mean, mut square, mut product) = ([0.0; 2], [0.0; 2], 0.0);
        for (down, across) in (0..size * size).map(|at| (at / size, at % size)) {
            let weight = f64::from(measure.window[down]) * f64::from(measure.window[across]);
            let pair = [x, y].map(|image| image.at(row + down, column + across));
            for side in 0..2 {
                mean[side] += weight * pair[side];
                square[side] += weight * pair[side] * pair[side];
            }
            product += weight * pair[0] * pair[1];
        }
        let variance = [0, 1].map(|side| square[side] - mean[side] * mean[side]);
        let covariance = product - mean[0] * mean[1];
        let structure = (2.0 * covariance + c2) / (variance[0] + variance[1] + c2);
        let luminance =
            (2.0 * mean[0] * mean[1] + c1) / (mean[0] * mean[0] + mean[1] * mean[1] + c1);
        [luminance * structure, structure]
    };
    (0..places[0] * places[1]).map(each).collect()
}

/// MS-SSIM, and the maps of all scales.
fn reference(x: &Image, y: &Image, measure: &Measure<'_>) -> (f64, Vec<f64>) {
    let (mut x, mut y) = (x.clone(), y.clone());
    let (mut value, mut maps) = (1.0, Vec::new());
    for (scale, exponent) in measure.exponents.iter().enumerate() {
        if scale > 0 {
            (x, y) = (x.half(), y.half());
        }
        let found = maps_of(&x, &y, measure);
        let which = usize::from(scale + 1 < measure.exponents.len());
        let mean = found.iter().map(|pair| pair[which]).sum::<f64>() / found.len() as f64;
        value *= if mean > 0.0 {
            mean.powf(*exponent)
        } else {
            0.0
        };
        maps.extend(found.iter().map(|pair| pair[0]));
    }
    (value, maps)
}

const PLANES: usize = 3;

/// Calls `check` with each case.
fn each_case(mut check: impl FnMut(&Measure<'_>, [usize; 2], &[f32], &[f32])) {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    for (sides, size, exponents) in cases() {
        if !affordable(sides[0] * sides[1] * size * size) {
            continue;
        }
        let window = window(size);
        let measure = Measure {
            window: &window,
            exponents: &exponents,
            constants: [0.01, 0.02],
        };
        let x = draw(&mut rng, PLANES * sides[0] * sides[1]);
        let y = near(&mut rng, &x);
        check(&measure, sides, &x, &y);
    }
}

#[test]
fn values_and_maps_equal_the_definition() {
    each_case(|measure, sides, x, y| {
        let pixels = sides[0] * sides[1];
        let places: usize = measure.maps_of(sides).iter().map(|[h, w]| h * w).sum();
        for isa in Isa::available() {
            let (mut values, mut found) = (vec![f32::NAN; PLANES], vec![f32::NAN; PLANES * places]);
            similarity(isa, measure, (x, y), sides, &mut values, None);
            maps(isa, measure, (x, y), sides, &mut found);
            for (plane, maps) in found.chunks_exact(places).enumerate() {
                let of = |all: &[f32]| Image::new(sides, &all[plane * pixels..][..pixels]);
                let (value, expected) = reference(&of(x), &of(y), measure);
                let error = (f64::from(values[plane]) - value).abs();
                assert!(error < 2e-6, "{isa} {sides:?}: {error}");
                assert_eq!(maps.len(), expected.len());
                for (found, expected) in maps.iter().zip(expected) {
                    // Variances of size 1 with C2 = 0.02 below them.
                    let error = (f64::from(*found) - expected).abs();
                    assert!(error < 1e-5, "{isa} {sides:?}: {error}");
                }
            }
        }
    });
}

#[test]
fn the_gradient_is_that_of_the_definition() {
    each_case(|measure, sides, x, y| {
        let pixels = sides[0] * sides[1];
        // Differences of f64 values; of the larger planes some pixels.
        let step = 1 + pixels / 60;
        for isa in Isa::available() {
            let (mut values, mut plain) = (vec![f32::NAN; PLANES], vec![f32::NAN; PLANES]);
            let mut gradient = vec![f32::NAN; x.len()];
            similarity(
                isa,
                measure,
                (x, y),
                sides,
                &mut values,
                Some(&mut gradient),
            );
            similarity(isa, measure, (x, y), sides, &mut plain, None);
            assert_eq!(values, plain, "{isa}");
            let largest = gradient.iter().fold(0.0f32, |a, b| a.max(b.abs()));
            let first = Image::new(sides, &x[..pixels]);
            let second = Image::new(sides, &y[..pixels]);
            for pixel in (0..pixels).step_by(step) {
                let moved = |by: f64| {
                    let mut second = second.clone();
                    second.pixels[pixel] += by;
                    reference(&first, &second, measure).0
                };
                let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                let error = (f64::from(gradient[pixel]) - expected).abs();
                assert!(
                    error < 1e-5 * f64::from(largest) + 1e-9,
                    "{isa} {sides:?} {pixel}: {error} of {largest}"
                );
            }
        }
    });
}

#[test]
fn equal_planes_have_one_and_opposite_ones_nothing() {
    each_case(|measure, sides, x, _| {
        let opposite: Vec<f32> = x.iter().map(|value| 1.0 - value).collect();
        for isa in Isa::available() {
            let (mut values, mut gradient) = (vec![f32::NAN; PLANES], vec![f32::NAN; x.len()]);
            similarity(
                isa,
                measure,
                (x, x),
                sides,
                &mut values,
                Some(&mut gradient),
            );
            assert_eq!(values, [1.0; PLANES], "{isa}");
            assert!(gradient.iter().all(|value| *value == 0.0), "{isa}");
            similarity(
                isa,
                measure,
                (x, &opposite),
                sides,
                &mut values,
                Some(&mut gradient),
            );
            assert_eq!(values, [0.0; PLANES], "{isa}");
            assert!(gradient.iter().all(|value| *value == 0.0), "{isa}");
        }
    });
}

#[test]
fn a_nan_is_not_hidden() {
    each_case(|measure, sides, x, y| {
        let mut broken = y.to_vec();
        broken[0] = f32::NAN;
        let mut values = vec![0.0; PLANES];
        similarity(Isa::best(), measure, (x, &broken), sides, &mut values, None);
        assert!(values[0].is_nan() && values[1].is_finite());
    });
}

#[test]
#[should_panic(expected = "does not fit 2 x 6")]
fn a_window_larger_than_the_last_scale_is_refused() {
    let measure = Measure {
        window: &[0.2, 0.6, 0.2],
        exponents: &[0.5, 0.5],
        constants: [0.01, 0.02],
    };
    measure.maps_of([4, 12]);
}
