//! How fast Kurir is, and what it costs, beside bare consumers and the loop that people write by hand: a table, a plot and
//! JSON. `make bench`, or a part of it: `make bench ONLY=empty,full QUICK=1`. docs/benchmark.md tells what each line means.
//!
//! What is compared runs in interleaved rounds of one run, each contender in a process of its own. Nothing here is a
//! test: a target that is missed is printed, not failed.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement prints its numbers, and fails where it cannot go on"
)]

mod bare;
mod by_hand;
mod consumers;
mod contacts;
mod cpu;
mod empty;
mod fill;
mod full;
mod gateway;
mod harness;
mod latency;
mod links;
mod machine;
mod memory;
mod partner;
mod plot;
mod process;
mod replay;
mod report;
mod retry;
mod start;

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use futures_util::FutureExt as _;

use crate::harness::Harness;
use crate::report::Report;

/// Where the JSON and the plot are left.
const LEFT_AT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/benchmark");

/// Measures Kurir beside bare consumers and a hand-written loop
#[derive(Debug, Parser)]
#[command(
    name = "bench",
    after_help = "Examples:\n  make bench\n  make bench ONLY=empty,full QUICK=1\n  make bench JSON=1"
)]
struct Options {
    /// Only these parts
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Fewer and shorter rounds: to see that it works, not to compare numbers
    #[arg(long)]
    quick: bool,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    /// Folder for benchmark.json and benchmark.svg
    #[arg(long, default_value = LEFT_AT)]
    out: PathBuf,
    /// Runs one contender, told on standard input; the benchmark starts itself so
    #[arg(long, hide = true)]
    contender: bool,
    /// Cargo says so
    #[arg(long, hide = true)]
    bench: bool,
}

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Bare consumers and Kurir's loop with an empty handler
    Empty,
    /// The hand-written loop and Kurir's worker, with an instant partner
    Full,
    /// From publish to the partner at half load
    Latency,
    /// Events through the gateway, one by one and in batches
    Gateway,
    /// Dead letters sent again
    Replay,
    /// What a failed attempt costs
    Retry,
    /// Cost of an event with 10³ to 10⁶ links in the database
    Links,
    /// Memory at rest and with everything prefetched
    Memory,
    /// From start to ready
    Start,
}

impl Part {
    /// Panics where it cannot go on.
    async fn measure(self, harness: &mut Harness, size: Size, report: &mut Report) {
        match self {
            Self::Empty => consumers::measure(harness, size, report).await,
            Self::Full => full::measure(harness, size, report).await,
            Self::Latency => latency::measure(harness, size, report).await,
            Self::Gateway => gateway::measure(harness, size, report).await,
            Self::Replay => replay::measure(harness, size, report).await,
            Self::Retry => retry::measure(harness, size, report).await,
            Self::Links => links::measure(harness, size, report).await,
            Self::Memory => memory::measure(harness, size, report).await,
            Self::Start => start::measure(harness, size, report).await,
        }
    }
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
struct Size {
    quick: bool,
}

impl Size {
    fn of<T>(self, whole: T, quick: T) -> T {
        if self.quick { quick } else { whole }
    }
}

fn main() {
    let options = Options::parse();
    // As every contender's: as many threads as processors.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    if options.contender {
        runtime.block_on(consumers::contend());
        return;
    }
    runtime.block_on(measure(options));
}

async fn measure(options: Options) {
    let begun = Instant::now();
    let size = Size {
        quick: options.quick,
    };
    let wanted = |part: Part| options.only.is_empty() || options.only.contains(&part);
    let machine = machine::look_before();
    let mut harness = Harness::start().await;
    let mut report = Report::new(machine.complete(&harness).await, options.quick);
    for part in Part::value_variants() {
        if !wanted(*part) {
            continue;
        }
        let since = Instant::now();
        let measuring = part.measure(&mut harness, size, &mut report);
        // What the other parts have measured is worth its minutes.
        if AssertUnwindSafe(measuring).catch_unwind().await.is_err() {
            report.failed.push(format!("{part:?}"));
        }
        eprintln!(
            "bench: {part:?} took {:.0} s",
            since.elapsed().as_secs_f64()
        );
    }
    report.seconds = begun.elapsed().as_secs_f64();
    std::fs::create_dir_all(&options.out).unwrap();
    let json = serde_json::to_string_pretty(&report).unwrap();
    std::fs::write(options.out.join("benchmark.json"), &json).unwrap();
    plot::write(&report, &options.out.join("benchmark.svg"));
    if options.json {
        println!("{json}");
    } else {
        println!("{report}");
    }
    if !report.failed.is_empty() {
        // Gone with its database and queues, which an exit would leave behind.
        drop(harness);
        std::process::exit(1);
    }
}
