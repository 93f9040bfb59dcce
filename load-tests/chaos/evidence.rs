//! What is kept of a run that failed: enough to find the cause without repeating it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use serde_json::json;
use simulators::metakocka::LogEntry;

use crate::harness::Harness;
use crate::output::{line, print};
use crate::publish::Accepted;
use crate::run::Outcome;
use crate::survey::{Survey, rows};
use crate::workload::{Mark, TENANTS, Workload};

/// Rows of the records that a mistake is about, or all if none is.
const TABLES: [(&str, &str); 8] = [
    (
        "connections.jsonl",
        "select (to_jsonb(c) - 'sealed')::text from connection c where $1::text[] is not null",
    ),
    (
        "links.jsonl",
        "select row_to_json(l)::text from link l where $1 = '{}' or source_id = any ($1) order by id",
    ),
    (
        "effects.jsonl",
        "select row_to_json(e)::text from effect e join link l on l.id = e.link_id where $1 = '{}' or l.source_id = any ($1) order by e.created_at",
    ),
    (
        "link_history.jsonl",
        "select (to_jsonb(h) - 'body' - 'headers' - 'properties')::text from link_history h join link l on l.id = h.link_id where $1 = '{}' or l.source_id = any ($1) order by h.id",
    ),
    (
        "link_events.jsonl",
        "select (to_jsonb(e) - 'body')::text from link_event e join link l on l.id = e.link_id where $1 = '{}' or l.source_id = any ($1)",
    ),
    (
        "held.jsonl",
        "select (to_jsonb(h) - 'body')::text from held h where $1::text[] is not null order by id",
    ),
    (
        "dead_letters.jsonl",
        "select (to_jsonb(d) - 'body')::text from dead_letter d where $1::text[] is not null order by first_at",
    ),
    (
        "outbox.jsonl",
        "select (to_jsonb(o) - 'body')::text from outbox o where $1::text[] is not null order by seq",
    ),
];

pub(crate) async fn keep(
    harness: &Harness,
    workload: &Workload,
    calls: &BTreeMap<u64, LogEntry>,
    accepted: &Accepted,
    outcome: &Outcome,
) -> anyhow::Result<()> {
    let write = |name: &str, text: String| fs::write(harness.folder.join(name), text);
    write("result.json", format!("{:#}\n", line(outcome)))?;
    let mut mistakes = outcome.failed.clone().unwrap_or_default();
    for (name, found) in outcome.verdict.columns() {
        for mistake in found {
            let _ = write!(mistakes, "\n{name}: {mistake}");
        }
    }
    write("mistakes.txt", mistakes)?;
    let mut injected_faults = String::new();
    for made in &outcome.made {
        let (at, took) = (made.at.as_secs_f64(), made.took.as_secs_f64());
        let _ = writeln!(
            injected_faults,
            "{at:8.3} s  took {took:6.3} s  {}",
            made.step
        );
    }
    write("faults.txt", injected_faults)?;
    let mut events = String::new();
    for (at, event) in workload.events.iter().enumerate() {
        let accepted = accepted.times(at);
        let _ = writeln!(
            events,
            "{}",
            json!({"accepted": accepted, "event": event.value})
        );
    }
    write("events.jsonl", events)?;
    let mut log = String::new();
    for call in calls
        .values()
        .filter(|call| concerns(call, &outcome.verdict.records))
    {
        let _ = writeln!(log, "{}", json!(call));
    }
    write("partner_calls.jsonl", log)?;
    for account in TENANTS.iter().flat_map(|tenant| tenant.accounts) {
        let partners = harness.simulator.partners(account.company)?;
        let text: Vec<String> = partners
            .iter()
            .map(|partner| json!(partner).to_string())
            .collect();
        write(
            &format!("partners-{}.jsonl", account.company),
            text.join("\n"),
        )?;
    }
    if Survey::patient(harness).await.is_err() {
        print("  the database does not answer, so its rows are not kept");
        return Ok(());
    }
    let records: Vec<String> = outcome.verdict.records.iter().cloned().collect();
    for (name, query) in TABLES {
        write(name, rows(harness, query, &records).await?.join("\n"))?;
    }
    Ok(())
}

fn concerns(call: &LogEntry, records: &BTreeSet<String>) -> bool {
    // Reads name no record, so all of them may be of it.
    records.is_empty()
        || Mark::find(&call.body.to_string()).is_none_or(|mark| records.contains(&mark.record))
}
