//! What a figure depends on, beside the work: machine, versions, date.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// From the build script.
pub(super) const BURN: &str = env!("BURN_AD_BURN");
pub(super) const RUSTC: &str = env!("BURN_AD_RUSTC");

/// Variables that change how fast it is.
const VARIABLES: [&str; 2] = ["BURN_AD_KERNELS", "RAYON_NUM_THREADS"];

pub(super) fn machine() -> Value {
    let set = VARIABLES.iter().filter_map(|name| {
        let value = std::env::var(name).ok()?;
        Some(((*name).to_owned(), Value::from(value)))
    });
    json!({
        "cpu": cpu_model(),
        "cores": std::thread::available_parallelism().map_or(1, usize::from),
        "threads": rayon::current_num_threads(),
        "instruction_sets": instruction_sets().join(" "),
        "system": std::env::consts::OS,
        "architecture": std::env::consts::ARCH,
        "environment": set.collect::<serde_json::Map<_, _>>(),
    })
}

pub(super) fn versions() -> Value {
    json!({ "burn_ad": VERSION, "burn": BURN, "rustc": RUSTC })
}

/// Where the build was told: `BURN_AD_COMMIT=$(git rev-parse HEAD) cargo build --release`.
pub(super) fn commit() -> Option<&'static str> {
    option_env!("BURN_AD_COMMIT").filter(|commit| !commit.is_empty())
}

/// Now, in UTC, as `2026-01-31T23:59:59Z`.
pub(super) fn date() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    utc(since.map_or(0, |since| since.as_secs()))
}

fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let is_leap =
        |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let (mut year, mut day) = (1970, days);
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    format!(
        "{year:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        month + 1,
        day + 1,
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

/// The name that the processor gives itself, where the system tells (Linux).
fn cpu_model() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Those that matter to our loops and to matrix products.
fn instruction_sets() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        let found = [
            ("avx2", std::is_x86_feature_detected!("avx2")),
            ("fma", std::is_x86_feature_detected!("fma")),
            ("avx512f", std::is_x86_feature_detected!("avx512f")),
            ("avx512bw", std::is_x86_feature_detected!("avx512bw")),
            ("avx512dq", std::is_x86_feature_detected!("avx512dq")),
            ("avx512vl", std::is_x86_feature_detected!("avx512vl")),
        ];
        let found = found.into_iter().filter(|(_, is_there)| *is_there);
        found.map(|(name, _)| name).collect()
    }
    #[cfg(target_arch = "aarch64")]
    {
        vec!["neon"]
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_know_leap_years() {
        // date -u -d @N
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_767_225_599), "2025-12-31T23:59:59Z");
        assert_eq!(utc(4_107_542_400), "2100-03-01T00:00:00Z");
    }

    #[test]
    fn the_build_knows_its_versions() {
        assert_eq!(BURN, "0.21.0");
        assert!(RUSTC.starts_with("rustc 1."), "{RUSTC}");
    }
}
