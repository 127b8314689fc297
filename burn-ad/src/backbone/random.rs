//! Seeded random weights: features for a demo or a test without a download.

use burn::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Backbone;
use super::config::BackboneConfig;
use super::plan::ConvPlan;
use super::spec::{Unit, UnitSpec};

impl BackboneConfig {
    /// A network of random weights, the same for one seed on every backend and machine.
    ///
    /// He initialisation with uniform draws from ChaCha8 on the host, residual branches scaled by
    /// their number, so that activations stay of order 1 however deep the network is. Biases are
    /// zero. Such features tell textures apart, but far less well than trained ones.
    pub fn random<B: Backend>(self, seed: u64, device: &B::Device) -> Backbone<B> {
        let mut units = self.random_units(seed).into_iter();
        self.build(device, &mut |_| {
            Ok(units.next().expect("one value per unit of the plan").1)
        })
        .expect("random units have the shapes of the plan")
    }

    /// The values that [`Self::random`] builds from, in the order of [`Self::units`].
    pub fn random_units(self, seed: u64) -> Vec<(UnitSpec, Unit)> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let draw = |plan: ConvPlan| {
            let unit = random_unit(&plan, &mut rng);
            (plan.unit, unit)
        };
        self.plan().into_iter().map(draw).collect()
    }
}

fn random_unit(plan: &ConvPlan, rng: &mut ChaCha8Rng) -> Unit {
    let [outputs, inputs, height, width] = plan.unit.shape;
    let fan_in = inputs * height * width;
    // A uniform draw from [-bound, bound) has variance bound^2 / 3.
    let bound = (3.0 * plan.gain / fan_in as f64).sqrt();
    let uniform = |_| {
        let unit = f64::from(rng.next_u32()) / 2f64.powi(31) - 1.0;
        (unit * bound) as f32
    };
    Unit {
        weight: (0..outputs * fan_in).map(uniform).collect(),
        bias: vec![0.0; outputs],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Distribution;
    use burn_flex::Flex;

    #[test]
    fn the_seed_decides_the_weights() {
        let config: BackboneConfig = "resnet18".parse().expect("known");
        let first = config.random_units(5);
        assert!(first == config.random_units(5));
        assert!(first != config.random_units(6));
        // Models name a random backbone by its seed: these draws must never change.
        let expected = [-0.083_280_37, -0.085_357_23, -0.063_699_86, 0.061_480_153];
        assert_eq!(first[0].1.weight[..4], expected);
    }

    #[test]
    fn activations_stay_of_order_one_in_deep_networks() {
        let device = Default::default();
        for name in [
            "resnet18",
            "resnet101",
            "tf_efficientnet_b5",
            "tf_efficientnet_lite4",
            "igd-encoder-32",
            "igd-encoder-64",
        ] {
            let config: BackboneConfig = name.parse().expect("known");
            let network = config.random::<Flex>(0, &device);
            let noise = Distribution::Normal(0.0, 1.0);
            let images = Tensor::<Flex, 4>::random([1, 3, 64, 64], noise, &device);
            let levels: Vec<usize> = (0..config.feature_info().len()).collect();
            for (level, map) in network.features(images, &levels).into_iter().enumerate() {
                let size = map.square().mean().sqrt().into_scalar();
                assert!((0.1..10.0).contains(&size), "{name} level {level}: {size}");
            }
        }
    }
}
