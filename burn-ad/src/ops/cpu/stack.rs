//! Parts of a batch, written to their places in row-major order.

use burn_ad_kernels::layout;

use super::buffers;
use super::settings::Kernels;
use super::tensor::{Cpu, Map, dims, size, tensor};
use super::tracking::without_history;

/// The images of a batch so far.
#[derive(Debug)]
pub(crate) struct Joined {
    kernels: Kernels,
    tracked: bool,
    dims: [usize; 4],
    values: Vec<f32>,
    filled: usize,
}

impl Joined {
    /// For `batch` images of the size of those of `part`.
    pub(crate) fn new(kernels: Kernels, batch: usize, part: &Cpu) -> Self {
        let [_, channels, height, width] = dims(part.primitive());
        Self {
            kernels,
            tracked: matches!(part, Cpu::Tracked(_)),
            dims: [batch, channels, height, width],
            values: buffers::take(batch * channels * height * width),
            filled: 0,
        }
    }

    pub(crate) fn push(&mut self, part: Cpu) {
        let part = Map::of(self.kernels, part.into_primitive());
        assert_eq!(part.dims()[1..], self.dims[1..], "maps of one size");
        let place = &mut self.values[self.filled..][..part.values().len()];
        layout::to_channels_first(self.kernels.isa, part.values(), size(part.dims()), place);
        self.filled += place.len();
        part.give_back();
    }

    pub(crate) fn finish(self) -> Cpu {
        assert_eq!(self.filled, self.values.len(), "images of the batch");
        without_history(self.tracked, tensor(self.values, &self.dims))
    }
}
