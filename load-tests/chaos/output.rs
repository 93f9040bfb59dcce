//! What a run says: progress to standard error, the result to standard output.

use std::fmt::Write as _;

use clap::ValueEnum as _;
use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::run::Outcome;

/// Mistakes of one kind that are named; the evidence has all.
const NAMED: usize = 5;

#[expect(clippy::print_stderr, reason = "progress of a long run")]
pub(crate) fn print(text: &str) {
    eprintln!("{text}");
}

#[expect(clippy::print_stdout, reason = "the result")]
pub(crate) fn show(outcomes: &[Outcome], as_json: bool) {
    if as_json {
        for outcome in outcomes {
            println!("{}", line(outcome));
        }
        return;
    }
    println!("{}", table(outcomes));
    for outcome in outcomes.iter().filter(|outcome| !outcome.is_clean()) {
        println!("{}", mistakes(outcome));
    }
}

fn table(outcomes: &[Outcome]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    let mut heads = vec!["seed", "events", "publishes", "injected", "faults"];
    if let Some(outcome) = outcomes.first() {
        heads.extend(outcome.verdict.columns().map(|(name, _)| name));
    }
    heads.extend(["drain s", "max MB", "result"]);
    table.set_header(heads);
    for outcome in outcomes {
        let mut row = vec![
            outcome.order.seed.to_string(),
            outcome.events.to_string(),
            outcome.deliveries.to_string(),
            outcome.made.len().to_string(),
            outcome.faults.values().sum::<u64>().to_string(),
        ];
        let counted = outcome.verdict.columns();
        row.extend(counted.map(|(_, mistakes)| mistakes.len().to_string()));
        row.extend([
            outcome.operator.took.as_secs().to_string(),
            outcome
                .notes
                .memory
                .values()
                .max()
                .copied()
                .unwrap_or_default()
                .to_string(),
            if outcome.is_clean() { "ok" } else { "FAILED" }.to_owned(),
        ]);
        table.add_row(row);
    }
    table
}

fn mistakes(outcome: &Outcome) -> String {
    let mut text = format!("\nseed {}", outcome.order.seed);
    if let Some(failed) = &outcome.failed {
        let _ = write!(text, "\nno verdict: {failed}");
    }
    for (name, mistakes) in outcome.verdict.columns() {
        for mistake in mistakes.iter().take(NAMED) {
            let _ = write!(text, "\n{name}: {mistake}");
        }
        if mistakes.len() > NAMED {
            let _ = write!(text, "\n{name}: {} more", mistakes.len() - NAMED);
        }
    }
    let _ = write!(text, "\nevidence: {}", outcome.folder.display());
    let _ = write!(text, "\nagain:    {}", again(outcome));
    text
}

/// The command that repeats it.
fn again(outcome: &Outcome) -> String {
    let order = &outcome.order;
    let fault_injection = order
        .fault_injection
        .and_then(|kind| kind.to_possible_value());
    let fault_injection =
        fault_injection.map(|kind| format!(" FAULT_INJECTION={}", kind.get_name()));
    format!(
        "make chaos SEED={} MINUTES={} SCENARIO={}{}",
        order.seed,
        order.minutes,
        order.scenario.name(),
        fault_injection.unwrap_or_default()
    )
}

pub(crate) fn line(outcome: &Outcome) -> Value {
    let counts = outcome.verdict.counts;
    let mistakes = outcome.verdict.columns();
    let mistakes: serde_json::Map<String, Value> = mistakes
        .iter()
        .map(|(name, mistakes)| (name.replace('-', "_"), json!(mistakes.len())))
        .collect();
    let memory: serde_json::Map<String, Value> = outcome
        .notes
        .memory
        .iter()
        .map(|(role, most)| (role.name().to_owned(), json!(most)))
        .collect();
    json!({
        "seed": outcome.order.seed,
        "minutes": outcome.order.minutes,
        "ok": outcome.is_clean(),
        "failed": outcome.failed,
        "mistakes": mistakes,
        "events": outcome.events,
        "records": outcome.records,
        "publishes": outcome.deliveries,
        "publishes_repeated": outcome.repeats,
        "audit": {
            "applied": counts.applied,
            "superseded": counts.superseded,
            "held": counts.held,
            "dead": counts.dead,
            "unrouted": counts.unrouted,
        },
        "injected_faults": outcome.made.len(),
        "faults": outcome.faults,
        "partner_calls": outcome.calls,
        "partner_writes": outcome.writes,
        "gave_up_at_start": outcome.notes.gave_up,
        "unclean_stops": outcome.notes.unclean_stops,
        "replayed": outcome.operator.dead_letters,
        "released": outcome.operator.released,
        "repaired_connections": outcome.operator.repaired,
        "hurried": outcome.operator.hurried,
        "drain_seconds": outcome.operator.took.as_secs_f64(),
        "max_memory_mb": memory,
        "seconds": outcome.took.as_secs_f64(),
        "again": again(outcome),
    })
}
