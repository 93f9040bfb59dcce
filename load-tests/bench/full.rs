//! Kurir's whole path (gate, claim, effect, complete) and the hand-written loop, against a partner that answers at once.
//!
//! Creates: Kurir looks the record up before it writes (two calls), the loop just writes (one). Updates: one call each, the
//! same for both; the ratio that counts. What the loop leaves out is told in `by_hand`.

use std::ops::Range;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::consumers::{Contender, How};
use crate::fill::Message;
use crate::harness::{Harness, Linked, SLOTS};
use crate::machine::{broker_process, database_processes};
use crate::process::Process;
use crate::report::{Bound, Report, median, ratios};
use crate::{Size, by_hand, cpu, fill};

/// Before the clock starts, a tenth has been done: connections are open, what is remembered is in memory.
const WARM: usize = 10;
const LOOK: Duration = Duration::from_millis(1);
pub(crate) const UPDATES: &str = "Kurir, update (1 call)";
const UPDATES_BY_HAND: &str = "by hand, update (1 call)";
const CREATES: &str = "Kurir, create (look-up and write)";
const CREATES_BY_HAND: &str = "by hand, create (write only)";
pub(crate) const EVENTS: &str = "events/s";
const CPU: &str = "µs own CPU per event";

/// The process under measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Kurir,
    ByHand,
}

/// One value per round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples {
    pub(crate) speed: Vec<f64>,
    own: Vec<f64>,
    postgres: Vec<f64>,
    broker: Vec<f64>,
    calls: Vec<f64>,
}

impl Who {
    pub(crate) fn queue(self, harness: &Harness) -> String {
        match self {
            Self::Kurir => harness.queue(),
            Self::ByHand => harness.broker.queue("by-hand"),
        }
    }

    /// Consumes from now on.
    pub(crate) async fn start(self, harness: &Harness) -> Process {
        match self {
            Self::Kurir => harness.worker().await,
            Self::ByHand => {
                let contender = Contender {
                    queue: self.queue(harness),
                    ..Contender::new(harness, How::ByHand, 0)
                };
                Process::spawn(contender.command())
            }
        }
    }

    pub(crate) async fn fill(self, harness: &Harness, numbers: Range<u64>, version: u32) {
        let mut messages = harness.messages(numbers, version);
        for message in &mut messages {
            self.route(harness, message);
        }
        harness
            .filler
            .fill(&self.exchange(harness), &messages)
            .await;
    }

    /// Where its events are published.
    pub(crate) fn exchange(self, harness: &Harness) -> String {
        match self {
            Self::Kurir => harness.exchange(),
            Self::ByHand => String::new(),
        }
    }

    /// Addresses an upstream app's event to it.
    pub(crate) fn route(self, harness: &Harness, message: &mut Message) {
        if self == Self::ByHand {
            message.key = self.queue(harness);
        }
    }
}

/// What the loop writes to.
pub(crate) async fn prepare(harness: &Harness) {
    by_hand::table(harness.database.pool()).await;
    harness.filler.queue(&Who::ByHand.queue(harness)).await;
}

pub(crate) async fn measure(harness: &mut Harness, size: Size, report: &mut Report) {
    let (events, rounds) = (size.of(3_000, 600), size.of(4, 2));
    prepare(harness).await;
    let mut creates: [Samples; 2] = Default::default();
    let mut updates: [Samples; 2] = Default::default();
    let order = [Who::Kurir, Who::ByHand];
    let mut done_by = [Linked::default(), Linked::default()];
    for round in 0..rounds {
        for turn in 0..2 {
            let at = (turn + round) % 2;
            let numbers = harness.unknown(events);
            run(harness, order[at], numbers.clone(), 1, &mut creates[at]).await;
            run(harness, order[at], numbers.clone(), 2, &mut updates[at]).await;
            done_by[at] = Linked {
                numbers,
                version: 2,
            };
        }
    }
    harness.linked = done_by[0].clone();
    for (names, samples) in [
        ([CREATES, CREATES_BY_HAND], &creates),
        ([UPDATES, UPDATES_BY_HAND], &updates),
    ] {
        for (name, samples) in names.into_iter().zip(samples) {
            report.line("whole path", name, EVENTS, &samples.speed);
            report.line("whole path", name, CPU, &samples.own);
            let apart = "µs Postgres CPU per event";
            report.line("whole path", name, apart, &samples.postgres);
            let apart = "µs RabbitMQ CPU per event";
            report.line("whole path", name, apart, &samples.broker);
            report.line(
                "whole path",
                name,
                "partner calls per event",
                &samples.calls,
            );
        }
    }
    let part_of = |samples: &[Samples; 2]| median(&ratios(&samples[0].speed, &samples[1].speed));
    report.target(
        "whole path of an update, as part of the hand-written loop",
        Bound::AtLeast(0.6),
        part_of(&updates),
    );
    report.target(
        "whole path of a create, as part of the hand-written loop that makes half the calls",
        Bound::AtLeast(0.6),
        part_of(&creates),
    );
    report.target(
        "whole path of an update, µs of our own CPU",
        Bound::AtMost(250.0),
        median(&updates[0].own),
    );
    report.target(
        "whole path of a create, µs of our own CPU",
        Bound::AtMost(250.0),
        median(&creates[0].own),
    );
}

/// One filled queue, emptied by a process of its own.
pub(crate) async fn run(
    harness: &Harness,
    who: Who,
    numbers: Range<u64>,
    version: u32,
    samples: &mut Samples,
) {
    let events = numbers.clone().count();
    who.fill(harness, numbers, version).await;
    let queue = who.queue(harness);
    fill::holds(&harness.broker, &queue, events).await;
    harness.partner.forget();
    let process = who.start(harness).await;
    let warm = events / WARM;
    while harness.partner.writes() < warm {
        sleep(LOOK).await;
    }
    let servers = (
        database_processes(harness).await,
        broker_process(harness).await,
    );
    let used = || {
        [
            cpu::used(process.pid()),
            cpu::used_by(&servers.0),
            cpu::used_by(&servers.1),
        ]
    };
    let (begun, before, done) = (Instant::now(), used(), harness.partner.writes());
    let last = harness.partner.has(events).await;
    // The last of them are still being acknowledged.
    let after = used();
    let measured = (events - done) as f64;
    samples.speed.push(measured / (last - begun).as_secs_f64());
    let [own, postgres, broker] =
        std::array::from_fn(|at| (after[at] - before[at]).as_secs_f64() * 1e6 / measured);
    samples.own.push(own);
    samples.postgres.push(postgres);
    samples.broker.push(broker);
    let searches = harness.partner.searches() as f64;
    samples
        .calls
        .push((harness.partner.writes() as f64 + searches) / events as f64);
    fill::holds(&harness.broker, &queue, 0).await;
    end(who, harness, process).await;
}

/// When what is in its slots has come to an end.
pub(crate) async fn end(who: Who, harness: &Harness, process: Process) {
    rests(harness).await;
    match who {
        Who::Kurir => harness.stop(process).await,
        Who::ByHand => drop(process),
    }
}

/// As long as everything that was still in a slot may take.
async fn rests(harness: &Harness) {
    let mut writes = harness.partner.writes();
    for _ in 0..SLOTS {
        sleep(Duration::from_millis(20)).await;
        if writes == harness.partner.writes() {
            return;
        }
        writes = harness.partner.writes();
    }
}
