//! Distances that N-pad scores with: `cargo bench -p burn-ad-benches --bench scoring`.

#![allow(missing_docs)]
#![recursion_limit = "256"]

mod backends;

use burn::tensor::backend::AutodiffBackend;
use burn_ad_benches::Work;
use criterion::{Criterion, criterion_group, criterion_main};

fn scoring<AB: AutodiffBackend>(criterion: &mut Criterion, backend: &str, device: &AB::Device) {
    let works = [
        Work::Nearest {
            queries: 1024,
            width: 384,
            bank: 16384,
        },
        Work::Mahalanobis {
            side: 64,
            width: 100,
        },
    ];
    backends::measure::<AB>(criterion, backend, device, &works);
}

fn bench(criterion: &mut Criterion) {
    on_every_backend!(scoring, criterion);
}

criterion_group!(benches, bench);
criterion_main!(benches);
