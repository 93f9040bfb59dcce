//! The binary: the command line over the workers of this build.

use std::process::ExitCode;

fn main() -> ExitCode {
    kurir::run(kurir::WORKERS)
}
