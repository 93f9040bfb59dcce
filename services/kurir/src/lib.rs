//! Owns the command line and the wiring of roles: which parts a process is made of and how it ends. Knows no business
//! rules: what an event means stands in the crates of the workers.
//! Surprising: settings are read and checked whole before anything is opened, and each command asks only for the
//! settings that it needs.

mod cli;
mod commands;
mod context;
#[cfg(feature = "demo")]
mod demo;
mod doctor;
mod exit;
mod fleet;
mod http;
mod management;
mod output;
mod partners;
mod roles;
mod traces;
mod values;

pub use fleet::WORKERS;

use std::process::ExitCode;

use crate::cli::Kurir;
use crate::exit::Exit;

/// Writes the last log lines, however `run` ends.
struct LastLines;

impl Drop for LastLines {
    fn drop(&mut self) {
        ::runtime::telemetry::flush();
    }
}

/// The command line over these workers, from its arguments to the exit code.
pub fn run(workers: &'static [&'static registry::Worker]) -> ExitCode {
    fleet::begin(workers);
    // Before the runtime, and so dropped after it.
    let _last_lines = LastLines;
    let (kurir, tenant) = match Kurir::of_arguments() {
        Ok(parsed) => parsed,
        Err(refusal) => {
            let asked_for_help = !refusal.use_stderr();
            // Nothing can be said where standard output is gone.
            let _ = refusal.print();
            return match asked_for_help {
                true => ExitCode::SUCCESS,
                false => exit::code(Exit::Usage),
            };
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            return exit::report(&exit::Failed::new(
                Exit::Failed,
                format!("no runtime: {error}"),
            ));
        }
    };
    match runtime.block_on(commands::run(kurir, tenant)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            // The reason comes after what led to it.
            ::runtime::telemetry::flush();
            exit::report(&failed)
        }
    }
}
