//! Pages that follow from the code: docs/workers.md from the registrations, docs/new-worker.md from the sample worker.

use std::path::Path;

/// Set: the page is written instead of compared.
const WRITE: &str = "KURIR_WRITE_DOCS";

#[test]
fn the_page_of_workers_is_what_the_registrations_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/workers.md");
    let said = registry::page(kurir::WORKERS);
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, &said).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let difference = similar::TextDiff::from_lines(&written, &said);
    assert!(
        written == said,
        "docs/workers.md is not as the registrations say (write it anew: {WRITE}=1)\n{}",
        difference.unified_diff()
    );
}

#[test]
fn the_guide_shows_lines_of_the_sample_worker() {
    let page = include_str!("../../../../docs/new-worker.md");
    let sample = [
        include_str!("../sample/address_book.rs"),
        include_str!("../sample/fleet.rs"),
    ]
    .concat();
    let blocks: Vec<&str> = page
        .split("```rust\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(blocks.len() >= 4, "{} blocks", blocks.len());
    for block in blocks {
        assert!(sample.contains(block), "not in the sample worker:\n{block}");
    }
}
