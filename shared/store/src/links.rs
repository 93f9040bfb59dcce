//! The link engine's rows, and the calls of its SQL functions (migrations/functions). What a step means is decided in the
//! functions, after their locks, and in crate `sync`; this module only carries values to and fro.

mod answers;
mod batch;
mod claim;
mod conflict;
mod dead;
mod derived;
mod effect;
mod hold;
mod reference;
mod rows;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::Error;
use batch::Batcher;

pub use claim::{ClaimItem, ClaimVerdict, Granted, KeyTaken};
pub use conflict::ConflictCause;
pub use dead::{DeadItem, Recorded, dead_id};
pub use derived::Derived;
pub use effect::{
    Completed, Completion, End, Finish, Finished, LinkSnapshot, Reservation, Reserved, Resolution,
    Resolved,
};
pub use hold::{HeldItem, HeldVerdict};
pub use reference::{FoundReference, Reference, SentReference};
pub use rows::{EffectRow, LinkKey, LinkRow};

/// Most rows of one statement. Beyond 16 to 32 a batch gains little and holds its locks longer.
pub const BATCH_LIMIT: usize = 32;

/// Reserve and complete calls that wait for a batch; a caller beyond it waits for room.
const QUEUE_LIMIT: usize = 256;

/// The functions of migrations/functions on one pool. Cheap to clone.
#[derive(Clone)]
pub struct Links {
    pool: PgPool,
    /// Prefix of the worker's queue names: the fall-back goes straight to `<prefix>.<worker>`.
    prefix: Arc<str>,
    lease: Duration,
    reserve: Batcher<Reservation, Reserved>,
    complete: Batcher<Completion, Completed>,
}

impl Links {
    /// Must be called inside a tokio runtime: a small task each gathers the reservations and the completions that wait.
    pub fn new(pool: PgPool, prefix: &str, lease: Duration) -> Self {
        let (reserving, completing) = (pool.clone(), pool.clone());
        let outcomes = format!("{prefix}.outcomes");
        Self {
            reserve: Batcher::start(BATCH_LIMIT, QUEUE_LIMIT, move |items| {
                effect::reserve(reserving.clone(), items)
            }),
            complete: Batcher::start(BATCH_LIMIT, QUEUE_LIMIT, move |items| {
                effect::complete(completing.clone(), outcomes.clone(), items)
            }),
            pool,
            prefix: prefix.into(),
            lease,
        }
    }

    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// The exchange of what became of records.
    pub fn outcomes(&self) -> String {
        format!("{}.outcomes", self.prefix)
    }

    pub fn queue(&self, worker: &str) -> String {
        format!("{}.{worker}", self.prefix)
    }

    /// One verdict per item, in the items' order. All or nothing: an error decided nothing.
    pub async fn claim(
        &self,
        worker: &str,
        items: Vec<ClaimItem>,
        alone: bool,
    ) -> Result<Vec<ClaimVerdict>, Error> {
        claim::claim(self, worker, items, alone).await
    }

    /// The effect row before its call; batched with what else waits.
    pub async fn reserve(&self, item: Reservation) -> Result<Reserved, Error> {
        self.reserve.call(item).await
    }

    /// A clear answer, or a look-up that proves it: the effect is confirmed and the link moves by its share.
    pub async fn complete(&self, item: Completion) -> Result<Completed, Error> {
        self.complete.call(item).await
    }

    pub async fn resolve(&self, item: Resolution) -> Result<Resolved, Error> {
        effect::resolve(&self.pool, item).await
    }

    /// An ending without a call, or what a look taught; guarded by the token and "no open effect".
    pub async fn finish(&self, item: Finish) -> Result<Finished, Error> {
        effect::finish(self, item).await
    }

    /// Leases and claims come back, by token. The second time changes nothing. Of a token without its link the whole table is
    /// searched.
    pub async fn release(
        &self,
        tokens: &[Uuid],
        links: &[Option<i64>],
        errors: &[Option<String>],
    ) -> Result<(), Error> {
        let errors = errors.iter().map(|error| json!(error));
        sqlx::query("select release_links($1)")
            .bind(leases(tokens, links, errors))
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Prolongs the leases that are still ours; answers how many. Of a token without its link the whole table is searched.
    pub async fn renew(&self, tokens: &[Uuid], links: &[Option<i64>]) -> Result<i32, Error> {
        let errors = tokens.iter().map(|_| json!(null));
        let count: (i32,) = sqlx::query_as("select renew_links($1, $2)")
            .bind(leases(tokens, links, errors))
            .bind(self.lease)
            .fetch_one(&self.pool)
            .await?;
        Ok(count.0)
    }

    /// The ledger's transaction: dead copies with their links. One answer per item, in order.
    pub async fn record_dead_letters(&self, items: Vec<DeadItem>) -> Result<Vec<Recorded>, Error> {
        dead::record_dead_letters(self, items).await
    }

    /// One verdict per item, in order.
    pub async fn hold(&self, items: Vec<HeldItem>) -> Result<Vec<HeldVerdict>, Error> {
        hold::hold(self, items).await
    }

    /// A person gives a held event up; older content of its record comes back. False: no such row (any more).
    pub async fn discard(
        &self,
        tenant: &str,
        held: i64,
        actor: &str,
        note: &str,
    ) -> Result<bool, Error> {
        hold::discard(self, tenant, held, actor, note).await
    }
}

/// Items as `lease_item` has them.
fn leases(tokens: &[Uuid], links: &[Option<i64>], errors: impl Iterator<Item = Value>) -> Value {
    let items = tokens.iter().zip(links).zip(errors);
    items
        .map(|((token, link), error)| json!({ "token": token, "link": link, "error": error }))
        .collect()
}
