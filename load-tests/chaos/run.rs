//! One run: the harness starts, events are published while faults are injected, everything drains, the verifier judges.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{bail, ensure};
use futures_util::future::{join_all, try_join_all};
use simulators::metakocka::{LogEntry, LogFilter};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::drain::{Operator, drain};
use crate::evidence;
use crate::fault_injection::{FaultInjection, fault_injection};
use crate::faults::{Hand, Made};
use crate::harness::{self, Harness, QUEUES, caught};
use crate::output::print;
use crate::plan::{self, Role, Scenario};
use crate::processes::{Notes, Processes};
use crate::publish::{self, Accepted, PUBLISHERS, WAITING};
use crate::verdict::{Verdict, judge};
use crate::workload::{Shape, Workload};

/// What a process may use at most: a leak shows long before.
const MEMORY_LIMIT_MB: u64 = 250;
/// Between two looks at the partner's log, which keeps the newest 20 000 calls.
const HARVEST: Duration = Duration::from_secs(5);
/// Calls that are read again, because their outcome may have changed.
const HARVEST_AGAIN: u64 = 2_000;
/// After everybody has stopped: what they had not acknowledged is back in its queue.
const EMPTY: Duration = Duration::from_secs(30);
const EMPTY_LOOK: Duration = Duration::from_millis(500);
const STORM_COPIES: usize = 5;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    pub(crate) seed: u64,
    pub(crate) minutes: f64,
    pub(crate) scenario: Scenario,
    pub(crate) fault_injection: Option<FaultInjection>,
}

#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) order: Order,
    pub(crate) verdict: Verdict,
    /// Why it did not come to a verdict.
    pub(crate) failed: Option<String>,
    pub(crate) operator: Operator,
    pub(crate) notes: Notes,
    pub(crate) made: Vec<Made>,
    pub(crate) records: usize,
    pub(crate) events: usize,
    pub(crate) deliveries: u64,
    pub(crate) repeats: u64,
    pub(crate) calls: u64,
    pub(crate) writes: u64,
    pub(crate) faults: BTreeMap<&'static str, u64>,
    pub(crate) took: Duration,
    pub(crate) folder: PathBuf,
}

impl Outcome {
    pub(crate) fn is_clean(&self) -> bool {
        self.failed.is_none() && self.verdict.is_clean()
    }
}

/// What a run leaves, wherever it ended.
#[derive(Default)]
struct Seen {
    verdict: Verdict,
    operator: Operator,
    made: Vec<Made>,
}

pub(crate) async fn run(order: Order) -> anyhow::Result<Outcome> {
    let begin = Instant::now();
    let shape = Shape {
        publishing: Duration::from_secs_f64(order.minutes * 60.0),
        copies: (order.scenario == Scenario::Storm).then_some(STORM_COPIES),
        odd: order.scenario == Scenario::Everything,
    };
    let workload = Workload::generate(order.seed, shape);
    let scenario = order.scenario.name();
    let folder = harness::folder(&format!("{scenario}-seed-{}", order.seed));
    let harness = Harness::set(order.seed, folder.clone(), order.scenario.partner_fails()).await?;
    let processes = Processes::start(&harness).await?;
    let accepted = Accepted::nothing(&workload);
    let calls = Mutex::new(BTreeMap::new());
    let end = CancellationToken::new();
    let mut seen = Seen::default();
    let working = async {
        let worked = work(
            &harness, &processes, &workload, &accepted, order, shape, &mut seen,
        );
        let worked = caught(worked).await;
        end.cancel();
        worked
    };
    let (worked, supervised, ()) = tokio::join!(
        working,
        caught(processes.supervise(&harness, &end)),
        harvest(&harness, &calls, &end),
    );
    let mut failed = worked.and(supervised).err();
    if failed.is_none() {
        let ended = end_in_order(&harness, &processes);
        failed = caught(ended).await.err();
    }
    // What went on meanwhile is in the log by now.
    reap(&harness, &calls).await;
    let calls = calls.into_inner();
    if failed.is_none() {
        let judged = judge(&harness, &workload, &accepted, &calls);
        match caught(judged).await {
            Ok(verdict) => seen.verdict = verdict,
            Err(error) => failed = Some(error),
        }
    }
    processes.kill_all(&harness).await;
    let counts = harness.simulator.counts();
    let mut outcome = Outcome {
        order,
        verdict: seen.verdict,
        failed: failed.map(|error| format!("{error:#}")),
        operator: seen.operator,
        notes: processes.notes(),
        made: seen.made,
        records: workload.records.len(),
        events: workload.events.len(),
        deliveries: accepted.deliveries.load(Ordering::Relaxed),
        repeats: accepted.repeats.load(Ordering::Relaxed),
        calls: counts.calls.values().sum(),
        writes: counts.stored.values().sum(),
        faults: counts.faults,
        took: begin.elapsed(),
        folder,
    };
    promises(&mut outcome, &accepted);
    if outcome.is_clean() {
        let _ = std::fs::remove_dir_all(&outcome.folder);
    } else {
        harness.tidy();
        if let Err(error) = evidence::keep(&harness, &workload, &calls, &accepted, &outcome).await {
            print(&format!("  not all evidence could be kept: {error:#}"));
        }
    }
    outcome.took = begin.elapsed();
    Ok(outcome)
}

async fn work(
    harness: &Harness,
    processes: &Processes,
    workload: &Workload,
    accepted: &Accepted,
    order: Order,
    shape: Shape,
    seen: &mut Seen,
) -> anyhow::Result<()> {
    processes.all_ready().await?;
    print(&format!(
        "  {} records, {} events, {} publishes, {} s of injected faults",
        workload.records.len(),
        workload.events.len(),
        workload.deliveries.len(),
        shape.publishing.as_secs()
    ));
    let begin = Instant::now();
    let (to, from) = mpsc::channel(WAITING);
    let from = Arc::new(Mutex::new(from));
    let lanes: Vec<_> = plan::lanes(order.seed, order.scenario, shape.publishing)
        .into_iter()
        .map(|steps| {
            let hand = Hand {
                harness,
                processes,
                workload,
                accepted,
                publishing: to.clone(),
                begin,
                end: shape.publishing,
            };
            caught(hand.lane(steps))
        })
        .collect();
    let publishers = (0..PUBLISHERS)
        .map(|number| publish::publish(harness, processes, workload, accepted, &from, number));
    // A lane that fails must not leave another one's server down: all come to their end.
    let (published, made, ()) = tokio::join!(
        caught(async { try_join_all(publishers).await.map(drop) }),
        join_all(lanes),
        publish::feed(workload, begin, to),
    );
    for lane in made {
        seen.made.extend(lane?);
    }
    published?;
    seen.made.sort_by_key(|made| made.at);
    print(&format!(
        "  {} publishes accepted and {} injected faults made after {} s",
        accepted.deliveries.load(Ordering::Relaxed),
        seen.made.len(),
        begin.elapsed().as_secs()
    ));
    seen.operator = drain(harness, processes, workload).await?;
    if let Some(kind) = order.fault_injection {
        fault_injection(harness, workload, kind).await?;
    }
    Ok(())
}

/// Who sends ends before those who take; nothing may come back to a queue.
async fn end_in_order(harness: &Harness, processes: &Processes) -> anyhow::Result<()> {
    processes
        .stop_all(harness, &[Role::Gateway, Role::Keeper])
        .await?;
    queues_are_empty(harness).await?;
    processes.stop_all(harness, &[Role::Worker]).await?;
    queues_are_empty(harness).await
}

async fn queues_are_empty(harness: &Harness) -> anyhow::Result<()> {
    let begin = Instant::now();
    loop {
        let mut left = Vec::new();
        for queue in QUEUES {
            let depth = harness.broker.depth(&harness.broker.queue(queue)).await?;
            if let Some(depth @ 1..) = depth {
                left.push(format!("{depth} in {queue}"));
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        if begin.elapsed() > EMPTY {
            bail!("at the end, for {EMPTY:?}: {}", left.join(", "));
        }
        sleep(EMPTY_LOOK).await;
    }
}

/// Reads the partner's log before its oldest calls fall out.
async fn harvest(
    harness: &Harness,
    calls: &Mutex<BTreeMap<u64, LogEntry>>,
    end: &CancellationToken,
) {
    while timeout(HARVEST, end.cancelled()).await.is_err() {
        reap(harness, calls).await;
    }
}

async fn reap(harness: &Harness, calls: &Mutex<BTreeMap<u64, LogEntry>>) {
    let mut calls = calls.lock().await;
    let last = calls.keys().next_back().copied().unwrap_or_default();
    let recent = LogFilter {
        since: Some(last.saturating_sub(HARVEST_AGAIN)),
        ..LogFilter::default()
    };
    calls.extend(
        harness
            .simulator
            .log(&recent)
            .into_iter()
            .map(|call| (call.seq, call)),
    );
}

/// What a run must keep besides the records.
fn promises(outcome: &mut Outcome, accepted: &Accepted) {
    let mut broken: Vec<String> = outcome.notes.exits.clone();
    broken.extend(
        accepted
            .refused()
            .into_iter()
            .map(|why| format!("refused: {why}")),
    );
    for (role, memory) in &outcome.notes.memory {
        if *memory > MEMORY_LIMIT_MB {
            broken.push(format!("a {} used {memory} MB", role.name()));
        }
    }
    if outcome.order.scenario == Scenario::Workers
        && let Some(dead_letters) = outcome.operator.dead_letters.get("delivery_limit")
    {
        broken.push(format!("{dead_letters} events died of the delivery limit"));
    }
    let events = u64::try_from(outcome.events).unwrap_or(u64::MAX);
    if outcome.order.scenario == Scenario::Storm && outcome.calls > events * 4 {
        broken.push(format!("{} calls for {} events", outcome.calls, events));
    }
    outcome.verdict.other.extend(broken);
}

/// Whether the plan can be made at all.
pub(crate) fn check(order: Order) -> anyhow::Result<()> {
    ensure!(
        order.minutes.is_finite() && order.minutes > 0.0 && order.minutes <= 60.0,
        "minutes must be above 0 and at most 60"
    );
    Ok(())
}
