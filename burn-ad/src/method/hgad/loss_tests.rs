use super::*;
use crate::train::stream_rng;
use rand::RngExt;

/// A mixture and vectors near it: `(mixture, z, log_det, labels)`.
fn world(
    classes: usize,
    centres: usize,
    channels: usize,
    count: usize,
) -> (Mixture, Vec<f32>, Vec<f32>, Vec<u32>) {
    let mut rng = stream_rng(classes as u64, "loss");
    let mut mixture = Mixture::init(classes, centres, channels, &mut rng);
    let mut draw =
        |count: usize| -> Vec<f32> { (0..count).map(|_| rng.random_range(-1.5f32..1.5)).collect() };
    mixture.inter = draw(classes);
    mixture.intra = draw(classes * centres);
    mixture.mu.iter_mut().for_each(|value| *value *= 0.4);
    let (z, log_det) = (draw(count * channels), draw(count));
    let labels = (0..count).map(|i| (i * classes / count) as u32).collect();
    (mixture, z, log_det, labels)
}

/// Without the terms that carry a stop-gradient the loss is a function of everything; each has a
/// test of its own.
#[test]
fn gradients_are_derivatives_and_stop_where_they_should() {
    let (mixture, z, log_det, labels) = world(3, 4, 5, 24);
    let config = LossConfig {
        lambda_information: 2.0,
        ..LossConfig::hgad()
    };
    let total = |config: &LossConfig, mixture: &Mixture, z: &[f32], log_det: &[f32], intra| {
        let workspace = &mut Workspace::default();
        config
            .evaluate(mixture, z, log_det, &labels, intra, workspace)
            .total()
    };
    let found = config.evaluate(
        &mixture,
        &z,
        &log_det,
        &labels,
        true,
        &mut Workspace::default(),
    );
    let step = 1.0 / 128.0;
    let compare = |what: &str, gradient: &[f32], loss: &dyn Fn(usize, f32) -> f64| {
        let largest = gradient.iter().fold(1e-6f32, |a, b| a.max(b.abs()));
        for (index, &gradient) in gradient.iter().enumerate() {
            let slope = (loss(index, step) - loss(index, -step)) / f64::from(2.0 * step);
            let difference = (slope - f64::from(gradient)).abs();
            assert!(
                difference < 5e-3 * f64::from(largest),
                "{what} {index}: {gradient}, by differences {slope}"
            );
        }
    };
    let moved = |values: &[f32], index: usize, by: f32| {
        let mut values = values.to_vec();
        values[index] += by;
        values
    };
    compare("z", &found.gradient_z, &|index, by| {
        total(&config, &mixture, &moved(&z, index, by), &log_det, true)
    });
    compare("J", &found.gradient_log_det, &|index, by| {
        total(&config, &mixture, &z, &moved(&log_det, index, by), true)
    });
    let with = |part: usize, index: usize, by: f32| {
        let mut mixture = mixture.clone();
        mixture.parts_mut()[part][index] += by;
        mixture
    };
    // The mixtures within classes do not move the main centres ...
    compare("mu", &found.gradient.mu, &|index, by| {
        total(&config, &with(0, index, by), &z, &log_det, false)
    });
    compare("deltas", &found.gradient.deltas, &|index, by| {
        total(&config, &with(1, index, by), &z, &log_det, true)
    });
    // ... and mutual information does not move the weights of classes.
    let uninformed = LossConfig {
        lambda_information: 0.0,
        ..config.clone()
    };
    compare("inter", &found.gradient.inter, &|index, by| {
        total(&uninformed, &with(2, index, by), &z, &log_det, true)
    });
    compare("intra", &found.gradient.intra, &|index, by| {
        total(&config, &with(3, index, by), &z, &log_det, true)
    });
}

#[test]
fn neither_tiles_nor_earlier_steps_change_a_loss() {
    // More than one tile, classes that cross tiles, and a last tile that is not full.
    let (mixture, z, log_det, labels) = world(5, 3, 8, 1200);
    let config = LossConfig::hgad();
    let mut used = Workspace::default();
    let (other, other_z, other_det, other_labels) = world(7, 2, 4, 1700);
    config.evaluate(&other, &other_z, &other_det, &other_labels, true, &mut used);
    let whole = config.evaluate(&mixture, &z, &log_det, &labels, true, &mut used);
    let fresh = config.evaluate(
        &mixture,
        &z,
        &log_det,
        &labels,
        true,
        &mut Workspace::default(),
    );
    assert_eq!(whole, fresh);

    // The same vectors in two halves: means of means, sums of sums.
    let half = |rows: std::ops::Range<usize>| {
        let values = rows.start * 8..rows.end * 8;
        let (z, log_det, labels) = (&z[values], &log_det[rows.clone()], &labels[rows]);
        config.evaluate(
            &mixture,
            z,
            log_det,
            labels,
            true,
            &mut Workspace::default(),
        )
    };
    let (first, second) = (half(0..600), half(600..1200));
    let mean = (first.total() + second.total()) / 2.0;
    assert!((whole.total() - mean).abs() < 1e-6 * mean.abs());
    let parts = whole.gradient.parts().map(|(_, _, values)| values.clone());
    for (part, (a, b)) in parts.iter().zip(
        first
            .gradient
            .parts()
            .map(|(_, _, v)| v)
            .into_iter()
            .zip(second.gradient.parts().map(|(_, _, v)| v)),
    ) {
        let largest = part.iter().fold(1e-9f32, |a, b| a.max(b.abs()));
        for ((whole, a), b) in part.iter().zip(a).zip(b) {
            assert!((whole - (a + b) / 2.0).abs() < 1e-5 * largest);
        }
    }
}

#[test]
fn forty_classes_and_sixteen_thousand_vectors_need_little_memory() {
    let (classes, centres, channels, vectors) = (40, 10, 200, 16_384);
    let (mixture, z, log_det, labels) = world(classes, centres, channels, vectors);
    let mut workspace = Workspace::default();
    let loss = LossConfig::hgad().evaluate(&mixture, &z, &log_det, &labels, true, &mut workspace);
    assert!(loss.is_finite());
    let mut buffers: Vec<usize> = vec![loss.gradient_z.len() * 4, loss.gradient_log_det.len() * 4];
    buffers.extend(loss.gradient.parts().map(|(_, _, values)| values.len() * 4));
    for tile in &workspace.tiles {
        buffers.extend([tile.products.capacity() * 4, tile.weights.capacity() * 4]);
        buffers.extend([tile.logits.capacity() * 8, tile.weighted.capacity() * 8]);
        let inner = tile.intra.iter().map(|(_, sums)| sums);
        for sums in inner.chain([&tile.inter]) {
            buffers.push(sums.by_vector.capacity() * 4);
            buffers.extend([sums.plain.capacity() * 8, sums.log_weights.capacity() * 8]);
        }
    }
    // The gradient of z is the largest: nothing has a class or a centre more than that.
    assert_eq!(buffers.iter().max(), Some(&(vectors * channels * 4)));
    let total: usize = buffers.iter().sum();
    assert!(total < 32 << 20, "{total} bytes");
}

#[test]
fn vectors_far_from_all_centres_give_numbers() {
    let (mixture, z, log_det, labels) = world(3, 4, 5, 24);
    for factor in [0.0, 1e3, 1e6] {
        let z: Vec<f32> = z.iter().map(|value| value * factor).collect();
        let mut workspace = Workspace::default();
        let loss =
            LossConfig::hgad().evaluate(&mixture, &z, &log_det, &labels, true, &mut workspace);
        assert!(loss.is_finite(), "{factor}");
    }
    let bad = LossConfig::hgad().evaluate(
        &mixture,
        &[f32::NAN; 5],
        &[0.0],
        &[1],
        true,
        &mut Workspace::default(),
    );
    assert!(!bad.is_finite());
}

#[test]
fn one_class_is_a_plain_mixture() {
    let (mixture, z, log_det, labels) = world(1, 4, 5, 24);
    let mut workspace = Workspace::default();
    let loss = LossConfig::hgad().evaluate(&mixture, &z, &log_det, &labels, true, &mut workspace);
    let Terms {
        information,
        entropy,
        accuracy,
        ..
    } = loss.terms;
    assert_eq!((information, entropy), (0.0, 0.0));
    assert!((accuracy - 1.0).abs() < 1e-9);
    assert_eq!(loss.gradient.inter, [0.0]);
    let plain = LossConfig {
        lambda_information: 0.0,
        lambda_entropy: 0.0,
        ..LossConfig::hgad()
    };
    let plain = plain.evaluate(&mixture, &z, &log_det, &labels, true, &mut workspace);
    assert_eq!(
        (plain.gradient_z, plain.gradient),
        (loss.gradient_z, loss.gradient)
    );
}

#[test]
fn settings_out_of_range_are_named() {
    for (config, word) in [
        (
            LossConfig {
                lambda_likelihood: 0.0,
                ..LossConfig::hgad()
            },
            "lambda_likelihood",
        ),
        (
            LossConfig {
                lambda_information: -1.0,
                ..LossConfig::hgad()
            },
            "lambda_information",
        ),
        (
            LossConfig {
                lambda_entropy: f64::NAN,
                ..LossConfig::hgad()
            },
            "lambda_entropy",
        ),
        (
            LossConfig {
                label_smoothing: 1.0,
                ..LossConfig::hgad()
            },
            "label_smoothing",
        ),
    ] {
        let error = config.validate().expect_err(word);
        assert!(
            error.is_usage() && error.to_string().contains(word),
            "{error}"
        );
    }
}
