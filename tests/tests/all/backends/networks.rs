//! A member of each family of backbones.

use burn::tensor::backend::AutodiffBackend;
use burn_ad::backbone::BackboneConfig;
use burn_ad::tensors::to_vec;
use burn_flex::Flex;

use super::Place;
use super::compare::{assert_close, doubles, draw, tensor};

/// Basic blocks, bottlenecks, squeeze-and-excitation with swish, neither with ReLU6, and pre-activation blocks.
const FAMILIES: [&str; 5] = [
    "resnet18",
    "resnet50",
    "tf_efficientnet_b0",
    "tf_efficientnet_lite0",
    "igd-encoder-32",
];

pub(crate) fn every_tap_of_each_family_is_the_same<AB: AutodiffBackend>(place: &Place<AB>) {
    let shape = [1, 3, 32, 32];
    let images = draw("images", shape.iter().product());
    for name in FAMILIES {
        let config: BackboneConfig = name.parse().expect("known name");
        let levels: Vec<usize> = (0..config.feature_info().len()).collect();
        let cpu = Default::default();
        let network = config.random::<Flex>(1, &cpu);
        let expected = network.features(tensor(&images, shape, &cpu), &levels);
        let network = config.random::<AB::InnerBackend>(1, &place.device);
        let found = network.features(tensor(&images, shape, &place.device), &levels);
        for (level, (found, expected)) in found.into_iter().zip(expected).enumerate() {
            let what = format!("{name} level {level}");
            let expected = doubles(&to_vec(expected));
            assert_close(&what, &to_vec(found), &expected, place.tolerances.features);
        }
    }
}
