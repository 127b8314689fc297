//! What tests of trainings share.

use std::ops::ControlFlow;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::{Observer, Step};

/// Stops a run after some steps of training, and keeps what was said.
#[derive(Default)]
pub(crate) struct Watcher {
    pub(crate) stop_after: Option<u64>,
    pub(crate) log: Vec<serde_json::Value>,
    pub(crate) warnings: Vec<String>,
}

impl Observer for Watcher {
    fn step(&mut self, step: &Step<'_>) -> ControlFlow<()> {
        if step.phase == "training" && Some(step.done) == self.stop_after {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn warn(&mut self, message: &str) {
        self.warnings.push(message.to_owned());
    }

    fn record(&mut self, figures: &serde_json::Value) {
        self.log.push(figures.clone());
    }
}

/// A checkpoint in ways that it must not be: cut, without one of its parts, and with half of one; each with what
/// was done to it.
pub(crate) fn spoilt(whole: &[u8]) -> Vec<(String, Vec<u8>)> {
    let file = SafeTensors::deserialize(whole).expect("a checkpoint");
    let (_, header) = SafeTensors::read_metadata(whole).expect("a checkpoint");
    let parts: Vec<(String, &[u8])> = file
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, view.data()))
        .collect();
    let write = |parts: Vec<(String, &[u8])>| {
        let views = parts.into_iter().map(|(name, bytes)| {
            let view = TensorView::new(Dtype::U8, vec![bytes.len()], bytes);
            (name, view.expect("bytes of that number"))
        });
        safetensors::serialize(views, header.metadata().clone()).expect("a checkpoint")
    };
    let mut all = vec![("half a file".to_owned(), whole[..whole.len() / 2].to_vec())];
    for place in 0..parts.len() {
        let mut without = parts.clone();
        let (name, _) = without.remove(place);
        all.push((format!("without {name}"), write(without)));
        let mut short = parts.clone();
        short[place].1 = &short[place].1[..short[place].1.len() / 2];
        all.push((format!("half of {name}"), write(short)));
    }
    all
}
