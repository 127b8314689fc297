//! Memory of feature maps, used again.
//!
//! A map of a few megabytes that is freed goes back to the operating system, and the next one is
//! zeroed page by page: a quarter of the time of a fast network. So a kernel that used up its input
//! keeps the memory for the next output.

use std::cell::RefCell;
use std::collections::HashMap;

use burn_ad_kernels::memory;
use burn_flex::{FlexTensor, Layout};

/// Memory kept by one thread, in values: 2 GiB. It was all in use at one time: a training step gives the
/// maps of its forward pass back one after the other, and the next step takes them again.
const LIMIT: usize = 512 << 20;
/// Memory that nobody has asked for in so many calls of [`take`], a few training steps, is given up:
/// more comes in than goes out where other tensors than ours are used up.
const PATIENCE: u64 = 4096;
/// Smaller ones are left to the allocator, which is quick with them.
const SMALLEST: usize = 4 << 10;

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::new(Kept::default());
}

/// Memory that waits, oldest first.
#[derive(Default)]
struct Kept {
    /// Calls of `take` so far.
    takes: u64,
    /// How many of a length were taken and have not come back: as many of that length may come, from
    /// wherever. What was taken long ago counts no more.
    missing: HashMap<usize, usize>,
    /// Each with the number of calls when it came.
    memory: Vec<(u64, Vec<f32>)>,
}

impl Kept {
    fn take(&mut self, length: usize) -> Option<Vec<f32>> {
        self.takes += 1;
        if self.takes.is_multiple_of(PATIENCE) {
            self.missing.clear();
            self.give_up();
        }
        *self.missing.entry(length).or_default() += 1;
        // Only as long as it is: to lengthen a vector that was cut is to clear what is added.
        let fits = |memory: &Vec<f32>| (length..=length + length / 8).contains(&memory.len());
        let fitting = (0..self.memory.len()).filter(|&index| fits(&self.memory[index].1));
        let index = fitting.min_by_key(|&index| self.memory[index].1.len())?;
        Some(self.memory.remove(index).1)
    }

    fn keep(&mut self, memory: Vec<f32>) {
        let Some(missing @ 1..) = self.missing.get_mut(&memory.len()) else {
            return;
        };
        *missing -= 1;
        self.memory.push((self.takes, memory));
        self.give_up();
    }

    /// Lets go what is too much, and what nobody has asked for.
    fn give_up(&mut self) {
        let mut total: usize = self
            .memory
            .iter()
            .map(|(_, memory)| memory.capacity())
            .sum();
        let mut given_up = 0;
        for (came, memory) in &self.memory {
            if total <= LIMIT && self.takes - came <= PATIENCE {
                break;
            }
            total -= memory.capacity();
            given_up += 1;
        }
        self.memory.drain(..given_up);
    }
}

/// `length` values of any content; the caller writes all of them.
pub(crate) fn take(length: usize) -> Vec<f32> {
    let kept = match length {
        0..SMALLEST => None,
        _ => KEPT.with_borrow_mut(|kept| kept.take(length)),
    };
    let Some(mut values) = kept else {
        return memory::zeros(length);
    };
    values.truncate(length);
    values
}

/// Keeps the memory of a tensor that nobody else uses.
pub(crate) fn give_back(tensor: FlexTensor) {
    let values = tensor.layout().num_elements();
    // A part of a larger storage would be copied.
    let whole = tensor.bytes().len() == values * size_of::<f32>();
    if values < SMALLEST || !tensor.is_unique() || !whole {
        return;
    }
    let flat = Layout::contiguous(vec![values].into());
    let Ok(memory) = tensor.with_layout(flat).into_data().bytes.try_into_vec() else {
        return;
    };
    keep(memory);
}

/// Keeps memory for the next that [`take`] asks for.
pub(crate) fn keep(memory: Vec<f32>) {
    if memory.len() >= SMALLEST {
        KEPT.with_borrow_mut(|kept| kept.keep(memory));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tensor;
    use super::*;

    #[test]
    fn memory_comes_back_to_the_next_map() {
        let values = take(5000);
        let place = values.as_ptr();
        give_back(tensor::tensor(values, &[50, 100]));
        let again = take(4500);
        assert_eq!(again.as_ptr(), place);
        assert_eq!(again.len(), 4500);
    }

    #[test]
    fn memory_that_somebody_reads_is_not_taken() {
        let first = tensor::tensor(vec![1.0; 5000], &[5000]);
        let reader = first.clone();
        give_back(first);
        let mut values = take(5000);
        values.fill(2.0);
        assert!(tensor::values(&reader).iter().all(|&value| value == 1.0));
    }

    #[test]
    fn memory_that_nobody_asks_for_is_given_up() {
        let mut kept = Kept::default();
        assert!(kept.take(5000).is_none());
        kept.keep(vec![0.0; 5000]);
        for _ in 0..PATIENCE {
            assert!(kept.take(100_000).is_none());
            assert!(kept.take(6000).is_none());
            kept.keep(vec![0.0; 6000]);
            assert!(kept.take(6000).is_some());
        }
        // Only what came a short while ago is left.
        kept.keep(vec![0.0; 6000]);
        assert!(kept.take(5000).is_none());
    }

    #[test]
    fn no_more_comes_in_than_went_out() {
        let mut kept = Kept::default();
        kept.keep(vec![0.0; 5000]);
        assert!(kept.take(5000).is_none(), "nobody had asked for it");
        kept.keep(vec![0.0; 5000]);
        kept.keep(vec![0.0; 5000]);
        // A length that nearly fits is taken, one that is far too long is left.
        assert!(kept.take(4000).is_none());
        assert!(kept.take(4900).is_some_and(|memory| memory.len() == 5000));
        assert!(kept.take(5000).is_none());
    }
}
