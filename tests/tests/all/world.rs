//! The small world that every method is tried in: a procedural product and a random ResNet-18.
#![allow(clippy::unwrap_used)]

use burn::tensor::backend::Backend;
use burn_ad::backbone::{Backbone, BackboneConfig};
use burn_ad::data::synthetic::{Product, SyntheticConfig, in_memory};
use burn_ad::data::{
    Dataset, Filter, Fit, Geometry, ImageSource, Loader, Normalisation, Preprocess, Sample,
};
use burn_ad::method::{
    MethodConfig, Model, ScoredImage, TrainOptions, TrainingImages, score_samples,
};
use burn_ad::train::{Quiet, Run};
use burn_ad::{Error, Result};
use burn_autodiff::Autodiff;
use burn_flex::Flex;

pub(crate) const SEED: u64 = 3;

pub(crate) const SIZE: usize = 64;
pub(crate) type Cpu = Autodiff<Flex>;

pub(crate) fn product() -> Dataset {
    let config = SyntheticConfig {
        train: 20,
        test_normal: 6,
        per_kind: 2,
        ..SyntheticConfig::mini(Product::MetalPlate)
    };
    in_memory(&config).unwrap()
}

pub(crate) fn loader(fit: Fit) -> Loader {
    Loader::new(Preprocess {
        geometry: Geometry {
            fit,
            size: SIZE,
            filter: Filter::Bilinear,
        },
        normalisation: Normalisation::IMAGENET,
    })
}

pub(crate) fn options() -> TrainOptions {
    TrainOptions {
        dataset: "plate".into(),
        backend: "flex".into(),
        weights_source: "random".into(),
        random_seed: Some(SEED),
        known_anomalies: Vec::new(),
        contamination: Vec::new(),
        calibration_share: 0.2,
        target_fpr: 0.05,
    }
}

pub(crate) fn resnet18() -> BackboneConfig {
    "resnet18".parse().unwrap()
}

pub(crate) fn no_weights<B: Backend>(_: &burn_ad::method::BackboneRecord) -> Result<Backbone<B>> {
    Err(Error::weights("the test has no weights file"))
}

pub(crate) fn scores<B: Backend>(
    model: &Model<B>,
    samples: &[Sample],
    batch: usize,
) -> Vec<ScoredImage> {
    let loader = Loader::new(model.header().preprocess.clone());
    let mut quiet = Quiet;
    let mut run = Run::<B>::new(Default::default(), SEED, &mut quiet).with_batch_size(batch);
    let mut all = Vec::new();
    score_samples(
        model,
        samples,
        &loader,
        "scoring",
        &mut run,
        &mut |_, scored| {
            all.push(scored?);
            Ok(())
        },
    )
    .unwrap();
    all
}

pub(crate) fn assert_same(left: &[ScoredImage], right: &[ScoredImage], tolerance: f32) {
    assert_eq!(left.len(), right.len());
    let scale = left
        .iter()
        .map(|image| image.score.abs())
        .fold(1.0, f32::max);
    for (left, right) in left.iter().zip(right) {
        assert!(
            (left.score - right.score).abs() <= tolerance * scale,
            "{} is not {}",
            left.score,
            right.score
        );
        for (a, b) in left.map.iter().zip(&right.map) {
            assert!((a - b).abs() <= tolerance * scale, "{a} is not {b}");
        }
    }
}

/// The same products with a red patch of 14 pixels.
pub(crate) fn planted(samples: &[Sample]) -> Vec<Sample> {
    let mut samples = samples.to_vec();
    for sample in &mut samples {
        if let ImageSource::Memory { image, .. } = &mut sample.image {
            let mut spoilt = (**image).clone();
            for (x, y) in (20..34).flat_map(|x| (24..38).map(move |y| (x, y))) {
                spoilt.put_pixel(x, y, image::Rgb([230, 20, 30]));
            }
            *image = std::sync::Arc::new(spoilt);
        }
    }
    samples
}

/// Every second image cut to half its height, so that letterboxes differ.
pub(crate) fn oblong(samples: &[Sample]) -> Vec<Sample> {
    let cut = |(index, sample): (usize, &Sample)| {
        let mut sample = sample.clone();
        sample.mask = None;
        if index % 2 == 0
            && let ImageSource::Memory { image, .. } = &mut sample.image
        {
            let (width, height) = image.dimensions();
            let half = image::imageops::crop_imm(&**image, 0, 0, width, height / 2);
            *image = std::sync::Arc::new(half.to_image());
        }
        sample
    };
    samples.iter().enumerate().map(cut).collect()
}

pub(crate) fn train_on(
    method: &MethodConfig,
    samples: &[Sample],
    loader: &Loader,
) -> Result<Model<Flex>> {
    let mut quiet = Quiet;
    let mut run = Run::<Cpu>::new(Default::default(), SEED, &mut quiet);
    let backbone = BackboneConfig::random(resnet18(), SEED, &Default::default());
    let images = TrainingImages::of_normal(samples);
    Model::train(method, backbone, &images, loader, &options(), &mut run)
}
