//! Progress on stderr: bars on a terminal, plain lines otherwise; Ctrl-C.

use std::fmt::Write;
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use burn_ad::train::{Observer, Step};
use burn_ad::{Error, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::output::tell;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// The first Ctrl-C or SIGTERM stops the run at its next step, the second one at once.
pub(crate) fn stop_on_signals() {
    let handler = || {
        if INTERRUPTED.swap(true, Ordering::SeqCst) {
            std::process::exit(1);
        }
        tell("stopping after this step; once more to stop at once");
    };
    // Without a handler a signal still ends the process; only the message is lost.
    let _ = ctrlc::set_handler(handler);
}

/// Whether a signal asked to stop.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// For work that has no observer to stop it on the way.
pub(crate) fn stop_if_interrupted() -> Result<()> {
    if interrupted() {
        Err(Error::interrupted())
    } else {
        Ok(())
    }
}

/// Seconds between two plain lines.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Bar,
    Lines,
    Nothing,
}

/// Shows how a run goes on.
#[derive(Debug)]
pub(crate) struct Progress {
    style: Style,
    phase: Option<Phase>,
    /// When the last phase ended. The first report of a phase comes after its first piece of work.
    since: Instant,
}

#[derive(Debug)]
struct Phase {
    name: String,
    unit: String,
    /// How much was done before this run (a resumed download).
    first: u64,
    done: u64,
    started: Instant,
    line: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Bars when stderr is a terminal that can draw them; nothing but warnings when `quiet`.
    pub(crate) fn new(quiet: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let style = match (quiet, std::io::stderr().is_terminal() && !dumb) {
            (true, _) => Style::Nothing,
            (false, true) => Style::Bar,
            (false, false) => Style::Lines,
        };
        Self {
            style,
            phase: None,
            since: Instant::now(),
        }
    }

    /// A line that stays, above the bar.
    pub(crate) fn note(&self, text: &str) {
        if self.style != Style::Nothing {
            self.line(text);
        }
    }

    fn line(&self, text: &str) {
        match self.phase.as_ref().and_then(|phase| phase.bar.as_ref()) {
            Some(bar) => bar.suspend(|| tell(text)),
            None => tell(text),
        }
    }

    /// Shows how many of the images are done, in work that cannot be stopped on the way.
    pub(crate) fn count(&mut self, phase: &str, done: usize, total: usize) {
        // The caller asks `stop_if_interrupted` afterwards.
        let _ = self.step(&images(phase, done, total));
    }

    /// The same in work that writes nothing: a signal ends the process here.
    pub(crate) fn count_or_exit(&mut self, phase: &str, done: usize, total: usize) {
        if self.step(&images(phase, done, total)).is_break() {
            tell("error: interrupted");
            std::process::exit(1);
        }
    }

    /// Shows how much of a download is there. A signal ends the process here: what has arrived is
    /// kept, and the next download goes on from it.
    pub(crate) fn bytes(&mut self, phase: &str, done: u64, total: Option<u64>) {
        let step = Step {
            phase,
            done,
            total: total.unwrap_or(0),
            unit: "bytes",
            values: &[],
        };
        if self.step(&step).is_break() {
            tell("error: interrupted; the next download goes on from here");
            std::process::exit(1);
        }
    }

    /// Ends the phase that is shown.
    pub(crate) fn finish(&mut self) {
        let Some(phase) = self.phase.take() else {
            return;
        };
        self.since = Instant::now();
        if let Some(bar) = phase.bar {
            bar.finish_and_clear();
        }
        if self.style != Style::Nothing {
            let (done, unit) = (phase.done, &phase.unit);
            let amount = match unit.as_str() {
                "bytes" => mebibytes(done),
                _ => format!("{done} {unit}"),
            };
            let seconds = phase.started.elapsed().as_secs_f64();
            tell(&format!(
                "{}: {amount} in {}",
                phase.name,
                duration(seconds)
            ));
        }
    }

    fn start(&self, step: &Step<'_>) -> Phase {
        let bar = (self.style == Style::Bar).then(|| {
            let bar = ProgressBar::with_draw_target(
                (step.total > 0).then_some(step.total),
                ProgressDrawTarget::stderr(),
            );
            bar.set_style(bar_style(step));
            bar.set_prefix(step.phase.to_owned());
            bar.with_elapsed(self.since.elapsed())
        });
        Phase {
            name: step.phase.to_owned(),
            unit: step.unit.to_owned(),
            first: if step.unit == "bytes" { step.done } else { 0 },
            done: step.done,
            started: self.since,
            line: self.since,
            bar,
        }
    }
}

impl Observer for Progress {
    fn step(&mut self, step: &Step<'_>) -> ControlFlow<()> {
        if self
            .phase
            .as_ref()
            .is_none_or(|phase| phase.name != step.phase)
        {
            self.finish();
            self.phase = Some(self.start(step));
        }
        let style = self.style;
        if let Some(phase) = &mut self.phase {
            phase.done = step.done;
            if let Some(bar) = &phase.bar {
                if step.total > 0 {
                    bar.set_length(step.total);
                }
                bar.set_message(values(step.values));
                bar.set_position(step.done);
            } else if style == Style::Lines && phase.line.elapsed() >= LINE_INTERVAL {
                phase.line = Instant::now();
                let seconds = phase.started.elapsed().as_secs_f64();
                let done_here = step.done - phase.first.min(step.done);
                tell(&plain_line(step, done_here, seconds));
            }
        }
        if interrupted() {
            self.finish();
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn warn(&mut self, message: &str) {
        self.line(&format!("warning: {message}"));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.phase.take().and_then(|phase| phase.bar) {
            bar.finish_and_clear();
        }
    }
}

fn images(phase: &str, done: usize, total: usize) -> Step<'_> {
    Step {
        phase,
        done: done as u64,
        total: total as u64,
        unit: "images",
        values: &[],
    }
}

/// No colour: a bar is readable without, and `NO_COLOR` needs no exception.
fn bar_style(step: &Step<'_>) -> ProgressStyle {
    let template = match (step.unit, step.total) {
        ("bytes", 0) => "{prefix} {spinner} {binary_bytes} {binary_bytes_per_sec} {msg}".to_owned(),
        ("bytes", _) => "{prefix} [{wide_bar}] {binary_bytes}/{binary_total_bytes} \
                         {binary_bytes_per_sec} {eta} left {msg}"
            .to_owned(),
        (unit, 0) => format!("{{prefix}} {{spinner}} {{pos}} {unit} {{rate}} {{msg}}"),
        (unit, _) => format!(
            "{{prefix}} [{{wide_bar}}] {{pos}}/{{len}} {unit} {{rate}} {{left}} left {{msg}}"
        ),
    };
    ProgressStyle::with_template(&template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        // A bar that cannot be drawn is no reason to stop.
        .with_key("rate", |state: &ProgressState, text: &mut dyn Write| {
            let _ = write!(
                text,
                "{:.1}/s",
                rate(state.pos(), state.elapsed().as_secs_f64())
            );
        })
        .with_key("left", |state: &ProgressState, text: &mut dyn Write| {
            let to_do = state.len().unwrap_or(0).saturating_sub(state.pos());
            let rate = rate(state.pos(), state.elapsed().as_secs_f64());
            let _ = match rate > 0.0 {
                true => text.write_str(&duration(to_do as f64 / rate)),
                false => text.write_str("?"),
            };
        })
        .progress_chars("=> ")
}

/// Mean over the whole phase: batches of unlike speed do not make it jump.
fn rate(done: u64, seconds: f64) -> f64 {
    done as f64 / seconds.max(1e-9)
}

fn plain_line(step: &Step<'_>, done_here: u64, seconds: f64) -> String {
    let rate = rate(done_here, seconds);
    let mut line = match (step.unit, step.total) {
        ("bytes", 0) => format!("{}: {}", step.phase, mebibytes(step.done)),
        ("bytes", total) => {
            format!(
                "{}: {} of {}",
                step.phase,
                mebibytes(step.done),
                mebibytes(total)
            )
        }
        (unit, 0) => format!("{}: {} {unit}", step.phase, step.done),
        (unit, total) => format!("{}: {} of {total} {unit}", step.phase, step.done),
    };
    line += &match step.unit {
        "bytes" => format!(", {}/s", mebibytes(rate as u64)),
        _ => format!(", {rate:.1}/s"),
    };
    if step.total > step.done && rate > 0.0 {
        line += &format!(
            ", {} left",
            duration((step.total - step.done) as f64 / rate)
        );
    }
    let values = values(step.values);
    if !values.is_empty() {
        line += &format!(", {values}");
    }
    line
}

fn values(values: &[(&str, f64)]) -> String {
    let named: Vec<String> = values
        .iter()
        .map(|(name, value)| match value.abs() {
            // A learning rate of 0.00002 would show as 0.0000.
            small if small > 0.0 && small < 0.01 => format!("{name} {value:.2e}"),
            _ => format!("{name} {value:.4}"),
        })
        .collect();
    named.join(", ")
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
}

/// Seconds for people: `3.4 s`, `2 min 05 s`, `1 h 02 min`.
pub(crate) fn duration(seconds: f64) -> String {
    if seconds < 60.0 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match whole / 3600 {
        0 => format!("{} min {:02} s", whole / 60, whole % 60),
        hours => format!("{hours} h {:02} min", whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(done: u64, total: u64, unit: &'static str) -> Step<'static> {
        Step {
            phase: "scoring",
            done,
            total,
            unit,
            values: &[],
        }
    }

    #[test]
    fn a_plain_line_has_rate_and_time_left() {
        assert_eq!(
            plain_line(&step(50, 150, "images"), 50, 10.0),
            "scoring: 50 of 150 images, 5.0/s, 20.0 s left"
        );
        assert_eq!(
            plain_line(&step(7, 0, "files"), 7, 2.0),
            "scoring: 7 files, 3.5/s"
        );
    }

    #[test]
    fn the_rate_of_a_resumed_download_counts_what_came_now() {
        let mebi = 1_048_576;
        let line = plain_line(&step(30 * mebi, 40 * mebi, "bytes"), 10 * mebi, 5.0);
        assert_eq!(line, "scoring: 30.0 MiB of 40.0 MiB, 2.0 MiB/s, 5.0 s left");
    }

    #[test]
    fn small_values_keep_their_digits() {
        let shown = values(&[("loss", 0.51234), ("lr", 2e-5), ("nothing", 0.0)]);
        assert_eq!(shown, "loss 0.5123, lr 2.00e-5, nothing 0.0000");
    }

    #[test]
    fn durations_read_well() {
        assert_eq!(duration(3.42), "3.4 s");
        assert_eq!(duration(125.2), "2 min 05 s");
        assert_eq!(duration(3725.0), "1 h 02 min");
    }

    #[test]
    fn every_bar_template_is_valid() {
        for (unit, total) in [("bytes", 0), ("bytes", 5), ("images", 0), ("images", 5)] {
            let bar = ProgressBar::hidden();
            bar.set_style(bar_style(&step(0, total, unit)));
            bar.set_prefix("x");
            bar.tick();
        }
    }
}
