//! Agreement with FrEIA and PyTorch (`tests/reference/flow.py`): outputs, log-determinants, inverses
//! and the gradient of every parameter.
//!
//! The reference is computed in f64. Tolerances are of the largest value of each tensor: PyTorch's own
//! f32 differs from it by up to 1.3e-6 in gradients and 2.7e-5 in inverses (rotations are rounded to
//! f32), so 2e-5 and 1e-4 leave room for another order of summation, and none for another formula.

use std::path::PathBuf;

use burn::tensor::{Tensor, TensorData};
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use serde::Deserialize;

use super::position::position_code;
use super::{Clamp, Condition, ConditionalFlow, Flow, FlowConfig, Permutation, StateDict};
use crate::tensors::{HostTensor, TensorSet, to_vec};
use crate::train::CosineSchedule;

type Cpu = Autodiff<Flex>;

#[derive(Deserialize)]
struct Index {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    file: String,
    channels: usize,
    condition: usize,
    blocks: usize,
    clamp: String,
    alpha: f64,
    permutation: String,
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures/flow")
        .join(name)
}

fn json<T: for<'a> Deserialize<'a>>(name: &str) -> T {
    let text = std::fs::read_to_string(path(name)).expect("fixture");
    serde_json::from_str(&text).expect("fixture is JSON")
}

struct Fixture(TensorSet);

impl Fixture {
    fn get(&mut self, name: &str) -> Option<HostTensor> {
        let found = self.0.iter_mut().find(|(key, _)| *key == name);
        found.map(|(_, tensor)| tensor.clone())
    }

    fn tensor<const D: usize>(&mut self, name: &str) -> Tensor<Cpu, D> {
        let host = self.get(name).expect(name);
        Tensor::from_data(
            TensorData::new(host.values, host.shape),
            &Default::default(),
        )
    }

    /// The tensors whose names begin with `prefix` and a block's number, by the rest of their names.
    fn blocks(&mut self, prefix: &str, count: usize) -> Vec<StateDict> {
        let mut blocks = vec![StateDict::new(); count];
        for (name, tensor) in self.0.iter_mut() {
            let Some(rest) = name.strip_prefix(prefix) else {
                continue;
            };
            let (index, name) = rest.split_once('.').expect("a block's number");
            let index: usize = index.parse().expect("a block's number");
            blocks[index].insert(name.to_owned(), tensor.clone());
        }
        blocks
    }
}

fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1e-6f32, |a, b| a.max(b.abs()));
    let worst = found
        .iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(worst <= tolerance * largest, "{what}: {worst} of {largest}");
}

#[test]
fn stacks_equal_freia_in_outputs_inverses_and_gradients() {
    let device = Default::default();
    for case in json::<Index>("index.json").cases {
        let config = FlowConfig {
            blocks: case.blocks,
            position_channels: case.condition,
            clamp: match case.clamp.as_str() {
                "tanh" => Clamp::Tanh,
                _ => Clamp::ScaledTanh,
            },
            alpha: case.alpha,
            permutation: match case.permutation.as_str() {
                "soft" => Permutation::Soft,
                _ => Permutation::Hard,
            },
        };
        let mut fixture = Fixture(TensorSet::read(&path(&case.file)).expect("fixture"));
        let state = fixture.blocks("state.module_list.", case.blocks);
        let flow: ConditionalFlow<Cpu> =
            ConditionalFlow::from_freia(&config, case.channels, &state, &device).expect("fits");
        let condition = match case.condition {
            0 => Condition::none(),
            _ => Condition::dense(fixture.tensor::<2>("condition")),
        };
        let mut check = |name: &str, values: Vec<f32>, tolerance: f32| {
            let expected = fixture.get(name).expect(name).values;
            assert_close(
                &format!("{} {name}", case.file),
                &values,
                &expected,
                tolerance,
            );
        };
        let mut inputs = Fixture(TensorSet::read(&path(&case.file)).expect("fixture"));
        let x = inputs.tensor::<2>("x").require_grad();
        let (z, log_det) = flow.forward(x.clone(), &condition);
        check("z", to_vec(z.clone().inner()), 1e-5);
        check("log_det", to_vec(log_det.clone().inner()), 1e-5);
        let back = flow.inverse(inputs.tensor("z"), &condition);
        check("x_back", to_vec(back.inner()), 1e-4);

        let scalar =
            (z * inputs.tensor::<2>("gz")).sum() + (log_det * inputs.tensor::<1>("gl")).sum();
        let gradients = scalar.backward();
        check(
            "grad.x",
            to_vec(x.grad(&gradients).expect("gradient")),
            2e-5,
        );
        let expected = inputs.blocks("grad.module_list.", case.blocks);
        let mut compared = 0;
        for (block, expected) in flow.blocks().iter().zip(expected) {
            if expected.is_empty() {
                continue;
            }
            compared += 1;
            let of = |param: &burn::module::Param<Tensor<Cpu, 2>>| -> Tensor<Flex, 2> {
                param.val().grad(&gradients).expect("gradient")
            };
            let mut first = of(&block.weight_x);
            if let Some(weight) = &block.weight_condition {
                first = Tensor::cat(vec![first, of(weight)], 0);
            }
            for (name, found) in [
                ("subnet.0.weight", first.transpose()),
                ("subnet.0.bias", of(&block.bias_hidden)),
                ("subnet.2.weight", of(&block.weight_out).transpose()),
                ("subnet.2.bias", of(&block.bias_out)),
                ("global_scale", of(&block.scale)),
                ("global_offset", of(&block.offset)),
            ] {
                let what = format!("{} gradient of {name}", case.file);
                assert_close(&what, &to_vec(found), &expected[name].values, 2e-5);
            }
            assert!(block.rotation.val().grad(&gradients).is_none());
        }
        assert!(compared >= 2, "{}", case.file);
    }
}

#[test]
fn position_codes_equal_the_reference() {
    let tensors = TensorSet::read(&path("position.safetensors")).expect("fixture");
    let mut fixture = Fixture(tensors);
    for (name, grid, channels) in [
        ("p128_8x8", [8, 8], 128),
        ("p128_5x7", [5, 7], 128),
        ("p16_3x4", [3, 4], 16),
    ] {
        let expected = fixture.get(name).expect(name);
        let positions = grid[0] * grid[1];
        let code = position_code(grid, channels);
        for channel in 0..channels {
            let found: Vec<f32> = (0..positions)
                .map(|at| code[at * channels + channel])
                .collect();
            assert_close(
                name,
                &found,
                &expected.values[channel * positions..][..positions],
                1e-6,
            );
        }
    }
}

#[test]
fn learning_rates_equal_the_reference() {
    #[derive(Deserialize)]
    struct Table {
        lr: f64,
        meta_epochs: usize,
        sub_epochs: usize,
        batches: usize,
        warm_up_meta_epochs: usize,
        rates: Vec<f64>,
    }
    for table in json::<Vec<Table>>("schedule.json") {
        let schedule = CosineSchedule {
            learning_rate: table.lr,
            epochs: table.meta_epochs,
            warm_up: table.warm_up_meta_epochs,
        };
        let batches = table.sub_epochs * table.batches;
        for (index, expected) in table.rates.iter().enumerate() {
            let progress = (index % batches) as f64 / batches as f64;
            let found = schedule.at(index / batches, progress);
            assert!(
                (found - expected).abs() < 1e-12,
                "batch {index}: {found} and {expected}"
            );
        }
    }
}
