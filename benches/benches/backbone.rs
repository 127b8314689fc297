//! Time of one feature pass at 256 x 256: `cargo bench -p burn-ad-benches --bench backbone`.
//!
//! `--features cuda` or `wgpu` adds that backend. `benches/pytorch/compare.py` measures the same beside PyTorch.

#![allow(missing_docs)]
#![recursion_limit = "256"]

mod backends;

use burn::tensor::backend::AutodiffBackend;
use burn_ad_benches::Work;
use criterion::{Criterion, criterion_group, criterion_main};

fn features<AB: AutodiffBackend>(criterion: &mut Criterion, backend: &str, device: &AB::Device) {
    let mut works = Vec::new();
    for name in ["resnet18", "tf_efficientnet_lite0", "tf_efficientnet_b0"] {
        // NdArray is there for comparison: one image tells enough.
        let batches: &[usize] = if backend == "ndarray" { &[1] } else { &[1, 8] };
        works.extend(batches.iter().map(|&batch| Work::Features {
            backbone: name.parse().expect("known name"),
            batch,
            size: 256,
        }));
    }
    backends::measure::<AB>(criterion, backend, device, &works);
}

fn bench(criterion: &mut Criterion) {
    on_every_backend!(features, criterion);
}

criterion_group!(benches, bench);
criterion_main!(benches);
