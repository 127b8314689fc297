//! Pixel metrics of 100 maps of 256 x 256 pixels, on one core.
//!
//! `cargo bench -p burn-ad-benches --bench metrics`; `python/metrics.py` measures the usual Python on the same maps.

use std::hint::black_box;
use std::time::Duration;

use burn_ad::metrics::{
    ScoreMap, ThresholdGrid, aupro, aupro_sampled, auroc, average_precision, best_f1, pixel_metrics,
};
use criterion::{Criterion, criterion_group, criterion_main};

const SIDE: usize = 256;
const BLOCK: usize = 32;

/// The generator of `tests/reference/metrics.py`.
fn uniform(seed: u64, counter: u64) -> f32 {
    let mut z = (seed << 32)
        .wrapping_add(counter)
        .wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32
}

/// Uniform noise with one block of 32 x 32 in fifty anomalous and lifted by 0.375.
fn generate(maps: usize) -> (Vec<f32>, Vec<bool>) {
    (0..maps * SIDE * SIDE)
        .map(|pixel| {
            let (map, y, x) = (pixel / (SIDE * SIDE), pixel / SIDE % SIDE, pixel % SIDE);
            let cell = (map * 4096 + y / BLOCK) * 4096 + x / BLOCK;
            let mask = uniform(2, cell as u64) < 0.02;
            (
                uniform(1, pixel as u64) + if mask { 0.375 } else { 0.0 },
                mask,
            )
        })
        .unzip()
}

fn views<'a>(scores: &'a [f32], mask: &'a [bool]) -> Vec<ScoreMap<'a>> {
    (scores.chunks(SIDE * SIDE).zip(mask.chunks(SIDE * SIDE)))
        .map(|(scores, mask)| ScoreMap {
            scores,
            mask,
            valid: None,
            height: SIDE,
            width: SIDE,
        })
        .collect()
}

fn bench(criterion: &mut Criterion) {
    let (scores, mask) = generate(100);
    let maps = views(&scores, &mask);
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
    group.bench_function("auroc", |b| b.iter(|| auroc(black_box(&scores), &mask)));
    group.bench_function("average_precision", |b| {
        b.iter(|| average_precision(black_box(&scores), &mask))
    });
    group.bench_function("best_f1", |b| b.iter(|| best_f1(black_box(&scores), &mask)));
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
