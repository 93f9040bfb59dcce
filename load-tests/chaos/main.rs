//! Random trouble of every kind against everything at once, and a verifier that compares every record at the partner with
//! the newest event of that record. docs/chaos.md says how to run it and how to read it.
//!
//! The seed makes events, trouble and faults; the timing of processes is the machine's. Exit: 0 nothing was lost, doubled,
//! stale, misordered, of another tenant or unaccounted for; 1 something was; 2 it could not be run.
#![allow(
    clippy::unwrap_used,
    reason = "as in the tests whose comparison of records is used here"
)]

mod crew;
mod drain;
mod evidence;
#[path = "../../services/kurir/tests/it/expected.rs"]
mod expected;
mod output;
mod plan;
mod publish;
mod run;
mod sabotage;
mod stage;
mod story;
mod survey;
mod trouble;
mod verdict;

use std::process::ExitCode;

use clap::Parser;

use crate::output::{say, show};
use crate::plan::Scenario;
use crate::run::{Order, check, run};
use crate::sabotage::Sabotage;

/// Kills, freezes and cuts everything at random, then compares every record with its newest event.
#[derive(Debug, Parser)]
#[command(name = "chaos", after_help = "Example:\n  make chaos SEED=7 MINUTES=3")]
struct Arguments {
    /// Makes events, trouble and faults; a failing run says which one it had
    #[arg(long, env = "SEED")]
    seed: Option<u64>,
    /// How long the trouble lasts; setting up and draining take about a minute more
    #[arg(long, env = "MINUTES", default_value_t = 1.0)]
    minutes: f64,
    /// So many seeds one after the other, counting up from the first
    #[arg(long, env = "SEEDS", default_value_t = 1)]
    seeds: u64,
    #[arg(long, env = "SCENARIO", value_enum, default_value = "everything")]
    scenario: Scenario,
    /// Breaks something at the end, to see that it is found
    #[arg(long, env = "SABOTAGE", value_enum)]
    sabotage: Option<Sabotage>,
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
            sabotage: arguments.sabotage,
        };
        say(&format!("seed {seed}"));
        let ran = match check(order) {
            Ok(()) => Box::pin(run(order)).await,
            Err(error) => Err(error),
        };
        match ran {
            Ok(outcome) => {
                let word = if outcome.is_clean() { "ok" } else { "FAILED" };
                say(&format!("  {word} after {} s", outcome.took.as_secs()));
                outcomes.push(outcome);
            }
            Err(error) => {
                say(&format!("could not be run: {error:#}"));
                return ExitCode::from(2);
            }
        }
    }
    show(&outcomes, arguments.json);
    ExitCode::from(u8::from(!outcomes.iter().all(run::Outcome::is_clean)))
}
