//! Notes with which compiler and which burn the command was built, for the records of `burn-ad bench`.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=BURN_AD_RUSTC={}", rustc_version());
    let lock = Path::new("../Cargo.lock");
    // Cargo would build anew each time if it watched a file that is not there.
    if lock.exists() {
        println!("cargo::rerun-if-changed={}", lock.display());
    }
    println!("cargo::rustc-env=BURN_AD_BURN={}", burn_version(lock));
}

fn rustc_version() -> String {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let output = Command::new(rustc).arg("--version").output().ok();
    let text = output.and_then(|output| String::from_utf8(output.stdout).ok());
    text.map_or_else(|| "unknown".to_owned(), |text| text.trim().to_owned())
}

/// The version that the lock file holds for the package `burn`.
fn burn_version(lock: &Path) -> String {
    let text = std::fs::read_to_string(lock).unwrap_or_default();
    let mut lines = text.lines().skip_while(|line| *line != "name = \"burn\"");
    let version = lines
        .nth(1)
        .and_then(|line| line.strip_prefix("version = "));
    version.unwrap_or("unknown").trim_matches('"').to_owned()
}
