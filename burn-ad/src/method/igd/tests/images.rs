//! What scores depend on, and what they do not.

use burn::prelude::*;

use super::*;
use crate::data::{Batch, Region};
use crate::method::Detector;
use crate::method::igd::config::{PATCH, Scale};
use crate::method::igd::eye::{Eye, Seen};
use crate::method::igd::patches::{Mosaic, corners, cut};
use crate::tensors::to_vec;

/// Every second image cut to a quarter of its height, so that letterboxes differ.
fn oblong(samples: &[Sample]) -> Vec<Sample> {
    let mut samples = samples.to_vec();
    for sample in samples.iter_mut().step_by(2) {
        sample.mask = None;
        if let ImageSource::Memory { image, .. } = &mut sample.image {
            let (width, height) = image.dimensions();
            let part = image::imageops::crop_imm(&**image, 0, height / 4, width, height / 4);
            *image = Arc::new(part.to_image());
        }
    }
    samples
}

fn batch(training: &Training<'_>, samples: &[Sample]) -> Batch<Flex> {
    let loader = training.loader();
    let loaded = samples.iter().enumerate();
    let loaded = loaded.map(|(index, sample)| loader.preprocess().load(index, sample).unwrap());
    let loaded: Vec<_> = loaded.collect();
    Batch::from_loaded(&loaded, training.size(), &Default::default())
}

#[test]
fn a_score_does_not_depend_on_batch_mates() {
    let (normal, test) = product(6, 4);
    let (normal, test) = (oblong(&normal), oblong(&test));
    for config in [
        scratch(Strategy::Igd),
        scratch(Strategy::Mse),
        both(),
        frozen(),
    ] {
        let model = Training::new(config, &normal).run(&mut Quiet).unwrap();
        let alone = scores(&model, &test, 1);
        assert_same(&alone, &scores(&model, &test, 4), 1e-4);
        let reversed: Vec<Sample> = test.iter().rev().cloned().collect();
        let mut reversed = scores(&model, &reversed, 3);
        reversed.reverse();
        assert_same(&alone, &reversed, 1e-4);
    }
}

/// The model of patches of a trained detector.
fn of_patches(detector: &Igd<Flex>) -> &Eye<Flex> {
    let local = detector.eyes.iter().find(|eye| eye.scale == Scale::Local);
    local.unwrap()
}

#[test]
fn an_image_has_its_worst_patch_for_a_score_and_the_mean_of_theirs_for_a_map() {
    let (normal, test) = product(6, 2);
    let training = Training::new(both(), &normal);
    let detector = training.detector();
    let batch = batch(&training, &test);
    let eye = of_patches(&detector);
    let Seen { scores, maps } = eye.look(&batch, &detector.backbone, true);
    let pixels = to_vec(batch.images.clone());
    let size = training.size();
    for (index, image) in pixels.chunks_exact(3 * size * size).enumerate() {
        let (mut worst, mut mosaic) = (0.0f32, Mosaic::new(size));
        let corners = corners(eye.patches, size, &batch.valid[index]);
        assert_eq!(corners.len(), 9);
        for corner in corners {
            let mut patch = Vec::new();
            cut(image, size, corner, &mut patch);
            let patch = TensorData::new(patch, [1, 3, PATCH, PATCH]);
            let patch = Tensor::<Flex, 4>::from_data(patch, &Default::default());
            let z = eye.generator.encode(patch.clone(), None);
            let found = eye.generator.decode(z.clone());
            let (score, map) = eye.judge(patch, &z, found, true);
            worst = worst.max(score[0]);
            mosaic.add(corner, &map[0]);
        }
        assert!((worst - scores[index]).abs() < 1e-5);
        for (a, b) in mosaic.finish().iter().zip(&maps[index]) {
            assert!((a - b).abs() < 1e-5);
        }
    }
}

#[test]
fn two_models_have_their_mean_for_a_verdict() {
    let (normal, test) = product(6, 2);
    let training = Training::new(both(), &normal);
    let detector = training.detector();
    assert_eq!(detector.eyes.len(), 2);
    let batch = batch(&training, &test);
    let seen: Vec<Seen> = detector
        .eyes
        .iter()
        .map(|eye| eye.look(&batch, &detector.backbone, true))
        .collect();
    let found = detector.predict(&batch);
    let mean = |a: &[f32], b: &[f32]| -> Vec<f32> {
        a.iter().zip(b).map(|(a, b)| 0.5 * a + 0.5 * b).collect()
    };
    let expected = mean(&seen[0].scores, &seen[1].scores);
    assert_eq!(to_vec(found.image_scores), expected);
    let expected = mean(&seen[0].maps.concat(), &seen[1].maps.concat());
    assert_eq!(to_vec(found.anomaly_maps), expected);
}

#[test]
fn patches_that_show_nothing_but_padding_are_not_looked_at() {
    let (normal, test) = product(6, 2);
    let training = Training::new(both(), &normal);
    let detector = training.detector();
    let eye = of_patches(&detector);
    let mut batch = batch(&training, &test);
    batch.valid[0] = Region {
        top: 0,
        left: 0,
        height: 16,
        width: 64,
    };
    let before = eye.look(&batch, &detector.backbone, true);
    let junk = Tensor::ones([1, 3, 32, 64], &Default::default()) * 7.0;
    let spoilt = batch.images.slice_assign([0..1, 0..3, 32..64, 0..64], junk);
    batch.images = spoilt;
    let after = eye.look(&batch, &detector.backbone, true);
    assert_eq!(before.scores, after.scores);
    assert_eq!(before.maps, after.maps);
    let (seen, unseen) = after.maps[0].split_at(32 * 64);
    assert!(seen.iter().all(|&value| value > 0.0));
    assert!(unseen.iter().all(|&value| value == 0.0));
}

#[test]
fn without_a_reconstruction_every_pixel_is_as_anomalous_as_the_image() {
    let (normal, test) = product(6, 2);
    let model = Training::new(scratch(Strategy::Dsvdd), &normal)
        .run(&mut Quiet)
        .unwrap();
    for image in scores(&model, &test, 2) {
        assert!(image.map.iter().all(|&value| value == image.score));
    }
}
