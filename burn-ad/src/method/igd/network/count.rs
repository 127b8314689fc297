//! How many numbers a model learns, before it is made.

use super::{GeneratorPlan, decoder};
use crate::network::residual::{FEATURES, LAST_SIDE, blocks, is_local, widths};

impl GeneratorPlan {
    /// Parameters of encoder, linear head and decoder; the critic's are not part of a trained model.
    ///
    /// # Panics
    /// If there is no network for the side ([`blocks`]).
    pub fn parameters(&self) -> usize {
        let encoder = match self.frozen {
            Some(_) => 0,
            None => of_encoder(self.side, self.width),
        };
        let decoder = match self.decodes {
            true => of_decoder(self.side, self.decoder_width, self.latent),
            false => 0,
        };
        encoder + linear(self.frozen.unwrap_or(FEATURES), self.latent) + decoder
    }
}

fn linear(inputs: usize, outputs: usize) -> usize {
    (inputs + 1) * outputs
}

/// A convolution with a bias.
fn conv(inputs: usize, outputs: usize, kernel: usize) -> usize {
    linear(inputs * kernel * kernel, outputs)
}

/// A block that has `middle` channels between its convolutions.
fn block(inputs: usize, middle: usize, outputs: usize) -> usize {
    let norms = 2 * (inputs + middle);
    norms + 9 * inputs * middle + conv(middle, outputs, 3) + conv(inputs, outputs, 1)
}

fn of_encoder(side: usize, width: usize) -> usize {
    let widths = widths(
        width,
        blocks(side).expect("a side that there is a network for"),
    );
    let widest = 8 * width;
    let ends = match is_local(side) {
        true => conv(3, width, 3),
        false => conv(3, width, 5) + conv(widest, widest, 3),
    };
    let blocks: usize = widths.windows(2).map(|w| block(w[0], w[0], w[1])).sum();
    ends + blocks + linear(widest * LAST_SIDE * LAST_SIDE, FEATURES)
}

fn of_decoder(side: usize, width: usize, latent: usize) -> usize {
    let widths = decoder::widths(
        width,
        blocks(side).expect("a side that there is a network for"),
    );
    let widest = 8 * width;
    let ends = match is_local(side) {
        true => conv(width, 3, 3),
        false => conv(widest, widest, 3) + conv(width, 3, 5),
    };
    let blocks: usize = widths.windows(2).map(|w| block(w[0], w[1], w[1])).sum();
    linear(latent, widest * LAST_SIDE * LAST_SIDE) + ends + blocks + 2 * width
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use super::super::{Critic, Generator};
    use super::*;
    use crate::network::residual::{Maker, Normalisation};
    use crate::network::{Init, NormMode, save};
    use crate::tensors::TensorSet;
    use crate::train::stream_rng;
    use burn_flex::Flex;
    use serde::Deserialize;

    type Shapes = BTreeMap<String, Vec<usize>>;

    #[derive(Deserialize)]
    struct Reference {
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

    /// Parameters of networks of the published widths.
    #[derive(Deserialize)]
    struct Published {
        generator: usize,
    }

    fn shapes(tensors: &mut TensorSet) -> Shapes {
        let named = tensors.iter_mut();
        named
            .map(|(name, tensor)| (name[1..].to_owned(), tensor.shape.clone()))
            .collect()
    }

    #[test]
    fn names_shapes_and_numbers_are_those_of_the_reference() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/fixtures/igd/networks.json"
        );
        let reference: Reference =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert!(reference.cases.len() > 4);
        for case in reference.cases {
            let plan = GeneratorPlan {
                side: case.side,
                width: case.width,
                decoder_width: case.decoder_width,
                latent: case.latent,
                frozen: case.features,
                decodes: true,
            };
            let device = Default::default();
            let mut rng = stream_rng(0, "zeros");
            let mut maker = Maker::<Flex> {
                norm: Normalisation::Batch(NormMode::Train),
                init: Init::Zeros,
                offsets: true,
                rng: &mut rng,
                device: &device,
            };
            let [mut generator, mut critic] = [TensorSet::default(), TensorSet::default()];
            save(&Generator::new(&plan, &mut maker), "", &mut generator);
            maker.norm = Normalisation::Layer;
            save(
                &Critic::new(case.side, case.width, &mut maker),
                "",
                &mut critic,
            );
            assert_eq!(shapes(&mut generator), case.generator, "{plan:?}");
            assert_eq!(shapes(&mut critic), case.critic, "{plan:?}");
            let learnt = case
                .generator
                .iter()
                .filter(|(name, _)| !name.contains("running"));
            let learnt = learnt.map(|(_, shape)| shape.iter().product::<usize>());
            assert_eq!(plan.parameters(), learnt.sum::<usize>(), "{plan:?}");
            let published = GeneratorPlan {
                width: 64,
                decoder_width: 64,
                latent: 128,
                ..plan
            };
            assert_eq!(published.parameters(), case.published.generator, "{plan:?}");
        }
    }
}
