//! One suite for every backend: the same claims on Flex, NdArray, WGPU and CUDA.
//!
//! Two kinds of claims. Those *against formulas* compare with plain loops in f64 that stand beside
//! the test; every backend answers to them. Those *against Flex* compare whole networks, flows,
//! training steps and detectors with the same work on Flex, which answers for itself elsewhere
//! (parity with PyTorch, timm and FrEIA). How close is close stands in [`tolerances`].
//!
//! A new method adds its claims to a list below and has them on every backend.
//!
//! WGPU runs on whatever Vulkan, Metal or DirectX finds, in CI on Mesa's software Vulkan, where
//! every new shape costs time: claims use few and tiny shapes, the same ones where they can, and
//! `kernels` spares the search for the fastest kernel.

mod compare;
mod flows;
#[cfg(feature = "wgpu")]
mod kernels;
mod methods;
mod networks;
mod ops;
mod tolerances;
mod training;

use burn::tensor::backend::Backend;

use tolerances::Tolerances;

/// Where a claim is tried.
pub(crate) struct Place<B: Backend> {
    device: B::Device,
    tolerances: &'static Tolerances,
}

/// Tests of the given claims, each `file: claim, claim`, on the backend `Tested` of the module.
macro_rules! claims {
    ($($file:ident: $($claim:ident),+;)+) => {$($(
        #[test]
        fn $claim() {
            if let Some(place) = place() {
                crate::backends::$file::$claim::<burn_autodiff::Autodiff<Tested>>(&place);
            }
        }
    )+)+};
}

macro_rules! claims_against_formulas {
    () => {
        claims! {
            ops: convolutions_equal_their_definition,
                pools_equal_their_definition,
                resizing_and_blurring_equal_their_definition,
                means_scales_and_activations_equal_their_definition,
                distances_and_nearest_rows_equal_an_exhaustive_search;
            flows: a_flow_is_undone_by_its_inverse;
        }
    };
}

macro_rules! claims_against_flex {
    () => {
        claims! {
            networks: every_tap_of_each_family_is_the_same;
            flows: likelihoods_and_gradients_of_a_flow_are_the_same;
            training: a_step_of_every_loss_moves_a_flow_alike,
                a_step_of_both_players_of_ckaad_goes_alike,
                a_step_of_igd_from_scratch_goes_alike;
            methods: npad_fitted_here_scores_as_fitted_on_flex,
                a_model_file_gives_the_same_scores;
        }
    };
}

/// Claims of many shapes, which take minutes on a software GPU: they pass there (by hand).
macro_rules! claims_of_many_shapes {
    () => {
        claims! {
            training: a_step_of_igd_behind_a_frozen_encoder_goes_alike;
        }
    };
}

mod flex {
    use super::{Place, tolerances::CPU};
    pub(super) type Tested = burn_flex::Flex;

    fn place<B: burn::tensor::backend::Backend>() -> Option<Place<B>> {
        Some(Place::here(&CPU))
    }

    claims_against_formulas!();
}

mod ndarray {
    use super::{Place, tolerances::CPU};
    pub(super) type Tested = burn_ndarray::NdArray;

    fn place<B: burn::tensor::backend::Backend>() -> Option<Place<B>> {
        Some(Place::here(&CPU))
    }

    claims_against_formulas!();
    claims_against_flex!();
    claims_of_many_shapes!();
}

#[cfg(feature = "wgpu")]
mod wgpu {
    use super::{Place, tolerances::WGPU};
    pub(super) type Tested = burn_wgpu::Wgpu;

    fn place<B: burn::tensor::backend::Backend>() -> Option<Place<B>> {
        super::kernels::answer_before_tuning();
        Some(Place::here(&WGPU))
    }

    claims_against_formulas!();
    claims_against_flex!();
}

#[cfg(feature = "cuda")]
mod cuda {
    use super::{Place, tolerances::CUDA};
    pub(super) type Tested = burn_cuda::Cuda;

    /// Only where a GPU is at hand: this backend is compiled everywhere.
    fn place<B: burn::tensor::backend::Backend>() -> Option<Place<B>> {
        let place = super::is_at_hand::<Tested>().then(|| Place::here(&CUDA));
        if place.is_none() {
            println!("skipped: no CUDA device works on this machine");
        }
        place
    }

    claims_against_formulas!();
    claims_against_flex!();
    claims_of_many_shapes!();
}

impl<B: Backend> Place<B> {
    fn here(tolerances: &'static Tolerances) -> Self {
        Self {
            device: Default::default(),
            tolerances,
        }
    }
}

/// Whether the default device computes `1 + 2`; a GPU that is absent shows as a panic.
#[cfg(feature = "cuda")]
fn is_at_hand<B: Backend>() -> bool {
    use std::sync::OnceLock;
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let sum = std::panic::catch_unwind(|| {
            let one = burn::tensor::Tensor::<B, 1>::from_floats([1.0], &Default::default());
            burn_ad::tensors::to_vec(one + 2.0)
        });
        sum.is_ok_and(|sum| sum == [3.0])
    })
}
