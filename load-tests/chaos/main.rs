//! Random faults of every kind against everything at once, and a verifier that compares every record at the partner with
//! the newest event of that record. docs/chaos.md says how to run it and how to read it.
//!
//! The seed makes events, injected faults and the partner's faults; the timing of processes is the machine's. Exit: 0 nothing was lost, doubled,
//! stale, misordered, of another tenant or unaccounted for; 1 something was; 2 it could not be run.
#![allow(
    clippy::unwrap_used,
    reason = "as in the tests whose comparison of records is used here"
)]

mod drain;
mod evidence;
#[path = "../../services/kurir/tests/it/expected.rs"]
mod expected;
mod fault_injection;
mod faults;
mod harness;
mod output;
mod plan;
mod processes;
mod publish;
mod run;
mod survey;
mod verdict;
mod workload;

use std::process::ExitCode;

use clap::Parser;

use crate::fault_injection::FaultInjection;
use crate::output::{print, show};
use crate::plan::Scenario;
use crate::run::{Order, check, run};

/// Kills, freezes and cuts everything at random, then compares every record with its newest event.
#[derive(Debug, Parser)]
#[command(name = "chaos", after_help = "Example:\n  make chaos SEED=7 MINUTES=3")]
struct Arguments {
    /// Makes events, injected faults and the partner's faults; a failing run says which one it had
    #[arg(long, env = "SEED")]
    seed: Option<u64>,
    /// How long faults are injected; setting up and draining take about a minute more
    #[arg(long, env = "MINUTES", default_value_t = 1.0)]
    minutes: f64,
    /// So many seeds one after the other, counting up from the first
    #[arg(long, env = "SEEDS", default_value_t = 1)]
    seeds: u64,
    #[arg(long, env = "SCENARIO", value_enum, default_value = "everything")]
    scenario: Scenario,
    /// Breaks something at the end, to see that it is found
    #[arg(long, env = "FAULT_INJECTION", value_enum)]
    fault_injection: Option<FaultInjection>,
    /// One line of JSON per seed, instead of the table
    #[arg(long)]
    json: bool,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// Seeds that nobody chose are short, to be typed again.
const DRAWN: u64 = 1_000_000;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let first = arguments
        .seed
        .unwrap_or_else(|| rand::random_range(1..DRAWN));
    let mut outcomes = Vec::new();
    for seed in first..first.saturating_add(arguments.seeds) {
        let order = Order {
            seed,
            minutes: arguments.minutes,
            scenario: arguments.scenario,
            fault_injection: arguments.fault_injection,
        };
        print(&format!("seed {seed}"));
        let ran = match check(order) {
            Ok(()) => Box::pin(run(order)).await,
            Err(error) => Err(error),
        };
        match ran {
            Ok(outcome) => {
                let word = if outcome.is_clean() { "ok" } else { "FAILED" };
                print(&format!("  {word} after {} s", outcome.took.as_secs()));
                outcomes.push(outcome);
            }
            Err(error) => {
                print(&format!("could not be run: {error:#}"));
                return ExitCode::from(2);
            }
        }
    }
    show(&outcomes, arguments.json);
    ExitCode::from(u8::from(!outcomes.iter().all(run::Outcome::is_clean)))
}
