//! Forward and backward pass of ResNet-18, 8 images of 128 x 128 pixels, batch normalisation in training mode:
//! `cargo bench -p burn-ad-benches --bench conv_step`.

#![allow(missing_docs)]
#![recursion_limit = "256"]

mod backends;

use burn::tensor::backend::AutodiffBackend;
use burn_ad_benches::Work;
use criterion::{Criterion, criterion_group, criterion_main};

fn step<AB: AutodiffBackend>(criterion: &mut Criterion, backend: &str, device: &AB::Device) {
    let work = Work::ConvStep {
        batch: 8,
        size: 128,
    };
    backends::measure::<AB>(criterion, backend, device, &[work]);
}

fn bench(criterion: &mut Criterion) {
    on_every_backend!(step, criterion);
}

criterion_group!(benches, bench);
criterion_main!(benches);
