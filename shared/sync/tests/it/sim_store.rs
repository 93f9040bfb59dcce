//! What a schedule needs of the store besides the ledger, and the pair that compares Postgres with the model.

use chrono::{DateTime, Utc};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use store::links::{
    ClaimItem, ClaimVerdict, Completed, Completion, DeadItem, Finish, Finished, HeldItem,
    HeldVerdict, LinkRow, Recorded, Reservation, Reserved, Resolution, Resolved,
};
use sync::Ledger;
use uuid::Uuid;

pub(crate) const WORKER: &str = "metakocka-sync";

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OutRow {
    pub(crate) body: Vec<u8>,
    pub(crate) generation: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LinkView {
    pub(crate) row: LinkRow,
    pub(crate) recheck_due: Option<DateTime<Utc>>,
    pub(crate) open: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HeldRow {
    pub(crate) event_id: String,
    pub(crate) reason: String,
    pub(crate) generation: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DeadRow {
    pub(crate) id: Uuid,
    pub(crate) event_id: String,
    pub(crate) state: String,
    pub(crate) class: String,
    pub(crate) generation: u32,
    /// Operations of it that were confirmed before it died.
    pub(crate) partly: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EffectView {
    pub(crate) event_id: String,
    pub(crate) operation: String,
    pub(crate) state: String,
    pub(crate) last: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Snapshot {
    pub(crate) links: Vec<LinkView>,
    pub(crate) held: Vec<HeldRow>,
    /// In the order they were made.
    pub(crate) effects: Vec<EffectView>,
    pub(crate) dead: Vec<DeadRow>,
    pub(crate) kept: usize,
    pub(crate) unsettled: usize,
    /// Natural key → link.
    pub(crate) keys: Vec<(String, i64)>,
}

pub(crate) trait SimStore: Ledger {
    fn set_now(&self, now: DateTime<Utc>) -> BoxFuture<'_, ()>;
    fn claim(&self, items: Vec<ClaimItem>, alone: bool) -> BoxFuture<'_, Vec<ClaimVerdict>>;
    fn renew(&self, tokens: Vec<Uuid>) -> BoxFuture<'_, ()>;
    fn record_dead_letters(&self, item: DeadItem) -> BoxFuture<'_, Recorded>;
    fn hold(&self, item: HeldItem) -> BoxFuture<'_, HeldVerdict>;
    fn take_outbox(&self) -> BoxFuture<'_, Vec<OutRow>>;
    fn due(&self) -> BoxFuture<'_, Vec<(i64, &'static str)>>;
    fn replay(&self, id: Uuid) -> BoxFuture<'_, bool>;
    fn release_held(&self, source: String, event: String) -> BoxFuture<'_, bool>;
    /// A person gives the held event up.
    fn discard(&self, event: String) -> BoxFuture<'_, bool>;
    fn snapshot(&self) -> BoxFuture<'_, Snapshot>;
}

/// Every step on both; the first difference fails the schedule.
pub(crate) struct Both<A, B> {
    pub(crate) left: A,
    pub(crate) right: B,
}

fn same<T: PartialEq + std::fmt::Debug>(step: &str, left: T, right: T) -> T {
    assert_eq!(
        left, right,
        "Postgres (left) and the model (right) differ at {step}"
    );
    left
}

fn same_answer<T: PartialEq + std::fmt::Debug>(
    step: &str,
    left: Result<T, store::Error>,
    right: Result<T, store::Error>,
) -> Result<T, store::Error> {
    let left =
        left.unwrap_or_else(|error| panic!("Postgres refused {step}: {}", error.with_causes()));
    Ok(same(step, left, right.expect("the model never fails")))
}

impl<A: SimStore, B: SimStore> Ledger for Both<A, B> {
    fn reserve(&self, item: Reservation) -> BoxFuture<'_, Result<Reserved, store::Error>> {
        async move {
            same_answer(
                "reserve",
                self.left.reserve(item.clone()).await,
                self.right.reserve(item).await,
            )
        }
        .boxed()
    }
    fn complete(&self, item: Completion) -> BoxFuture<'_, Result<Completed, store::Error>> {
        async move {
            same_answer(
                "complete",
                self.left.complete(item.clone()).await,
                self.right.complete(item).await,
            )
        }
        .boxed()
    }
    fn resolve(&self, item: Resolution) -> BoxFuture<'_, Result<Resolved, store::Error>> {
        async move {
            same_answer(
                "resolve",
                self.left.resolve(item.clone()).await,
                self.right.resolve(item).await,
            )
        }
        .boxed()
    }
    fn finish(&self, item: Finish) -> BoxFuture<'_, Result<Finished, store::Error>> {
        async move {
            same_answer(
                "finish",
                self.left.finish(item.clone()).await,
                self.right.finish(item).await,
            )
        }
        .boxed()
    }
    fn release(
        &self,
        link: i64,
        token: Uuid,
        error: Option<String>,
    ) -> BoxFuture<'_, Result<(), store::Error>> {
        async move {
            same_answer(
                "release",
                self.left.release(link, token, error.clone()).await,
                self.right.release(link, token, error).await,
            )
        }
        .boxed()
    }
}

impl<A: SimStore, B: SimStore> SimStore for Both<A, B> {
    fn set_now(&self, now: DateTime<Utc>) -> BoxFuture<'_, ()> {
        async move {
            self.left.set_now(now).await;
            self.right.set_now(now).await;
        }
        .boxed()
    }
    fn claim(&self, items: Vec<ClaimItem>, alone: bool) -> BoxFuture<'_, Vec<ClaimVerdict>> {
        async move {
            same(
                "claim",
                self.left.claim(items.clone(), alone).await,
                self.right.claim(items, alone).await,
            )
        }
        .boxed()
    }
    fn renew(&self, tokens: Vec<Uuid>) -> BoxFuture<'_, ()> {
        async move {
            self.left.renew(tokens.clone()).await;
            self.right.renew(tokens).await;
        }
        .boxed()
    }
    fn record_dead_letters(&self, item: DeadItem) -> BoxFuture<'_, Recorded> {
        async move {
            same(
                "record_dead_letters",
                self.left.record_dead_letters(item.clone()).await,
                self.right.record_dead_letters(item).await,
            )
        }
        .boxed()
    }
    fn hold(&self, item: HeldItem) -> BoxFuture<'_, HeldVerdict> {
        async move {
            same(
                "hold",
                self.left.hold(item.clone()).await,
                self.right.hold(item).await,
            )
        }
        .boxed()
    }
    fn take_outbox(&self) -> BoxFuture<'_, Vec<OutRow>> {
        async move {
            same(
                "outbox",
                self.left.take_outbox().await,
                self.right.take_outbox().await,
            )
        }
        .boxed()
    }
    fn due(&self) -> BoxFuture<'_, Vec<(i64, &'static str)>> {
        async move { same("due", self.left.due().await, self.right.due().await) }.boxed()
    }
    fn replay(&self, id: Uuid) -> BoxFuture<'_, bool> {
        async move {
            same(
                "replay",
                self.left.replay(id).await,
                self.right.replay(id).await,
            )
        }
        .boxed()
    }
    fn release_held(&self, source: String, event: String) -> BoxFuture<'_, bool> {
        async move {
            same(
                "release_held",
                self.left.release_held(source.clone(), event.clone()).await,
                self.right.release_held(source, event).await,
            )
        }
        .boxed()
    }
    fn discard(&self, event: String) -> BoxFuture<'_, bool> {
        async move {
            same(
                "discard",
                self.left.discard(event.clone()).await,
                self.right.discard(event).await,
            )
        }
        .boxed()
    }
    fn snapshot(&self) -> BoxFuture<'_, Snapshot> {
        async move {
            same(
                "snapshot",
                self.left.snapshot().await,
                self.right.snapshot().await,
            )
        }
        .boxed()
    }
}
