//! The identity of a set of weights.

use sha2::{Digest, Sha256};

use super::Backbone;
use super::spec::{Unit, UnitSpec};
use crate::files::hex;
use burn::prelude::*;

/// SHA-256 over units, in lower-case hexadecimal.
///
/// Hashed per unit: the name's length and bytes, the four sides of the weight, the weights and the
/// biases; numbers as little-endian u64 and f32. It depends neither on the file format nor on the
/// backend.
pub fn digest<'a>(units: impl IntoIterator<Item = (&'a UnitSpec, &'a Unit)>) -> String {
    let mut hasher = Sha256::new();
    for (spec, unit) in units {
        hasher.update((spec.name.len() as u64).to_le_bytes());
        hasher.update(spec.name.as_bytes());
        for side in spec.shape {
            hasher.update((side as u64).to_le_bytes());
        }
        hasher.update(little_endian(&unit.weight));
        hasher.update(little_endian(&unit.bias));
    }
    hex(&hasher.finalize())
}

/// The bytes of `values` as they stand in a file.
pub(crate) fn little_endian(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

impl<B: Backend> Backbone<B> {
    /// [`digest`] of the values this network holds.
    pub fn digest(&self) -> String {
        let units = self.units();
        digest(units.iter().map(|(spec, unit)| (spec, unit)))
    }
}
