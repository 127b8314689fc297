//! Whole detectors: fitted on a backend, and read from a file that another one wrote.
#![allow(clippy::unwrap_used)]

use burn::tensor::backend::{AutodiffBackend, Backend};
use burn_ad::data::synthetic::{Product, SyntheticConfig, in_memory};
use burn_ad::data::{Dataset, Filter, Fit, Geometry, Loader, Normalisation, Preprocess, Sample};
use burn_ad::method::npad::Reduction;
use burn_ad::method::{MethodConfig, Model, TrainingImages};
use burn_ad::train::{Quiet, Run};
use burn_autodiff::Autodiff;
use burn_flex::Flex;

use super::Place;
use crate::world::{SEED, assert_same, no_weights, options, resnet18, scores};

/// Sides of an image, in pixels: what the claim about networks uses, too.
const SIZE: usize = 32;

/// Images that are scored, one at a time.
const SCORED: usize = 2;

fn product() -> Dataset {
    let config = SyntheticConfig {
        train: 6,
        test_normal: 1,
        ..SyntheticConfig::mini(Product::MetalPlate)
    };
    in_memory(&config).unwrap()
}

fn loader() -> Loader {
    Loader::new(Preprocess {
        geometry: Geometry {
            fit: Fit::Squash,
            size: SIZE,
            filter: Filter::Bilinear,
        },
        normalisation: Normalisation::IMAGENET,
    })
}

/// A preset made small: two shallow taps.
fn small(name: &str) -> MethodConfig {
    let mut method = MethodConfig::preset(name).unwrap();
    match &mut method {
        MethodConfig::Npad(config) => {
            config.taps = vec![4, 8];
            config.reduction = Reduction::Projection(12);
            config.bank.share = 0.1;
            config.sigma = 2.0;
        }
        MethodConfig::Bgad(config) => {
            config.taps = vec![4, 8];
            config.flow.blocks = 2;
            config.flow.position_channels = 8;
            config.schedule.meta_epochs = 2;
            config.schedule.sub_epochs = 2;
            config.schedule.batch = 3;
            config.schedule.chunk = 32;
            config.schedule.learning_rate = 2e-3;
            config.schedule.versions = 1;
        }
        MethodConfig::Hgad(config) => {
            config.stride = 4;
            config.scales = vec![1, 2];
            config.flow.blocks = 2;
            config.flow.position_channels = 8;
            config.schedule.meta_epochs = 3;
            config.schedule.sub_epochs = 1;
            config.schedule.batch = 3;
            config.schedule.learning_rate = 2e-3;
        }
        MethodConfig::Ckaad(config) => {
            config.taps = vec![4, 8];
            config.versions = 1;
            config.schedule.epochs = 1;
            config.schedule.batch = 3;
            config.sigma = 2.0;
        }
        MethodConfig::Igd(config) => {
            // Both models look at images of the same size: the same shapes.
            config.global.window = config.local.window;
            config.global.weights.clone_from(&config.local.weights);
            for scale in [&mut config.global, &mut config.local] {
                (scale.width, scale.decoder_width, scale.batch) = (2, 2, 3);
            }
            config.latent = 4;
            config.schedule.epochs = 1;
        }
    }
    method
}

fn fit<AB>(method: &MethodConfig, data: &Dataset, device: &AB::Device) -> Model<AB::InnerBackend>
where
    AB: AutodiffBackend,
{
    let mut quiet = Quiet;
    let mut run = Run::<AB>::new(device.clone(), SEED, &mut quiet).with_batch_size(1);
    let anomalous: Vec<Sample> = data
        .test
        .iter()
        .filter(|sample| sample.label.is_anomalous())
        .cloned()
        .collect();
    let images = TrainingImages {
        anomalous: &anomalous,
        ..TrainingImages::of_normal(&data.train)
    };
    let backbone = resnet18().random(SEED, device);
    Model::train(method, backbone, &images, &loader(), &options(), &mut run).unwrap()
}

/// The model as `B` reads it from the directory that it is written to.
fn read_by<B: Backend>(model: &Model<impl Backend>, device: &B::Device) -> Model<B> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    model.save(&path, false).unwrap();
    Model::load(&path, device, no_weights).unwrap()
}

pub(crate) fn npad_fitted_here_scores_as_fitted_on_flex<AB: AutodiffBackend>(place: &Place<AB>) {
    let (data, method) = (product(), small("npad"));
    let test = &data.test[..SCORED];
    let there = fit::<Autodiff<Flex>>(&method, &data, &Default::default());
    let here = fit::<AB>(&method, &data, &place.device);
    let expected = scores(&there, test, 1);
    let tolerance = place.tolerances.scores as f32;
    assert_same(&expected, &scores(&here, test, 1), tolerance);
    // What was fitted here is the same file for others.
    let carried = read_by::<Flex>(&here, &Default::default());
    assert_same(&expected, &scores(&carried, test, 1), tolerance);
}

pub(crate) fn a_model_file_gives_the_same_scores<AB: AutodiffBackend>(place: &Place<AB>) {
    let data = product();
    let test = &data.test[..SCORED];
    for preset in ["npad", "patchcore", "bgad", "hgad", "ckaad", "igd"] {
        let model = fit::<Autodiff<Flex>>(&small(preset), &data, &Default::default());
        let expected = scores(&model, test, 1);
        let read = read_by::<AB::InnerBackend>(&model, &place.device);
        let found = scores(&read, test, 1);
        assert_same(&expected, &found, place.tolerances.scores as f32);
    }
}
