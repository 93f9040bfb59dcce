//! Resident memory of each role at rest, and of a worker that has prefetched all it may of large events while its partner
//! does not answer.

use std::time::Duration;

use testkit::wait_for;

use crate::harness::{Harness, PREFETCH, SLOTS};
use crate::partner::Mood;
use crate::report::{Bound, Report, median};
use crate::start::ROLES;
use crate::{Size, cpu};

const LARGE: usize = 64 * 1024;
/// More than are prefetched.
const LARGE_EVENTS: usize = 200;
/// What starts with a process is over by then.
const REST: Duration = Duration::from_secs(3);
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) async fn measure(harness: &mut Harness, size: Size, report: &mut Report) {
    let rounds = size.of(3, 1);
    let mut idle: [Vec<f64>; 3] = Default::default();
    for _ in 0..rounds {
        let mut running = Vec::new();
        for (_, arguments) in ROLES {
            running.push(harness.role(arguments).await);
        }
        tokio::time::sleep(REST).await;
        for (at, process) in running.into_iter().enumerate() {
            idle[at].push(cpu::memory(process.pid()).now);
            process.stop().await;
        }
    }
    for (at, (name, _)) in ROLES.iter().enumerate() {
        report.line("memory", &format!("{name}, idle"), "MB", &idle[at]);
    }
    report.target(
        "resident memory of an idle role, MB, largest role",
        Bound::AtMost(30.0),
        idle.iter().map(|idle| median(idle)).fold(0.0, f64::max),
    );
    let full = prefetched(harness).await;
    report.line(
        "memory",
        "worker, everything prefetched, 64 KiB each",
        "MB",
        &[full],
    );
    report.target(
        "resident memory with everything prefetched, 64 KiB each, MB",
        Bound::AtMost(150.0),
        full,
    );
}

/// The most that it ever had.
async fn prefetched(harness: &mut Harness) -> f64 {
    let numbers = harness.unknown(LARGE_EVENTS);
    let messages: Vec<_> = numbers
        .map(|number| harness.message(number, 1, LARGE))
        .collect();
    harness.partner.forget();
    harness.partner.mood(Mood::Keeps);
    harness.filler.fill(&harness.exchange(), &messages).await;
    let worker = harness.worker().await;
    // All slots wait for the partner, and the broker has sent all it may.
    harness.partner.has(SLOTS).await;
    let left = LARGE_EVENTS - usize::from(PREFETCH);
    wait_for("everything prefetched", LIMIT, async || {
        match harness.broker.depth(&harness.queue()).await.unwrap() {
            Some(depth) if depth as usize == left => Ok(()),
            depth => Err(depth),
        }
    })
    .await;
    tokio::time::sleep(REST).await;
    let most = cpu::memory(worker.pid()).most;
    drop(worker);
    harness.partner.mood(Mood::Answers);
    // Those that the process had are ready again.
    crate::fill::holds(&harness.broker, &harness.queue(), LARGE_EVENTS).await;
    harness.filler.purge(&harness.queue()).await;
    most
}
