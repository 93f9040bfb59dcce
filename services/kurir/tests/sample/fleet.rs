//! A fleet with one worker more: what docs/new-worker.md builds. Run by tests/it/sample.rs.

mod address_book;

static WORKERS: &[&registry::Worker] = &[&metakocka_sync::WORKER, &address_book::WORKER];

fn main() -> std::process::ExitCode {
    kurir::run(WORKERS)
}
