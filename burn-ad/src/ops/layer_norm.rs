//! Normalisation of whole images.

use burn::prelude::*;

use super::{Activation, cpu};

/// `activation((x - mean) / sqrt(variance + epsilon) * weight + bias)`, with mean and biased variance
/// over all values of an image, as PyTorch's `layer_norm` over `[channels, height, width]`.
///
/// `x` is `[batch, channels, height, width]`; weight and bias are `[height * width * channels]` in that
/// order, channels last.
///
/// # Panics
/// When weight or bias have another size than an image.
pub fn layer_normalise<B: Backend>(
    x: Tensor<B, 4>,
    weight: Tensor<B, 1>,
    bias: Tensor<B, 1>,
    activation: Activation,
    epsilon: f64,
) -> Tensor<B, 4> {
    let shape @ [batch, channels, height, width] = x.dims();
    let values = channels * height * width;
    assert_eq!(weight.dims(), [values], "weights of a layer normalisation");
    assert_eq!(bias.dims(), [values], "biases of a layer normalisation");
    if let Some(kernels) = cpu::kernels_for::<B>()
        && cpu::is_f32(&x)
    {
        let inputs = [cpu::open(x), cpu::open(weight), cpu::open(bias)];
        let (inside, behind) = match activation.shows_its_slope() {
            true => (activation, Activation::Identity),
            false => (Activation::Identity, activation),
        };
        let y = cpu::layer_norm::normalise(kernels, inputs, inside, epsilon);
        return behind.apply(cpu::close(y));
    }
    // In the order of the rows, which hold one image each.
    let row = |vector: Tensor<B, 1>| {
        let map = vector.reshape([height, width, channels]);
        map.permute([2, 0, 1]).reshape([1, values])
    };
    let rows = x.reshape([batch, values]);
    let centred = rows.clone() - rows.mean_dim(1);
    let variance = centred.clone().square().mean_dim(1);
    let normal = centred * (variance + epsilon).sqrt().recip();
    let y = normal * row(weight) + row(bias);
    activation.apply(y.reshape(shape))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::assert_close;
    use burn_autodiff::Autodiff;
    use burn_flex::Flex;

    type AB = Autodiff<Flex>;

    fn map(values: [f32; 16]) -> Tensor<AB, 4> {
        Tensor::<AB, 1>::from_floats(values, &Default::default())
            .reshape([2, 2, 2, 2])
            .detach()
            .require_grad()
    }

    fn vector(values: [f32; 8]) -> Tensor<AB, 1> {
        Tensor::from_floats(values, &Default::default()).require_grad()
    }

    #[test]
    fn values_and_gradients_equal_pytorch() {
        // relu(torch.nn.functional.layer_norm(x, [2, 2, 2], weight, bias, 1e-2)) in float64, with
        // weight and bias.reshape(2, 2, 2).permute(2, 0, 1); gradients of the sum of y * weights.
        let x = map([
            -1.0, 0.75, -0.25, 1.5, 0.5, -0.5, 1.25, 0.25, -0.75, 1.0, 0.0, -1.0, 2.0, -1.5, 0.25,
            0.75,
        ]);
        let weight = vector([1.5, -0.5, 1.0, 0.25, -1.25, 0.75, 2.0, -1.0]);
        let bias = vector([0.25, -1.0, 0.5, 0.75, -0.25, 1.0, 0.0, -0.5]);
        let y = layer_normalise(
            x.clone(),
            weight.clone(),
            bias.clone(),
            Activation::Relu,
            1e-2,
        );
        let weights = map([
            -1.5, 1.5, -0.5, 2.5, 0.5, -1.5, 1.5, -0.5, 2.5, 0.5, -1.5, 1.5, -1.0, 0.75, 1.25,
            -0.25,
        ]);
        let gradients = (y.clone() * weights).sum().backward();
        // The expected numbers have six digits after the point.
        let expected = [
            0.0, 1.037572, 0.613954, 2.918246, 0.0, 0.500413, 1.863954, 0.0, 0.0, 1.333953, 0.0,
            0.0, 0.0, 0.383348, 1.107839, 0.0,
        ];
        assert_close(y, &expected, 5e-6);
        let expected = [
            1.104057, -0.137631, 0.549963, 2.840888, -1.540049, -0.238087, -1.479776, -1.099365,
            -0.1622, 0.24664, -0.184174, -0.154876, -0.24277, 0.032316, 0.671212, -0.206148,
        ];
        assert_close(x.grad(&gradients).expect("used"), &expected, 5e-6);
        let expected = [
            0.0, 0.0, 1.223334, 0.397565, 0.345582, 1.90764, 3.647807, 0.0,
        ];
        assert_close(weight.grad(&gradients).expect("used"), &expected, 5e-6);
        let expected = [0.0, 0.0, 2.0, -0.75, -0.5, 2.75, 2.5, 0.0];
        assert_close(bias.grad(&gradients).expect("used"), &expected, 5e-6);
    }
}
