use super::*;
use crate::isa::Isa;
use crate::testing::affordable;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

const EPSILON: f64 = 1e-5;
const ACTIVATIONS: [Activation; 4] = [
    Activation::Identity,
    Activation::Relu,
    Activation::Relu6,
    Activation::LeakyRelu(0.2),
];

/// Everything that goes in, in `f64`.
#[derive(Clone)]
struct Inputs {
    x: Vec<f64>,
    scale: Vec<f64>,
    offset: Vec<f64>,
    residual: Vec<f64>,
}

/// The definition; also the distance of the activation's input from its nearest kink.
fn reference(inputs: &Inputs, size: Size, activation: Activation) -> (Vec<f64>, f64) {
    let (mut out, mut nearest) = (vec![0.0; size.len()], f64::INFINITY);
    for group in 0..size.groups {
        for channel in 0..size.channels {
            let at = |row: usize| (group * size.rows + row) * size.channels + channel;
            let count = size.rows as f64;
            let mean = (0..size.rows).map(|row| inputs.x[at(row)]).sum::<f64>() / count;
            let squares = (0..size.rows).map(|row| (inputs.x[at(row)] - mean).powi(2));
            let inv_std = 1.0 / (squares.sum::<f64>() / count + EPSILON).sqrt();
            for row in 0..size.rows {
                let z = (inputs.x[at(row)] - mean) * inv_std * inputs.scale[channel]
                    + inputs.offset[channel]
                    + inputs.residual[at(row)];
                nearest = nearest.min(z.abs()).min((z - 6.0).abs());
                out[at(row)] = match activation {
                    Activation::Identity => z,
                    Activation::Relu => z.max(0.0),
                    Activation::Relu6 => z.clamp(0.0, 6.0),
                    Activation::LeakyRelu(slope) => z.max(f64::from(slope) * z),
                    Activation::Swish => z / (1.0 + (-z).exp()),
                };
            }
        }
    }
    (out, nearest)
}

fn draw(rng: &mut ChaCha8Rng, count: usize, centre: f32) -> Vec<f32> {
    (0..count)
        .map(|_| centre + rng.random_range(-1.7..1.7))
        .collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

#[test]
fn values_equal_the_definition() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let sizes = [
        (1, 1, 5),
        (2, 4, 3),
        (3, 35, 17),
        (1, 300, 64),
        (2, 700, 83),
    ];
    for (groups, rows, channels) in sizes {
        if !affordable(groups * rows * channels) {
            continue;
        }
        let size = Size {
            groups,
            rows,
            channels,
        };
        for centre in [0.0, 1000.0] {
            let x = draw(&mut rng, size.len(), centre);
            let (scale, offset) = (draw(&mut rng, channels, 0.0), draw(&mut rng, channels, 0.0));
            let residual = draw(&mut rng, size.len(), 0.0);
            for (case, activation) in ACTIVATIONS
                .into_iter()
                .chain([Activation::Swish])
                .enumerate()
            {
                let (affine, added) = (case != 1, case % 2 == 0);
                let norm = Norm {
                    size,
                    affine: affine.then_some((&scale, &offset)),
                    residual: added.then_some(&residual),
                    activation,
                };
                let inputs = Inputs {
                    x: wide(&x),
                    scale: if affine {
                        wide(&scale)
                    } else {
                        vec![1.0; channels]
                    },
                    offset: if affine {
                        wide(&offset)
                    } else {
                        vec![0.0; channels]
                    },
                    residual: if added {
                        wide(&residual)
                    } else {
                        vec![0.0; size.len()]
                    },
                };
                let (expected, _) = reference(&inputs, size, activation);
                for isa in Isa::available() {
                    let mut y = vec![f32::NAN; size.len()];
                    forward(isa, &x, &norm, EPSILON, &mut y);
                    for (found, expected) in y.iter().zip(&expected) {
                        // Values of a few units, some roundings each; a single row has variance 0,
                        // where 1 / sqrt(epsilon) = 316 magnifies the rounding of the mean.
                        let bound = if rows == 1 { 1e-4 } else { 4e-6 };
                        let error = (f64::from(*found) - expected).abs();
                        assert!(
                            error < bound,
                            "{isa} {size:?} {centre} {activation:?}: {error}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn given_moments_are_used() {
    let size = Size {
        groups: 1,
        rows: 3,
        channels: 2,
    };
    let norm = Norm {
        size,
        affine: None,
        residual: None,
        activation: Activation::Identity,
    };
    let moments = Moments::new(&[1.0, 2.0], &[4.0, 0.25], 0.0);
    let mut y = [0.0; 6];
    apply(
        Isa::best(),
        &[1.0, 2.0, 3.0, 3.0, -1.0, 1.0],
        &norm,
        &moments,
        &mut y,
    );
    assert_eq!(y, [0.0, 0.0, 1.0, 2.0, -1.0, -2.0]);
}

#[test]
fn gradients_equal_differences_of_the_definition() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    for (groups, rows, channels) in [(1, 3, 2), (2, 5, 3), (1, 40, 18), (2, 33, 5)] {
        // Each value's gradient takes two passes over all of them.
        if !affordable(usize::pow(groups * rows * channels, 2)) {
            continue;
        }
        let size = Size {
            groups,
            rows,
            channels,
        };
        for activation in ACTIVATIONS {
            // Differences across a kink would not be the slope.
            let (x, scale, offset, residual, inputs) = loop {
                let x = draw(&mut rng, size.len(), 3.0);
                let scale = draw(&mut rng, channels, 0.0);
                let offset = draw(&mut rng, channels, 2.0);
                let residual = draw(&mut rng, size.len(), 1.0);
                let inputs = Inputs {
                    x: wide(&x),
                    scale: wide(&scale),
                    offset: wide(&offset),
                    residual: wide(&residual),
                };
                if reference(&inputs, size, activation).1 > 2e-5 {
                    break (x, scale, offset, residual, inputs);
                }
            };
            let grad = draw(&mut rng, size.len(), 0.0);
            let loss = |inputs: &Inputs| -> f64 {
                let (y, _) = reference(inputs, size, activation);
                y.iter()
                    .zip(&grad)
                    .map(|(y, &grad)| y * f64::from(grad))
                    .sum()
            };
            let slope = |place: &dyn Fn(&mut Inputs) -> &mut f64| {
                let step = 2e-6;
                let (mut more, mut less) = (inputs.clone(), inputs.clone());
                *place(&mut more) += step;
                *place(&mut less) -= step;
                (loss(&more) - loss(&less)) / (2.0 * step)
            };
            let norm = Norm {
                size,
                affine: Some((&scale, &offset)),
                residual: Some(&residual),
                activation,
            };
            for isa in Isa::available() {
                let mut y = vec![0.0; size.len()];
                let moments = forward(isa, &x, &norm, EPSILON, &mut y);
                let (mut grad_x, mut grad_residual) =
                    (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
                let found = backward(
                    isa,
                    (&x, &y, &grad),
                    &norm,
                    &moments,
                    &mut grad_x,
                    Some(&mut grad_residual),
                );
                // Gradients of size 1 to 100 from sums of at most 80 terms; differences to 1e-6.
                let close = |found: f32, expected: f64, what: &str| {
                    let error = (f64::from(found) - expected).abs();
                    let bound = 2e-5 * (1.0 + expected.abs());
                    assert!(
                        error < bound,
                        "{isa} {size:?} {activation:?} {what}: {error}"
                    );
                };
                for i in 0..x.len() {
                    close(grad_x[i], slope(&|inputs| &mut inputs.x[i]), "x");
                    close(
                        grad_residual[i],
                        slope(&|inputs| &mut inputs.residual[i]),
                        "residual",
                    );
                }
                for i in 0..channels {
                    close(
                        found.scale[i],
                        slope(&|inputs| &mut inputs.scale[i]),
                        "scale",
                    );
                    close(
                        found.offset[i],
                        slope(&|inputs| &mut inputs.offset[i]),
                        "offset",
                    );
                }
                let mut again = vec![f32::NAN; x.len()];
                backward(isa, (&x, &y, &grad), &norm, &moments, &mut again, None);
                assert_eq!(again, grad_x, "{isa}");
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "too many values")]
fn nothing_depends_on_the_number_of_threads() {
    let size = Size {
        groups: 1,
        rows: 3000,
        channels: 70,
    };
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let (x, grad) = (
        draw(&mut rng, size.len(), 5.0),
        draw(&mut rng, size.len(), 0.0),
    );
    let norm = Norm {
        size,
        affine: None,
        residual: None,
        activation: Activation::Relu,
    };
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.expect("threads start").install(|| {
            let (mut y, mut grad_x) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            let moments = forward(Isa::best(), &x, &norm, EPSILON, &mut y);
            let values = (&x[..], &y[..], &grad[..]);
            let rest = backward(Isa::best(), values, &norm, &moments, &mut grad_x, None);
            (y, grad_x, rest)
        })
    };
    let one = run(1);
    assert!([2, 3].into_iter().all(|threads| run(threads) == one));
}
