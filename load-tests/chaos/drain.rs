//! After the injected faults: everything runs again, the run does an operator's work, and all that was published comes to its
//! end. Whatever does not, within a named time, is a failure of the run.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use testkit::Route;
use tokio::time::{Instant, sleep};

use crate::harness::{Harness, QUEUES};
use crate::output::print;
use crate::processes::Processes;
use crate::survey::Survey;
use crate::workload::{Meaning, Workload};

/// From the end of the injected faults to rest. A copy whose queue was away when its retry tier ended is sent again by the broker after
/// three minutes.
const LIMIT: Duration = Duration::from_secs(300);
const ROUND: Duration = Duration::from_millis(500);
const PROGRESS: Duration = Duration::from_secs(5);
/// So long nothing may move: what is delivered and not acknowledged is only in the statistics of the management API, and
/// those are up to five seconds old.
const CALM: Duration = Duration::from_secs(6);
const DEAD_LETTERS_AGAIN: Duration = Duration::from_secs(3);
const ROUTE_AGAIN: Duration = Duration::from_secs(5);
/// Dead letters that die again are replayed so often; no faults are left that could kill them.
const MOST_REPLAYS: u32 = 12;
/// Messages moved out of a retry tier in one round.
const HURRIED: usize = 500;
/// Retry tiers whose time a run has not got.
const LONG_RETRY_TIERS: std::ops::Range<usize> = 3..7;
/// Undone events that are named where all cannot be.
const NAMED: usize = 12;

/// What the operator had to do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Operator {
    pub(crate) took: Duration,
    pub(crate) replays: u32,
    /// Dead letters that were replayed, by class.
    pub(crate) dead_letters: BTreeMap<String, usize>,
    /// Held for a person and let go, by cause.
    pub(crate) released: BTreeMap<String, usize>,
    pub(crate) repaired: usize,
    pub(crate) hurried: usize,
}

pub(crate) async fn drain(
    harness: &Harness,
    processes: &Processes,
    workload: &Workload,
) -> anyhow::Result<Operator> {
    let begin = Instant::now();
    harness.simulator.clear_faults();
    processes.all_ready().await?;
    let mut operator = Operator::default();
    let (mut told, mut replayed, mut routed) = (None, None, None);
    let mut quiet: Option<Instant> = None;
    loop {
        let survey = Survey::patient(harness).await?;
        let open = restless(harness, workload, &survey).await?;
        if open.is_empty() {
            let since = *quiet.get_or_insert_with(Instant::now);
            if since.elapsed() >= CALM {
                operator.took = begin.elapsed();
                return Ok(operator);
            }
            sleep(ROUND).await;
            continue;
        }
        quiet = None;
        if begin.elapsed() > LIMIT {
            let mut undone = survey.undone(workload);
            undone.truncate(NAMED);
            bail!(
                "not at rest {LIMIT:?} after the injected faults: {open}\n{}",
                undone.join("\n")
            );
        }
        if due(&mut told, PROGRESS) {
            print(&format!(
                "  draining {:3} s: {open}",
                begin.elapsed().as_secs()
            ));
        }
        for company in survey.suspended() {
            harness.test_connection(company).await?;
            operator.repaired += 1;
        }
        release(harness, &survey, &mut operator).await?;
        let dead = survey.dead_classes(workload);
        if !dead.is_empty() && due(&mut replayed, DEAD_LETTERS_AGAIN) {
            replay(harness, &dead, &mut operator).await?;
        }
        if due(&mut routed, ROUTE_AGAIN) {
            harness
                .attempt(&["unrouted", "route", "--why", "routable"])
                .await?;
        }
        operator.hurried += hurry(harness).await?;
        sleep(ROUND).await;
    }
}

fn due(last: &mut Option<Instant>, every: Duration) -> bool {
    let due = last.is_none_or(|last| last.elapsed() >= every);
    if due {
        *last = Some(Instant::now());
    }
    due
}

/// What still moves or waits; empty if nothing does.
async fn restless(
    harness: &Harness,
    workload: &Workload,
    survey: &Survey,
) -> anyhow::Result<String> {
    let mut open = String::new();
    let undone = survey.undone(workload).len();
    for (what, count) in [
        ("events not done", undone as i64),
        ("open calls", survey.open_effects),
        ("leases", survey.leases),
        ("in the outbox", survey.outbox),
        ("late writes", harness.simulator.late_writes() as i64),
    ] {
        if count > 0 {
            write!(open, "{count} {what}; ")?;
        }
    }
    for (cause, count) in survey.held() {
        write!(open, "{count} held: {cause}; ")?;
    }
    for (class, count) in survey.dead_classes(workload) {
        write!(open, "{count} dead: {class}; ")?;
    }
    // The queues last: what lies in one now may be in the database by then, but not the other way round.
    for queue in QUEUES {
        match harness.broker.depth(&harness.broker.queue(queue)).await {
            Ok(None | Some(0)) => {}
            Ok(Some(depth)) => write!(open, "{depth} in {queue}; ")?,
            Err(error) => write!(open, "{queue}: {error}; ")?,
        }
    }
    match harness
        .broker
        .management()
        .queues(harness.broker.vhost())
        .await
    {
        Ok(queues) => {
            let unacknowledged: u64 = queues
                .iter()
                .map(|queue| queue.messages_unacknowledged)
                .sum();
            if unacknowledged > 0 {
                write!(open, "{unacknowledged} not acknowledged; ")?;
            }
        }
        Err(error) => write!(open, "{error}; ")?,
    }
    Ok(open)
}

/// An event that three kills in a row hit is held for a person.
async fn release(
    harness: &Harness,
    survey: &Survey,
    operator: &mut Operator,
) -> anyhow::Result<()> {
    if let Some(count) = survey.held().get("poison") {
        let release = ["held", "release", "--cause", "poison"];
        if harness.attempt(&release).await?.is_some() {
            *operator.released.entry("poison".to_owned()).or_default() += count;
        }
    }
    Ok(())
}

/// With the partner repaired, every dead letter but those of broken events must end applied.
async fn replay(
    harness: &Harness,
    dead: &BTreeMap<&str, usize>,
    operator: &mut Operator,
) -> anyhow::Result<()> {
    for (class, count) in dead {
        if operator.replays >= MOST_REPLAYS {
            bail!("{count} dead letters of class {class} are left after {MOST_REPLAYS} replays");
        }
        let replay = [
            "dead-letters",
            "replay",
            "--class",
            class,
            "--yes",
            "--detach",
        ];
        if harness.attempt(&replay).await?.is_some() {
            operator.replays += 1;
            *operator
                .dead_letters
                .entry((*class).to_owned())
                .or_default() += count;
        }
    }
    Ok(())
}

/// Lets what waits for half a minute and longer come back now, as the end of its time would bring it.
async fn hurry(harness: &Harness) -> anyhow::Result<usize> {
    let worker = harness.broker.queue(QUEUES[0]);
    let mut moved = 0;
    for retry_tier in &QUEUES[LONG_RETRY_TIERS] {
        let retry_tier = harness.broker.queue(retry_tier);
        if harness.broker.depth(&retry_tier).await?.unwrap_or_default() == 0 {
            continue;
        }
        let publisher = harness.broker.publisher().await?;
        for waiting in harness.broker.take(&retry_tier, HURRIED).await? {
            let properties = waiting.properties.clone();
            let route = publisher
                .raw("", &worker, &waiting.body, properties)
                .await
                .with_context(|| format!("moving what waits in {retry_tier}"))?;
            if route != Route::Routed {
                bail!("{worker} did not take what waited in {retry_tier}");
            }
            moved += 1;
        }
    }
    Ok(moved)
}

/// Ids of the events in the queue of those that no worker takes, each once.
pub(crate) async fn unrouted(harness: &Harness) -> anyhow::Result<Vec<String>> {
    let listed = harness
        .repeat(&["unrouted", "list", "--limit", "10000", "--json"])
        .await?;
    let listed: serde_json::Value = serde_json::from_str(&listed)?;
    let events = listed.as_array().context("a list of events")?;
    let mut ids: Vec<String> = events
        .iter()
        .filter_map(|event| event["event_id"].as_str().map(str::to_owned))
        .collect();
    ids.sort();
    ids.dedup();
    Ok(ids)
}

/// Ids of events that belong there.
pub(crate) fn unknown(workload: &Workload) -> Vec<String> {
    let mut ids: Vec<String> = workload
        .events
        .iter()
        .filter(|event| event.meaning == Meaning::Unknown)
        .map(|event| event.id().to_owned())
        .collect();
    ids.sort();
    ids
}
