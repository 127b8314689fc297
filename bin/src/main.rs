//! The `burn-ad` command: joins data, weights and methods, and talks to the user.
//!
//! Exit codes: 0 done, 1 failure or interrupted, 2 wrong usage.
// Types of the GPU backends are nested deeply.
#![recursion_limit = "256"]

mod backend;
mod commands;
mod evaluation;
mod inputs;
mod output;
mod progress;
mod settings;
mod train_log;
mod training;
mod unfinished;
mod weights;

use std::process::ExitCode;

use burn_ad::Error;
use burn_ad::ops::Kernels;
use clap::Parser;

use crate::commands::Cli;
use crate::output::tell;

/// A wrong argument or setting.
const USAGE: u8 = 2;
/// Anything else that kept the command from doing its work.
const FAILURE: u8 = 1;

fn main() -> ExitCode {
    let cli = Cli::parse();
    progress::stop_on_signals();
    // A panic is a fault of ours; its message is on stderr already. The exit code stays one of three.
    match std::panic::catch_unwind(|| Kernels::from_environment().and_then(|_| cli.run())) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => ExitCode::from(report(&error)),
        Err(_) => {
            tell(
                "error: burn-ad met a fault of its own (see above)\n  help: please report it, \
                 with the command and the message",
            );
            ExitCode::from(FAILURE)
        }
    }
}

/// Tells the user, and says what the process should end with.
fn report(error: &Error) -> u8 {
    if error.is_interrupted() {
        tell(&format!(
            "error: {error}; nothing half-written has its final name"
        ));
        return FAILURE;
    }
    tell(&format!("error: {error}"));
    if error.is_usage() { USAGE } else { FAILURE }
}
