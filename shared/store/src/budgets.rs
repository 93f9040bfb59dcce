//! The fleet-wide account of what partners allow: permits are leased from it by all processes, for up to a second ahead.
//!
//! One task per process asks for its connections in one statement (those that others want too, each by itself), about
//! once a second while they are busy and at once when something is lacking or has been learned (a quota, an open circuit). So N replicas together stay within the
//! budget, what one of them learns all obey within a second, and an idle connection costs nothing.

mod read;
mod release;
mod schedule;
mod set;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::types::Json;
use tokio::sync::{Semaphore, watch};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;
use worker::Connection;
use worker::budget::{Answer, Ask, BudgetSpec, CircuitAnswer, CircuitNews, PermitPool, Signals};

use crate::{Error, Pool};

use schedule::Schedule;

pub use read::{Budget, list};
pub use release::{allowance, let_go};
pub use set::set;

/// Most connections kept in memory; beyond it one that is idle makes room.
pub const CAPACITY: usize = 10_000;
/// Most connections of one question.
const BATCH: usize = 200;
/// A process that was not heard of for so long has no calls in flight any more.
const HOLDER_LIVES: Duration = Duration::from_secs(3);
/// Longest pause of the task: it looks for lapsed permits.
const LOOK: Duration = Duration::from_secs(1);
/// Shortest pause between two statements.
const BREATH: Duration = Duration::from_millis(5);
/// Statements of one process at once.
const STATEMENTS: usize = 3;

/// How a process applies budgets.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Per system: what a connection may do that says nothing itself.
    pub defaults: HashMap<String, BudgetSpec>,
    /// How long a circuit stays open at first; doubled by each half-open probe that fails.
    pub circuit_open: Duration,
}

/// A permit pool with the connection's settings that its limits were read from.
struct Kept {
    permit_pool: Arc<PermitPool>,
    settings: Value,
}

struct Shared {
    pool: Pool,
    holder: Uuid,
    settings: Settings,
    permit_pools: Mutex<HashMap<Uuid, Kept>>,
    signals: Signals,
}

/// Cheap to clone. The background task ends with the last clone.
#[derive(Clone)]
pub struct Budgets {
    shared: Arc<Shared>,
    _asking: Arc<AbortOnDropHandle<()>>,
}

impl Budgets {
    /// Starts the background task on the current runtime.
    pub fn start(pool: Pool, settings: Settings) -> Self {
        let shared = Arc::new(Shared {
            pool,
            holder: Uuid::new_v4(),
            settings,
            permit_pools: Mutex::default(),
            signals: Signals::default(),
        });
        let asking = tokio::spawn(ask_for_ever(Arc::clone(&shared)));
        Self {
            shared,
            _asking: Arc::new(AbortOnDropHandle::new(asking)),
        }
    }
}

impl worker::Budgets for Budgets {
    fn permit_pool(&self, connection: &Connection) -> Arc<PermitPool> {
        self.shared.permit_pool(connection)
    }

    fn moved(&self) -> watch::Receiver<u64> {
        self.shared.signals.moved.subscribe()
    }
}

impl Shared {
    fn permit_pools(&self) -> MutexGuard<'_, HashMap<Uuid, Kept>> {
        self.permit_pools
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn permit_pool(&self, connection: &Connection) -> Arc<PermitPool> {
        let mut permit_pools = self.permit_pools();
        if let Some(kept) = permit_pools.get_mut(&connection.id) {
            // Settings change a few times a year, events come a thousand times a second.
            if kept.settings != connection.settings {
                kept.permit_pool.set_spec(&self.spec(connection));
                kept.settings.clone_from(&connection.settings);
            }
            return Arc::clone(&kept.permit_pool);
        }
        if permit_pools.len() >= CAPACITY
            && let Some(idle) = permit_pools
                .iter()
                .find(|(_, kept)| Arc::strong_count(&kept.permit_pool) == 1)
                .map(|(id, _)| *id)
        {
            permit_pools.remove(&idle);
        }
        let permit_pool = Arc::new(PermitPool::new(
            connection.id,
            connection.tenant.clone(),
            self.spec(connection),
            self.settings.circuit_open,
            self.signals.clone(),
        ));
        let kept = Kept {
            permit_pool: Arc::clone(&permit_pool),
            settings: connection.settings.clone(),
        };
        permit_pools.insert(connection.id, kept);
        permit_pool
    }

    /// What is stored was checked when it was written; a budget that cannot be read is the default's.
    fn spec(&self, connection: &Connection) -> BudgetSpec {
        let unlimited = BudgetSpec {
            windows: Vec::new(),
            in_flight: 1,
            searches: 1,
        };
        let default = self
            .settings
            .defaults
            .get(&connection.system)
            .unwrap_or(&unlimited);
        BudgetSpec::of(&connection.settings, default).unwrap_or_else(|error| {
            tracing::warn!(connection = %connection.id, error, "the connection's budget cannot be read, the default holds");
            default.clone()
        })
    }

    /// What those whose turn has come want to ask now, and when the next turn is.
    fn asks(&self, schedule: &mut Schedule) -> (Vec<(Arc<PermitPool>, Ask)>, Instant) {
        let now = Instant::now();
        for connection in self.signals.refill_queue.take() {
            schedule.at(connection, now);
        }
        let permit_pools = self.permit_pools();
        let mut asks = Vec::new();
        while asks.len() < BATCH
            && let Some(connection) = schedule.next_due(now)
        {
            let Some(kept) = permit_pools.get(&connection) else {
                continue;
            };
            // Also an idle one is looked at: its permits lapse.
            let later = match kept.permit_pool.ask() {
                Ok(ask) => {
                    asks.push((Arc::clone(&kept.permit_pool), ask));
                    None
                }
                Err(later) => later,
            };
            let look = now + LOOK;
            let turn = later.map_or(look, |later| later.clamp(now + BREATH, look));
            schedule.at(connection, turn);
        }
        let next = schedule.first().unwrap_or(now + LOOK);
        (asks, next)
    }

    async fn ask(&self, asks: &[(Arc<PermitPool>, Ask)]) {
        let answers: HashMap<Uuid, Answer> = match self.lease(asks).await {
            Ok(answers) => answers
                .into_iter()
                .map(|answer| (answer.connection, answer))
                .collect(),
            Err(error) => {
                tracing::warn!(error = %error.with_causes(), "no permits can be leased");
                HashMap::new()
            }
        };
        for (permit_pool, ask) in asks {
            match answers.get(&ask.connection) {
                Some(answer) => {
                    permit_pool.answered(ask, answer);
                    self.signals.refill_queue.add(ask.connection);
                }
                // An error, or the connection is gone: nothing is granted, and it asks again a second later.
                None => permit_pool.unanswered(ask),
            }
        }
    }

    async fn lease(&self, asks: &[(Arc<PermitPool>, Ask)]) -> Result<Vec<Answer>, Error> {
        let questions: Vec<Value> = asks.iter().map(|(_, ask)| question(ask)).collect();
        let rows: Vec<Row> = sqlx::query_as(
            "select connection, granted, wait_ms, slots, searches, cooldown_ms, cooldown_reason, backlog, circuits, rivals
             from lease_budgets($1, $2, make_interval(secs => $3))",
        )
        .bind(self.holder)
        .bind(Json(questions))
        .bind(HOLDER_LIVES.as_secs_f64())
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(answer).collect())
    }
}

async fn ask_for_ever(shared: Arc<Shared>) {
    let statements = Arc::new(Semaphore::new(STATEMENTS));
    let mut schedule = Schedule::default();
    loop {
        let (asks, next) = shared.asks(&mut schedule);
        if asks.is_empty() {
            tokio::select! {
                () = shared.signals.refill_queue.any() => {}
                () = tokio::time::sleep_until(next.into()) => {}
            }
        }
        // An account that others have locked keeps nobody waiting but those who ask for it.
        let (contended, free): (Vec<_>, Vec<_>) =
            asks.into_iter().partition(|(_, ask)| ask.contended);
        let alone = contended.into_iter().map(|ask| vec![ask]);
        for batch in alone.chain([free]).filter(|batch| !batch.is_empty()) {
            let Ok(room) = Arc::clone(&statements).acquire_owned().await else {
                return;
            };
            let shared = Arc::clone(&shared);
            tokio::spawn(async move {
                shared.ask(&batch).await;
                drop(room);
            });
        }
        tokio::time::sleep(BREATH).await;
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn question(ask: &Ask) -> Value {
    let buckets: Vec<Value> = ask
        .buckets
        .iter()
        .map(|bucket| {
            let gap = u64::try_from(bucket.gap.as_micros())
                .unwrap_or(u64::MAX)
                .max(1);
            json!({ "per_ms": millis(bucket.per), "gap_us": gap, "burst": bucket.burst })
        })
        .collect();
    let mut opened = Vec::new();
    let (mut closed, mut probes) = (Vec::new(), Vec::new());
    for news in &ask.circuits {
        match news {
            CircuitNews::Opened {
                operation,
                reason,
                first,
            } => opened
                .push(json!({ "operation": operation, "reason": reason, "ms": millis(*first) })),
            CircuitNews::Closed { operation } => closed.push(*operation),
            CircuitNews::Probe { operation } => probes.push(*operation),
        }
    }
    let cool = ask.cool.as_ref().map(
        |cool| json!({ "ms": millis(cool.least), "named": cool.named, "reason": cool.reason }),
    );
    json!({
        "connection": ask.connection, "tenant": ask.tenant, "spec": ask.spec.to_json(), "buckets": buckets,
        "want": ask.want, "back": ask.back, "slots_want": ask.slots_want, "slots_used": ask.slots_used,
        "searches_want": ask.searches_want, "searches_used": ask.searches_used, "in_flight": ask.spec.in_flight,
        "search_lane": ask.spec.searches, "begun": ask.begun, "fine": ask.fine, "cost": ask.cost,
        "cool": cool, "opened": opened, "closed": closed, "probes": probes,
    })
}

/// Connection, granted, wait, slots, searches, cooldown and its reason, backlog, circuits, rivals.
type Row = (
    Uuid,
    i32,
    i64,
    i32,
    i32,
    Option<i64>,
    Option<String>,
    bool,
    Json<Vec<OpenCircuit>>,
    i32,
);

#[derive(serde::Deserialize)]
struct OpenCircuit {
    operation: String,
    reason: String,
    probe: bool,
    taken: bool,
    left_ms: u64,
}

fn answer(row: Row) -> Answer {
    let (connection, granted, wait, slots, searches, cooldown, reason, backlog, circuits, rivals) =
        row;
    let count = |number: i32| u32::try_from(number).unwrap_or_default();
    let time = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or_default());
    let circuits = circuits.0.into_iter().map(|open| CircuitAnswer {
        operation: open.operation,
        left: Duration::from_millis(open.left_ms),
        probe: open.probe,
        taken: open.taken,
        reason: open.reason,
    });
    Answer {
        connection,
        granted: count(granted),
        wait: time(wait),
        slots: count(slots),
        searches: count(searches),
        cooldown: cooldown.map(time),
        reason,
        backlog,
        circuits: circuits.collect(),
        rivals: count(rivals),
    }
}
