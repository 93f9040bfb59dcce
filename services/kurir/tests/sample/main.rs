//! A fleet with one worker more: what docs/new-worker.md builds. Run by tests/it/sample.rs.

mod address_book;

use std::process::ExitCode;

fn main() -> ExitCode {
    kurir::run(&[&metakocka_sync::WORKER, &address_book::WORKER])
}
