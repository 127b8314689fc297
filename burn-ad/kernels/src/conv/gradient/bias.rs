//! Gradient with respect to the bias.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::Isa;
use crate::parallel::worth;

/// Positions whose sum is one rounded number: a fixed count, so that threads do not change it.
const BLOCK: usize = 512;
/// Fewer values than this are not worth waking another thread.
const SERIAL: usize = worth(1 << 16);

/// Sums of `dy` `[.., channels]` over all positions, to `db` `[channels]`.
///
/// # Panics
/// If `dy` is not whole positions of `db`'s length.
pub fn bias(isa: Isa, dy: &[f32], db: &mut [f32]) {
    let channels = db.len();
    if channels == 0 {
        assert!(dy.is_empty(), "a gradient of no channels with values");
        return;
    }
    assert_eq!(
        dy.len() % channels,
        0,
        "positions of {channels} channels each"
    );
    let sum = |dy: &[f32]| {
        let mut sums = vec![0.0f32; channels];
        isa.run(Sum {
            dy,
            sums: &mut sums,
        });
        sums
    };
    let blocks = dy.chunks(BLOCK * channels);
    let sums: Vec<Vec<f32>> = if dy.len() < SERIAL {
        blocks.map(sum).collect()
    } else {
        dy.par_chunks(BLOCK * channels).map(sum).collect()
    };
    for (channel, total) in db.iter_mut().enumerate() {
        let parts = sums.iter().map(|sums| f64::from(sums[channel]));
        *total = parts.sum::<f64>() as f32;
    }
}

struct Sum<'a> {
    dy: &'a [f32],
    sums: &'a mut [f32],
}

impl WithSimd for Sum<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (whole, rest) = S::as_mut_simd_f32s(self.sums);
        for row in self
            .dy
            .chunks_exact(whole.len() * S::F32_LANES + rest.len())
        {
            let (row, last) = S::as_simd_f32s(row);
            for (sum, value) in whole.iter_mut().zip(row) {
                *sum = simd.add_f32s(*sum, *value);
            }
            for (sum, value) in rest.iter_mut().zip(last) {
                *sum += *value;
            }
        }
    }
}
