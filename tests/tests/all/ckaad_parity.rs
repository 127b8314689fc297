//! CKAAD's networks, losses, gradients and steps against PyTorch on the same generated weights.
//!
//! `tests/reference/ckaad.py` computes in f64. Outputs may differ by 1e-4 of their standard deviation.
//! Of the gradients of the parameters, each against its norm, the median may differ by 1e-4 and a
//! single one by 5e-3: a rectifier that rounding puts on the other side of its kink changes some by
//! that at once. Either may also differ by three times what PyTorch in f32 does: a latent map of
//! 2 x 2 behind many instance normalisations amplifies rounding (the fixture says how much for each
//! case; the `damped` cases keep it small for bottlenecks).

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Module;
use burn::prelude::*;
use burn_ad::method::ckaad::network::{
    AutoEncoder, Discriminator, ImageDiscriminator, PatchDiscriminator, ReconstructionPlan,
};
use burn_ad::method::ckaad::{
    CkaadConfig, Learner, LossConfig, Objective, Strategy, reconstruction_errors,
};
use burn_ad::network::{NormKind, load, save};
use burn_ad::ops::Kernels;
use burn_ad::tensors::{HostTensor, TensorSet, to_vec};
use burn_ad::train::stream_rng;
use burn_ad_tests::reference_fill::fill;
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use serde::Deserialize;

use crate::gradients::gradients;

type AB = Autodiff<Flex>;

const TOLERANCE: f64 = 1e-4;
/// What a single rectifier that rounding puts on the other side of its kink may change.
const FLIPPED: f64 = 5e-3;
const SIZE: usize = 64;

#[derive(Deserialize)]
struct Fixture {
    cases: Vec<Case>,
    damped: Vec<Case>,
    training: Trace,
    training_clipped: Trace,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    backbone: String,
    strides: Vec<usize>,
    norm: String,
    inputs: String,
    last_norm: f64,
    normal: usize,
    anomalous: usize,
    l_rec_normal: f64,
    l_rec_anomalous: f64,
    reconstructions: Vec<Described>,
    strategies: Vec<Record>,
    #[serde(default)]
    low_margin: Vec<Record>,
    #[serde(default)]
    running: BTreeMap<String, [f64; 8]>,
    single: Single,
}

#[derive(Deserialize)]
struct Single {
    reconstructions: f64,
    gradients: BTreeMap<String, [f64; 2]>,
}

#[derive(Deserialize)]
struct Described {
    shape: [usize; 4],
    mean: f64,
    std: f64,
    samples: Vec<f64>,
}

#[derive(Deserialize)]
struct Record {
    strategy: Strategy,
    margin: f64,
    loss_d: Option<f64>,
    loss_g: Option<f64>,
    total: f64,
    generator: Option<BTreeMap<String, Gradient>>,
    discriminator: Option<BTreeMap<String, Gradient>>,
}

/// Its norm, then four of its values.
type Gradient = [f64; 5];

#[derive(Deserialize)]
struct Trace {
    backbone: String,
    strides: Vec<usize>,
    inputs: String,
    learning_rate: f64,
    discriminator_learning_rate: f64,
    clip: f64,
    steps: Vec<TracedStep>,
    values: BTreeMap<String, Vec<f64>>,
}

#[derive(Deserialize)]
struct TracedStep {
    loss_d: f64,
    loss_g: f64,
    loss_rec: f64,
    gradient_norm: f64,
}

/// Without the convolutions whose rounding errors are larger than those of plain sums.
fn precisely(work: impl FnOnce()) {
    let kernels: Kernels = "precise".parse().expect("a mode");
    kernels.scope(work);
}

fn fixture() -> Fixture {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/ckaad/networks.json");
    let text = std::fs::read_to_string(path).expect("fixture");
    serde_json::from_str(&text).expect("fixture is JSON")
}

/// Networks are saved under this name.
const ROOT: &str = "net";

/// PyTorch's name of a parameter.
fn reference_name(name: &str, kind: &str) -> String {
    let mut name = name
        .trim_start_matches(ROOT)
        .trim_start_matches('.')
        .to_owned();
    for index in 0..3 {
        for part in ["conv", "norm"] {
            let ours = format!(".main.{index}.{part}");
            name = name.replace(&ours, &format!(".{part}{}", index + 1));
        }
    }
    match kind {
        "generator" => name,
        "patch" => name.replace("taps.", "patch."),
        _ => format!("image.{name}"),
    }
}

/// Whether a parameter belongs to a transposed convolution, which PyTorch stores as
/// `[inputs, outputs, 2, 2]`.
fn doubles(name: &str, bottleneck: bool) -> bool {
    let conv = if bottleneck { ".0.conv2." } else { ".0.conv1." };
    name.starts_with("decoder.") && (name.contains(conv) || name.contains(".0.shortcut.conv."))
}

/// From PyTorch's layout of a transposed convolution to ours, `[4 * outputs, inputs, 1, 1]`.
fn to_ours(values: &[f32], [inputs, outputs]: [usize; 2]) -> Vec<f32> {
    let mut ours = vec![0.0; values.len()];
    for (place, &value) in values.iter().enumerate() {
        let (corner, pair) = (place % 4, place / 4);
        let (input, output) = (pair / outputs, pair % outputs);
        ours[(corner * outputs + output) * inputs + input] = value;
    }
    ours
}

/// The way back.
fn to_theirs(values: &[f32], [inputs, outputs]: [usize; 2]) -> Vec<f32> {
    let mut theirs = vec![0.0; values.len()];
    for (place, theirs) in theirs.iter_mut().enumerate() {
        let (corner, pair) = (place % 4, place / 4);
        let (input, output) = (pair / outputs, pair % outputs);
        *theirs = values[(corner * outputs + output) * inputs + input];
    }
    theirs
}

/// A network of the plan: its parameters under PyTorch's names and in its layout.
struct Named<'a> {
    kind: &'a str,
    bottleneck: bool,
}

impl Named<'_> {
    /// The network with the generated values.
    fn filled<M: Module<AB>>(&self, network: M, last_norm: f64) -> M {
        let mut tensors = TensorSet::default();
        save(&network, ROOT, &mut tensors);
        let mut filled = TensorSet::default();
        for (ours, tensor) in tensors.iter_mut() {
            let name = reference_name(ours, self.kind);
            let values = if name.contains("running") {
                tensor.values.clone()
            } else if doubles(&name, self.bottleneck) {
                let pair = [tensor.shape[1], tensor.shape[0] / 4];
                to_ours(&fill(&name, &[pair[0], pair[1], 2, 2]), pair)
            } else {
                fill(&name, &tensor.shape)
            };
            let damped = if name.ends_with("norm3.weight") {
                last_norm
            } else {
                1.0
            };
            let values = values
                .iter()
                .map(|&value| (f64::from(value) * damped) as f32);
            filled.insert(
                ours,
                HostTensor::new(tensor.shape.clone(), values.collect()),
            );
        }
        load(network, ROOT, &mut filled).expect("its own tensors")
    }

    /// Values under PyTorch's names, in its layout.
    fn values(&self, mut tensors: TensorSet) -> BTreeMap<String, Vec<f32>> {
        let all = tensors.iter_mut().map(|(ours, tensor)| {
            let name = reference_name(ours, self.kind);
            let values = if doubles(&name, self.bottleneck) {
                to_theirs(&tensor.values, [tensor.shape[1], tensor.shape[0] / 4])
            } else {
                tensor.values.clone()
            };
            (name, values)
        });
        all.collect()
    }
}

fn samples(values: &[f32], count: usize) -> impl Iterator<Item = f64> + '_ {
    (0..count).map(move |k| f64::from(values[k * values.len() / count]))
}

#[track_caller]
fn near(found: f64, expected: f64, tolerance: f64, what: &str) {
    let error = (found - expected).abs();
    assert!(
        error <= tolerance * expected.abs().max(1e-3),
        "{what}: {found} instead of {expected}"
    );
}

fn config(strategy: Strategy, margin: f64, strides: &[usize], norm: NormKind) -> CkaadConfig {
    let medical = CkaadConfig::medical();
    CkaadConfig {
        taps: strides.to_vec(),
        norm,
        strategy,
        loss: LossConfig {
            margin,
            ..medical.loss
        },
        ..medical
    }
}

/// A case set up: everything that has weights or values.
struct Setting {
    plan: ReconstructionPlan,
    bottleneck: bool,
    last_norm: f64,
    features: Vec<Tensor<AB, 4>>,
    side: usize,
}

impl Setting {
    fn new(
        backbone: &str,
        strides: &[usize],
        norm: NormKind,
        (inputs, images): (&str, [usize; 2]),
        last_norm: f64,
    ) -> Self {
        let backbone: burn_ad::backbone::BackboneConfig = backbone.parse().expect("known");
        let config = config(Strategy::CkaPatch, 5.0, strides, norm);
        let info = backbone.feature_info();
        let levels = backbone.levels_at_strides(strides).expect("has taps");
        let features = levels.iter().enumerate().map(|(tap, &level)| {
            let grid = SIZE / info[level].stride;
            let groups = ["normal", "anomalous"].into_iter().zip(images);
            let groups = groups.map(|(group, images)| {
                let shape = [images, info[level].channels, grid, grid];
                // `fill` has a rule of its own for "input"; these have the one of 4-D tensors.
                let values = fill(&format!("{inputs}.{group}.{tap}"), &shape);
                let signed = backbone.name().contains("efficientnet");
                let values = values.into_iter();
                let values = values.map(|value| if signed { value } else { value.abs() });
                let values: Vec<f32> = values.collect();
                Tensor::from_data(TensorData::new(values, shape), &Default::default())
            });
            Tensor::cat(groups.collect(), 0)
        });
        Self {
            plan: config.plan(backbone).expect("has taps"),
            bottleneck: ["50", "101", "152"]
                .iter()
                .any(|n| backbone.name().contains(n)),
            last_norm,
            features: features.collect(),
            side: SIZE / strides.iter().max().expect("a tap"),
        }
    }

    fn generator_names(&self) -> Named<'static> {
        Named {
            kind: "generator",
            bottleneck: self.bottleneck,
        }
    }

    fn generator(&self) -> AutoEncoder<AB> {
        let mut rng = stream_rng(0, "overwritten");
        let network = AutoEncoder::new(&self.plan, &mut rng, &Default::default());
        self.generator_names().filled(network, self.last_norm)
    }

    /// A discriminator, and its kind.
    fn discriminator(&self, strategy: Strategy) -> Option<(Discriminator<AB>, Named<'static>)> {
        let (device, mut rng) = (Default::default(), stream_rng(0, "overwritten"));
        let named = |kind| Named {
            kind,
            bottleneck: false,
        };
        match strategy {
            Strategy::Recon | Strategy::ReconSub => None,
            Strategy::CkaPatch => {
                let network = PatchDiscriminator::new(&self.plan, &mut rng, &device);
                let network = named("patch").filled(network, 1.0);
                Some((Discriminator::Patch(network), named("patch")))
            }
            Strategy::Gan | Strategy::CkaImg => {
                let network = ImageDiscriminator::new(&self.plan, self.side, &mut rng, &device);
                let network = named("image").filled(network, 1.0);
                Some((Discriminator::Image(network), named("image")))
            }
        }
    }
}

/// The median and the largest error over all parameters must be within `allowed`.
fn compare_gradients(
    found: &BTreeMap<String, Vec<f32>>,
    expected: &BTreeMap<String, Gradient>,
    allowed: [f64; 2],
    what: &str,
) {
    assert_eq!(found.len(), expected.len(), "{what}: parameters");
    // What the largest gradient rounds to is no error of a parameter whose own is nearly nothing.
    let largest = expected.values().fold(0.0f64, |a, [norm, ..]| a.max(*norm));
    let mut errors: Vec<(f64, &str)> = Vec::new();
    for (name, [norm, values @ ..]) in expected {
        let ours = &found[name];
        let length = ours
            .iter()
            .map(|&v| f64::from(v).powi(2))
            .sum::<f64>()
            .sqrt();
        let apart = samples(ours, values.len())
            .zip(values)
            .map(|(a, b)| (a - b).abs());
        let error = apart.fold((length - norm).abs(), f64::max);
        errors.push(((error - 1e-7 * largest).max(0.0) / norm, name));
    }
    errors.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (median, (worst, name)) = (errors[errors.len() / 2].0, errors[errors.len() - 1]);
    println!("{what}: gradients differ by {median:.1e}, at most {worst:.1e} ({name})");
    assert!(
        median <= allowed[0],
        "{what}: median {median}, allowed {}",
        allowed[0]
    );
    assert!(
        worst <= allowed[1],
        "{what}, {name}: {worst}, allowed {}",
        allowed[1]
    );
}

fn check_record(case: &Case, setting: &Setting, generator: &AutoEncoder<AB>, record: &Record) {
    let norm = setting.plan.norm;
    let config = config(record.strategy, record.margin, &case.strides, norm);
    let what = format!("{} {:?} {}", case.name, record.strategy, record.margin);
    let single = case.single.gradients.values().fold([0.0f64; 2], |a, b| {
        [a[0].max(3.0 * b[0]), a[1].max(3.0 * b[1])]
    });
    let allowed = [single[0].max(TOLERANCE), single[1].max(FLIPPED)];
    // What a discriminator makes of reconstructions bends a little more.
    let tolerance = TOLERANCE.max(8.0 * case.single.reconstructions);
    let objective = Objective {
        strategy: record.strategy,
        loss: config.loss,
        normals: case.normal,
    };
    let found = generator.forward(&setting.features);
    let errors = reconstruction_errors(&setting.features, &found);
    let mut total = objective.of_reconstruction(&errors);
    let scalar = |value: &Tensor<AB, 1>| f64::from(to_vec(value.clone())[0]);
    if let Some((network, named)) = setting.discriminator(record.strategy) {
        let fixed: Vec<Tensor<AB, 4>> = found.iter().map(|x| x.clone().detach()).collect();
        let real = network.forward(&setting.features);
        let loss = objective.of_discriminator(&real, &network.forward(&fixed));
        near(
            scalar(&loss),
            record.loss_d.expect("adversarial"),
            tolerance,
            &what,
        );
        if let Some(expected) = &record.discriminator {
            let found = gradients_of(&network, &loss.backward());
            compare_gradients(&named.values(found), expected, allowed, &what);
        }
        let added = objective.of_generator(&network.clone().no_grad().forward(&found));
        near(
            scalar(&added),
            record.loss_g.expect("adversarial"),
            tolerance,
            &what,
        );
        total = total + added * config.loss.lambda;
    }
    near(scalar(&total), record.total, tolerance, &what);
    if let Some(expected) = &record.generator {
        let found = gradients(generator, ROOT, &total.backward());
        let found = setting.generator_names().values(found);
        compare_gradients(&found, expected, allowed, &what);
    }
}

fn gradients_of(
    network: &Discriminator<AB>,
    found: &<AB as burn::tensor::backend::AutodiffBackend>::Gradients,
) -> TensorSet {
    match network {
        Discriminator::Patch(network) => gradients(network, ROOT, found),
        Discriminator::Image(network) => gradients(network, ROOT, found),
    }
}

fn check_case(case: &Case) {
    let norm = match case.norm.as_str() {
        "batch" => NormKind::Batch,
        _ => NormKind::Instance,
    };
    let images = [case.normal, case.anomalous];
    let inputs = (case.inputs.as_str(), images);
    let setting = Setting::new(&case.backbone, &case.strides, norm, inputs, case.last_norm);
    let generator = setting.generator();
    let found = generator.forward(&setting.features);
    assert_eq!(found.len(), case.reconstructions.len());
    let tolerance = TOLERANCE.max(3.0 * case.single.reconstructions);
    for (found, expected) in found.iter().zip(&case.reconstructions) {
        assert_eq!(found.dims(), expected.shape, "{}", case.name);
        let values = to_vec(found.clone());
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len() as f64;
        near(mean, expected.mean, tolerance, &case.name);
        for (a, b) in samples(&values, expected.samples.len()).zip(&expected.samples) {
            let error = (a - b).abs() / expected.std;
            assert!(error < tolerance, "{}: {a} instead of {b}", case.name);
        }
    }
    let errors = to_vec(reconstruction_errors(&setting.features, &found));
    let mean =
        |errors: &[f32]| errors.iter().map(|&e| f64::from(e)).sum::<f64>() / errors.len() as f64;
    near(
        mean(&errors[..case.normal]),
        case.l_rec_normal,
        tolerance,
        &case.name,
    );
    near(
        mean(&errors[case.normal..]),
        case.l_rec_anomalous,
        tolerance,
        &case.name,
    );
    check_running(case, &generator);
    for record in case.strategies.iter().chain(&case.low_margin) {
        check_record(case, &setting, &generator, record);
    }
}

/// Running statistics after one pass.
fn check_running(case: &Case, generator: &AutoEncoder<AB>) {
    let mut tensors = TensorSet::default();
    save(generator, ROOT, &mut tensors);
    let mut seen = 0;
    for (name, tensor) in tensors.iter_mut() {
        let name = reference_name(name, "generator");
        let Some((norm, which)) = name.split_once(".running.") else {
            continue;
        };
        let Some(expected) = case.running.get(norm) else {
            continue;
        };
        let expected = if which == "mean" {
            &expected[..4]
        } else {
            &expected[4..]
        };
        for (a, b) in samples(&tensor.values, 4).zip(expected) {
            assert!(
                (a - b).abs() < 1e-5 * b.abs().max(0.1),
                "{name}: {a} instead of {b}"
            );
        }
        seen += 1;
    }
    assert_eq!(seen, 2 * case.running.len());
}

#[test]
fn shallow_networks_losses_and_gradients_are_those_of_torch() {
    let fixture = fixture();
    let shallow = |case: &&Case| !case.backbone.contains("50");
    let cases: Vec<&Case> = fixture.cases.iter().filter(shallow).collect();
    assert_eq!(cases.len(), 4);
    precisely(|| cases.into_iter().for_each(check_case));
}

#[test]
fn bottleneck_networks_losses_and_gradients_are_those_of_torch() {
    let fixture = fixture();
    let deep = |case: &&Case| case.backbone.contains("50");
    let cases = fixture.cases.iter().filter(deep);
    let cases: Vec<&Case> = cases.chain(&fixture.damped).collect();
    assert_eq!(cases.len(), 4);
    precisely(|| cases.into_iter().for_each(check_case));
}

#[test]
fn two_steps_of_both_players_are_those_of_torch() {
    precisely(two_steps);
}

fn two_steps() {
    let fixture = fixture();
    for trace in [&fixture.training, &fixture.training_clipped] {
        let inputs = (trace.inputs.as_str(), [2, 2]);
        let norm = NormKind::Instance;
        let setting = Setting::new(&trace.backbone, &trace.strides, norm, inputs, 1.0);
        let mut config = config(Strategy::CkaPatch, 5.0, &trace.strides, norm);
        config.schedule.learning_rate = trace.learning_rate;
        config.schedule.discriminator_rate = trace.discriminator_learning_rate;
        config.schedule.clip = trace.clip;
        let (network, named) = setting.discriminator(config.strategy).expect("adversarial");
        let device = Default::default();
        let mut learner = Learner::of(&config, setting.generator(), Some(network), &device);
        let features: Vec<Tensor<Flex, 4>> =
            setting.features.iter().map(|f| f.clone().inner()).collect();
        for step in &trace.steps {
            let found = learner.step(&features, 2).expect("finite");
            let game = found.game.expect("adversarial");
            // Adam moves parameters whose gradient is rounding by a whole step.
            near(found.reconstruction, step.loss_rec, 1e-4, "reconstruction");
            near(game.discriminator, step.loss_d, 1e-4, "discriminator");
            near(game.generator, step.loss_g, 1e-3, "generator");
            near(game.gradient, step.gradient_norm, 2e-3, "gradient");
        }
        let mut tensors = TensorSet::default();
        save(learner.generator(), ROOT, &mut tensors);
        let mut values = setting.generator_names().values(tensors);
        let Some(Discriminator::Patch(patch)) = learner.discriminator() else {
            panic!("patches are judged");
        };
        let mut tensors = TensorSet::default();
        save(patch, ROOT, &mut tensors);
        values.extend(named.values(tensors));
        for (name, expected) in &trace.values {
            let rate = match name.starts_with("patch") {
                true => trace.discriminator_learning_rate,
                false => trace.learning_rate,
            };
            for (a, b) in samples(&values[name], expected.len()).zip(expected) {
                // Adam's first steps are as long as its rate, whatever the gradient's length.
                let error = (a - b).abs();
                assert!(
                    error < 0.1 * rate + 1e-6 * b.abs(),
                    "{name}: {a} instead of {b}"
                );
            }
        }
    }
}
