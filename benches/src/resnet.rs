//! A ResNet-18 that is trained: convolutions with batch normalisation in training mode.

use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Tensor, TensorData};
use burn_ad::ops::{
    Activation, Convolution, Padding, Statistics, conv2d, max_pool_3x3_stride_2, normalise,
};

use crate::noise;

/// PyTorch's default.
const EPSILON: f64 = 1e-5;
/// Channels of the four stages, two blocks each.
const STAGES: [usize; 4] = [64, 128, 256, 512];

/// torchvision's ResNet-18 without its classifier, all parameters trainable.
#[derive(Clone, Debug)]
pub struct ResNet18<AB: AutodiffBackend> {
    stem: NormalisedConv<AB>,
    blocks: Vec<Block<AB>>,
}

/// A convolution without bias, and the scale and offset of the normalisation that follows it.
#[derive(Clone, Debug)]
struct NormalisedConv<AB: AutodiffBackend> {
    weight: Tensor<AB, 4>,
    scale: Tensor<AB, 1>,
    offset: Tensor<AB, 1>,
    convolution: Convolution,
}

#[derive(Clone, Debug)]
struct Block<AB: AutodiffBackend> {
    first: NormalisedConv<AB>,
    second: NormalisedConv<AB>,
    shortcut: Option<NormalisedConv<AB>>,
}

impl<AB: AutodiffBackend> ResNet18<AB> {
    /// With random weights (He), scale 1 and offset 0, always the same.
    pub fn new(device: &AB::Device) -> Self {
        let stem = NormalisedConv::new([64, 3, 7, 7], 2, device);
        let mut inputs = 64;
        let mut blocks = Vec::new();
        for (stage, outputs) in STAGES.into_iter().enumerate() {
            for index in 0..2 {
                let stride = if stage > 0 && index == 0 { 2 } else { 1 };
                let shortcut = (inputs != outputs)
                    .then(|| NormalisedConv::new([outputs, inputs, 1, 1], stride, device));
                blocks.push(Block {
                    first: NormalisedConv::new([outputs, inputs, 3, 3], stride, device),
                    second: NormalisedConv::new([outputs, outputs, 3, 3], 1, device),
                    shortcut,
                });
                inputs = outputs;
            }
        }
        Self { stem, blocks }
    }

    /// The last feature map, `[batch, 512, height / 32, width / 32]`, of `[batch, 3, height, width]`.
    pub fn forward(&self, images: Tensor<AB, 4>) -> Tensor<AB, 4> {
        let x = self.stem.forward(images, None, Activation::Relu);
        let blocks = self.blocks.iter();
        blocks.fold(max_pool_3x3_stride_2(x), |x, block| block.forward(x))
    }

    /// Mean of the squares of the last feature map, backward to every parameter; the gradient of the
    /// stem's weights, which is computed last.
    pub fn step(&self, images: Tensor<AB, 4>) -> Tensor<AB::InnerBackend, 4> {
        let gradients = self.forward(images).square().mean().backward();
        self.stem
            .weight
            .grad(&gradients)
            .expect("the stem takes part in the loss")
    }
}

impl<AB: AutodiffBackend> NormalisedConv<AB> {
    fn new(shape: [usize; 4], stride: usize, device: &AB::Device) -> Self {
        let [outputs, inputs, height, width] = shape;
        let fan_in = inputs * height * width;
        // A uniform draw up to sqrt(6 / n) has variance 2 / n.
        let values = noise::centred(3, outputs * fan_in, (6.0 / fan_in as f32).sqrt());
        let weight = Tensor::from_data(TensorData::new(values, shape), device);
        Self {
            weight: weight.require_grad(),
            scale: Tensor::ones([outputs], device).require_grad(),
            offset: Tensor::zeros([outputs], device).require_grad(),
            convolution: Convolution {
                stride,
                padding: Padding::Symmetric(height / 2),
                groups: 1,
            },
        }
    }

    fn forward(
        &self,
        x: Tensor<AB, 4>,
        residual: Option<Tensor<AB, 4>>,
        activation: Activation,
    ) -> Tensor<AB, 4> {
        let x = conv2d(x, self.weight.clone(), None, self.convolution);
        let affine = Some((self.scale.clone(), self.offset.clone()));
        normalise(x, affine, residual, activation, Statistics::Batch, EPSILON)
    }
}

impl<AB: AutodiffBackend> Block<AB> {
    fn forward(&self, x: Tensor<AB, 4>) -> Tensor<AB, 4> {
        let residual = match &self.shortcut {
            Some(shortcut) => shortcut.forward(x.clone(), None, Activation::Identity),
            None => x.clone(),
        };
        let y = self.first.forward(x, None, Activation::Relu);
        self.second.forward(y, Some(residual), Activation::Relu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_autodiff::Autodiff;
    use burn_flex::Flex;

    type AB = Autodiff<Flex>;

    #[test]
    fn every_parameter_of_torchvisions_network_learns() {
        let device = Default::default();
        let network = ResNet18::<AB>::new(&device);
        let images = Tensor::from_data(
            TensorData::new(noise::centred(4, 2 * 3 * 64 * 64, 1.0), [2, 3, 64, 64]),
            &device,
        );
        let map = network.forward(images);
        assert_eq!(map.dims(), [2, 512, 2, 2]);
        let gradients = map.square().mean().backward();
        let mut parameters = 0;
        let blocks = network.blocks.iter();
        let convs = blocks.flat_map(|block| {
            [&block.first, &block.second]
                .into_iter()
                .chain(&block.shortcut)
        });
        for conv in convs.chain([&network.stem]) {
            let weight = conv.weight.grad(&gradients).expect("has a gradient");
            let scale = conv.scale.grad(&gradients).expect("has a gradient");
            let offset = conv.offset.grad(&gradients).expect("has a gradient");
            for gradient in [weight.flatten::<1>(0, 3), scale, offset] {
                parameters += gradient.dims()[0];
                let size = gradient.abs().max().into_scalar();
                assert!(size > 0.0 && size.is_finite(), "{size}");
            }
        }
        // torchvision.models.resnet18() has 11,689,512; its classifier 513,000 of them.
        assert_eq!(parameters, 11_689_512 - 513_000);
    }
}
