//! Names, shapes and numbers of parameters.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::prelude::*;
use burn_ad::method::igd::network::{Critic, Generator, GeneratorPlan};
use burn_ad::network::residual::{Maker, Normalisation};
use burn_ad::network::{Init, NormMode, save};
use burn_ad::tensors::TensorSet;
use burn_ad::train::stream_rng;
use burn_flex::Flex;
use serde::Deserialize;

use super::facts;

#[derive(Deserialize)]
struct Fixture {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    side: usize,
    features: Option<usize>,
    width: usize,
    decoder_width: usize,
    latent: usize,
    generator: Shapes,
    critic: Shapes,
    published: Published,
}

type Shapes = BTreeMap<String, Vec<usize>>;

/// Parameters of networks of the published widths.
#[derive(Deserialize)]
struct Published {
    generator: usize,
    critic: usize,
}

/// Networks of zeros, to be filled.
pub(super) fn networks<B: Backend>(plan: &GeneratorPlan) -> (Generator<B>, Critic<B>) {
    let (device, mut unused) = (Default::default(), stream_rng(0, "zeros"));
    let mut maker = Maker {
        norm: Normalisation::Batch(NormMode::Train),
        init: Init::Zeros,
        offsets: true,
        rng: &mut unused,
        device: &device,
    };
    let generator = Generator::new(plan, &mut maker);
    maker.norm = Normalisation::Layer;
    (generator, Critic::new(plan.side, plan.width, &mut maker))
}

fn shapes(network: &impl Module<Flex>) -> Shapes {
    let mut tensors = TensorSet::default();
    save(network, "", &mut tensors);
    let named = tensors.iter_mut();
    named
        .map(|(name, tensor)| {
            (
                name.trim_start_matches('.').to_owned(),
                tensor.shape.clone(),
            )
        })
        .collect()
}

fn parameters(network: &impl Module<Flex>) -> usize {
    let shapes = shapes(network).into_iter();
    let learnt = shapes.filter(|(name, _)| !name.contains(".running."));
    learnt
        .map(|(_, shape)| shape.iter().product::<usize>())
        .sum()
}

#[test]
fn names_shapes_and_sizes_are_those_of_torch() {
    let Fixture { cases } = facts("networks");
    assert_eq!(cases.len(), 8);
    for case in cases {
        let plan = GeneratorPlan {
            side: case.side,
            width: case.width,
            decoder_width: case.decoder_width,
            latent: case.latent,
            frozen: case.features,
            decodes: true,
        };
        let (generator, critic) = networks::<Flex>(&plan);
        assert_eq!(shapes(&generator), case.generator, "{plan:?}");
        assert_eq!(shapes(&critic), case.critic, "{plan:?}");

        let published = GeneratorPlan {
            width: 64,
            decoder_width: 64,
            latent: 128,
            ..plan
        };
        let (generator, critic) = networks::<Flex>(&published);
        assert_eq!(parameters(&generator), case.published.generator, "{plan:?}");
        assert_eq!(parameters(&critic), case.published.critic, "{plan:?}");
    }
}
