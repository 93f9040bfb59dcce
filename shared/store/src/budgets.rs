//! The fleet-wide account of what partners allow: permits are leased from it by all processes, for up to a second ahead.
//!
//! One task per process asks for its connections in one statement (those that others want too, each by itself), about
//! once a second while they are busy and at once when something is lacking or has been learned (a quota, an open circuit). So N replicas together stay within the
//! budget, what one of them learns all obey within a second, and an idle connection costs nothing.

mod read;
mod release;
mod set;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::types::Json;
use tokio::sync::{Semaphore, watch};
use uuid::Uuid;
use worker::Connection;
use worker::budget::{Answer, Ask, BudgetSpec, CircuitAnswer, CircuitNews, Purse, Signals};

use crate::{Error, Pool};

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
    /// How long a circuit stays open at first; doubled by each canary that fails.
    pub circuit_open: Duration,
}

struct Shared {
    pool: Pool,
    holder: Uuid,
    settings: Settings,
    purses: Mutex<HashMap<Uuid, Arc<Purse>>>,
    signals: Signals,
}

/// Cheap to clone. The background task ends with the last clone.
#[derive(Clone)]
pub struct Budgets {
    shared: Arc<Shared>,
    _asking: Arc<AbortOnDrop>,
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Budgets {
    /// Starts the background task on the current runtime.
    pub fn start(pool: Pool, settings: Settings) -> Self {
        let shared = Arc::new(Shared {
            pool,
            holder: Uuid::new_v4(),
            settings,
            purses: Mutex::default(),
            signals: Signals::default(),
        });
        let asking = tokio::spawn(ask_for_ever(Arc::clone(&shared)));
        Self {
            shared,
            _asking: Arc::new(AbortOnDrop(asking)),
        }
    }
}

impl worker::Budgets for Budgets {
    fn purse(&self, connection: &Connection) -> Arc<Purse> {
        self.shared.purse(connection)
    }

    fn moved(&self) -> watch::Receiver<u64> {
        self.shared.signals.moved.subscribe()
    }
}

impl Shared {
    fn purses(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Purse>>> {
        self.purses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn purse(&self, connection: &Connection) -> Arc<Purse> {
        let spec = self.spec(connection);
        let mut purses = self.purses();
        if let Some(purse) = purses.get(&connection.id) {
            purse.set_spec(&spec);
            return Arc::clone(purse);
        }
        if purses.len() >= CAPACITY
            && let Some(idle) = purses
                .iter()
                .find(|(_, purse)| Arc::strong_count(purse) == 1)
                .map(|(id, _)| *id)
        {
            purses.remove(&idle);
        }
        let purse = Arc::new(Purse::new(
            connection.id,
            connection.tenant.clone(),
            spec,
            self.settings.circuit_open,
            self.signals.clone(),
        ));
        purses.insert(connection.id, Arc::clone(&purse));
        purse
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

    /// What all connections want to ask now, and when the next one will.
    fn asks(&self) -> (Vec<(Arc<Purse>, Ask)>, Instant) {
        let mut next = Instant::now() + LOOK;
        let mut asks = Vec::new();
        for purse in self.purses().values() {
            match purse.ask() {
                Ok(ask) => asks.push((Arc::clone(purse), ask)),
                Err(Some(later)) => next = next.min(later),
                Err(None) => {}
            }
            if asks.len() == BATCH {
                next = Instant::now();
                break;
            }
        }
        (asks, next)
    }

    async fn ask(&self, asks: &[(Arc<Purse>, Ask)]) {
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
        for (purse, ask) in asks {
            match answers.get(&ask.connection) {
                Some(answer) => purse.answered(ask, answer),
                // An error, or the connection is gone: nothing is granted, and it asks again later.
                None => purse.unanswered(ask),
            }
        }
    }

    async fn lease(&self, asks: &[(Arc<Purse>, Ask)]) -> Result<Vec<Answer>, Error> {
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
    loop {
        let (asks, next) = shared.asks();
        if asks.is_empty() {
            tokio::select! {
                () = shared.signals.needy.notified() => {}
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
    let (mut closed, mut canaries) = (Vec::new(), Vec::new());
    for news in &ask.circuits {
        match news {
            CircuitNews::Opened {
                operation,
                reason,
                first,
            } => opened
                .push(json!({ "operation": operation, "reason": reason, "ms": millis(*first) })),
            CircuitNews::Closed { operation } => closed.push(*operation),
            CircuitNews::Canary { operation } => canaries.push(*operation),
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
        "cool": cool, "opened": opened, "closed": closed, "canaries": canaries,
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
    canary: bool,
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
        canary: open.canary,
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
