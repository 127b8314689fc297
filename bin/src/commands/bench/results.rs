//! Tables and files of what was measured.

use std::io::Write;
use std::path::Path;

use burn_ad::Result;
use burn_ad::files::write_atomically;
use burn_ad::report::table::{Align, Table, number};
use serde_json::{Value, json};

use super::facts;
use super::measure::{Effort, Measured};
use crate::backend::BackendName;
use crate::output::write_json;

/// Every single time.
pub(super) const JSON: &str = "bench.json";
/// The table.
pub(super) const MARKDOWN: &str = "bench.md";

/// What one call of the command found.
pub(super) struct Results {
    pub(super) backend: BackendName,
    pub(super) quick: bool,
    /// Whether nothing was left out because of a signal.
    pub(super) complete: bool,
    pub(super) effort: Effort,
    pub(super) works: Vec<Measured>,
}

impl Results {
    /// For the terminal.
    pub(super) fn text(&self) -> String {
        format!("{}\n{}\n", self.table().text(), self.setting())
    }

    /// Writes both files.
    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        write_json(&dir.join(JSON), &self.json())?;
        let text = format!("{}\n{}\n", self.table().markdown(), self.setting());
        write_atomically(&dir.join(MARKDOWN), |file| {
            Ok(file.write_all(text.as_bytes())?)
        })
    }

    fn table(&self) -> Table {
        let mut table = Table::new([
            ("work", Align::Left),
            ("median ms", Align::Right),
            ("minimum", Align::Right),
            ("quartiles", Align::Right),
            ("runs", Align::Right),
            ("images/s", Align::Right),
            ("peak MiB", Align::Right),
        ]);
        for work in &self.works {
            let [low, high] = [0.25, 0.75].map(|share| milliseconds(work.quantile(share)));
            table.row([
                work.task.to_string(),
                milliseconds(work.quantile(0.5)),
                milliseconds(work.quantile(0.0)),
                format!("{low} to {high}"),
                work.ms.len().to_string(),
                number(work.images_per_second(), 1),
                number(work.peak_mib, 0),
            ]);
        }
        table
    }

    /// Where and how it was measured, in one line.
    fn setting(&self) -> String {
        let machine = facts::machine();
        let text = |key: &str| machine[key].as_str().unwrap_or("unknown").to_owned();
        let mut line = format!(
            "backend {}; {}, {} threads of {} cores, {}; burn-ad {}, burn {}, {}; {}",
            self.backend,
            text("cpu"),
            machine["threads"],
            machine["cores"],
            text("instruction_sets"),
            facts::VERSION,
            facts::BURN,
            facts::RUSTC,
            facts::date(),
        );
        if self.quick {
            line += "; quick: sizes too small to say how fast anything is";
        }
        if !self.complete {
            line += "; stopped before the end";
        }
        line
    }

    fn json(&self) -> Value {
        let effort = match self.effort {
            Effort::Runs(runs) => json!({ "runs": runs }),
            Effort::Seconds(seconds) => json!({ "seconds": seconds }),
        };
        let works: Vec<Value> = self.works.iter().map(work_json).collect();
        json!({
            "date": facts::date(),
            "backend": self.backend.to_string(),
            "machine": facts::machine(),
            "versions": facts::versions(),
            "commit": facts::commit(),
            "quick": self.quick,
            "complete": self.complete,
            "effort": effort,
            "works": works,
        })
    }
}

fn work_json(work: &Measured) -> Value {
    json!({
        "name": work.task.name(),
        "work": work.task.to_string(),
        "parameters": work.task,
        "median_ms": work.quantile(0.5),
        "minimum_ms": work.quantile(0.0),
        "quartiles_ms": [work.quantile(0.25), work.quantile(0.75)],
        "images_per_second": work.images_per_second(),
        "peak_mib": work.peak_mib,
        "ms": work.ms,
    })
}

/// About four digits.
fn milliseconds(value: f64) -> String {
    let decimals = match value {
        small if small < 1.0 => 4,
        small if small < 10.0 => 3,
        small if small < 100.0 => 2,
        _ => 1,
    };
    number(Some(value), decimals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_digits() {
        let shown = [0.01234, 1.2345, 12.345, 1234.5].map(milliseconds);
        assert_eq!(shown, ["0.0123", "1.234", "12.35", "1234.5"]);
    }
}
