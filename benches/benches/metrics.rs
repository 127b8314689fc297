//! Pixel metrics of 100 maps of 256 x 256 pixels, on one core.
//!
//! `cargo bench -p burn-ad-benches --bench metrics`; `benches/pytorch/metrics.py` measures the usual Python on the same maps.

use std::hint::black_box;
use std::time::Duration;

use burn_ad::metrics::{
    ThresholdGrid, aupro, aupro_sampled, auroc, average_precision, best_f1, pixel_metrics,
};
use burn_ad_benches::maps::Maps;
use criterion::{Criterion, criterion_group, criterion_main};

fn bench(criterion: &mut Criterion) {
    let generated = Maps::new(100, 256);
    let (maps, scores, mask) = (generated.views(), &generated.scores, &generated.mask);
    println!(
        "{:#?}",
        pixel_metrics(&maps, 0.3).expect("generated maps are valid")
    );
    let mut group = criterion.benchmark_group("100 maps of 256x256");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(5));
    group.bench_function("pixel_metrics", |b| {
        b.iter(|| pixel_metrics(black_box(&maps), 0.3))
    });
    group.bench_function("aupro", |b| b.iter(|| aupro(black_box(&maps), 0.3)));
    group.bench_function("aupro_sampled, 200 thresholds", |b| {
        b.iter(|| aupro_sampled(black_box(&maps), 0.3, ThresholdGrid::CKAAD));
    });
    group.bench_function("auroc", |b| b.iter(|| auroc(black_box(scores), mask)));
    group.bench_function("average_precision", |b| {
        b.iter(|| average_precision(black_box(scores), mask))
    });
    group.bench_function("best_f1", |b| b.iter(|| best_f1(black_box(scores), mask)));
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
