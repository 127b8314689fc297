//! The one match from the name of a backend to its type.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn_ad::{Error, Result};
use burn_autodiff::Autodiff;
use clap::ValueEnum;

/// Where tensors are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackendName {
    /// CPU; the fast one.
    Flex,
    /// CPU; for comparison.
    Ndarray,
    /// GPU of any make, through Vulkan, Metal or DirectX 12.
    Wgpu,
    /// NVIDIA GPU.
    Cuda,
}

impl BackendName {
    /// All of them, compiled in or not, the preferred one first.
    pub(crate) const ALL: [Self; 4] = [Self::Flex, Self::Ndarray, Self::Wgpu, Self::Cuda];

    fn name(self) -> &'static str {
        match self {
            Self::Flex => "flex",
            Self::Ndarray => "ndarray",
            Self::Wgpu => "wgpu",
            Self::Cuda => "cuda",
        }
    }

    /// Whether this program was built with it.
    pub(crate) fn is_compiled(self) -> bool {
        match self {
            Self::Flex => cfg!(feature = "flex"),
            Self::Ndarray => cfg!(feature = "ndarray"),
            Self::Wgpu => cfg!(feature = "wgpu"),
            Self::Cuda => cfg!(feature = "cuda"),
        }
    }

    /// Whether it computes on the CPU, whatever the machine.
    fn is_cpu(self) -> bool {
        matches!(self, Self::Flex | Self::Ndarray)
    }
}

impl fmt::Display for BackendName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A backend and which of its devices.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BackendChoice {
    pub(crate) name: BackendName,
    /// Position in the backend's list of GPUs; `None` is the backend's own choice.
    pub(crate) device_index: Option<usize>,
}

/// Work that runs on whichever backend the user chose.
pub(crate) trait Job {
    /// What it gives.
    type Output;

    /// Does the work; inference uses `AB::InnerBackend`.
    fn run<AB: AutodiffBackend>(self, device: AB::Device) -> Result<Self::Output>;
}

/// Runs `job` on the chosen backend.
///
/// # Errors
/// When the backend is not compiled in or does not work on this machine, and what `job` returns.
pub(crate) fn dispatch<J: Job>(choice: BackendChoice, job: J) -> Result<J::Output> {
    let BackendChoice { name, device_index } = choice;
    if name.is_cpu() && device_index.is_some() {
        return Err(
            Error::usage(format!("backend {name} has one device: the CPU"))
                .help("leave --device-index out"),
        );
    }
    match name {
        #[cfg(feature = "flex")]
        BackendName::Flex => job.run::<Autodiff<burn_flex::Flex>>(Default::default()),
        #[cfg(feature = "ndarray")]
        BackendName::Ndarray => job.run::<Autodiff<burn_ndarray::NdArray>>(Default::default()),
        #[cfg(feature = "wgpu")]
        BackendName::Wgpu => {
            use burn_wgpu::WgpuDevice;
            let device = device_index.map_or_else(WgpuDevice::default, WgpuDevice::DiscreteGpu);
            on_gpu::<burn_wgpu::Wgpu, J>(name, device, job)
        }
        #[cfg(feature = "cuda")]
        BackendName::Cuda => {
            let device = burn_cuda::CudaDevice::new(device_index.unwrap_or(0));
            on_gpu::<burn_cuda::Cuda, J>(name, device, job)
        }
        #[allow(unreachable_patterns)]
        _ => Err(not_compiled(name)),
    }
}

#[allow(dead_code)]
fn not_compiled(name: BackendName) -> Error {
    Error::usage(format!("this burn-ad was built without the backend {name}")).help(format!(
        "build it with `cargo build --release --features {name}`, or see `burn-ad backends`"
    ))
}

/// A GPU that is not there shows only when something is computed, and then as a panic.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn on_gpu<B, J>(name: BackendName, device: B::Device, job: J) -> Result<J::Output>
where
    B: Backend,
    Autodiff<B>: AutodiffBackend<Device = B::Device>,
    J: Job,
{
    probe::<B>(&device).map_err(|reason| {
        Error::usage(format!(
            "backend {name} does not work on this machine: {reason}"
        ))
        .help("use --backend flex, or see `burn-ad backends`")
    })?;
    job.run::<Autodiff<B>>(device)
}

/// Computes `1 + 2` on a device; the device's name, or why it does not work.
pub(crate) fn probe<B: Backend>(device: &B::Device) -> Result<String, String> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let result = catch_unwind(AssertUnwindSafe(|| {
        let sum = Tensor::<B, 1>::from_floats([1.0], device) + 2.0;
        let sum = sum.into_data().iter::<f32>().next();
        (sum, B::name(device), format!("{device:?}"))
    }));
    std::panic::set_hook(hook);
    match result {
        Ok((Some(3.0), name, device)) => Ok(format!("{name}, {device}")),
        Ok((sum, ..)) => Err(format!("1 + 2 gives {sum:?}")),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied());
            let text = text.unwrap_or("no reason given");
            Err(text.lines().next().unwrap_or_default().to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl Job for Nothing {
        type Output = ();

        fn run<AB: AutodiffBackend>(self, _device: AB::Device) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_backend_that_is_not_compiled_in_is_a_usage_error() {
        for name in BackendName::ALL
            .into_iter()
            .filter(|name| !name.is_compiled())
        {
            let choice = BackendChoice {
                name,
                device_index: None,
            };
            let error = dispatch(choice, Nothing).expect_err("not there");
            assert!(
                error.is_usage() && error.to_string().contains("--features"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_cpu_has_no_device_index() {
        let choice = BackendChoice {
            name: BackendName::Flex,
            device_index: Some(1),
        };
        assert!(dispatch(choice, Nothing).expect_err("no").is_usage());
    }
}
