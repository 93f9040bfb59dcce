//! After the trouble: everything runs again, an operator does what only he can, and all that was published comes to its
//! end. Whatever does not, within a named time, is a failure of the run.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use testkit::Route;
use tokio::time::{Instant, sleep};

use crate::crew::Crew;
use crate::output::say;
use crate::stage::{QUEUES, Stage};
use crate::story::{Meaning, Story};
use crate::survey::Survey;

/// From the end of the trouble to rest. A copy whose queue was away when its rung ended is sent again by the broker after
/// three minutes.
const LIMIT: Duration = Duration::from_secs(300);
const ROUND: Duration = Duration::from_millis(500);
const PROGRESS: Duration = Duration::from_secs(5);
/// So long nothing may move: what is delivered and not acknowledged is only in the statistics of the management API, and
/// those are up to five seconds old.
const CALM: Duration = Duration::from_secs(6);
const LETTERS_AGAIN: Duration = Duration::from_secs(3);
const ROUTE_AGAIN: Duration = Duration::from_secs(5);
/// Letters that die again are replayed so often; no faults are left that could kill them.
const MOST_REPLAYS: u32 = 12;
/// Messages moved out of a rung in one round.
const HURRIED: usize = 500;
/// Rungs whose time a run has not got.
const LONG_RUNGS: std::ops::Range<usize> = 3..7;
/// Undone events that are named where all cannot be.
const NAMED: usize = 12;

/// What the operator had to do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Operator {
    pub(crate) took: Duration,
    pub(crate) replays: u32,
    /// Letters that were replayed, by class.
    pub(crate) letters: BTreeMap<String, usize>,
    /// Held for a person and let go, by cause.
    pub(crate) released: BTreeMap<String, usize>,
    pub(crate) repaired: usize,
    pub(crate) hurried: usize,
}

pub(crate) async fn drain(stage: &Stage, crew: &Crew, story: &Story) -> anyhow::Result<Operator> {
    let begin = Instant::now();
    stage.simulator.clear_faults();
    crew.all_ready().await?;
    let mut operator = Operator::default();
    let (mut told, mut replayed, mut routed) = (None, None, None);
    let mut quiet: Option<Instant> = None;
    loop {
        let survey = Survey::patient(stage).await?;
        let open = restless(stage, story, &survey).await?;
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
            let mut undone = survey.undone(story);
            undone.truncate(NAMED);
            bail!(
                "not at rest {LIMIT:?} after the trouble: {open}\n{}",
                undone.join("\n")
            );
        }
        if due(&mut told, PROGRESS) {
            say(&format!(
                "  draining {:3} s: {open}",
                begin.elapsed().as_secs()
            ));
        }
        for company in survey.suspended() {
            stage.test_connection(company).await?;
            operator.repaired += 1;
        }
        release(stage, &survey, &mut operator).await?;
        let dead = survey.dead_classes(story);
        if !dead.is_empty() && due(&mut replayed, LETTERS_AGAIN) {
            replay(stage, &dead, &mut operator).await?;
        }
        if due(&mut routed, ROUTE_AGAIN) {
            stage
                .attempt(&["unrouted", "route", "--why", "routable"])
                .await?;
        }
        operator.hurried += hurry(stage).await?;
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
async fn restless(stage: &Stage, story: &Story, survey: &Survey) -> anyhow::Result<String> {
    let mut open = String::new();
    let undone = survey.undone(story).len();
    for (what, count) in [
        ("events not done", undone as i64),
        ("open calls", survey.open_effects),
        ("leases", survey.leases),
        ("in the outbox", survey.outbox),
        ("late writes", stage.simulator.late_writes() as i64),
    ] {
        if count > 0 {
            write!(open, "{count} {what}; ")?;
        }
    }
    for (cause, count) in survey.held() {
        write!(open, "{count} held: {cause}; ")?;
    }
    for (class, count) in survey.dead_classes(story) {
        write!(open, "{count} dead: {class}; ")?;
    }
    // The queues last: what lies in one now may be in the database by then, but not the other way round.
    for queue in QUEUES {
        match stage.broker.depth(&stage.broker.queue(queue)).await {
            Ok(None | Some(0)) => {}
            Ok(Some(depth)) => write!(open, "{depth} in {queue}; ")?,
            Err(error) => write!(open, "{queue}: {error}; ")?,
        }
    }
    match stage.broker.management().queues(stage.broker.vhost()).await {
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
async fn release(stage: &Stage, survey: &Survey, operator: &mut Operator) -> anyhow::Result<()> {
    if let Some(count) = survey.held().get("poison") {
        let release = ["held", "release", "--cause", "poison"];
        if stage.attempt(&release).await?.is_some() {
            *operator.released.entry("poison".to_owned()).or_default() += count;
        }
    }
    Ok(())
}

/// With the partner repaired, every letter but those of broken events must end applied.
async fn replay(
    stage: &Stage,
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
        if stage.attempt(&replay).await?.is_some() {
            operator.replays += 1;
            *operator.letters.entry((*class).to_owned()).or_default() += count;
        }
    }
    Ok(())
}

/// Lets what waits for half a minute and longer come back now, as the end of its time would bring it.
async fn hurry(stage: &Stage) -> anyhow::Result<usize> {
    let worker = stage.broker.queue(QUEUES[0]);
    let mut moved = 0;
    for rung in &QUEUES[LONG_RUNGS] {
        let rung = stage.broker.queue(rung);
        if stage.broker.depth(&rung).await?.unwrap_or_default() == 0 {
            continue;
        }
        let publisher = stage.broker.publisher().await?;
        for waiting in stage.broker.take(&rung, HURRIED).await? {
            let properties = waiting.properties.clone();
            let route = publisher
                .raw("", &worker, &waiting.body, properties)
                .await
                .with_context(|| format!("moving what waits in {rung}"))?;
            if route != Route::Routed {
                bail!("{worker} did not take what waited in {rung}");
            }
            moved += 1;
        }
    }
    Ok(moved)
}

/// Ids of the events in the queue of those that no worker takes, each once.
pub(crate) async fn unrouted(stage: &Stage) -> anyhow::Result<Vec<String>> {
    let listed = stage
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
pub(crate) fn unknown(story: &Story) -> Vec<String> {
    let mut ids: Vec<String> = story
        .events
        .iter()
        .filter(|event| event.meaning == Meaning::Unknown)
        .map(|event| event.id().to_owned())
        .collect();
    ids.sort();
    ids
}
