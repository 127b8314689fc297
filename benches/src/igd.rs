//! A training step of IGD: encoder's and decoder's, then the critic's.

use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Tensor, TensorData};
use burn_ad::method::igd::network::GeneratorPlan;
use burn_ad::method::igd::{Draws, Gaussian, IgdConfig, Learner, Scale, Views};
use burn_ad::network::residual::is_local;
use burn_ad::tensors::to_vec;

use crate::noise;

/// Span of pixels normalised by ImageNet's statistics.
const RANGE: f64 = 4.7579;

/// The sizes of a step.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Side of the images in pixels.
    pub side: usize,
    /// Images at once.
    pub batch: usize,
    /// Base width of encoder and critic.
    pub width: usize,
    /// Base width of the decoder.
    pub decoder_width: usize,
    /// Values of a latent vector.
    pub latent: usize,
    /// Values of the frozen encoder's vectors.
    pub features: Option<usize>,
}

/// Networks as a run begins with them behind its first E-step, and what they are given.
pub fn step<AB: AutodiffBackend>(size: Size, device: &AB::Device) -> impl FnMut() + use<AB> {
    let config = IgdConfig {
        latent: size.latent,
        ..IgdConfig::products()
    };
    let plan = GeneratorPlan {
        side: size.side,
        width: size.width,
        decoder_width: size.decoder_width,
        latent: size.latent,
        frozen: size.features,
        decodes: true,
    };
    let scale = match is_local(size.side) {
        true => Scale::Local,
        false => Scale::Global,
    };
    let mut learner = Learner::<AB>::new(&config, scale, &plan, RANGE, 0, device);
    let tensor = |seed: u64, count: usize| noise::centred(seed, count, 1.0);
    let shape = [size.batch, 3, size.side, size.side];
    let images = TensorData::new(tensor(21, shape.iter().product()), shape);
    let vectors = size.features.map(|features| {
        let values = tensor(22, size.batch * features).into_iter();
        let values: Vec<f32> = values.map(f32::abs).collect();
        let data = TensorData::new(values, [size.batch, features]);
        Tensor::from_data(data, device)
    });
    let views = Views {
        images: Tensor::from_data(images, device),
        vectors,
    };
    let shares = |seed: u64, largest: f32| {
        let values = tensor(seed, size.batch).into_iter();
        values.map(|v| v.abs().min(1.0) * largest).collect()
    };
    let draws = Draws {
        alpha: shares(23, 0.499),
        zeta: shares(24, 1.0),
    };
    let encoded = learner
        .trained()
        .encode(views.images.clone(), views.vectors.clone());
    learner.gaussian = Gaussian::of(&[to_vec(encoded)], size.latent);
    let rate = config.schedule.learning_rate;
    move || {
        let figures = learner.step(&views, &draws, rate);
        std::hint::black_box(figures.expect("the losses stay finite"));
    }
}
