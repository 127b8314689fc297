//! The backends of the criterion benches.

use std::time::Duration;

use burn::tensor::backend::AutodiffBackend;
use burn_ad_benches::Work;
use criterion::Criterion;

/// Measures every piece of work on one backend.
pub(crate) fn measure<AB: AutodiffBackend>(
    criterion: &mut Criterion,
    backend: &str,
    device: &AB::Device,
    works: &[Work],
) {
    let mut group = criterion.benchmark_group(backend);
    group
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(5));
    for work in works {
        let mut run = work.prepare::<AB>(device);
        group.bench_function(work.to_string(), |bencher| bencher.iter(&mut run));
    }
    group.finish();
}

/// Calls `$function::<Autodiff<B>>(criterion, name, &device)` for each backend of this build.
#[macro_export]
macro_rules! on_every_backend {
    ($function:ident, $criterion:expr) => {{
        use burn_autodiff::Autodiff;
        let criterion: &mut criterion::Criterion = $criterion;
        $function::<Autodiff<burn_flex::Flex>>(criterion, "flex", &Default::default());
        $function::<Autodiff<burn_ndarray::NdArray>>(criterion, "ndarray", &Default::default());
        #[cfg(feature = "wgpu")]
        $function::<Autodiff<burn_wgpu::Wgpu>>(criterion, "wgpu", &Default::default());
        #[cfg(feature = "cuda")]
        $function::<Autodiff<burn_cuda::Cuda>>(criterion, "cuda", &Default::default());
    }};
}
