//! Memory of feature maps, used again.
//!
//! A map of a few megabytes that is freed goes back to the operating system, and the next one is
//! zeroed page by page: a quarter of the time of a fast network. So a kernel that used up its input
//! keeps the memory for the next output.

use std::cell::RefCell;

use burn_flex::{FlexTensor, Layout};

/// Memory kept by one thread, in values: 2 GiB. It was all in use at one time: a training step gives the
/// maps of its forward pass back one after the other, and the next step takes them again.
const LIMIT: usize = 512 << 20;
/// Smaller ones are left to the allocator, which is quick with them.
const SMALLEST: usize = 4 << 10;

thread_local! {
    static KEPT: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// `length` values of any content; the caller writes all of them.
pub(crate) fn take(length: usize) -> Vec<f32> {
    let kept = KEPT.with_borrow_mut(|kept| {
        let fitting = (0..kept.len())
            .filter(|&index| (length..=length.saturating_mul(4)).contains(&kept[index].capacity()));
        let index = fitting.min_by_key(|&index| kept[index].capacity())?;
        Some(kept.swap_remove(index))
    });
    let Some(mut values) = kept else {
        // Pages that the system clears when the threads of the kernel first write to them.
        return vec![0.0; length];
    };
    values.truncate(length);
    values.resize(length, 0.0);
    values
}

/// Keeps the memory of a tensor that nobody else uses.
pub(crate) fn give_back(tensor: FlexTensor) {
    let values = tensor.layout().num_elements();
    if values < SMALLEST || !tensor.is_unique() || tensor.layout().start_offset() != 0 {
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
    if memory.capacity() < SMALLEST {
        return;
    }
    KEPT.with_borrow_mut(|kept| {
        kept.push(memory);
        let mut total: usize = kept.iter().map(Vec::capacity).sum();
        while total > LIMIT {
            total -= kept.remove(0).capacity();
        }
    });
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
}
