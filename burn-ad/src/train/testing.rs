//! An observer for tests.

use std::ops::ControlFlow;

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
