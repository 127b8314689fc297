//! What every flow promises.
#![allow(clippy::unwrap_used)]

use burn::tensor::{Tensor, TensorData};
use burn_flex::Flex;

use super::position::position_code;
use super::{Clamp, Condition, ConditionalFlow, Flow, FlowConfig, Permutation, PositionCode};
use crate::tensors::{TensorSet, to_vec};
use crate::train::stream_rng;

fn config(blocks: usize, position_channels: usize) -> FlowConfig {
    FlowConfig {
        blocks,
        position_channels,
        ..FlowConfig::bgad()
    }
}

/// A flow whose scales, offsets and subnets are far from their initial values.
fn stirred(config: &FlowConfig, channels: usize, seed: u64) -> ConditionalFlow<Flex> {
    use rand::RngExt;
    let device = Default::default();
    let flow: ConditionalFlow<Flex> = config.init(channels, &mut stream_rng(seed, "flow"), &device);
    let mut tensors = TensorSet::default();
    flow.save("f", &mut tensors);
    let mut rng = stream_rng(seed, "stir");
    for (name, tensor) in tensors.iter_mut() {
        if name.ends_with("weight_out") {
            tensor.values.iter_mut().for_each(|value| *value *= 4.0);
        } else if name.ends_with("scale") || name.ends_with("offset") {
            for value in &mut tensor.values {
                *value += rng.random_range(-1.0..1.0);
            }
        }
    }
    ConditionalFlow::load(config, channels, "f", &mut tensors, &device).unwrap()
}

/// Values of the size that a standard normal distribution has, the same in every run.
fn normal(rows: usize, columns: usize) -> Tensor<Flex, 2> {
    use rand::RngExt;
    let mut rng = stream_rng((rows * 1000 + columns) as u64, "values");
    let values: Vec<f32> = (0..rows * columns)
        .map(|_| (0..3).map(|_| rng.random_range(-1.0f32..1.0)).sum())
        .collect();
    Tensor::from_data(
        TensorData::new(values, [rows, columns]),
        &Default::default(),
    )
}

fn worst(a: Tensor<Flex, 2>, b: Tensor<Flex, 2>) -> f32 {
    to_vec((a - b).abs().max())[0]
}

#[test]
fn inverse_undoes_forward_and_forward_undoes_inverse() {
    for (channels, blocks) in [
        (24, 8),
        (40, 8),
        (72, 12),
        (112, 8),
        (200, 8),
        (272, 12),
        (7, 8),
    ] {
        let config = config(blocks, 16);
        let flow = stirred(&config, channels, channels as u64);
        let condition = Condition::dense(normal(9, 16));
        let x = normal(9, channels);
        let (z, _) = flow.forward(x.clone(), &condition);
        let scale = to_vec(z.clone().abs().max())[0].max(1.0);
        assert!(worst(flow.inverse(z, &condition), x.clone()) < 1e-4 * scale);
        let (again, _) = flow.forward(flow.inverse(x.clone(), &condition), &condition);
        assert!(
            worst(again, x) < 1e-4,
            "{channels} channels, {blocks} blocks"
        );
    }
}

#[test]
fn log_det_matches_the_numerical_jacobian() {
    for (channels, clamp, permutation) in [
        (5, Clamp::Tanh, Permutation::Soft),
        (4, Clamp::ScaledTanh, Permutation::Hard),
    ] {
        let config = FlowConfig {
            clamp,
            permutation,
            ..config(2, 8)
        };
        let flow = stirred(&config, channels, 5);
        let x = to_vec(normal(1, channels));
        let code = normal(1, 8);
        let z = |x: &[f32]| {
            let x = Tensor::from_data(
                TensorData::new(x.to_vec(), [1, channels]),
                &Default::default(),
            );
            let (z, log_det) = flow.forward(x, &Condition::dense(code.clone()));
            (to_vec(z), to_vec(log_det)[0])
        };
        // Central differences in single precision: the best step is about the cube root of its resolution.
        let step = 4e-3f32;
        let mut jacobian = vec![0.0f64; channels * channels];
        for input in 0..channels {
            let (mut up, mut down) = (x.clone(), x.clone());
            up[input] += step;
            down[input] -= step;
            let ((up_z, _), (down_z, _)) = (z(&up), z(&down));
            for output in 0..channels {
                jacobian[output * channels + input] =
                    f64::from(up_z[output] - down_z[output]) / f64::from(up[input] - down[input]);
            }
        }
        let numerical = log_abs_determinant(jacobian, channels);
        let said = f64::from(z(&x).1);
        assert!((numerical - said).abs() < 5e-3, "{numerical} and {said}");
        assert!(said.abs() > 0.1, "the flow changes volumes at all: {said}");
    }
}

fn log_abs_determinant(mut matrix: Vec<f64>, size: usize) -> f64 {
    let mut sum = 0.0;
    for step in 0..size {
        let pivot = (step..size)
            .max_by(|&a, &b| {
                matrix[a * size + step]
                    .abs()
                    .total_cmp(&matrix[b * size + step].abs())
            })
            .unwrap();
        for column in 0..size {
            matrix.swap(step * size + column, pivot * size + column);
        }
        sum += matrix[step * size + step].abs().ln();
        for row in step + 1..size {
            let factor = matrix[row * size + step] / matrix[step * size + step];
            for column in step..size {
                matrix[row * size + column] -= factor * matrix[step * size + column];
            }
        }
    }
    sum
}

#[test]
fn a_fresh_block_scales_by_at_most_exp_alpha() {
    let config = config(1, 4);
    let flow = stirred(&config, 6, 1);
    let (_, log_det) = flow.forward(normal(50, 6) * 1e4, &Condition::dense(normal(50, 4)));
    // Three scaled channels, and the global scale near 1.
    let bound = 3.0 * 1.9 + 6.0 * 0.25;
    assert!(to_vec(log_det).iter().all(|value| value.abs() <= bound));
}

#[test]
fn looked_up_conditions_equal_dense_ones() {
    let device = Default::default();
    for grid in [[3, 5], [40, 50]] {
        let flow = stirred(&config(2, 16), 6, 2);
        let code = PositionCode::<Flex>::new(grid, 16, &device);
        let positions = [14, 0, 3, 3, grid[0] * grid[1] - 1];
        let all = position_code(grid, 16);
        let rows: Vec<f32> = positions
            .iter()
            .flat_map(|&at| all[at * 16..][..16].to_vec())
            .collect();
        let dense = Tensor::from_data(TensorData::new(rows, [5, 16]), &device);
        let x = normal(5, 6);
        let (a, log_a) = flow.forward(x.clone(), &code.condition(&positions, &device));
        let (b, log_b) = flow.forward(x, &Condition::dense(dense));
        assert!(worst(a, b) < 1e-4);
        assert!(worst(log_a.unsqueeze_dim(1), log_b.unsqueeze_dim(1)) < 1e-4);
    }
}

#[test]
fn same_seed_same_flow_and_saving_keeps_every_bit() {
    let config = config(3, 8);
    let device = Default::default();
    let save = |seed: u64| {
        let flow: ConditionalFlow<Flex> = config.init(9, &mut stream_rng(seed, "f"), &device);
        let mut tensors = TensorSet::default();
        flow.save("level.4", &mut tensors);
        tensors
    };
    assert_eq!(save(1), save(1));
    assert_ne!(save(1), save(2));
    let mut tensors = save(1);
    let flow: ConditionalFlow<Flex> =
        ConditionalFlow::load(&config, 9, "level.4", &mut tensors, &device).unwrap();
    tensors.finish().unwrap();
    let mut again = TensorSet::default();
    flow.save("level.4", &mut again);
    assert_eq!(again, save(1));
    let missing = ConditionalFlow::<Flex>::load(&config, 10, "level.4", &mut save(1), &device);
    assert!(missing.is_err());
}

#[test]
fn parameters_are_counted_as_in_the_paper() {
    // tf_efficientnet_b6 at strides 4, 8, 16; the published defaults.
    let config = FlowConfig::bgad();
    let trainable: usize = [40, 72, 200]
        .map(|c| config.trainable_parameters(c))
        .iter()
        .sum();
    let fixed: usize = [40, 72, 200]
        .map(|c| config.fixed_parameters(c))
        .iter()
        .sum();
    assert_eq!(trainable, 2_641_920);
    assert_eq!(trainable + fixed, 3_390_464);
    let flow: ConditionalFlow<Flex> =
        config.init(40, &mut stream_rng(0, "count"), &Default::default());
    let rotations = 8 * 40 * 40;
    let counted = burn::module::Module::num_params(&flow) - rotations;
    assert_eq!(counted, config.trainable_parameters(40));
}

#[test]
fn a_flow_without_position_code_needs_no_condition() {
    let flow = stirred(&config(2, 0), 4, 3);
    let x = normal(3, 4);
    let (z, _) = flow.forward(x.clone(), &Condition::none());
    assert!(worst(flow.inverse(z, &Condition::none()), x) < 1e-4);
}

#[test]
fn settings_out_of_range_are_named() {
    for (config, word) in [
        (config(0, 8), "blocks"),
        (config(2, 6), "position_channels"),
        (
            FlowConfig {
                alpha: 0.0,
                ..config(2, 8)
            },
            "alpha",
        ),
    ] {
        let error = config.validate().unwrap_err();
        assert!(
            error.is_usage() && error.to_string().contains(word),
            "{error}"
        );
    }
}
