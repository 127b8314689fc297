//! Time of one feature pass at 256 x 256, all taps: `cargo bench -p burn-ad-benches --bench backbone`.
//!
//! The same on PyTorch: `tests/reference/backbone_speed.py`.

#![allow(missing_docs)]

use std::hint::black_box;
use std::time::Duration;

use burn::prelude::*;
use burn_ad::backbone::BackboneConfig;
use burn_flex::Flex;
use burn_ndarray::NdArray;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

const SIDE: usize = 256;

fn features<B: Backend>(criterion: &mut Criterion, backend: &str, batches: &[usize]) {
    let device = B::Device::default();
    let mut group = criterion.benchmark_group(format!("features {backend}"));
    group
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(5));
    for name in ["resnet18", "tf_efficientnet_lite0", "tf_efficientnet_b0"] {
        let config: BackboneConfig = name.parse().expect("known name");
        let network = config.random::<B>(0, &device);
        let levels: Vec<usize> = (0..config.feature_info().len()).collect();
        for &batch in batches {
            let shape = [batch, 3, SIDE, SIDE];
            let noise = burn::tensor::Distribution::Normal(0.0, 1.0);
            let images = Tensor::<B, 4>::random(shape, noise, &device);
            group.bench_function(BenchmarkId::new(name, batch), |bencher| {
                bencher.iter(|| {
                    let maps = network.features(images.clone(), &levels);
                    // Reading one value waits for backends that compute in the background.
                    let last = maps.last().cloned().expect("levels were asked");
                    black_box(last.slice([0..1, 0..1, 0..1, 0..1]).into_scalar())
                });
            });
        }
    }
    group.finish();
}

fn backbones(criterion: &mut Criterion) {
    features::<Flex>(criterion, "flex", &[1, 8]);
    features::<NdArray>(criterion, "ndarray", &[1]);
}

criterion_group!(benches, backbones);
criterion_main!(benches);
