//! Conditional flows: likelihoods, inverses and gradients by the backend's own operations.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn_ad::flow::{
    Clamp, Condition, ConditionalFlow, Flow, FlowConfig, Permutation, PositionCode, log_likelihood,
};
use burn_ad::tensors::to_vec;
use burn_ad::train::stream_rng;
use burn_autodiff::Autodiff;
use burn_flex::Flex;

use super::Place;
use super::compare::{assert_close, doubles, draw, tensor};

/// Values of a vector.
pub(crate) const CHANNELS: usize = 7;
/// Vectors.
pub(crate) const COUNT: usize = 20;
/// Channels of the position code.
pub(crate) const POSITION_CHANNELS: usize = 8;
/// A grid whose code is one table; 20 vectors stand on it.
pub(crate) const GRID: [usize; 2] = [5, 4];

pub(crate) fn config(clamp: Clamp) -> FlowConfig {
    FlowConfig {
        blocks: 3,
        position_channels: POSITION_CHANNELS,
        clamp,
        permutation: Permutation::Soft,
        ..FlowConfig::bgad()
    }
}

pub(crate) fn flow<B: Backend>(config: &FlowConfig, device: &B::Device) -> ConditionalFlow<B> {
    config.init(CHANNELS, &mut stream_rng(1, "flow"), device)
}

pub(crate) fn vectors() -> Vec<f32> {
    let spread = draw("vectors", COUNT * CHANNELS).into_iter();
    spread.map(|value| 2.0 * value).collect()
}

/// `COUNT` positions of a grid, over all of it.
fn positions(grid: [usize; 2]) -> Vec<usize> {
    let all = grid[0] * grid[1];
    (0..COUNT).map(|index| index * all / COUNT).collect()
}

fn condition<B: Backend>(grid: [usize; 2], device: &B::Device) -> Condition<B> {
    let code = PositionCode::new(grid, POSITION_CHANNELS, device);
    code.condition(&positions(grid), device)
}

pub(crate) fn a_flow_is_undone_by_its_inverse<AB: AutodiffBackend>(place: &Place<AB>) {
    let config = config(Clamp::Tanh);
    let flow = flow::<AB::InnerBackend>(&config, &place.device);
    let condition = condition(GRID, &place.device);
    let x = tensor(&vectors(), [COUNT, CHANNELS], &place.device);
    let (z, _) = flow.forward(x, &condition);
    let back = to_vec(flow.inverse(z, &condition));
    let tolerance = place.tolerances.flow;
    assert_close("inverse", &back, &doubles(&vectors()), tolerance);
}

/// Everything that a flow gives, by name.
struct Found(Vec<(String, Vec<f32>)>);

struct Gradients<'a, AB: AutodiffBackend> {
    of: &'a GradientsParams,
    found: &'a mut Found,
    device: std::marker::PhantomData<AB>,
}

impl<AB: AutodiffBackend> ModuleVisitor<AB> for Gradients<'_, AB> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<AB, D>>) {
        let gradient = self.of.get::<AB::InnerBackend, D>(param.id);
        // The rotation has none: it is not trained.
        if let Some(gradient) = gradient {
            let name = format!("gradient {}", self.found.0.len());
            self.found.0.push((name, to_vec(gradient)));
        }
    }
}

fn everything<AB: AutodiffBackend>(
    config: &FlowConfig,
    grid: [usize; 2],
    device: &AB::Device,
) -> Found {
    let flow = flow::<AB>(config, device);
    let condition = Condition::from_inner(condition(grid, device));
    let x = tensor::<AB, 2>(&vectors(), [COUNT, CHANNELS], device).require_grad();
    let (z, log_det) = flow.forward(x.clone(), &condition);
    let likelihood = log_likelihood(z.clone(), log_det.clone());
    let mut found = Found(vec![
        ("z".into(), to_vec(z)),
        ("log_det".into(), to_vec(log_det)),
        ("likelihood".into(), to_vec(likelihood.clone())),
    ]);
    let seed = tensor(&draw("seed", COUNT), [COUNT], device);
    let gradients = (likelihood * seed).sum().backward();
    let of_x = x.grad(&gradients).expect("asked for");
    found.0.push(("gradient of x".into(), to_vec(of_x)));
    let of = GradientsParams::from_grads(gradients, &flow);
    flow.visit(&mut Gradients::<AB> {
        of: &of,
        found: &mut found,
        device: std::marker::PhantomData,
    });
    found
}

pub(crate) fn likelihoods_and_gradients_of_a_flow_are_the_same<AB: AutodiffBackend>(
    place: &Place<AB>,
) {
    // The second grid is coded by two tables, one of columns and one of rows.
    for (clamp, grid) in [(Clamp::Tanh, GRID), (Clamp::ScaledTanh, [33, 32])] {
        let config = config(clamp);
        let expected = everything::<Autodiff<Flex>>(&config, grid, &Default::default());
        let found = everything::<AB>(&config, grid, &place.device);
        assert_eq!(found.0.len(), expected.0.len());
        assert!(found.0.len() >= 4 + 7 * config.blocks, "all parameters");
        for ((what, found), (_, expected)) in found.0.iter().zip(&expected.0) {
            let what = format!("{clamp:?}, {what}");
            assert_close(&what, found, &doubles(expected), place.tolerances.flow);
        }
    }
}
