//! Functions of channels and of vectors.

use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn_ad::ops::{Activation, Neighbours, distances, position_mean, scale_channels};

use crate::backends::Place;
use crate::backends::compare::{Operation, assert_operation, draw, tensor};

const MAPS: [usize; 4] = [2, 3, 4, 5];

#[derive(Debug)]
enum Channelwise {
    Mean,
    Scale,
    Activation(Activation),
}

impl Operation for Channelwise {
    fn name(&self) -> String {
        format!("{self:?}")
    }

    fn shapes(&self) -> Vec<Vec<usize>> {
        let [batch, channels, ..] = MAPS;
        match self {
            Self::Scale => vec![MAPS.to_vec(), vec![batch, channels, 1, 1]],
            _ => vec![MAPS.to_vec()],
        }
    }

    fn run<B: Backend>(&self, mut inputs: Vec<Tensor<B, 1>>) -> Tensor<B, 1> {
        let [batch, channels, ..] = MAPS;
        let x = inputs.remove(0).reshape(MAPS);
        match self {
            Self::Mean => position_mean(x).flatten(0, 3),
            Self::Scale => {
                let scale = inputs.remove(0).reshape([batch, channels, 1, 1]);
                scale_channels(x, scale).flatten(0, 3)
            }
            // Ten times the draws, so that ReLU6 clips at both ends.
            Self::Activation(activation) => activation.apply(x * 10.0).flatten(0, 3),
        }
    }

    fn formula(&self, inputs: &[Vec<f64>]) -> Vec<f64> {
        let positions = MAPS[2] * MAPS[3];
        let planes = inputs[0].chunks_exact(positions);
        match self {
            Self::Mean => planes
                .map(|plane| plane.iter().sum::<f64>() / positions as f64)
                .collect(),
            Self::Scale => planes
                .zip(&inputs[1])
                .flat_map(|(plane, scale)| plane.iter().map(move |value| value * scale))
                .collect(),
            Self::Activation(activation) => inputs[0]
                .iter()
                .map(|value| value * 10.0)
                .map(|x| match activation {
                    Activation::Identity => x,
                    Activation::Relu => x.max(0.0),
                    Activation::Relu6 => x.clamp(0.0, 6.0),
                    Activation::Swish => x / (1.0 + (-x).exp()),
                    Activation::LeakyRelu(slope) => x.max(f64::from(*slope) * x),
                })
                .collect(),
        }
    }
}

pub(crate) fn means_scales_and_activations_equal_their_definition<AB: AutodiffBackend>(
    place: &Place<AB>,
) {
    for operation in [
        Channelwise::Mean,
        Channelwise::Scale,
        Channelwise::Activation(Activation::Identity),
        Channelwise::Activation(Activation::Relu),
        Channelwise::Activation(Activation::Relu6),
        Channelwise::Activation(Activation::Swish),
        Channelwise::Activation(Activation::LeakyRelu(0.25)),
    ] {
        assert_operation(&operation, place);
    }
}

const QUERIES: [usize; 2] = [7, 5];
const BANK: [usize; 2] = [9, 5];

/// All distances of two sets of vectors, row by row.
fn all_distances(queries: &[f64], bank: &[f64]) -> Vec<Vec<f64>> {
    let distance = |a: &[f64], b: &[f64]| {
        let squares = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b));
        squares.sum::<f64>().sqrt()
    };
    queries
        .chunks_exact(QUERIES[1])
        .map(|q| bank.chunks_exact(BANK[1]).map(|b| distance(q, b)).collect())
        .collect()
}

#[derive(Debug)]
enum Between {
    All,
    Nearest,
}

impl Operation for Between {
    fn name(&self) -> String {
        format!("distances, {self:?}")
    }

    fn shapes(&self) -> Vec<Vec<usize>> {
        vec![QUERIES.to_vec(), BANK.to_vec()]
    }

    fn run<B: Backend>(&self, mut inputs: Vec<Tensor<B, 1>>) -> Tensor<B, 1> {
        let queries = inputs.remove(0).reshape(QUERIES);
        let bank = inputs.remove(0).reshape(BANK);
        match self {
            Self::All => distances(queries, bank).flatten(0, 1),
            Self::Nearest => Neighbours::new(bank).nearest(queries).0,
        }
    }

    fn formula(&self, inputs: &[Vec<f64>]) -> Vec<f64> {
        let all = all_distances(&inputs[0], &inputs[1]);
        match self {
            Self::All => all.concat(),
            Self::Nearest => all
                .iter()
                .map(|row| row.iter().copied().fold(f64::INFINITY, f64::min))
                .collect(),
        }
    }
}

pub(crate) fn distances_and_nearest_rows_equal_an_exhaustive_search<AB: AutodiffBackend>(
    place: &Place<AB>,
) {
    assert_operation(&Between::All, place);
    assert_operation(&Between::Nearest, place);
    let queries = draw("queries", QUERIES.iter().product());
    let bank = draw("bank", BANK.iter().product());
    let members = tensor::<AB::InnerBackend, 2>(&bank, BANK, &place.device);
    let (_, found) = Neighbours::new(members).nearest(tensor(&queries, QUERIES, &place.device));
    let found: Vec<i64> = found.into_data().iter::<i64>().collect();
    let doubles = crate::backends::compare::doubles;
    let expected: Vec<i64> = all_distances(&doubles(&queries), &doubles(&bank))
        .iter()
        .map(|row| {
            let smallest = row.iter().copied().fold(f64::INFINITY, f64::min);
            let at = row.iter().position(|&distance| distance == smallest);
            at.expect("a row has a smallest value") as i64
        })
        .collect();
    assert_eq!(found, expected);
}
