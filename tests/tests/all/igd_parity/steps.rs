//! Outputs, losses, gradients and steps of the networks, on the same weights.
//!
//! The fixtures keep every rectifier and every absolute value away from its kink, so that f32 differs by
//! rounding alone. Outputs of order 1 may differ by 1e-5, six times what PyTorch in f32 does; losses by
//! 1e-5 of themselves. The gradient of a parameter may differ by 2e-5 of its norm, or by five times what
//! PyTorch in f32 does: that is more where it is a small sum of large terms. Gradients that are 0 but
//! for rounding, since a norm takes them away again, may have 1e-6 of the largest norm.
//!
//! Adam's first steps are as long as its learning rate whatever the gradient's length, so an element
//! whose gradient is rounding may end anywhere within two of them: see [`check_tensors`].

use std::collections::{BTreeMap, BTreeSet};

use burn::module::AutodiffModule;
use burn::prelude::*;
use burn_ad::method::igd::network::{Critic, Generator, GeneratorPlan};
use burn_ad::method::igd::{
    Draws, Gaussian, IgdConfig, Learner, LossConfig, Objective, ScheduleConfig, Strategy, Views,
};
use burn_ad::network::residual::{Maker, Normalisation};
use burn_ad::network::{Init, NormMode, load, save};
use burn_ad::ops::Kernels;
use burn_ad::ssim::MsSsim;
use burn_ad::tensors::{HostTensor, TensorSet, to_vec};
use burn_ad::train::stream_rng;
use burn_ad_tests::reference_fill::uniform;
use burn_flex::Flex;
use serde::Deserialize;

use super::{AB, Stored, apart, doubles, facts, length, sampled};
use crate::gradients::gradients;

const OUTPUTS: f64 = 1e-5;
const LOSSES: f64 = 1e-5;
const GRADIENTS: f64 = 2e-5;
const NOTHING: f64 = 1e-6;

#[derive(Deserialize)]
struct Facts {
    side: usize,
    width: usize,
    decoder_width: usize,
    latent: usize,
    features: usize,
    window: usize,
    sigma: f64,
    weights: Vec<f64>,
    range: f64,
    rho: f64,
    regulariser: f64,
    scale: f64,
    filled: BTreeMap<String, Filled>,
    zero: BTreeSet<String>,
    learning_rate: f64,
    weight_decay: f64,
    losses: Losses,
    gradients: BTreeMap<String, NormAndError>,
    steps: Vec<TracedStep>,
    after: BTreeMap<String, Change>,
    frozen: Frozen,
    ablations: Vec<Ablation>,
}

/// A gradient's Euclidean norm, and by what share of it PyTorch in f32 is off.
type NormAndError = [f64; 2];
/// A tensor's largest change; the largest and the mean error of PyTorch in f32.
type Change = [f64; 3];

#[derive(Deserialize)]
struct Filled {
    key: String,
    shape: Vec<usize>,
    scale: f64,
}

#[derive(Deserialize)]
struct Losses {
    gaussian: f64,
    reconstruction: f64,
    regulariser: f64,
    interpolated: f64,
    real: f64,
    #[serde(default)]
    total: f64,
    #[serde(default)]
    similarity: Vec<f64>,
}

#[derive(Deserialize)]
struct TracedStep {
    #[serde(flatten)]
    losses: Losses,
    factor: f64,
}

#[derive(Deserialize)]
struct Frozen {
    losses: Losses,
    zero: BTreeSet<String>,
    gradients: BTreeMap<String, NormAndError>,
}

#[derive(Deserialize)]
struct Ablation {
    strategy: Strategy,
    loss: f64,
    gradients: BTreeMap<String, NormAndError>,
}

/// A fixture: networks, and what they are given.
struct World {
    facts: Facts,
    stored: Stored,
}

impl World {
    fn read(name: &str) -> Self {
        Self {
            facts: facts(name),
            stored: Stored::read(name),
        }
    }

    /// Both networks with their initial tensors; the generator may look at a frozen encoder's vectors.
    fn networks(&self, frozen: bool) -> (Generator<AB>, Critic<AB>) {
        let Facts {
            side,
            width,
            decoder_width,
            latent,
            features,
            ..
        } = self.facts;
        let plan = GeneratorPlan {
            side,
            width,
            decoder_width,
            latent,
            frozen: frozen.then_some(features),
            decodes: true,
        };
        let (generator, critic) = networks(&plan);
        let mut tensors = self.initial(frozen);
        let generator = load(generator, "generator", &mut tensors).expect("as exported");
        let critic = load(critic, "critic", &mut tensors).expect("as exported");
        tensors.finish().expect("nothing is left");
        (generator, critic)
    }

    fn initial(&self, frozen: bool) -> TensorSet {
        let mut tensors = TensorSet::default();
        let replaced = |name: &str| {
            frozen
                && ["generator.encoder.", "generator.head."]
                    .iter()
                    .any(|part| name.starts_with(part))
        };
        for (name, tensor) in &self.stored.0 {
            let own = name.starts_with("generator.") || name.starts_with("critic.");
            match name.strip_prefix("frozen.generator.head.") {
                Some(part) if frozen => {
                    tensors.insert(format!("generator.head.{part}"), tensor.clone());
                }
                _ if own && !replaced(name) => tensors.insert(name, tensor.clone()),
                _ => {}
            }
        }
        for (name, filled) in &self.facts.filled {
            if !replaced(name) {
                let values = uniform(&filled.key, filled.shape.iter().product());
                let values = values.map(|u| (filled.scale * (2.0 * u - 1.0)) as f32);
                let tensor = HostTensor::new(filled.shape.clone(), values.collect());
                tensors.insert(name, tensor);
            }
        }
        tensors
    }

    fn images<B: Backend>(&self) -> Tensor<B, 4> {
        self.stored.tensor("x")
    }

    fn draws(&self, step: usize) -> Draws {
        let values = |name: &str| self.stored.values(&format!("{name}.{step}")).to_vec();
        Draws {
            alpha: values("alpha"),
            zeta: values("zeta"),
        }
    }

    fn gaussian(&self) -> Gaussian {
        Gaussian {
            centre: self.stored.values("centre").to_vec(),
            scale: self.facts.scale,
        }
    }

    fn objective(&self, strategy: Strategy) -> Objective {
        let facts = &self.facts;
        Objective {
            strategy,
            loss: LossConfig {
                rho: facts.rho,
                lambda: facts.regulariser,
                ..IgdConfig::products().loss
            },
            ssim: MsSsim {
                window: facts.window,
                sigma: facts.sigma,
                weights: facts.weights.clone(),
                range: facts.range,
            },
        }
    }

    /// Outputs stored in full, or samples of them.
    #[track_caller]
    fn check_output<B: Backend, const D: usize>(&self, name: &str, found: Tensor<B, D>) {
        let found = to_vec(found);
        let error = match self.stored.0.get(name) {
            Some(expected) => apart(&found, doubles(&expected.values)),
            None => {
                let expected = self.stored.values(&format!("{name}.samples"));
                apart(&sampled(&found, expected.len()), doubles(expected))
            }
        };
        println!("{name}: {error:.1e}");
        assert!(error <= OUTPUTS, "{name}: {error}");
    }
}

/// Networks of zeros, to be filled.
fn networks<B: Backend>(plan: &GeneratorPlan) -> (Generator<B>, Critic<B>) {
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

#[track_caller]
fn near(found: f64, expected: f64, what: &str) {
    let error = (found - expected).abs() / expected.abs();
    assert!(error <= LOSSES, "{what}: {found} instead of {expected}");
}

fn scalar(value: &Tensor<AB, 1>) -> f64 {
    f64::from(to_vec(value.clone())[0])
}

/// `a x + (1 - a) y`, one share an entry.
fn between<const D: usize>(shares: &[f32], x: Tensor<AB, D>, y: Tensor<AB, D>) -> Tensor<AB, D> {
    let mut shape = [1; D];
    shape[0] = shares.len();
    let shares = Tensor::from_data(TensorData::new(shares.to_vec(), shape), &x.device());
    x * shares.clone() + y * (shares.neg() + 1.0)
}

/// Kernels whose rounding errors are no larger than those of plain sums, as in PyTorch.
fn precisely(work: impl FnOnce()) {
    let kernels: Kernels = "precise".parse().expect("a mode");
    kernels.scope(work);
}

/// Checks the gradients of parameters; those that are absent are 0.
fn check_gradients(
    world: &World,
    found: &mut TensorSet,
    expected: &BTreeMap<String, NormAndError>,
    stored: &str,
    what: &str,
) {
    let mut found: BTreeMap<&str, &mut HostTensor> = found.iter_mut().collect();
    let largest = expected.values().fold(0.0f64, |a, [norm, _]| a.max(*norm));
    let (mut worst, mut compared) = ((0.0, ""), 0);
    for (name, [norm, of_torch]) in expected {
        let ours = found.remove(name.as_str());
        let ours = ours.map_or(&[][..], |tensor| &tensor.values);
        let our_norm = length(doubles(ours));
        if *norm == 0.0 {
            let error = our_norm / largest;
            assert!(
                error <= NOTHING,
                "{what}, {name}: {error} of the largest norm"
            );
            continue;
        }
        let mut error = (our_norm - norm).abs();
        if let Some(expected) = world.stored.0.get(&format!("{stored}{name}")) {
            // Of long tensors the first rows are stored.
            let expected = &expected.values;
            let apart = ours.iter().zip(expected).map(|(a, b)| f64::from(a - b));
            error = error.max(length(apart));
            compared += 1;
        }
        let error = error / norm;
        let allowed = GRADIENTS.max(5.0 * of_torch);
        assert!(
            error <= allowed,
            "{what}, {name}: {error}, allowed {allowed}"
        );
        if error > worst.0 {
            worst = (error, name);
        }
    }
    assert!(found.is_empty(), "{what}: unexpected {:?}", found.keys());
    println!(
        "{what}: {compared} gradients compared by value, at most {:.1e} apart ({})",
        worst.0, worst.1
    );
}

/// Outputs, losses and gradients of the first step, from the published parts.
fn check_first_step(name: &str, frozen: bool) {
    let world = World::read(name);
    let prefix = if frozen { "frozen." } else { "" };
    let (expected, of_gradients) = match frozen {
        true => (&world.facts.frozen.losses, &world.facts.frozen.gradients),
        false => (&world.facts.losses, &world.facts.gradients),
    };
    let zero = match frozen {
        true => &world.facts.frozen.zero,
        false => &world.facts.zero,
    };
    assert!(zero.iter().all(|name| of_gradients[name][0] == 0.0));
    let (generator, critic) = world.networks(frozen);
    let (images, draws) = (world.images::<AB>(), world.draws(0));
    let vectors = frozen.then(|| world.stored.tensor("frozen.vectors"));
    let objective = world.objective(Strategy::Igd);

    let z = generator.encode(images.clone(), vectors);
    let found = generator.decode(z.clone()).expect("it decodes");
    let inner = between(&draws.alpha, z.clone(), z.clone().flip([0]));
    let inner = generator.decode(inner).expect("it decodes");
    let losses = objective.losses(&images, &z, Some(&found), &world.gaussian());
    let gaussian = losses.classifier.expect("a classifier").mean();
    let reconstruction = losses.reconstruction.expect("a reconstruction").mean();
    let fooled = critic.clone().no_grad().forward(inner.clone());
    let fooled = fooled.square().mean();
    let total = gaussian.clone() + reconstruction.clone() + fooled.clone() * objective.loss.lambda;

    let mixed = between(&draws.zeta, images.clone(), found.clone()).detach();
    let of_between = critic.forward(inner.clone().detach());
    let of_mixed = critic.forward(mixed);
    world.check_output(&format!("{prefix}train.z"), z);
    world.check_output(&format!("{prefix}train.x_hat"), found);
    world.check_output(&format!("{prefix}train.x_a"), inner);
    world.check_output(&format!("{prefix}train.critic"), of_between.clone());
    world.check_output(&format!("{prefix}train.critic_real"), of_mixed.clone());

    let alpha = Tensor::<AB, 1>::from_floats(draws.alpha.as_slice(), &Default::default());
    let interpolated = (of_between - alpha).square().mean();
    let real = of_mixed.square().mean();
    near(scalar(&gaussian), expected.gaussian, "L_h");
    near(scalar(&reconstruction), expected.reconstruction, "L_r");
    near(scalar(&fooled), expected.regulariser, "regulariser");
    near(scalar(&total), expected.total, "total");
    near(scalar(&interpolated), expected.interpolated, "interpolated");
    near(scalar(&real), expected.real, "real");
    let similarity = to_vec(losses.similarity.expect("MS-SSIM"));
    assert!(apart(&similarity, expected.similarity.iter().copied()) <= LOSSES);

    let mut all = gradients(&generator, "generator", &total.backward());
    let backward = (interpolated + real).backward();
    for (name, tensor) in gradients(&critic, "critic", &backward).iter_mut() {
        all.insert(name, tensor.clone());
    }
    let stored = format!("{prefix}gradient.");
    check_gradients(&world, &mut all, of_gradients, &stored, name);
}

#[test]
fn outputs_losses_and_gradients_of_local_networks_are_those_of_torch() {
    precisely(|| check_first_step("step_local", false));
}

#[test]
fn outputs_losses_and_gradients_of_global_networks_are_those_of_torch() {
    precisely(|| check_first_step("step_global", false));
}

#[test]
fn outputs_losses_and_gradients_behind_a_frozen_encoder_are_those_of_torch() {
    precisely(|| {
        check_first_step("step_local", true);
        check_first_step("step_global", true);
    });
}

#[test]
fn outputs_without_gradients_come_from_running_statistics_as_in_torch() {
    precisely(|| {
        for name in ["step_local", "step_global"] {
            let world = World::read(name);
            let (generator, _) = world.networks(false);
            let generator = generator.valid();
            let z = generator.encode(world.images::<Flex>(), None);
            let reversed = z.clone().flip([0]);
            let shares = Tensor::<Flex, 1>::from_floats(
                world.draws(0).alpha.as_slice(),
                &Default::default(),
            );
            let inner = reversed.clone() + (z.clone() - reversed) * shares.unsqueeze_dim(1);
            let decoded = |z: Tensor<Flex, 2>| generator.decode(z).expect("it decodes");
            world.check_output("eval.z", z.clone());
            world.check_output("eval.x_hat", decoded(z));
            world.check_output("eval.x_a", decoded(inner));
        }
    });
}

#[test]
fn losses_and_gradients_of_every_ablation_are_those_of_torch() {
    precisely(|| {
        for name in ["step_local", "step_global"] {
            let world = World::read(name);
            assert_eq!(world.facts.ablations.len(), 5);
            for ablation in &world.facts.ablations {
                check_ablation(&world, ablation, name);
            }
        }
    });
}

fn check_ablation(world: &World, ablation: &Ablation, name: &str) {
    let what = format!("{name}, {:?}", ablation.strategy);
    let (generator, _) = world.networks(false);
    let images = world.images::<AB>();
    let z = generator.encode(images.clone(), None);
    let found = generator.decode(z.clone());
    let objective = world.objective(ablation.strategy);
    let losses = objective.losses(&images, &z, found.as_ref(), &world.gaussian());
    assert_eq!(
        losses.reconstruction.is_some(),
        ablation.strategy.reconstructs()
    );
    let parts = [losses.classifier, losses.reconstruction];
    let parts = parts.into_iter().flatten().map(Tensor::mean);
    let loss = parts
        .reduce(|a, b| a + b)
        .expect("every strategy has a loss");
    near(scalar(&loss), ablation.loss, &what);
    let mut found = gradients(&generator, "generator", &loss.backward());
    // Of these the norms alone are stored.
    check_gradients(world, &mut found, &ablation.gradients, "none", &what);
}

#[test]
fn two_steps_of_both_players_are_those_of_torch() {
    precisely(|| {
        two_steps("step_local");
        two_steps("step_global");
    });
}

fn two_steps(name: &str) {
    let world = World::read(name);
    let facts = &world.facts;
    let schedule = ScheduleConfig {
        weight_decay: facts.weight_decay,
        ..IgdConfig::products().schedule
    };
    let (generator, critic) = world.networks(false);
    let objective = world.objective(Strategy::Igd);
    let device = Default::default();
    let mut learner = Learner::of(objective, generator, Some(critic), schedule, &device);
    learner.gaussian = world.gaussian();
    assert_eq!(facts.steps.len(), 2);
    for (index, step) in facts.steps.iter().enumerate() {
        let images = world.images::<Flex>();
        let views = Views {
            // The second step sees the images mirrored.
            images: if index == 0 { images } else { images.flip([3]) },
            vectors: None,
        };
        let rate = facts.learning_rate * step.factor;
        let found = learner.step(&views, &world.draws(index), rate);
        let found = found.expect("finite");
        let game = found.game.expect("a critic takes part");
        let expected = &step.losses;
        near(found.classifier.expect("there"), expected.gaussian, "L_h");
        let reconstruction = found.reconstruction.expect("there");
        near(reconstruction, expected.reconstruction, "L_r");
        near(game.fooled, expected.regulariser, "regulariser");
        near(game.critic, expected.interpolated + expected.real, "critic");
    }
    let mut found = TensorSet::default();
    save(learner.generator(), "generator", &mut found);
    save(learner.critic().expect("takes part"), "critic", &mut found);
    check_tensors(&world, &mut found, name);
}

/// Whether a running mean follows biases whose gradients are rounding.
fn follows_rounding(name: &str, local: bool) -> bool {
    let first = name.starts_with("generator.decoder.blocks.0.");
    name == "generator.decoder.norm.running.mean"
        || (name.starts_with("generator.decoder.blocks.")
            && name.ends_with(".norm1.running.mean")
            && !(first && local))
}

/// Checks what two steps left. An element may differ by 0.005 learning rates, or by five times what PyTorch
/// in f32 is off in the tensor's worst one; but biases without a gradient may end two learning rates of each
/// step apart, and the running means behind them take up a tenth of that at each of two passes a step.
fn check_tensors(world: &World, found: &mut TensorSet, what: &str) {
    let facts = &world.facts;
    let rates: f64 = facts.steps.iter().map(|step| step.factor).sum();
    let anywhere = 2.0 * facts.learning_rate * rates;
    let mut found: BTreeMap<&str, &mut HostTensor> = found.iter_mut().collect();
    let mut worst = (0.0, "");
    for (name, [change, largest, _]) in &facts.after {
        let ours = found.remove(name.as_str()).expect("a tensor of ours");
        let expected = world.stored.values(&format!("after.{name}"));
        // Of long tensors the first rows are stored.
        let error = apart(&ours.values[..expected.len()], doubles(expected));
        let tight = (0.005 * facts.learning_rate).max(5.0 * largest);
        let allowed = if facts.zero.contains(name) {
            anywhere
        } else if follows_rounding(name, facts.side == 32) {
            0.2 * anywhere
        } else {
            if error > worst.0 {
                worst = (error, name);
            }
            assert!(tight < 0.1 * change, "{what}, {name}: nothing is compared");
            tight
        };
        assert!(
            error <= allowed,
            "{what}, {name}: {error}, allowed {allowed}"
        );
    }
    assert!(found.is_empty(), "{what}: unexpected {:?}", found.keys());
    println!(
        "{what}: after two steps at most {:.1e} apart ({})",
        worst.0, worst.1
    );
}
