//! Nearest neighbours by `burn-ad-kernels`.

use std::sync::{Arc, Mutex, PoisonError};

use burn_ad_kernels::Isa;
use burn_ad_kernels::nearest::Bank;

use super::settings::Kernels;
use super::tensor::{Cpu, contiguous, values};

/// A bank as the kernel reads it, made at the first search and kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct PackedBank {
    bank: Arc<Mutex<Kept>>,
}

/// The bank and the instructions it was packed for.
type Kept = Option<(Isa, Arc<Bank>)>;

impl PackedBank {
    /// Euclidean distance from each of `queries` `[n, width]` to the nearest of `members`
    /// `[m, width]`, and its index.
    pub(crate) fn nearest(
        &self,
        kernels: Kernels,
        queries: Cpu,
        members: Cpu,
    ) -> (Vec<f32>, Vec<i32>) {
        let queries = contiguous(queries.into_primitive());
        let shape = queries.layout().shape();
        let (rows, width) = (shape[0], shape[1]);
        let bank = self.packed(kernels.isa, width, members);
        let mut distances = vec![0.0; rows];
        let mut indices = vec![0; rows];
        bank.nearest(values(&queries), &mut distances, &mut indices);
        for distance in &mut distances {
            *distance = distance.sqrt();
        }
        let indices = indices.into_iter().map(|index: u32| index as i32).collect();
        (distances, indices)
    }

    fn packed(&self, isa: Isa, width: usize, members: Cpu) -> Arc<Bank> {
        let mut kept = self.bank.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, bank)) = kept.as_ref()
            && *of == isa
        {
            return bank.clone();
        }
        let members = contiguous(members.into_primitive());
        let bank = Arc::new(Bank::pack(isa, values(&members).to_vec(), width));
        *kept = Some((isa, bank.clone()));
        bank
    }
}
