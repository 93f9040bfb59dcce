//! What the consumer loop asks of the store, in batches. Implemented by `sync` and `store`.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use event::{SubjectVersion, TenantId};
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use uuid::Uuid;

use crate::budget::PermitPool;
use crate::connection::{Connection, ConnectionAnswer};
use crate::delivery::Job;
use crate::outcome::{AckReason, HoldCause, WaitsFor};

/// The store could not answer: nothing is decided, the delivery stays unacked and the step is repeated.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PortError(pub String);

/// Connections by tenant and system. `cached` never waits; `resolve` asks the store and answers nothing older than the
/// call.
pub trait Connections: Send + Sync + 'static {
    fn cached(&self, tenant: &TenantId, system: &str) -> Option<ConnectionAnswer>;
    fn resolve<'a>(
        &'a self,
        tenant: &'a TenantId,
        system: &'a str,
    ) -> BoxFuture<'a, Result<ConnectionAnswer, PortError>>;
}

/// The permits of connections. Never waits: what is lacking is asked for in the background.
pub trait Budgets: Send + Sync + 'static {
    /// The same one for the same connection, with its settings as given.
    fn permit_pool(&self, connection: &Connection) -> Arc<PermitPool>;

    /// Changes whenever an event that waits in memory may be admitted.
    fn moved(&self) -> watch::Receiver<u64>;
}

/// The verdict of a claim.
#[derive(Debug)]
pub enum Verdict<G> {
    /// The lease is ours.
    Granted(G),
    /// Nothing to do, already committed as such.
    Ack(AckReason),
    /// Another worker has the link; `left` until its lease ends.
    Busy { left: Duration },
    /// Two claims of this event never came back: only alone in its process.
    Exclusive,
    /// The event cannot be claimed: its link waits for a person.
    Hold {
        cause: HoldCause,
        reason: String,
        waits_for: Option<WaitsFor>,
    },
    /// The event can never be claimed; decided before the link was touched.
    Dead {
        class: crate::DeadClass,
        reason: String,
    },
}

/// Gives back a lease and the claim, by token.
#[derive(Clone, Debug, PartialEq)]
pub struct Release {
    pub token: Uuid,
    /// Of the grant, where it is known: finds the lease without a search.
    pub link: Option<i64>,
    pub last_error: Option<String>,
}

/// A lease that its holder still needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leased {
    pub token: Uuid,
    pub link: Option<i64>,
}

/// Claims of a batch of at most `Claims::BATCH_LIMIT` events, one database call.
pub trait Claims: Send + Sync + 'static {
    type Grant: Send + 'static;

    /// One verdict per job, in order. `exclusive`: the caller vouches that nothing else runs in this process.
    fn claim<'a>(
        &'a self,
        jobs: &'a [Job],
        exclusive: bool,
    ) -> BoxFuture<'a, Result<Vec<Verdict<Self::Grant>>, PortError>>;

    /// Returns leases whose handling ended without completing; a token that is not ours any more changes nothing.
    fn release(&self, releases: Vec<Release>) -> BoxFuture<'_, Result<(), PortError>>;

    /// Prolongs those that are still held.
    fn renew(&self, leases: Vec<Leased>) -> BoxFuture<'_, Result<(), PortError>>;
}

/// Most events of one claim statement.
pub const CLAIM_BATCH_LIMIT: usize = 32;

/// A delivery to be held.
#[derive(Clone, Debug)]
pub struct HoldItem {
    pub worker: &'static str,
    pub target_system: &'static str,
    pub job: Job,
    pub cause: HoldCause,
    /// Epoch of the connection seen before the call that found the cause.
    pub epoch: Option<i64>,
    pub reason: String,
    /// Not before this, where the cause tells a time.
    pub release_at: Option<DateTime<Utc>>,
    pub waits_for: Option<WaitsFor>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldVerdict {
    /// Committed; the delivery may be acknowledged.
    Held,
    /// The cause is gone: handle it as if just received.
    CauseGone,
    /// A newer event of its record is held already, or it is superseded or done: acknowledge.
    Covered,
}

pub trait Holds: Send + Sync + 'static {
    /// One verdict per item, in order.
    fn hold(&self, items: Vec<HoldItem>) -> BoxFuture<'_, Result<Vec<HoldVerdict>, PortError>>;
}

/// An event that several links are to get, of several connections or facets.
#[derive(Clone, Debug)]
pub struct FanOutItem {
    pub worker: &'static str,
    pub job: Job,
    pub copies: Vec<CutCopy>,
}

/// For whom one copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutCopy {
    pub connection: Uuid,
    /// None: the event's entity.
    pub facet: Option<&'static str>,
}

pub trait FanOut: Send + Sync + 'static {
    /// Commits all copies or none, each on its way to the worker's own queue, with its connection and its facet named. The second time it
    /// commits them once more: who gets the second ones finds the work done.
    fn fan_out(&self, item: FanOutItem) -> BoxFuture<'_, Result<(), PortError>>;
}

/// A state event that brought neither version nor time.
#[derive(Clone, Debug)]
pub struct PinItem {
    pub tenant: TenantId,
    pub source: String,
    pub event_id: String,
    pub received_at: DateTime<Utc>,
}

pub trait Pins: Send + Sync + 'static {
    /// The version of each item: the first receipt ever seen of (source, id), in microseconds.
    fn pin(&self, items: Vec<PinItem>) -> BoxFuture<'_, Result<Vec<SubjectVersion>, PortError>>;

    /// The version scheme of a source, pinned by its first event ever: `Some(other)` if it is another one.
    fn check_scheme<'a>(
        &'a self,
        tenant: &'a TenantId,
        source: &'a str,
        scheme: event::VersionScheme,
    ) -> BoxFuture<'a, Result<event::VersionScheme, PortError>>;

    /// The store's clock, as far as this process knows it: versions are compared with it.
    fn now(&self) -> DateTime<Utc>;
}
