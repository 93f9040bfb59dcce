//! A handler and a store that do what a test says, and remember what they were asked.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use chrono::{DateTime, Utc};
use event::{EventType, SubjectVersion, TenantId, VersionScheme};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use uuid::Uuid;
use worker::{
    AckReason, Claims, Connection, ConnectionAnswer, ConnectionState, Connections, DeadClass, Done,
    Failure, FanOut, FanOutItem, Handled, Handler, HoldItem, HoldVerdict, Holds, Job, Leased,
    PinItem, Pins, PortError, Release, RetryPolicy, Verdict,
};

pub(crate) const TENANT: &str = "acme";
/// Known, without a connection.
pub(crate) const BARE: &str = "bare";
/// Has three connections: `WEST` and `EAST`, and one that is off.
pub(crate) const CHAIN: &str = "chain";
pub(crate) const WEST: Uuid = Uuid::from_u128(2);
pub(crate) const EAST: Uuid = Uuid::from_u128(3);
const CLOSED: Uuid = Uuid::from_u128(4);

/// What the handler does with an event.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Apply,
    FailOnce,
    Refuse,
    Panic,
    Block(worker::HoldCause),
    /// Until `release` is told.
    Stay,
    Hang,
}

#[derive(Default)]
pub(crate) struct Seen {
    /// (event id, attempt), in order of their start.
    pub(crate) handled: Vec<(String, u32)>,
    pub(crate) claims: Vec<(Vec<String>, bool)>,
    pub(crate) held: Vec<(String, worker::HoldCause)>,
    /// (event id, connections), once per call of the port.
    pub(crate) fan_out: Vec<(String, Vec<Uuid>)>,
    /// Connections that events were claimed for.
    pub(crate) claimed_for: HashMap<String, Option<Uuid>>,
    pub(crate) released: Vec<(Uuid, Option<String>)>,
    pub(crate) tokens: HashMap<String, Vec<Uuid>>,
    pub(crate) renewed: usize,
    pub(crate) pinned: Vec<String>,
    pub(crate) resolved: usize,
    pub(crate) histories: HashMap<String, Vec<worker::Attempt>>,
}

/// Handler and store in one; clones are the same.
#[derive(Clone)]
pub(crate) struct Ports(Arc<Inner>);

struct Inner {
    policy: RetryPolicy,
    acts: Mutex<HashMap<String, Act>>,
    seen: Mutex<Seen>,
    release: Notify,
    running: AtomicUsize,
    most_running: AtomicUsize,
    /// What else ran while a poison candidate ran.
    beside_poison_candidates: AtomicUsize,
    poison_candidates: Mutex<HashSet<String>>,
    failing_claims: AtomicUsize,
    failing_fan_outs: AtomicUsize,
    bad_rows: Mutex<HashSet<String>>,
    hold_verdicts: Mutex<Vec<HoldVerdict>>,
    store_away: AtomicUsize,
    claims_open: tokio::sync::watch::Sender<bool>,
}

impl Ports {
    pub(crate) fn new() -> Self {
        Self::with(RetryPolicy {
            initial: Duration::from_millis(100),
            ..RetryPolicy::default()
        })
    }

    pub(crate) fn with(policy: RetryPolicy) -> Self {
        Self(Arc::new(Inner {
            policy,
            acts: Mutex::default(),
            seen: Mutex::default(),
            release: Notify::new(),
            running: AtomicUsize::new(0),
            most_running: AtomicUsize::new(0),
            beside_poison_candidates: AtomicUsize::new(0),
            poison_candidates: Mutex::default(),
            failing_claims: AtomicUsize::new(0),
            failing_fan_outs: AtomicUsize::new(0),
            bad_rows: Mutex::default(),
            hold_verdicts: Mutex::default(),
            store_away: AtomicUsize::new(0),
            claims_open: tokio::sync::watch::Sender::new(true),
        }))
    }

    pub(crate) fn act(&self, event_id: &str, act: Act) {
        self.0.acts.lock().unwrap().insert(event_id.to_owned(), act);
    }

    pub(crate) fn poison_candidate(&self, event_id: &str) {
        self.0
            .poison_candidates
            .lock()
            .unwrap()
            .insert(event_id.to_owned());
    }

    pub(crate) fn bad_row(&self, event_id: &str) {
        self.0.bad_rows.lock().unwrap().insert(event_id.to_owned());
    }

    pub(crate) fn fail_claims(&self, times: usize) {
        self.0.failing_claims.store(times, Ordering::SeqCst);
    }

    pub(crate) fn fail_fan_outs(&self, times: usize) {
        self.0.failing_fan_outs.store(times, Ordering::SeqCst);
    }

    /// The next question for connections, pins or schemes fails this often.
    pub(crate) fn store_away(&self, times: usize) {
        self.0.store_away.store(times, Ordering::SeqCst);
    }

    /// While closed, a claim waits.
    pub(crate) fn open_claims(&self, open: bool) {
        self.0.claims_open.send_replace(open);
    }

    /// Answers of the next holds; afterwards everything is held.
    pub(crate) fn hold_verdicts(&self, verdicts: Vec<HoldVerdict>) {
        *self.0.hold_verdicts.lock().unwrap() = verdicts;
    }

    pub(crate) fn go_on(&self) {
        self.0.release.notify_waiters();
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.seen.lock().unwrap()
    }

    pub(crate) fn attempts(&self, event_id: &str) -> Vec<u32> {
        let seen = self.seen();
        seen.handled
            .iter()
            .filter(|(id, _)| id == event_id)
            .map(|(_, attempt)| *attempt)
            .collect()
    }

    pub(crate) fn handled(&self) -> usize {
        self.seen().handled.len()
    }

    pub(crate) fn running(&self) -> usize {
        self.0.running.load(Ordering::SeqCst)
    }

    pub(crate) fn most_running(&self) -> usize {
        self.0.most_running.load(Ordering::SeqCst)
    }

    pub(crate) fn beside_poison_candidates(&self) -> usize {
        self.0.beside_poison_candidates.load(Ordering::SeqCst)
    }

    fn away(&self) -> Result<(), PortError> {
        let away = self
            .0
            .store_away
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            });
        if away.is_ok() {
            Err(PortError("the store is away".to_owned()))
        } else {
            Ok(())
        }
    }

    async fn act_on(&self, job: &Job) -> Result<Handled, Failure> {
        let id = job.event.id.clone();
        let act = self
            .0
            .acts
            .lock()
            .unwrap()
            .get(&id)
            .cloned()
            .unwrap_or(Act::Apply);
        let attempt = job.delivery.metadata.attempt;
        {
            let mut seen = self.seen();
            seen.handled.push((id.clone(), attempt));
            seen.histories
                .insert(id.clone(), job.delivery.metadata.history.clone());
        }
        let applied = Ok(Handled::Done(Done(AckReason::Applied)));
        match act {
            Act::Apply => applied,
            Act::FailOnce if attempt > 1 => applied,
            Act::FailOnce => Err(Failure::transient(DeadClass::Unavailable, "503")),
            Act::Refuse => Err(Failure::permanent(DeadClass::Refused, "no such tax number")),
            Act::Panic => panic!("a bug in the handler"),
            Act::Block(cause) => Err(Failure::blocked(cause, Some(1), "401")),
            Act::Stay => {
                self.0.release.notified().await;
                applied
            }
            Act::Hang => std::future::pending().await,
        }
    }
}

/// Counts what runs, even if the handler is dropped.
struct Running<'a>(&'a Inner);

impl<'a> Running<'a> {
    fn new(inner: &'a Inner, poison_candidate: bool) -> Self {
        let now = inner.running.fetch_add(1, Ordering::SeqCst) + 1;
        inner.most_running.fetch_max(now, Ordering::SeqCst);
        if poison_candidate {
            inner
                .beside_poison_candidates
                .fetch_add(now - 1, Ordering::SeqCst);
        }
        Self(inner)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Handler for Ports {
    type Grant = i64;

    fn name(&self) -> &'static str {
        "probe"
    }

    fn consumes(&self) -> &'static [EventType] {
        &[EventType::CrmContactCreated, EventType::CrmContactUpdated]
    }

    fn target_system(&self) -> &'static str {
        "metakocka"
    }

    fn policy(&self) -> &RetryPolicy {
        &self.0.policy
    }

    fn handle<'a>(
        &'a self,
        job: &'a Job,
        _grant: i64,
        _deadline: Duration,
    ) -> BoxFuture<'a, Result<Handled, Failure>> {
        async move {
            let poison_candidate = self
                .0
                .poison_candidates
                .lock()
                .unwrap()
                .contains(&job.event.id);
            let _running = Running::new(&self.0, poison_candidate);
            self.act_on(job).await
        }
        .boxed()
    }
}

impl Claims for Ports {
    type Grant = i64;

    fn claim<'a>(
        &'a self,
        jobs: &'a [Job],
        exclusive: bool,
    ) -> BoxFuture<'a, Result<Vec<Verdict<i64>>, PortError>> {
        async move {
            let ids: Vec<String> = jobs.iter().map(|job| job.event.id.clone()).collect();
            {
                let mut seen = self.seen();
                for job in jobs {
                    seen.tokens
                        .entry(job.event.id.clone())
                        .or_default()
                        .push(job.token);
                    let connection = job.connection.as_ref().map(|connection| connection.id);
                    seen.claimed_for.insert(job.event.id.clone(), connection);
                }
                seen.claims.push((ids.clone(), exclusive));
            }
            let fails = fails_now(&self.0.failing_claims);
            let bad = ids
                .iter()
                .any(|id| self.0.bad_rows.lock().unwrap().contains(id));
            if fails || bad {
                return Err(PortError("no answer".to_owned()));
            }
            let mut open = self.0.claims_open.subscribe();
            let _ = open.wait_for(|open| *open).await;
            // As long as a round trip, so that others gather meanwhile.
            tokio::time::sleep(Duration::from_millis(2)).await;
            let poison_candidates = self.0.poison_candidates.lock().unwrap();
            let verdict = |id: &String| match poison_candidates.contains(id) && !exclusive {
                true => Verdict::Exclusive,
                false => Verdict::Granted(7),
            };
            Ok(ids.iter().map(verdict).collect())
        }
        .boxed()
    }

    fn release(&self, releases: Vec<Release>) -> BoxFuture<'_, Result<(), PortError>> {
        self.seen().released.extend(
            releases
                .into_iter()
                .map(|release| (release.token, release.last_error)),
        );
        async { Ok(()) }.boxed()
    }

    fn renew(&self, leases: Vec<Leased>) -> BoxFuture<'_, Result<(), PortError>> {
        self.seen().renewed += leases.len();
        async { Ok(()) }.boxed()
    }
}

impl Holds for Ports {
    fn hold(&self, items: Vec<HoldItem>) -> BoxFuture<'_, Result<Vec<HoldVerdict>, PortError>> {
        let mut planned = self.0.hold_verdicts.lock().unwrap();
        let verdicts = items
            .iter()
            .map(|_| planned.pop().unwrap_or(HoldVerdict::Held))
            .collect();
        self.seen().held.extend(
            items
                .into_iter()
                .map(|item| (item.job.event.id.clone(), item.cause)),
        );
        async { Ok(verdicts) }.boxed()
    }
}

impl FanOut for Ports {
    fn fan_out(&self, item: FanOutItem) -> BoxFuture<'_, Result<(), PortError>> {
        let connections = item.copies.iter().map(|copy| copy.connection);
        let fan_out = (item.job.event.id.clone(), connections.collect());
        self.seen().fan_out.push(fan_out);
        let fails = fails_now(&self.0.failing_fan_outs);
        async move {
            match fails {
                true => Err(PortError("the fan-out failed".to_owned())),
                false => Ok(()),
            }
        }
        .boxed()
    }
}

fn fails_now(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
        left.checked_sub(1)
    })
    .is_ok()
}

fn connection(tenant: &TenantId, system: &str, id: Uuid) -> Arc<Connection> {
    Arc::new(Connection {
        id,
        tenant: tenant.clone(),
        system: system.to_owned(),
        account: id.simple().to_string(),
        state: ConnectionState::Ok,
        epoch: 1,
        enabled: id != CLOSED,
        settings: serde_json::Value::Null,
    })
}

impl Connections for Ports {
    fn cached(&self, _tenant: &TenantId, _system: &str) -> Option<ConnectionAnswer> {
        None
    }

    fn resolve<'a>(
        &'a self,
        tenant: &'a TenantId,
        system: &'a str,
    ) -> BoxFuture<'a, Result<ConnectionAnswer, PortError>> {
        async move {
            self.away()?;
            self.seen().resolved += 1;
            let known = |ids: &[Uuid]| {
                let all = ids.iter().map(|id| connection(tenant, system, *id));
                ConnectionAnswer::Known(all.collect())
            };
            Ok(match tenant.as_str() {
                TENANT => known(&[Uuid::from_u128(1)]),
                CHAIN => known(&[WEST, EAST, CLOSED]),
                BARE => ConnectionAnswer::NoConnection,
                _ => ConnectionAnswer::UnknownTenant,
            })
        }
        .boxed()
    }
}

impl Pins for Ports {
    fn pin(&self, items: Vec<PinItem>) -> BoxFuture<'_, Result<Vec<SubjectVersion>, PortError>> {
        async move {
            self.away()?;
            let versions = items
                .iter()
                .map(|item| SubjectVersion::from_micros(item.received_at.timestamp_micros()));
            let versions = versions.collect();
            self.seen()
                .pinned
                .extend(items.into_iter().map(|item| item.event_id));
            Ok(versions)
        }
        .boxed()
    }

    fn check_scheme<'a>(
        &'a self,
        _tenant: &'a TenantId,
        _source: &'a str,
        _scheme: VersionScheme,
    ) -> BoxFuture<'a, Result<VersionScheme, PortError>> {
        async move { self.away().map(|()| VersionScheme::Time) }.boxed()
    }

    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}
