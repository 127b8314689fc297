//! Feature maps of a batch that is computed in parts.

use burn::prelude::*;

use super::cpu::{self, stack::Joined};

/// Collects the parts of a batch of feature maps `[part, channels, height, width]`, which need no
/// gradient.
#[derive(Debug)]
pub(crate) struct Stack<B: Backend> {
    batch: usize,
    /// Where our kernels compute: the parts go straight to their places.
    joined: Option<Joined>,
    /// Elsewhere.
    parts: Vec<Tensor<B, 4>>,
}

impl<B: Backend> Stack<B> {
    /// For `batch` images in all.
    pub(crate) fn new(batch: usize) -> Self {
        Self {
            batch,
            joined: None,
            parts: Vec::new(),
        }
    }

    /// Adds the next part.
    pub(crate) fn push(&mut self, part: Tensor<B, 4>) {
        match cpu::kernels_for::<B>() {
            Some(kernels) if cpu::is_f32(&part) => {
                let part = cpu::open(part);
                let joined = self
                    .joined
                    .get_or_insert_with(|| Joined::new(kernels, self.batch, &part));
                joined.push(part);
            }
            _ => self.parts.push(part),
        }
    }

    /// The whole batch, in row-major order.
    ///
    /// # Panics
    /// If the parts are not as many images as announced.
    pub(crate) fn finish(mut self) -> Tensor<B, 4> {
        match self.joined {
            Some(joined) => cpu::close(joined.finish()),
            None if self.parts.len() == 1 => self.parts.remove(0),
            None => Tensor::cat(self.parts, 0),
        }
    }
}
