//! Timing.

use std::ops::ControlFlow;
use std::time::Instant;

use burn_ad::Result;
use burn_ad::report::memory::{peak_resident_bytes, reset_peak};
use burn_ad::train::{Observer, Step};

use super::plan::{Runner, Task};
use crate::progress::{Progress, interrupted};

/// How long a piece of work is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Effort {
    /// So many times.
    Runs(usize),
    /// As often as fits, but not less than [`FEWEST`] times.
    Seconds(f64),
}

/// Fewer times have no quartiles.
const FEWEST: usize = 3;
/// Warming up ends after this many seconds ...
const WARM_UP_SECONDS: f64 = 0.5;
/// ... or runs.
const WARM_UP_RUNS: usize = 3;

impl Effort {
    fn is_enough(self, runs: usize, seconds: f64) -> bool {
        match self {
            Self::Runs(wanted) => runs >= wanted,
            Self::Seconds(wanted) => runs >= FEWEST && seconds >= wanted,
        }
    }
}

/// One row.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    pub(super) task: Task,
    /// Every run, in the order taken.
    pub(super) ms: Vec<f64>,
    /// Most memory of the process during the runs, where the system tells.
    pub(super) peak_mib: Option<f64>,
}

impl Measured {
    /// Minimum, quartiles and maximum, linear between neighbours.
    pub(super) fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.ms.clone();
        sorted.sort_by(f64::total_cmp);
        let place = share * (sorted.len() - 1) as f64;
        let (low, high) = (
            sorted[place.floor() as usize],
            sorted[place.ceil() as usize],
        );
        low + (high - low) * place.fract()
    }

    /// Images per second of the median run.
    pub(super) fn images_per_second(&self) -> Option<f64> {
        let images = self.task.images()? as f64;
        Some(images / (self.quantile(0.5) / 1000.0))
    }
}

/// Runs a piece of work without looking, so that memory, caches and compiled kernels are there.
pub(super) fn warm_up(run: &mut Runner) -> Result<()> {
    let started = Instant::now();
    for _ in 0..WARM_UP_RUNS {
        run()?;
        if started.elapsed().as_secs_f64() > WARM_UP_SECONDS || interrupted() {
            break;
        }
    }
    Ok(())
}

/// Milliseconds of one run.
pub(super) fn time(run: &mut Runner) -> Result<f64> {
    let started = Instant::now();
    run()?;
    Ok(started.elapsed().as_nanos() as f64 / 1e6)
}

/// Measures a piece of work; a signal ends that early, with the times so far.
///
/// # Errors
/// Those of the work itself.
pub(super) fn measure(
    task: Task,
    effort: Effort,
    run: &mut Runner,
    progress: &mut Progress,
) -> Result<Measured> {
    let mut measured = Measured {
        task,
        ms: Vec::new(),
        peak_mib: None,
    };
    let result = fill(&mut measured, effort, run, progress);
    match result {
        Err(error) if error.is_interrupted() => {}
        result => result?,
    }
    Ok(measured)
}

fn fill(
    measured: &mut Measured,
    effort: Effort,
    run: &mut Runner,
    progress: &mut Progress,
) -> Result<()> {
    warm_up(run)?;
    let phase = measured.task.to_string();
    let mut report = |done: usize| {
        progress.step(&Step {
            phase: &phase,
            done: done as u64,
            total: match effort {
                Effort::Runs(runs) => runs as u64,
                Effort::Seconds(_) => 0,
            },
            unit: "runs",
            values: &[],
        })
    };
    if report(0) == ControlFlow::Break(()) {
        return Ok(());
    }
    let tells_memory = measured.task.has_memory() && reset_peak();
    let started = Instant::now();
    loop {
        measured.ms.push(time(run)?);
        if tells_memory {
            let peak = peak_resident_bytes();
            measured.peak_mib = peak.map(|bytes| bytes as f64 / 1_048_576.0);
        }
        let done = measured.ms.len();
        if report(done) == ControlFlow::Break(())
            || effort.is_enough(done, started.elapsed().as_secs_f64())
        {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::bench::plan::Plan;

    fn measured(ms: &[f64]) -> Measured {
        Measured {
            task: Plan::quick().tasks()[0],
            ms: ms.to_vec(),
            peak_mib: None,
        }
    }

    #[test]
    fn quartiles_lie_between_their_neighbours() {
        let some = measured(&[4.0, 1.0, 3.0, 2.0]);
        let found = [0.0, 0.25, 0.5, 0.75, 1.0].map(|share| some.quantile(share));
        assert_eq!(found, [1.0, 1.75, 2.5, 3.25, 4.0]);
        assert_eq!(measured(&[7.0]).quantile(0.75), 7.0);
    }

    #[test]
    fn a_time_limit_leaves_enough_runs_for_quartiles() {
        assert!(!Effort::Seconds(1.0).is_enough(2, 60.0));
        assert!(Effort::Seconds(1.0).is_enough(3, 60.0));
        assert!(!Effort::Seconds(1.0).is_enough(50, 0.9));
        assert!(Effort::Runs(1).is_enough(1, 0.0));
    }
}
