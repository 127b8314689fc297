//! MS-SSIM against PyTorch, and what holds without a reference.
//!
//! The fixture says how far the package pytorch-msssim and PyTorch in f32 are from its numbers. Values of
//! MS-SSIM may differ by 1e-5, the package's distance included; gradients by 1e-4 of the largest, or by
//! three times what PyTorch in f32 does: where two images are nearly the same, the gradient is a small
//! difference of variances.

use burn::prelude::*;
use burn_ad::ssim::MsSsim;
use burn_ad::tensors::to_vec;
use burn_ad_tests::reference_fill::uniform;
use burn_flex::Flex;
use serde::Deserialize;

use super::{AB, Stored, apart, doubles, facts, length, sampled};

const VALUES: f64 = 1e-5;
const GRADIENTS: f64 = 1e-4;
/// Span of normalised pixels, and the smallest of them.
const RANGE: f64 = 4.7579;
const SMALLEST: f64 = -2.1179;

#[derive(Deserialize)]
struct Fixture {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    shape: [usize; 4],
    window: usize,
    sigma: f64,
    weights: Vec<f64>,
    range: f64,
    stored: bool,
    similarity: Vec<f64>,
    ssim: Vec<f64>,
    maps: bool,
    norm: f64,
    largest_gradient: f64,
    largest_ssim_gradient: f64,
    package: Distances,
    single: Distances,
}

/// From the values of the fixture.
#[derive(Deserialize)]
struct Distances {
    similarity: f64,
    gradient: f64,
    #[serde(default)]
    ssim: f64,
}

impl Case {
    fn ssim(&self) -> MsSsim {
        MsSsim {
            window: self.window,
            sigma: self.sigma,
            weights: self.weights.clone(),
            range: self.range,
        }
    }

    /// The two images; long ones are not stored.
    fn images(&self, stored: &Stored) -> [Tensor<AB, 4>; 2] {
        if self.stored {
            return ["x", "y"].map(|part| stored.tensor(&format!("{}.{part}", self.name)));
        }
        let count = self.shape.iter().product();
        let pixels = |key: &str| -> Vec<f32> {
            let values = uniform(key, count);
            values.map(|u| (RANGE * u + SMALLEST) as f32).collect()
        };
        let (x, other) = (pixels("ssim.published.x"), pixels("ssim.published.y"));
        let mixed = x.iter().zip(&other);
        let mixed = mixed.map(|(&x, &r)| (0.75 * f64::from(x) + 0.25 * f64::from(r)) as f32);
        let y = image(mixed.collect(), self.shape);
        [image(x, self.shape), y]
    }
}

fn image(values: Vec<f32>, shape: [usize; 4]) -> Tensor<AB, 4> {
    Tensor::from_data(TensorData::new(values, shape), &Default::default())
}

fn fixture() -> (Vec<Case>, Stored) {
    let fixture: Fixture = facts("ssim");
    (fixture.cases, Stored::read("ssim"))
}

/// A function's values, and the gradient of their sum by the second image.
fn with_gradient(
    function: impl Fn(Tensor<AB, 4>, Tensor<AB, 4>) -> Tensor<AB, 1>,
    [x, y]: [Tensor<AB, 4>; 2],
) -> (Vec<f32>, Vec<f32>) {
    let y = y.require_grad();
    let values = function(x, y.clone());
    let gradients = values.clone().sum().backward();
    let gradient = y.grad(&gradients).expect("it depends on y");
    (to_vec(values), to_vec(gradient))
}

#[test]
fn values_and_gradients_are_those_of_torch_and_of_the_package() {
    let (cases, stored) = fixture();
    assert_eq!(cases.len(), 8);
    for case in &cases {
        let ssim = case.ssim();
        ssim.check(case.shape[2], case.shape[3]).expect("it fits");
        let images = case.images(&stored);
        let (values, gradient) = with_gradient(|x, y| ssim.similarity(x, y), images.clone());
        let error = apart(&values, case.similarity.iter().copied());

        let norm = length(doubles(&gradient));
        let expected = stored.values(&format!("{}.gradient", case.name));
        let gradient = sampled(&gradient, expected.len());
        let slope = apart(&gradient, doubles(expected)) / case.largest_gradient;
        println!(
            "{}: {error:.1e} (f32 {:.1e}), gradient {slope:.1e} (f32 {:.1e})",
            case.name, case.single.similarity, case.single.gradient
        );
        let name = &case.name;
        assert!(error + case.package.similarity <= VALUES, "{name}: {error}");
        let allowed = GRADIENTS.max(3.0 * case.single.gradient);
        assert!(slope + case.package.gradient <= allowed, "{name}: {slope}");
        let length = (norm - case.norm).abs() / case.norm;
        assert!(length <= allowed, "{name}: a gradient of length {norm}");
    }
}

#[test]
fn one_scale_and_its_gradient_are_those_of_torch_and_of_the_package() {
    let (cases, stored) = fixture();
    for case in &cases {
        let ssim = case.ssim();
        let images = case.images(&stored);
        let (values, gradient) = with_gradient(|x, y| ssim.ssim(x, y), images);
        let error = apart(&values, case.ssim.iter().copied());
        println!("{}: {error:.1e}", case.name);
        assert!(error <= VALUES.max(case.package.ssim), "{}", case.name);
        if case.maps {
            let expected = stored.values(&format!("{}.ssim_gradient", case.name));
            let slope = apart(&gradient, doubles(expected)) / case.largest_ssim_gradient;
            assert!(slope <= GRADIENTS, "{}: gradient {slope}", case.name);
        }
    }
}

#[test]
fn maps_of_every_scale_are_those_of_torch() {
    let (cases, stored) = fixture();
    let with_maps: Vec<&Case> = cases.iter().filter(|case| case.maps).collect();
    assert_eq!(with_maps.len(), 2);
    for case in with_maps {
        let [x, y] = case.images(&stored);
        let maps = case.ssim().maps(x, y);
        assert_eq!(maps.len(), case.weights.len());
        for (scale, map) in maps.into_iter().enumerate() {
            let name = format!("{}.map.{scale}", case.name);
            assert_eq!(stored.host(&name).shape, map.dims(), "{name}");
            let error = apart(&to_vec(map), doubles(stored.values(&name)));
            assert!(error <= VALUES, "{name}: {error}");
        }
    }
}

const SCALES: [f64; 5] = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333];

fn of(window: usize, scales: usize) -> MsSsim {
    MsSsim {
        window,
        sigma: 1.5,
        weights: SCALES[..scales].to_vec(),
        range: RANGE,
    }
}

/// Images of one value each.
fn constant(levels: [f32; 3]) -> Tensor<AB, 4> {
    let planes = levels.map(|level| vec![level; 32 * 32]);
    image(planes.concat(), [3, 1, 32, 32])
}

#[test]
fn equal_images_have_exactly_one() {
    let drawn = |side: usize| {
        let count = 3 * side * side;
        let values = uniform("equal", count).map(|u| (RANGE * u + SMALLEST) as f32);
        image(values.collect(), [1, 3, side, side])
    };
    let levels = constant([0.0, -2.1179, 2.64]);
    for (x, ssim) in [
        (drawn(32), of(3, 4)),
        (drawn(37), of(3, 4)),
        (drawn(64), of(3, 5)),
        (drawn(176), of(11, 5)),
        (levels, of(3, 4)),
    ] {
        let found = ssim.similarity(x.clone(), x.clone());
        assert!(to_vec(found).iter().all(|&value| value == 1.0));
        assert!(
            to_vec(ssim.ssim(x.clone(), x))
                .iter()
                .all(|&value| value == 1.0)
        );
    }
}

#[test]
fn constant_images_have_finite_values_and_gradients() {
    let levels = constant([0.0, -2.1179, 2.64]);
    for other in [
        levels.clone(),
        constant([2.64, 2.64, -2.1179]),
        constant([1e-6, 0.0, 0.0]),
    ] {
        let (x, y) = (levels.clone().require_grad(), other.require_grad());
        let found = of(3, 4).similarity(x.clone(), y.clone());
        let gradients = found.clone().sum().backward();
        for value in to_vec(found) {
            assert!((0.0..=1.0).contains(&value), "{value}");
        }
        for leaf in [x, y] {
            let gradient = to_vec(leaf.grad(&gradients).expect("both are compared"));
            assert!(gradient.iter().all(|value| value.is_finite()));
        }
    }
}

#[test]
fn a_size_that_does_not_fit_is_an_error_that_names_one_that_does() {
    for (window, scales) in [(3, 4), (3, 5), (11, 5), (11, 1), (2, 3), (7, 2)] {
        let ssim = of(window, scales);
        let error = ssim.check(1, 1).expect_err("no window fits one pixel");
        assert!(error.is_usage(), "{error}");
        let said = error.to_string();
        let (_, number) = said.split_once("at least ").expect("a remedy");
        let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
        let smallest: usize = digits.parse().expect("a number");
        assert!(ssim.check(smallest - 1, 500).is_err());
        assert!(ssim.check(500, smallest - 1).is_err());
        ssim.check(smallest, smallest).expect("the size it names");
        // And that is no empty promise.
        let x = Tensor::<Flex, 4>::ones([1, 1, smallest, smallest], &Default::default());
        assert_eq!(to_vec(ssim.similarity(x.clone(), x)), [1.0]);
    }
    // As published, and on patches of 32 pixels.
    assert!(of(11, 5).check(256, 256).is_ok());
    assert!(of(11, 5).check(128, 128).is_err());
    assert!(of(3, 4).check(32, 32).is_ok());
}
