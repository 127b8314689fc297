//! `burn-ad backends`: what this program and this machine can compute on.

use burn::tensor::backend::AutodiffBackend;
use burn_ad::Result;
use burn_ad::ops::{KERNELS_VARIABLE, Kernels, Precision};
use burn_ad::report::table::{Align, Table};
use clap::Args;

use crate::backend::{BackendChoice, BackendName, Job, dispatch, probe};
use crate::output::print;

/// Show which backends are compiled in, and which work on this machine
#[derive(Debug, Args)]
pub(crate) struct BackendsArgs {}

impl BackendsArgs {
    pub(crate) fn run(self) -> Result<()> {
        let mut table = Table::new([
            ("backend", Align::Left),
            ("works", Align::Left),
            ("device", Align::Left),
        ]);
        for name in BackendName::ALL {
            let (works, device) = state(name);
            table.row([name.to_string(), works.to_owned(), device]);
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        print(&format!(
            "{}\nCPU: {cores} cores{}\n{}\n",
            table.text(),
            vector_units(),
            kernels()
        ))
    }
}

fn state(name: BackendName) -> (&'static str, String) {
    if !name.is_compiled() {
        return (
            "no",
            format!("not compiled in: build with --features {name}"),
        );
    }
    let choice = BackendChoice {
        name,
        device_index: None,
    };
    match dispatch(choice, Describe) {
        Ok(device) => ("yes", device),
        Err(error) => (
            "no",
            error
                .to_string()
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned(),
        ),
    }
}

struct Describe;

impl Job for Describe {
    type Output = String;

    fn run<AB: AutodiffBackend>(self, device: AB::Device) -> Result<String> {
        probe::<AB::InnerBackend>(&device).map_err(burn_ad::Error::numeric)
    }
}

/// What computes convolutions, normalisation and distances on the backend `flex`.
fn kernels() -> String {
    let kernels = Kernels::current();
    let what = match kernels.precision {
        None => "off: flex computes with Burn's own operations",
        Some(Precision::Precise) => "precise: no faster summation than the most exact ones",
        Some(Precision::Fast) => "fast: features within 1e-5 of the largest",
    };
    let isa = kernels.precision.map(|_| format!(", {}", kernels.isa));
    format!(
        "Kernels of flex: {what}{} ({KERNELS_VARIABLE}=off|precise|fast)",
        isa.unwrap_or_default()
    )
}

/// The vector units that decide how fast matrix products are.
fn vector_units() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if std::is_x86_feature_detected!("avx512f") {
            return ", AVX-512";
        }
        if std::is_x86_feature_detected!("avx2") {
            return ", AVX2, no AVX-512";
        }
        ", neither AVX2 nor AVX-512: everything is slow"
    }
    #[cfg(not(target_arch = "x86_64"))]
    ""
}
