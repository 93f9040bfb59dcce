//! Connections in memory, for the gate: it asks about every delivery and must not wait for the database.
//!
//! A background task looks once a second for connections that changed. A stale view is harmless: the claim and the
//! hold look at the row again. While the database cannot be asked the views age, and from [`TRUSTED`] on the gate has
//! to ask itself, which fails, so that nothing is decided on an old view for long.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use event::TenantId;
use futures_util::future::BoxFuture;
use tokio_util::task::AbortOnDropHandle;
use worker::{Connection as Known, ConnectionAnswer, Connections, PortError};

use crate::connections::{self, Connection};
use crate::{Error, Pool};

/// Most answers kept (each holds at most `connections::ACCOUNTS_LIMIT` connections); beyond that an arbitrary one makes room.
pub const CAPACITY: usize = 10_000;
/// How often changed connections are looked for.
pub const REFRESH: Duration = Duration::from_secs(1);
/// How long "no connection" and "unknown tenant" are believed: an operator who adds one should not wait.
pub const TRUSTED_ABSENCE: Duration = Duration::from_secs(1);
/// How long a connection is believed without a successful look for changes.
pub const TRUSTED: Duration = Duration::from_secs(10);
/// A transaction that changes a connection may commit this long after the time it wrote.
const OVERLAP: TimeDelta = TimeDelta::seconds(60);

type Key = (TenantId, String);

struct Entry {
    answer: ConnectionAnswer,
    asked: Instant,
}

#[derive(Default)]
struct View {
    entries: HashMap<Key, Entry>,
    /// When changes were last looked for with success.
    looked: Option<Instant>,
}

struct Shared {
    pool: Pool,
    view: Mutex<View>,
    /// One miss asks at a time: what many deliveries of one tenant ask for is asked once.
    asking: tokio::sync::Mutex<()>,
}

/// Cheap to clone. The background task ends with the last clone.
#[derive(Clone)]
pub struct ConnectionCache {
    shared: Arc<Shared>,
    _refreshing: Arc<AbortOnDropHandle<()>>,
}

impl ConnectionCache {
    /// Starts the background task on the current runtime.
    pub fn start(pool: Pool) -> Self {
        let shared = Arc::new(Shared {
            pool,
            view: Mutex::new(View::default()),
            asking: tokio::sync::Mutex::new(()),
        });
        let refreshing = tokio::spawn(refresh_for_ever(shared.clone()));
        Self {
            shared,
            _refreshing: Arc::new(AbortOnDropHandle::new(refreshing)),
        }
    }
}

async fn refresh_for_ever(shared: Arc<Shared>) {
    let mut since: Option<DateTime<Utc>> = None;
    let mut ticks = tokio::time::interval(REFRESH);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match shared.refresh(since).await {
            Ok(now) => since = Some(now - OVERLAP),
            Err(error) => {
                tracing::warn!(error = %error.with_causes(), "connections could not be refreshed")
            }
        }
    }
}

impl Shared {
    /// Takes over what changed since then; `None` at first, when nothing is in memory yet.
    async fn refresh(&self, since: Option<DateTime<Utc>>) -> Result<DateTime<Utc>, Error> {
        let began = Instant::now();
        let now: DateTime<Utc> = sqlx::query_scalar("select clock_timestamp()")
            .fetch_one(&self.pool)
            .await?;
        let changed: Vec<Connection> = match since {
            None => Vec::new(),
            Some(since) => {
                sqlx::query_as(
                    "select id, tenant, system, account, enabled, state, state_reason, epoch, settings, key_id,
                       created_at, updated_at
                     from connection where updated_at >= $1",
                )
                .bind(since)
                .fetch_all(&self.pool)
                .await?
            }
        };
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        for connection in changed {
            let Some(known) = connection.for_worker() else {
                continue;
            };
            let key = (known.tenant.clone(), known.system.clone());
            if let Some(entry) = view.entries.get_mut(&key) {
                entry.answer = with(&entry.answer, known);
                entry.asked = began;
            }
        }
        view.entries
            .retain(|_, entry| is_known(&entry.answer) || entry.asked.elapsed() < TRUSTED_ABSENCE);
        view.looked = Some(began);
        Ok(now)
    }

    fn cached(&self, tenant: &TenantId, system: &str) -> Option<ConnectionAnswer> {
        let view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = view.entries.get(&(tenant.clone(), system.to_owned()))?;
        // A connection is as fresh as the last look for changes, if that was later.
        let (since, trusted) = match is_known(&entry.answer) {
            true => (
                view.looked
                    .map_or(entry.asked, |looked| looked.max(entry.asked)),
                TRUSTED,
            ),
            false => (entry.asked, TRUSTED_ABSENCE),
        };
        (since.elapsed() < trusted).then(|| entry.answer.clone())
    }

    /// What was asked for at `wanted` or later.
    fn asked_since(
        &self,
        wanted: Instant,
        tenant: &TenantId,
        system: &str,
    ) -> Option<ConnectionAnswer> {
        let view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = view.entries.get(&(tenant.clone(), system.to_owned()))?;
        (entry.asked >= wanted).then(|| entry.answer.clone())
    }

    async fn ask(&self, tenant: &TenantId, system: &str) -> Result<ConnectionAnswer, Error> {
        let wanted = Instant::now();
        let _one = self.asking.lock().await;
        if let Some(answer) = self.asked_since(wanted, tenant, system) {
            return Ok(answer);
        }
        let asked = Instant::now();
        let known: Vec<Arc<Known>> = connections::of_system(&self.pool, tenant, system)
            .await?
            .iter()
            .filter_map(Connection::for_worker)
            .collect();
        let answer = match known.is_empty() {
            false => ConnectionAnswer::Known(known.into()),
            true => {
                let known: bool =
                    sqlx::query_scalar("select exists (select 1 from tenant where id = $1)")
                        .bind(tenant.as_str())
                        .fetch_one(&self.pool)
                        .await?;
                match known {
                    true => ConnectionAnswer::NoConnection,
                    false => ConnectionAnswer::UnknownTenant,
                }
            }
        };
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        if view.entries.len() >= CAPACITY
            && let Some(any) = view.entries.keys().next().cloned()
        {
            view.entries.remove(&any);
        }
        let entry = Entry {
            answer: answer.clone(),
            asked,
        };
        view.entries
            .insert((tenant.clone(), system.to_owned()), entry);
        Ok(answer)
    }
}

/// The answer with this connection as it is now. A slower answer must not bring back an older state.
fn with(answer: &ConnectionAnswer, changed: Arc<Known>) -> ConnectionAnswer {
    let mut all = match answer {
        ConnectionAnswer::Known(known) => known.to_vec(),
        ConnectionAnswer::NoConnection | ConnectionAnswer::UnknownTenant => Vec::new(),
    };
    match all.iter_mut().find(|known| known.id == changed.id) {
        Some(known) if changed.epoch >= known.epoch => *known = changed,
        Some(_) => {}
        None => all.push(changed),
    }
    all.sort_by(|one, other| one.account.cmp(&other.account));
    ConnectionAnswer::Known(all.into())
}

fn is_known(answer: &ConnectionAnswer) -> bool {
    matches!(answer, ConnectionAnswer::Known(_))
}

impl Connections for ConnectionCache {
    fn cached(&self, tenant: &TenantId, system: &str) -> Option<ConnectionAnswer> {
        self.shared.cached(tenant, system)
    }

    fn resolve<'a>(
        &'a self,
        tenant: &'a TenantId,
        system: &'a str,
    ) -> BoxFuture<'a, Result<ConnectionAnswer, PortError>> {
        Box::pin(async move { Ok(self.shared.ask(tenant, system).await?) })
    }
}
