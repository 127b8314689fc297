//! Normalisation by statistics of the data itself, as networks in training use it.

use burn::prelude::*;

use super::{Activation, cpu};

/// Over which values mean and variance are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistics {
    /// One mean a channel, over all images and positions: batch normalisation in training.
    Batch,
    /// One mean a channel of each image, over its positions: instance normalisation.
    Instance,
}

/// `activation((x - mean) / sqrt(variance + epsilon) * scale + offset + residual)`.
///
/// `x` and `residual` are `[batch, channels, height, width]`; `affine` is scale and offset, both
/// `[channels]`, 1 and 0 when left out. The variance is the biased one (divided by the number of
/// values), as PyTorch's `batch_norm` and `instance_norm` normalise with.
///
/// # Panics
/// When scale, offset or residual have another size.
pub fn normalise<B: Backend>(
    x: Tensor<B, 4>,
    affine: Option<(Tensor<B, 1>, Tensor<B, 1>)>,
    residual: Option<Tensor<B, 4>>,
    activation: Activation,
    statistics: Statistics,
    epsilon: f64,
) -> Tensor<B, 4> {
    if let Some(kernels) = cpu::kernels_for::<B>()
        && cpu::is_f32(&x)
    {
        let known = activation.shows_its_slope();
        let call = cpu::norm::Call {
            x: cpu::open(x),
            affine: affine.map(|(scale, offset)| [cpu::open(scale), cpu::open(offset)]),
            residual: residual.map(cpu::open),
            activation: if known {
                activation
            } else {
                Activation::Identity
            },
            statistics,
            epsilon,
        };
        let y = cpu::close(cpu::norm::normalise(kernels, call));
        return if known { y } else { activation.apply(y) };
    }
    let shape @ [batch, channels, height, width] = x.dims();
    // One row for each channel of each image; a value a row is [batch * channels, 1].
    let rows = x.reshape([batch * channels, height * width]);
    let mean = |rows: Tensor<B, 2>| {
        let means = rows.mean_dim(1);
        match statistics {
            Statistics::Instance => means,
            Statistics::Batch => {
                let channel_means = means.reshape([batch, channels]).mean_dim(0);
                each_row(channel_means, batch)
            }
        }
    };
    let centred = rows.clone() - mean(rows);
    let variance = mean(centred.clone().square());
    let mut factor = (variance + epsilon).sqrt().recip();
    let mut offset = None;
    if let Some((scale, shift)) = affine {
        factor = factor * each_row(scale.reshape([1, channels]), batch);
        offset = Some(each_row(shift.reshape([1, channels]), batch));
    }
    let mut y = centred * factor;
    if let Some(offset) = offset {
        y = y + offset;
    }
    let mut y = y.reshape(shape);
    if let Some(residual) = residual {
        assert_eq!(residual.dims(), shape, "the residual's size");
        y = y + residual;
    }
    activation.apply(y)
}

/// Mean and biased variance of each channel over all images and positions, `[channels]` each, without
/// gradients.
pub fn channel_moments<B: Backend>(x: Tensor<B, 4>) -> (Tensor<B, 1>, Tensor<B, 1>) {
    let x = match cpu::open_without_gradient(x.detach()) {
        Ok((kernels, x)) => {
            let [mean, variance] = cpu::norm::channel_moments(kernels, x);
            return (cpu::close(mean), cpu::close(variance));
        }
        Err(x) => x,
    };
    let [batch, channels, height, width] = x.dims();
    let rows = x.reshape([batch * channels, height * width]);
    let mean = |rows: Tensor<B, 2>| rows.mean_dim(1).reshape([batch, channels]).mean_dim(0);
    // About the mean, so that nothing cancels.
    let centre = mean(rows.clone());
    let variance = mean((rows - each_row(centre.clone(), batch)).square());
    (centre.reshape([channels]), variance.reshape([channels]))
}

/// `[1, channels]` repeated for every image: `[batch * channels, 1]`.
fn each_row<B: Backend>(values: Tensor<B, 2>, batch: usize) -> Tensor<B, 2> {
    let channels = values.dims()[1];
    values.repeat_dim(0, batch).reshape([batch * channels, 1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::assert_close;
    use burn_autodiff::Autodiff;
    use burn_flex::Flex;

    type AB = Autodiff<Flex>;

    const SHAPE: [usize; 4] = [2, 2, 1, 3];
    const EPSILON: f64 = 1e-2;

    fn map(values: [f32; 12]) -> Tensor<AB, 4> {
        Tensor::<AB, 1>::from_floats(values, &Default::default())
            .reshape(SHAPE)
            .detach()
            .require_grad()
    }

    fn channels(values: [f32; 2]) -> Tensor<AB, 1> {
        Tensor::from_floats(values, &Default::default()).require_grad()
    }

    fn x() -> Tensor<AB, 4> {
        map([
            -1.0, 0.75, -0.25, 1.5, 0.5, -0.5, 1.25, 0.25, -0.75, 1.0, 0.0, -1.0,
        ])
    }

    /// Gradients of this weighted sum are what the tests compare.
    fn weighted_sum(y: Tensor<AB, 4>) -> Tensor<AB, 1> {
        let weights = [
            -1.5, 1.5, -0.5, 2.5, 0.5, -1.5, 1.5, -0.5, 2.5, 0.5, -1.5, 1.5,
        ];
        let weights = Tensor::<AB, 1>::from_floats(weights, &Default::default());
        (y * weights.reshape(SHAPE)).sum()
    }

    /// Expected values, then gradients of input, scale, offset and residual.
    type Affine = ([f32; 12], [f32; 12], [f32; 2], [f32; 2], [f32; 12]);

    fn check_affine(statistics: Statistics, expected: &Affine) {
        let (x, scale, offset) = (x(), channels([1.5, -0.5]), channels([0.25, -1.0]));
        let residual = map([
            -0.5, 0.75, 0.25, -0.25, 1.0, 0.5, 0.0, -0.5, 0.75, 0.25, -0.25, 1.0,
        ]);
        let y = normalise(
            x.clone(),
            Some((scale.clone(), offset.clone())),
            Some(residual.clone()),
            Activation::Relu,
            statistics,
            EPSILON,
        );
        let gradients = weighted_sum(y.clone()).backward();
        let (values, of_x, of_scale, of_offset, of_residual) = expected;
        // The expected numbers have six digits after the point.
        assert_close(y, values, 5e-6);
        assert_close(x.grad(&gradients).expect("used"), of_x, 5e-6);
        assert_close(scale.grad(&gradients).expect("used"), of_scale, 5e-6);
        assert_close(offset.grad(&gradients).expect("used"), of_offset, 5e-6);
        assert_close(residual.grad(&gradients).expect("used"), of_residual, 5e-6);
    }

    fn check_plain(statistics: Statistics, values: &[f32; 12], of_x: &[f32; 12]) {
        let x = x();
        let y = normalise(
            x.clone(),
            None,
            None,
            Activation::Identity,
            statistics,
            EPSILON,
        );
        let gradients = weighted_sum(y.clone()).backward();
        assert_close(y, values, 5e-6);
        assert_close(x.grad(&gradients).expect("used"), of_x, 5e-6);
    }

    #[test]
    fn batch_statistics_equal_pytorch() {
        // torch.nn.functional.batch_norm(x, None, None, scale, offset, True, 0.1, 1e-2) in float64,
        // plus residual, relu; the same without any of them.
        check_affine(
            Statistics::Batch,
            &(
                [
                    0.0, 2.324322, 0.0, 0.0, 0.0, 0.0, 2.509138, 0.139507, 0.0, 0.0, 0.0, 0.726957,
                ],
                [
                    0.618235, 1.075305, -0.387784, -0.161947, 0.083924, 0.329794, 0.404626,
                    -1.993279, 0.282896, -0.039011, 0.206859, -0.419619,
                ],
                [3.453625, -2.180872],
                [2.5, 1.5],
                [0.0, 1.5, 0.0, 0.0, 0.0, 0.0, 1.5, -0.5, 0.0, 0.0, 0.0, 1.5],
            ),
        );
        check_plain(
            Statistics::Batch,
            &[
                -1.298355, 0.882882, -0.363539, 1.453914, 0.290783, -0.872349, 1.506092, 0.259671,
                -0.98675, 0.872349, -0.290783, -1.453914,
            ],
            &[
                -1.652392, 0.674915, -1.011095, 1.454679, -0.019233, -1.493144, 0.271499,
                -1.414511, 3.131584, -0.445408, -1.91932, 2.422426,
            ],
        );
    }

    #[test]
    fn instance_statistics_equal_pytorch() {
        // torch.nn.functional.instance_norm with the same arguments.
        check_affine(
            Statistics::Instance,
            &(
                [
                    0.0, 2.899692, 0.327301, 0.0, 0.0, 0.107831, 2.073492, 0.0, 0.0, 0.0, 0.0,
                    0.607831,
                ],
                [
                    0.865877, 0.705448, -1.571325, 0.145221, -0.303915, 0.158695, 0.476084,
                    -0.911746, 0.435662, -0.145221, 0.303915, -0.158695,
                ],
                [3.78075, 0.0],
                [2.5, 0.0],
                [0.0, 1.5, -0.5, 0.0, 0.0, -1.5, 1.5, 0.0, 0.0, 0.0, 0.0, 1.5],
            ),
        );
        check_plain(
            Statistics::Instance,
            &[
                -1.151328, 1.266461, -0.115133, 1.215661, 0.0, -1.215661, 1.215661, 0.0, -1.215661,
                1.215661, 0.0, -1.215661,
            ],
            &[
                0.111348, 0.153836, -0.265184, 0.035931, 0.0, -0.035931, 1.004068, -2.026102,
                1.022034, 1.004068, -2.026102, 1.022034,
            ],
        );
    }
}
