use super::*;
use crate::backbone::{Backbone, BackboneConfig};
use crate::network::residual::{Encoder, Maker, Normalisation};
use crate::network::{Init, NormMode, save};
use crate::tensors::to_vec;
use burn::module::AutodiffModule;
use burn::tensor::module::{avg_pool2d, conv2d};
use burn::tensor::ops::ConvOptions;
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

type Map = Tensor<Flex, 4>;

/// Tensors as training leaves them, of every name and shape in the contract of the encoder.
fn trained(config: StudentConfig) -> TensorSet {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut set = TensorSet::default();
    let mut add = |name: String, shape: &[usize], from: f32, to: f32| {
        let values = (0..shape.iter().product()).map(|_| rng.random_range(from..to));
        set.insert(
            format!("encoder.{name}"),
            HostTensor::new(shape, values.collect()),
        );
    };
    let mut conv = |name: &str, shape: [usize; 4], bias: bool| {
        let bound = (3.0 / shape[1..].iter().product::<usize>() as f32).sqrt();
        add(format!("{name}.weight"), &shape, -bound, bound);
        if bias {
            add(format!("{name}.bias"), &shape[..1], -0.3, 0.3);
        }
    };
    let channels = config.channels();
    let deepest = channels[channels.len() - 1];
    let kernel = if config.is_global() { 5 } else { 3 };
    conv("trunk.first", [channels[0], 3, kernel, kernel], true);
    for (index, sides) in channels.windows(2).enumerate() {
        let block = format!("trunk.blocks.{index}");
        let &[inputs, outputs] = sides else {
            unreachable!()
        };
        conv(&format!("{block}.conv1"), [inputs, inputs, 3, 3], false);
        conv(&format!("{block}.conv2"), [outputs, inputs, 3, 3], true);
        conv(&format!("{block}.shortcut"), [outputs, inputs, 1, 1], true);
    }
    if config.is_global() {
        conv("trunk.last", [deepest, deepest, 3, 3], true);
    }
    let hidden = deepest * GRID * GRID;
    let bound = (3.0 / hidden as f32).sqrt();
    add("hidden.weight".into(), &[OUTPUTS, hidden], -bound, bound);
    add("hidden.bias".into(), &[OUTPUTS], -0.3, 0.3);
    for (index, sides) in channels.windows(2).enumerate() {
        for norm in ["norm1", "norm2"] {
            let name = format!("trunk.blocks.{index}.{norm}");
            add(format!("{name}.weight"), &sides[..1], 0.5, 1.5);
            add(format!("{name}.bias"), &sides[..1], -0.5, 0.5);
            add(format!("{name}.running.mean"), &sides[..1], -0.5, 0.5);
            add(format!("{name}.running.variance"), &sides[..1], 0.2, 2.0);
        }
    }
    set
}

/// The encoder with its BatchNorms, layer by layer.
struct Unfolded(TensorSet);

impl Unfolded {
    fn get<const D: usize>(&mut self, name: &str) -> Tensor<Flex, D> {
        let name = format!("encoder.{name}");
        self.0
            .take_tensor(&name, [None; D], &Default::default())
            .expect("there")
    }

    fn conv(&mut self, x: Map, name: &str, stride: usize, bias: bool) -> Map {
        let weight: Map = self.get(&format!("{name}.weight"));
        let padding = weight.dims()[2] / 2;
        let bias = bias.then(|| self.get(&format!("{name}.bias")));
        let options = ConvOptions::new([stride; 2], [padding; 2], [1; 2], 1);
        conv2d(x, weight, bias, options)
    }

    /// `relu((x - mean) / sqrt(variance + epsilon) * weight + bias)`.
    fn norm(&mut self, x: Map, name: &str) -> Map {
        let mut part = |part: &str| {
            let values: Tensor<Flex, 1> = self.get(&format!("{name}.{part}"));
            values.reshape([1, -1, 1, 1])
        };
        let (mean, variance) = (part("running.mean"), part("running.variance"));
        let y = (x - mean) / (variance + BATCH_NORM_EPSILON).sqrt();
        (y * part("weight") + part("bias")).clamp_min(0.0)
    }

    fn block(&mut self, x: Map, name: &str) -> Map {
        let halve = |x| avg_pool2d(x, [2, 2], [2, 2], [0, 0], true, false);
        let y = self.norm(x.clone(), &format!("{name}.norm1"));
        let y = self.conv(y, &format!("{name}.conv1"), 1, false);
        let y = self.norm(y, &format!("{name}.norm2"));
        let y = halve(self.conv(y, &format!("{name}.conv2"), 1, true));
        y + self.conv(halve(x), &format!("{name}.shortcut"), 1, true)
    }

    fn forward(&mut self, images: Map, config: StudentConfig) -> Tensor<Flex, 2> {
        let stride = if config.is_global() { 2 } else { 1 };
        let mut x = self.conv(images, "trunk.first", stride, true);
        for index in 0..config.channels().len() - 1 {
            x = self.block(x, &format!("trunk.blocks.{index}"));
        }
        if config.is_global() {
            x = self.conv(x, "trunk.last", 2, true);
        }
        assert_eq!(x.dims()[2..], [GRID, GRID]);
        let weight: Tensor<Flex, 2> = self.get("hidden.weight");
        let bias: Tensor<Flex, 1> = self.get("hidden.bias");
        x.flatten::<2>(1, 3).matmul(weight.transpose()) + bias.unsqueeze()
    }
}

fn noise(shape: [usize; 4]) -> Map {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| rng.random_range(-1.7..1.7))
        .collect();
    Tensor::from_data(TensorData::new(values, shape), &Default::default())
}

fn built(config: StudentConfig) -> Backbone<Flex> {
    frozen(config, trained(config))
}

fn frozen(config: StudentConfig, mut tensors: TensorSet) -> Backbone<Flex> {
    let units = config.units_of("encoder", &mut tensors).expect("all there");
    tensors.finish().expect("all taken");
    let mut units = units.into_iter();
    BackboneConfig::Student(config)
        .build(&Default::default(), &mut |_| {
            Ok(units.next().expect("as many"))
        })
        .expect("they fit")
}

#[test]
fn a_folded_encoder_computes_what_the_trained_one_does() {
    for config in StudentConfig::ALL {
        let side = config.side();
        let images = noise([2, 3, side, side]);
        let expected = Unfolded(trained(config)).forward(images.clone(), config);
        let found = built(config).features(images, &[0]).remove(0);
        assert_eq!(found.dims(), [2, OUTPUTS, 1, 1]);
        let found = found.flatten::<2>(1, 3);
        let size = expected.clone().square().mean().sqrt().into_scalar();
        let difference = (found - expected).abs().max().into_scalar();
        assert!((0.05..50.0).contains(&size), "{}: {size}", config.name());
        // Up to 8192 products in f32, in another order.
        assert!(
            difference <= 2e-5 * size.max(1.0),
            "{}: {difference}",
            config.name()
        );
    }
}

#[test]
fn a_network_that_has_learnt_is_taken_over_by_its_names() {
    for config in [StudentConfig::Side32, StudentConfig::Side128] {
        let side = config.side();
        let mut maker = Maker::<Autodiff<Flex>> {
            norm: Normalisation::Batch(NormMode::Train),
            init: Init::Uniform,
            offsets: true,
            rng: &mut ChaCha8Rng::seed_from_u64(1),
            device: &Default::default(),
        };
        let encoder = Encoder::new(side, WIDTH, &mut maker);
        let images = noise([3, 3, side, side]);
        // Running statistics take part of the batch over.
        encoder.forward(Tensor::from_inner(images.clone()));
        let encoder = encoder.valid();
        let mut tensors = TensorSet::default();
        save(&encoder, "encoder", &mut tensors);
        let expected = encoder.forward(images.clone());
        let found = frozen(config, tensors).features(images, &[0]).remove(0);
        let difference = (found.flatten::<2>(1, 3) - expected.clone()).abs().max();
        let size = expected.abs().max().into_scalar();
        assert!(difference.into_scalar() <= 2e-5 * size, "{}", config.name());
    }
}

#[test]
fn a_larger_image_has_a_vector_for_each_square_and_zeros_fill_the_last_ones() {
    let network = built(StudentConfig::Side32);
    let whole = network.features(noise([1, 3, 64, 96]), &[0]).remove(0);
    assert_eq!(whole.dims(), [1, OUTPUTS, 2, 3]);
    let images = noise([1, 3, 40, 33]);
    let cut = network.features(images.clone(), &[0]).remove(0);
    let filled = images.pad((0, 31, 0, 24), PadMode::Constant(0.0));
    let filled = network.features(filled, &[0]).remove(0);
    assert_eq!(to_vec(cut), to_vec(filled));
}

#[test]
fn what_is_wrong_with_a_trained_encoder_is_named() {
    let config = StudentConfig::Side32;
    let mut negative = trained(config);
    for (name, tensor) in negative.iter_mut() {
        if name.ends_with("blocks.1.norm2.running.variance") {
            tensor.values[5] = -1.0;
        }
    }
    let error = config
        .units_of("encoder", &mut negative)
        .expect_err("refused");
    assert!(
        error.to_string().contains("trunk.blocks.1.norm2"),
        "{error}"
    );
    let mut other = trained(StudentConfig::Side64);
    let error = config.units_of("encoder", &mut other).expect_err("refused");
    assert!(
        error.to_string().contains("encoder.trunk.first.weight"),
        "{error}"
    );
}

#[test]
fn parts_of_a_batch_stay_within_the_budget() {
    let device = Default::default();
    let network = |config: StudentConfig| {
        let mut units = BackboneConfig::Student(config).random_units(0).into_iter();
        Student::<Flex>::build(&config.plan(), &device, &mut |_| {
            Ok(units.next().expect("as many").1)
        })
        .expect("they fit")
    };
    let small = network(StudentConfig::Side32);
    assert_eq!(small.side(), 32);
    assert_eq!(small.images_at_once([32, 32]), 51);
    assert_eq!(small.images_at_once([512, 512]), 1);
    let large = network(StudentConfig::Side256);
    assert_eq!(large.side(), 256);
    assert_eq!(large.images_at_once([256, 256]), 3);
}

#[test]
fn sides_name_their_encoders() {
    for config in StudentConfig::ALL {
        assert_eq!(StudentConfig::of_side(config.side()).expect("one"), config);
        assert!(config.name().ends_with(&format!("-{}", config.side())));
    }
    let error = StudentConfig::of_side(48).expect_err("none");
    assert!(
        error.is_usage() && error.to_string().contains("64, 128"),
        "{error}"
    );
}
