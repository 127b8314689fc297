//! One training step of each method that is trained by gradients.

use burn::tensor::backend::AutodiffBackend;
use burn_ad::flow::Clamp;
use burn_ad::method::bgad::{ChunkLoss, FlowLearner, LossConfig};
use burn_ad::method::ckaad::{CkaadConfig, Learner, StepFigures};
use burn_ad::method::igd;
use burn_ad::method::igd::network::GeneratorPlan;
use burn_ad::network::save;
use burn_ad::tensors::{HostTensor, TensorSet};
use burn_ad::train::AdamSettings;
use burn_autodiff::Autodiff;
use burn_flex::Flex;

use super::Place;
use super::compare::{assert_close, doubles, draw, tensor};
use super::flows::{COUNT, GRID, config, flow, vectors};

const LEARNING_RATE: f64 = 1e-3;

/// Vectors of known anomalies, the last ones.
const ANOMALOUS: usize = 6;

/// The flow after one step, and the loss before it.
fn step<AB: AutodiffBackend>(
    loss: &LossConfig,
    kernels: bool,
    device: &AB::Device,
) -> (TensorSet, ChunkLoss) {
    let flow = flow::<AB>(&config(Clamp::Tanh), device);
    let adam = AdamSettings::default();
    let mut learner = if kernels {
        FlowLearner::new(flow, GRID, adam, device)
    } else {
        FlowLearner::without_kernels(flow, GRID, adam, device)
    };
    let positions: Vec<usize> = (0..COUNT).collect();
    let evaluate = |values: &[f32]| {
        let (normal, anomalous) = values.split_at(COUNT - ANOMALOUS);
        loss.evaluate(normal, anomalous, true)
    };
    let found = learner.step(&vectors(), &positions, evaluate, LEARNING_RATE);
    let mut tensors = TensorSet::default();
    learner.finish().save("flow", &mut tensors);
    (tensors, found)
}

pub(crate) fn a_step_of_every_loss_moves_a_flow_alike<AB: AutodiffBackend>(place: &Place<AB>) {
    let mut start = TensorSet::default();
    flow::<Flex>(&config(Clamp::Tanh), &Default::default()).save("flow", &mut start);
    for (name, loss) in [
        ("nfad", LossConfig::nfad()),
        ("bgad", LossConfig::bgad()),
        ("dagger", LossConfig::dagger()),
    ] {
        let (mut expected, loss_there) = step::<Autodiff<Flex>>(&loss, true, &Default::default());
        for kernels in [true, false] {
            let (mut found, loss_here) = step::<AB>(&loss, kernels, &place.device);
            let near = |a: f64, b: f64| {
                let difference = (a - b).abs();
                let allowed = place.tolerances.flow * b.abs().max(1.0);
                assert!(difference <= allowed, "{name}: {a} instead of {b}");
            };
            near(loss_here.likelihood, loss_there.likelihood);
            near(loss_here.pull, loss_there.pull);
            near(loss_here.push, loss_there.push);
            near(loss_here.total(), loss_there.total());
            assert_eq!(
                loss_here.boundaries.is_some(),
                loss_there.boundaries.is_some()
            );
            compare(name, &mut start, &mut found, &mut expected, place);
        }
    }
}

/// Strides of the taps of Lite0 that are reconstructed, with their channels and sides. One is enough, and every shape
/// costs time on software Vulkan.
const TAPS: [(usize, usize, usize); 1] = [(4, 24, 4)];

/// Both networks of CKAAD after one step, and what the step said.
fn ckaad_step<AB: AutodiffBackend>(device: &AB::Device) -> (TensorSet, StepFigures) {
    let config = CkaadConfig {
        taps: TAPS.map(|(stride, ..)| stride).to_vec(),
        ..CkaadConfig::medical()
    };
    let backbone = "tf_efficientnet_lite0".parse().expect("known");
    let plan = config.plan(backbone).expect("has the taps");
    let mut learner = Learner::<AB>::new(&config, &plan, 4, 1, device);
    let features: Vec<_> = TAPS
        .iter()
        .map(|&(_, channels, side)| {
            let shape = [2, channels, side, side];
            let values = draw(&format!("features {channels}"), shape.iter().product());
            tensor::<AB::InnerBackend, 4>(&values, shape, device)
        })
        .collect();
    let figures = learner.step(&features, 1).expect("finite");
    let mut tensors = TensorSet::default();
    save(learner.generator(), "generator", &mut tensors);
    let discriminator = learner.discriminator().expect("takes part");
    save(discriminator, "discriminator", &mut tensors);
    (tensors, figures)
}

pub(crate) fn a_step_of_both_players_of_ckaad_goes_alike<AB: AutodiffBackend>(place: &Place<AB>) {
    let (mut expected, there) = ckaad_step::<Autodiff<Flex>>(&Default::default());
    let (mut found, here) = ckaad_step::<AB>(&place.device);
    let near = |a: f64, b: f64| {
        let allowed = 10.0 * place.tolerances.features * b.abs();
        assert!((a - b).abs() <= allowed, "{a} instead of {b}");
    };
    near(here.reconstruction, there.reconstruction);
    let (here, there) = (here.game.expect("a game"), there.game.expect("a game"));
    near(here.discriminator, there.discriminator);
    near(here.generator, there.generator);
    near(here.gradient, there.gradient);
    let rates = |name: &str| match name.starts_with("generator") {
        true => CkaadConfig::medical().schedule.learning_rate,
        false => CkaadConfig::medical().schedule.discriminator_rate,
    };
    for ((name, found), (_, expected)) in found.iter_mut().zip(expected.iter_mut()) {
        let share = gone_elsewhere(name, found, expected, rates(name), place);
        assert!(
            share < 0.1,
            "{name}: {share} of the parameters went elsewhere"
        );
    }
}

/// The share of a tensor's parameters that Adam's first step took elsewhere. That step is as long for gradients that
/// are rounding as for others, so most parameters must agree, not all.
fn gone_elsewhere<AB: AutodiffBackend>(
    name: &str,
    found: &HostTensor,
    expected: &HostTensor,
    learning_rate: f64,
    place: &Place<AB>,
) -> f64 {
    let apart = found.values.iter().zip(&expected.values);
    let apart = apart.map(|(a, b)| f64::from((a - b).abs()) / learning_rate);
    let (mut far, mut sum) = (0, 0.0);
    for distance in apart {
        assert!(
            distance <= 2.1,
            "{name}: a step of {distance} learning rates"
        );
        far += usize::from(distance > place.tolerances.step);
        sum += distance;
    }
    let count = found.values.len() as f64;
    println!("{name}: {:.1e} learning rates apart", sum / count);
    far as f64 / count
}

/// Both networks of IGD after one step, and what the step said.
fn igd_step<AB: AutodiffBackend>(
    side: usize,
    frozen: Option<usize>,
    device: &AB::Device,
) -> (TensorSet, igd::StepFigures) {
    let mut config = igd::IgdConfig::products();
    config.global.window = 3;
    let plan = GeneratorPlan {
        side,
        width: 2,
        decoder_width: 2,
        latent: 4,
        frozen,
        decodes: true,
    };
    let scale = match side {
        32 => igd::Scale::Local,
        _ => igd::Scale::Global,
    };
    let mut learner = igd::Learner::<AB>::new(&config, scale, &plan, 4.7579, 1, device);
    learner.gaussian = igd::Gaussian {
        centre: vec![0.5; 4],
        scale: 2.0,
    };
    // Of little contrast, so that MS-SSIM with whatever is decoded first is positive.
    let shape = [2, 3, side, side];
    let images = draw("images", shape.iter().product());
    let images: Vec<f32> = images.iter().map(|value| 0.1 * value).collect();
    let vectors = frozen.map(|width| tensor(&draw("vectors", 2 * width), [2, width], device));
    let views = igd::Views {
        images: tensor(&images, shape, device),
        vectors,
    };
    let draws = igd::Draws {
        alpha: vec![0.1, 0.4],
        zeta: vec![0.3, 0.8],
    };
    let figures = learner.step(&views, &draws, LEARNING_RATE).expect("finite");
    let mut tensors = TensorSet::default();
    save(learner.generator(), "generator", &mut tensors);
    let critic = learner.critic().expect("takes part");
    save(critic, "critic", &mut tensors);
    (tensors, figures)
}

/// Whether a norm behind a bias takes it away again, so that its gradient is nothing but rounding.
fn is_taken_away(name: &str) -> bool {
    let ends = ["first.bias", "conv2.bias", "shortcut.bias"];
    name.starts_with("generator.decoder.") && ends.iter().any(|end| name.ends_with(end))
}

fn igd_goes_alike<AB: AutodiffBackend>(side: usize, frozen: Option<usize>, place: &Place<AB>) {
    let (mut expected, there) = igd_step::<Autodiff<Flex>>(side, frozen, &Default::default());
    let (mut found, here) = igd_step::<AB>(side, frozen, &place.device);
    let near = |a: f64, b: f64| {
        let allowed = 10.0 * place.tolerances.features * b.abs();
        assert!((a - b).abs() <= allowed, "{a} instead of {b}");
    };
    let parts = |figures: &igd::StepFigures| {
        let parts = [
            figures.classifier,
            figures.reconstruction,
            figures.similarity,
        ];
        parts.map(|part| part.expect("every part of the loss"))
    };
    for (here, there) in parts(&here).into_iter().zip(parts(&there)) {
        near(here, there);
    }
    assert!(there.similarity > Some(0.01), "{there:?}");
    let (here, there) = (here.game.expect("a game"), there.game.expect("a game"));
    near(here.fooled, there.fooled);
    near(here.critic, there.critic);
    for ((name, found), (_, expected)) in found.iter_mut().zip(expected.iter_mut()) {
        if name.contains(".running.") {
            // A mean is small beside the deviations of what it is the mean of.
            let tolerance = 10.0 * place.tolerances.features;
            assert_close(name, &found.values, &doubles(&expected.values), tolerance);
            continue;
        }
        let share = gone_elsewhere(name, found, expected, LEARNING_RATE, place);
        assert!(
            share < 0.1 || is_taken_away(name),
            "{name}: {share} of the parameters went elsewhere"
        );
    }
}

pub(crate) fn a_step_of_igd_from_scratch_goes_alike<AB: AutodiffBackend>(place: &Place<AB>) {
    igd_goes_alike(32, None, place);
}

pub(crate) fn a_step_of_igd_behind_a_frozen_encoder_goes_alike<AB: AutodiffBackend>(
    place: &Place<AB>,
) {
    igd_goes_alike(64, Some(6), place);
}

fn compare<AB: AutodiffBackend>(
    name: &str,
    start: &mut TensorSet,
    found: &mut TensorSet,
    expected: &mut TensorSet,
    place: &Place<AB>,
) {
    let (mut moved, mut worst) = (0, 0.0f64);
    let all = found.iter_mut().zip(expected.iter_mut());
    for (((tensor, found), (_, expected)), (_, start)) in all.zip(start.iter_mut()) {
        let values = found.values.iter().zip(&expected.values);
        for ((&a, &b), &before) in values.zip(&start.values) {
            let apart = f64::from((a - b).abs()) / LEARNING_RATE;
            // The parameters themselves are rounded, too.
            let rounding = f64::from(b.abs() * f32::EPSILON) / LEARNING_RATE;
            assert!(
                apart <= place.tolerances.step + rounding,
                "{name}, {tensor}: {a} instead of {b}, from {before}"
            );
            moved += usize::from(a != before);
            worst = worst.max(apart);
        }
    }
    println!("{name}: {worst:.1e} learning rates apart");
    assert!(moved > 500, "{name}: only {moved} parameters moved");
}
