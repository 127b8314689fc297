//! Images that do not fill their frame, and sizes that cannot be.

use burn::prelude::*;

use super::*;
use crate::data::Batch;
use crate::method::ckaad::Ckaad;
use crate::method::ckaad::pool::{Item, Pool};
use crate::method::padding::blank_padding;
use crate::method::{Detector, Fit as _, TrainingData};
use crate::network::NormKind;
use crate::tensors::to_vec;

/// Every second image cut to half its height, so that letterboxes differ.
fn oblong(samples: &[Sample]) -> Vec<Sample> {
    let mut samples = samples.to_vec();
    for sample in samples.iter_mut().step_by(2) {
        sample.mask = None;
        if let ImageSource::Memory { image, .. } = &mut sample.image {
            let (width, height) = image.dimensions();
            let half = image::imageops::crop_imm(&**image, 0, height / 4, width, height / 2);
            *image = Arc::new(half.to_image());
        }
    }
    samples
}

/// A training on distorted images, for which padding is most in the way.
fn on_twins(normal: &[Sample]) -> Training<'_> {
    let mut training = Training::new(small(Strategy::CkaPatch), normal, &[]);
    training.config.anomalies = AnomalySource::Elastic;
    training
}

fn batch(training: &Training<'_>, samples: &[Sample]) -> Batch<Flex> {
    let loader = training.loader();
    let loaded = samples.iter().enumerate();
    let loaded = loaded.map(|(index, sample)| loader.preprocess().load(index, sample).unwrap());
    Batch::from_loaded(&loaded.collect::<Vec<_>>(), SIZE, &Default::default())
}

/// The trained detector itself, and what training saw of the first normal image and of its twin in two
/// epochs.
fn trained(training: &Training<'_>) -> (Ckaad<Flex>, [Vec<Tensor<Flex, 4>>; 2]) {
    let loader = training.loader();
    let data = TrainingData {
        fit: training.normal,
        calibration: training.normal,
        anomalous: &[],
        initial_flows: &[],
        initial_model: None,
        watched: crate::method::Watched::default(),
        loader: &loader,
    };
    let mut quiet = Quiet;
    let mut run = Run::<Cpu>::new(Default::default(), SEED, &mut quiet);
    let config = &training.config;
    let backbone: BackboneConfig = training.backbone.parse().unwrap();
    let backbone = backbone.random(SEED, &Default::default());
    let detector = config.fit(backbone, &data, &mut run).unwrap();
    let Ckaad { backbone, taps, .. } = &detector;
    let mut pool = Pool::fill(config, backbone, taps, &data, &mut run).unwrap();
    let items = [Item::Normal(0), Item::Twin(0)];
    let features = [0, 1].map(|epoch| pool.batch(&items, epoch).unwrap());
    (detector, features)
}

#[test]
fn a_score_is_a_number_that_ignores_padding_and_its_batch_mates() {
    let (normal, test) = product(6, 4);
    let (normal, test) = (oblong(&normal), oblong(&test));
    for norm in [NormKind::Instance, NormKind::Batch] {
        let mut training = on_twins(&normal);
        training.config.norm = norm;
        let model = training.run(&mut Quiet).unwrap();
        let alone = scores(&model, &test, 1);
        assert_same(&alone, &scores(&model, &test, 4), 1e-4);
        for image in &alone {
            let shown = image.placement.shown();
            let mut inside: Vec<f32> = image
                .map
                .iter()
                .zip(&shown)
                .filter(|(_, shown)| **shown)
                .map(|(value, _)| *value)
                .collect();
            inside.sort_unstable_by(|a, b| b.total_cmp(a));
            let top = training.config.top_pixels;
            let mean = inside[..top].iter().sum::<f32>() / top as f32;
            assert!((image.score - mean).abs() < 1e-5 * mean, "{norm:?}");
        }
    }
}

#[test]
fn features_of_padding_change_nothing() {
    let (normal, test) = product(4, 2);
    let normal = oblong(&normal);
    let test = oblong(&test);
    let training = on_twins(&normal);
    let (detector, _) = trained(&training);
    let batch = batch(&training, &test);
    let features = detector
        .taps
        .features(&detector.backbone, batch.images.clone());
    // The first picture fills rows 16 to 48 of 64; a cell belongs to it when its centre does.
    let spoilt: Vec<Tensor<Flex, 4>> = features
        .iter()
        .map(|feature| {
            let [_, channels, rows, columns] = feature.dims();
            let outside = rows / 4;
            let junk = Tensor::ones([1, channels, outside, columns], &feature.device()) * 7.0;
            let last = rows - outside..rows;
            feature
                .clone()
                .slice_assign([0..1, 0..channels, 0..outside, 0..columns], junk.clone())
                .slice_assign([0..1, 0..channels, last, 0..columns], junk)
        })
        .collect();
    let judged = |features: &[Tensor<Flex, 4>]| {
        let found = detector.generator.forward(features);
        let maps = detector.scoring.maps(features, found, &batch.valid);
        to_vec(detector.scoring.scores(&maps, &batch.valid))
    };
    let blank = |features: &[Tensor<Flex, 4>]| blank_padding(features.to_vec(), &batch.valid, SIZE);
    let expected = to_vec(detector.predict(&batch).image_scores);
    assert_eq!(judged(&blank(&features)), expected);
    assert_eq!(judged(&blank(&spoilt)), expected);
    // They would, and only where there is padding.
    let careless = judged(&spoilt);
    assert_ne!(careless[0], expected[0]);
    assert_eq!(careless[1], expected[1]);
}

/// One image of a batch of features.
fn image(features: &Tensor<Flex, 4>, index: usize) -> Vec<f32> {
    to_vec(features.clone().narrow(0, index, 1))
}

/// The greatest difference, as a share of the greatest value.
fn apart(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let largest = |values: &mut dyn Iterator<Item = f32>| values.fold(0.0, |a, b| b.abs().max(a));
    largest(&mut a.iter().zip(b).map(|(a, b)| a - b)) / largest(&mut a.iter().copied())
}

#[test]
fn training_sees_what_scoring_sees() {
    let (normal, _) = product(4, 1);
    let normal = oblong(&normal);
    let mut training = on_twins(&normal);
    // A distortion that leaves everything where it is.
    training.config.elastic.alpha = 0.0;
    let (detector, trained) = trained(&training);
    let batch = batch(&training, &normal[..1]);
    let seen = detector.taps.features(&detector.backbone, batch.images);
    let seen = blank_padding(seen, &batch.valid, SIZE);
    for features in trained {
        for (learnt, seen) in features.iter().zip(&seen) {
            let seen = to_vec(seen.clone());
            assert!(apart(&seen, &image(learnt, 0)) < 1e-5);
            assert!(apart(&seen, &image(learnt, 1)) < 1e-5);
        }
    }
}

#[test]
fn in_each_epoch_the_picture_of_a_twin_moves_otherwise_and_its_frame_not_at_all() {
    let (normal, _) = product(4, 1);
    let normal = oblong(&normal);
    let (_, [first, second]) = trained(&on_twins(&normal));
    for (first, second) in first.iter().zip(&second) {
        let (plain, twin, other) = (image(first, 0), image(first, 1), image(second, 1));
        assert_eq!(plain, image(second, 0));
        for moved in [&twin, &other] {
            assert!(apart(&plain, moved) > 0.05);
        }
        assert!(apart(&twin, &other) > 0.05);
        // The picture fills the two quarters in the middle.
        let [_, _, rows, columns] = first.dims();
        for (place, values) in other.chunks(columns).enumerate() {
            let quarter = 4 * (place % rows) / rows;
            let outside = quarter == 0 || quarter == 3;
            let blank = values.iter().all(|&value| value == 0.0);
            assert!(blank || !outside, "row {place} of a twin's map");
        }
        assert!(other.iter().any(|&value| value != 0.0));
    }
}

#[test]
fn a_size_that_cannot_be_is_a_usage_error_with_a_remedy() {
    let (normal, _) = product(3, 1);
    for (taps, size, parts) in [
        (vec![4, 8], 40, ["multiple of 16", "at least 32"]),
        (vec![8, 16], 32, ["multiple of 32", "at least 64"]),
        (vec![16, 8], 100, ["multiple of 32", "at least 64"]),
        (vec![4], 8, ["multiple of 8", "at least 16"]),
    ] {
        let mut training = Training::new(small(Strategy::Recon), &normal, &[]);
        (training.config.taps, training.size) = (taps, size);
        let error = training.run(&mut Quiet).unwrap_err();
        assert!(error.is_usage(), "{error}");
        for part in parts.iter().chain(&["data.size"]) {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}

#[test]
fn a_tap_that_the_backbone_has_not_is_a_usage_error() {
    let (normal, _) = product(3, 1);
    let mut training = Training::new(small(Strategy::Recon), &normal, &[]);
    training.config.taps = vec![8, 12];
    assert!(training.run(&mut Quiet).unwrap_err().is_usage());
}
