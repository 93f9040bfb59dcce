//! Messages per second and client CPU per message of consumers that do nothing but decode: bare lapin, and Kurir's loop
//! with an empty handler. Each runs in a process of its own on a queue that was filled before, and measures itself from the
//! first delivery to the last acknowledgement.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::harness::{Harness, PREFETCH, SLOTS};
use crate::report::{Bound, Report, median, ratios};
use crate::{Size, bare, by_hand, cpu, empty, fill};

/// How a contender consumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum How {
    /// lapin, each acknowledgement awaited before the next delivery is looked at.
    BareEach,
    /// lapin, acknowledgements of what had come together written together, then awaited.
    BareBatch,
    /// Kurir's loop: decode, gate, settle.
    Empty,
    /// The same with its log line per event, written to a file.
    EmptyLogged,
    /// The same with a handler that fails each event once.
    FailOnce,
    /// Consume, call, upsert, acknowledge; until it is killed.
    ByHand,
}

/// What a contender is told on its standard input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Contender {
    pub(crate) how: How,
    pub(crate) amqp: String,
    pub(crate) prefix: String,
    pub(crate) queue: String,
    /// It ends after so many.
    pub(crate) messages: usize,
    pub(crate) prefetch: u16,
    pub(crate) slots: usize,
    /// For the hand-written loop.
    pub(crate) database: String,
    pub(crate) partner: String,
}

/// What a contender says at its end.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Consumed {
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
    pub(crate) megabytes: f64,
}

/// Runs from the first delivery on.
pub(crate) struct Watch {
    begun: Instant,
    cpu: Duration,
}

impl Watch {
    pub(crate) fn start() -> Self {
        Self {
            begun: Instant::now(),
            cpu: cpu::used(std::process::id()),
        }
    }

    pub(crate) fn stop(&self) -> Consumed {
        let me = std::process::id();
        Consumed {
            seconds: self.begun.elapsed().as_secs_f64(),
            cpu_seconds: (cpu::used(me) - self.cpu).as_secs_f64(),
            megabytes: cpu::memory(me).most,
        }
    }
}

/// In the contender's own process.
pub(crate) async fn contend() {
    let mut told = String::new();
    std::io::stdin().read_to_string(&mut told).unwrap();
    let contender: Contender = serde_json::from_str(&told).unwrap();
    // On a thread of the runtime, as everything else.
    let running = tokio::spawn(async move {
        match contender.how {
            How::BareEach => bare::each(contender).await,
            How::BareBatch => bare::batch(contender).await,
            How::Empty | How::EmptyLogged | How::FailOnce => empty::run(contender).await,
            How::ByHand => by_hand::run(contender).await,
        }
    });
    println!(
        "{}",
        serde_json::to_string(&running.await.unwrap()).unwrap()
    );
}

impl Contender {
    /// On the queue of the empty worker.
    pub(crate) fn new(harness: &Harness, how: How, messages: usize) -> Self {
        Self {
            how,
            amqp: harness.broker.amqp_url().to_owned(),
            prefix: empty::prefix(harness),
            queue: empty::queue(harness),
            messages,
            prefetch: PREFETCH,
            slots: SLOTS,
            database: harness.database.url().to_owned(),
            partner: harness.partner.url(),
        }
    }

    /// This program, told on its standard input what to do: an address with a password is nothing for an argument.
    pub(crate) fn command(&self) -> Command {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &serde_json::to_vec(self).unwrap()).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--contender").stdin(Stdio::from(file));
        command
    }

    /// Runs to its end, beside this process.
    pub(crate) async fn run(self) -> Consumed {
        let output = tokio::task::spawn_blocking(move || crate::process::run(self.command()));
        serde_json::from_str(output.await.unwrap().lines().last().unwrap()).unwrap()
    }
}

const CONTENDERS: [(How, &str); 4] = [
    (How::BareEach, "lapin, each ack awaited"),
    (How::BareBatch, "lapin, acks awaited per batch"),
    (How::Empty, "Kurir, empty handler"),
    (
        How::EmptyLogged,
        "Kurir, empty handler, a log line per event",
    ),
];

pub(crate) async fn measure(harness: &Harness, size: Size, report: &mut Report) {
    let (messages, rounds) = (size.of(20_000, 4_000), size.of(5, 3));
    empty::declare(harness).await;
    let bodies = empty::messages(harness, messages);
    let queue = empty::queue(harness);
    let mut speeds: [Vec<f64>; 4] = Default::default();
    let mut costs: [Vec<f64>; 4] = Default::default();
    for round in 0..rounds {
        for turn in 0..CONTENDERS.len() {
            let at = (turn + round) % CONTENDERS.len();
            let (how, _) = CONTENDERS[at];
            harness.filler.fill("", &bodies).await;
            fill::holds(&harness.broker, &queue, messages).await;
            let consumed = Contender::new(harness, how, messages).run().await;
            // Everything was acknowledged.
            fill::holds(&harness.broker, &queue, 0).await;
            speeds[at].push(messages as f64 / consumed.seconds);
            costs[at].push(consumed.cpu_seconds * 1e6 / messages as f64);
        }
    }
    for (at, (_, name)) in CONTENDERS.iter().enumerate() {
        report.line("consume", name, "messages/s", &speeds[at]);
        report.line("consume", name, "µs client CPU per message", &costs[at]);
    }
    report.target(
        "empty handler, as part of the bare consumer with acks awaited per batch",
        Bound::AtLeast(0.85),
        median(&ratios(&speeds[2], &speeds[1])),
    );
    report.target(
        "empty handler, µs of client CPU per message",
        Bound::AtMost(25.0),
        median(&costs[2]),
    );
}
