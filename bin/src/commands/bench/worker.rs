//! `burn-ad bench --worker`: another program says what to run and when, so that it can take turns with us.
//!
//! The first line out is `{"machine": .., "versions": .., "backend": .., "works": [{"name": .., ..}]}`. Then each
//! line in, `NAME RUNS`, is answered by a line `{"name": NAME, "ms": [..]}`, or `{"error": ".."}`. A work is prepared
//! and warmed up when its name first comes, and forgotten when another name comes.

use std::io::BufRead;

use burn::tensor::backend::AutodiffBackend;
use burn_ad::{Error, Result};
use serde_json::{Value, json};

use super::facts;
use super::measure::{time, warm_up};
use super::plan::{Runner, Task};
use crate::backend::{BackendName, Job};
use crate::output::print;
use crate::progress::stop_if_interrupted;

pub(super) struct Worker {
    pub(super) name: BackendName,
    pub(super) tasks: Vec<Task>,
}

impl Job for Worker {
    type Output = ();

    fn run<AB: AutodiffBackend>(self, device: AB::Device) -> Result<()> {
        answer(&json!({
            "machine": facts::machine(),
            "versions": facts::versions(),
            "commit": facts::commit(),
            "backend": self.name.to_string(),
            "works": self.tasks.iter().map(describe).collect::<Vec<_>>(),
        }))?;
        let mut current: Option<(String, Runner)> = None;
        for line in std::io::stdin().lock().lines() {
            let line = line.map_err(|error| Error::io(&error).context("reading standard input"))?;
            stop_if_interrupted()?;
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            match self.request::<AB>(line, &device, &mut current) {
                Ok(reply) => answer(&reply)?,
                Err(error) if error.is_usage() => answer(&json!({ "error": error.to_string() }))?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Worker {
    fn request<AB: AutodiffBackend>(
        &self,
        line: &str,
        device: &AB::Device,
        current: &mut Option<(String, Runner)>,
    ) -> Result<Value> {
        let (name, runs) = line.split_once(' ').unwrap_or((line, "1"));
        let runs: usize = runs
            .trim()
            .parse()
            .map_err(|_| Error::usage(format!("{runs:?} is no number of runs")))?;
        if current.as_ref().is_none_or(|(known, _)| known != name) {
            // The old data goes first: two of the larger works need not fit side by side.
            *current = None;
            let task = self.tasks.iter().find(|task| task.name() == name);
            let task = task.ok_or_else(|| Error::usage(format!("there is no work {name:?}")))?;
            let mut run = task.prepare::<AB>(device)?;
            warm_up(&mut run)?;
            *current = Some((name.to_owned(), run));
        }
        let (_, run) = current.as_mut().expect("was made just now");
        let ms = (0..runs)
            .map(|_| {
                stop_if_interrupted()?;
                time(run)
            })
            .collect::<Result<Vec<f64>>>()?;
        Ok(json!({ "name": name, "ms": ms }))
    }
}

fn describe(task: &Task) -> Value {
    json!({ "name": task.name(), "work": task.to_string(), "parameters": task })
}

fn answer(value: &Value) -> Result<()> {
    print(&format!("{value}\n"))
}
