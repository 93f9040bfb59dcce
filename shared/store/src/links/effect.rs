//! Effects and endings: `reserve_effects`, `complete_effects`, `resolve_effect`, `finish_link`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use event::OrderKey;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::PgPool;
use sqlx::types::Json;
use uuid::Uuid;

use super::Links;
use super::answers::in_order;
use super::conflict::ConflictCause;
use super::derived::Derived;
use super::reference::SentReference;
use super::rows::{EffectRow, LinkRow, hex_key};
use crate::Error;

/// An effect about to be sent.
#[derive(Clone, Debug)]
pub struct Reservation {
    pub effect: Uuid,
    pub link: i64,
    pub token: Uuid,
    pub source: String,
    pub event_id: String,
    pub generation: u32,
    /// Absent for what a re-check writes: it moves target and base only.
    pub k: Option<OrderKey>,
    pub operation: &'static str,
    /// The only call left: confirming it raises `applied_k`.
    pub last: bool,
    pub request: Value,
    pub target_id: Option<String>,
    /// From `sent` until an absent look-up is believed.
    pub settle: Duration,
    /// What the request names: sent only while each of these links has this target.
    pub refers: Vec<SentReference>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Reserved {
    /// Written as sent.
    Yes(Box<EffectRow>),
    /// The lease is somebody else's.
    Lost,
    /// The link has an open effect: resolve again.
    Open,
    /// A link that the request names has another target by now: plan anew.
    Moved,
}

#[derive(Clone, Debug)]
pub struct Completion {
    pub effect: Uuid,
    pub link: i64,
    pub token: Uuid,
    pub target_id: Option<String>,
    pub base: Value,
    pub parts: Value,
    /// The record's natural keys after this event: others of the link are freed. `None`: leave them.
    pub natural_keys: Option<Vec<String>>,
    /// `created`, `updated` …: the row in the record's history.
    pub what: String,
    pub note: Value,
    /// Somebody else's effect, proven by a look-up: our own event goes on under the lease.
    pub keep_lease: bool,
    /// The partner answered this call; else a look-up proves it. Only a late answer says that two calls may have happened.
    pub answered: bool,
    /// Written with it, where it is the last of an event.
    pub outcome: Option<Derived>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Completed {
    /// Confirmed, and the event with it: the link has its content and is given back.
    Ended,
    /// Confirmed; the event goes on, or the link is in conflict now.
    Confirmed(Box<LinkSnapshot>),
    /// Somebody else resolved the effect; that is not the end of the event.
    Elsewhere(Box<LinkSnapshot>),
}

/// A link as a statement left it.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct LinkSnapshot {
    pub link: LinkRow,
    pub open: Option<EffectRow>,
}

#[derive(Clone, Debug)]
pub enum Resolution {
    /// Provably not sent, or an answer on the client's list "nothing stored".
    Failed {
        effect: Uuid,
        link: i64,
        outcome: String,
        recheck: Option<Duration>,
    },
    Unknown {
        effect: Uuid,
        link: i64,
        outcome: String,
    },
    /// A look-up that began at `begun` says absent; refused before the settle time.
    Abandoned {
        effect: Uuid,
        link: i64,
        begun: DateTime<Utc>,
        recheck: Duration,
    },
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Resolved {
    /// False: the guard failed, somebody else moved it.
    pub moved: bool,
    pub link: LinkRow,
    pub open: Option<EffectRow>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The record holds this content already.
    Unchanged,
    /// Tombstone: target and keys are given up, the old id stays in the history.
    Deleted,
    /// A record of the partner becomes the target; keeps the lease.
    Adopted,
    /// Parts learned from a read; keeps the lease.
    Noted,
    /// A look does not show the record; keeps the lease.
    Missed,
    /// A look shows the record again; keeps the lease.
    Seen,
    Conflict,
    /// A request's end: nothing open is left, or it must wait.
    Resolved,
    Rechecked,
}

impl End {
    pub const ALL: [Self; 9] = [
        Self::Unchanged,
        Self::Deleted,
        Self::Adopted,
        Self::Noted,
        Self::Missed,
        Self::Seen,
        Self::Conflict,
        Self::Resolved,
        Self::Rechecked,
    ];

    /// Its name in statements and, but for `Noted` and `Resolved`, in the record's history.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Deleted => "deleted",
            Self::Adopted => "adopted",
            Self::Noted => "noted",
            Self::Missed => "missed",
            Self::Seen => "seen",
            Self::Conflict => "conflict",
            Self::Resolved => "resolved",
            Self::Rechecked => "rechecked",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Finish {
    pub link: i64,
    pub token: Uuid,
    pub end: End,
    pub k: Option<OrderKey>,
    pub source: String,
    pub event_id: String,
    pub generation: u32,
    pub target_id: Option<String>,
    pub base: Value,
    pub parts: Value,
    pub natural_keys: Option<Vec<String>>,
    pub note: Value,
    /// Adopting and conflicts may stand beside an effect that is still open.
    pub despite_open: bool,
    /// When to look once more, and which look that will be.
    pub recheck: Option<Duration>,
    pub recheck_step: i32,
    /// Of a conflict.
    pub cause: Option<ConflictCause>,
    /// Of the looks that this concludes from: the claim's time.
    pub begun: DateTime<Utc>,
    /// Written with an ending.
    pub outcome: Option<Derived>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Finished {
    /// True: the guard failed, nothing was changed.
    pub guarded: bool,
    /// The target belongs to this other link.
    pub taken: Option<i64>,
    pub link: LinkRow,
    pub open: Option<EffectRow>,
}

/// As `reserve_effects` reads it.
#[derive(Serialize)]
struct ReserveRow<'a> {
    idx: usize,
    effect: Uuid,
    link: i64,
    token: Uuid,
    source: &'a str,
    event_id: &'a str,
    generation: u32,
    k: Option<String>,
    operation: &'static str,
    last: bool,
    request: &'a Value,
    target_id: Option<&'a str>,
    settle_ms: i64,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    refs: &'a [SentReference],
}

pub(super) async fn reserve(pool: PgPool, items: Vec<Reservation>) -> Result<Vec<Reserved>, Error> {
    let rows: Vec<ReserveRow<'_>> = items
        .iter()
        .enumerate()
        .map(|(idx, item)| ReserveRow {
            idx,
            effect: item.effect,
            link: item.link,
            token: item.token,
            source: &item.source,
            event_id: &item.event_id,
            generation: item.generation,
            k: hex_key(item.k.as_ref()),
            operation: item.operation,
            last: item.last,
            request: &item.request,
            target_id: item.target_id.as_deref(),
            settle_ms: millis(item.settle),
            refs: &item.refers,
        })
        .collect();
    type Time = Option<DateTime<Utc>>;
    let answers: Vec<(i32, String, Time, Time)> =
        sqlx::query_as("select idx, verdict, sent_at, settle_at from reserve_effects($1)")
            .bind(Json(rows))
            .fetch_all(&pool)
            .await?;
    let answers = answers
        .into_iter()
        .map(|(idx, verdict, sent_at, settle_at)| (idx, verdict, (sent_at, settle_at)));
    let verdicts = in_order(items.len(), answers, |verdict, times| {
        Ok((verdict.to_owned(), times))
    })?;
    Ok(items
        .into_iter()
        .zip(verdicts)
        .map(
            |(item, (verdict, (sent_at, settle_at)))| match verdict.as_str() {
                "sent" => Reserved::Yes(Box::new(EffectRow {
                    id: item.effect,
                    link_id: item.link,
                    source: item.source,
                    event_id: item.event_id,
                    generation: item.generation,
                    k: item.k,
                    operation: item.operation.to_owned(),
                    state: verdict,
                    last: item.last,
                    request: item.request,
                    target_id: item.target_id,
                    sent_at,
                    settle_at,
                })),
                "open" => Reserved::Open,
                "moved" => Reserved::Moved,
                _ => Reserved::Lost,
            },
        )
        .collect())
}

/// As `complete_effects` reads it.
#[derive(Serialize)]
struct CompleteRow<'a> {
    idx: usize,
    effect: Uuid,
    link: i64,
    token: Uuid,
    target_id: Option<&'a str>,
    base: &'a Value,
    parts: &'a Value,
    keys: Option<&'a [String]>,
    what: &'a str,
    note: &'a Value,
    keep_lease: bool,
    answered: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'a Derived>,
}

pub(super) async fn complete(
    pool: PgPool,
    outcomes: String,
    items: Vec<Completion>,
) -> Result<Vec<Completed>, Error> {
    let rows: Vec<CompleteRow<'_>> = items
        .iter()
        .enumerate()
        .map(|(idx, item)| CompleteRow {
            idx,
            effect: item.effect,
            link: item.link,
            token: item.token,
            target_id: item.target_id.as_deref(),
            base: &item.base,
            parts: &item.parts,
            keys: item.natural_keys.as_deref(),
            what: &item.what,
            note: &item.note,
            keep_lease: item.keep_lease,
            answered: item.answered,
            outcome: item.outcome.as_ref(),
        })
        .collect();
    type Now = Option<Json<Box<LinkSnapshot>>>;
    let answers: Vec<(i32, String, Now)> =
        sqlx::query_as("select idx, verdict, detail from complete_effects($1, $2)")
            .bind(Json(rows))
            .bind(outcomes)
            .fetch_all(&pool)
            .await?;
    in_order(items.len(), answers, |verdict, snapshot: Now| {
        match (verdict, snapshot) {
            ("ended", None) => Ok(Completed::Ended),
            ("confirmed", Some(Json(snapshot))) => Ok(Completed::Confirmed(snapshot)),
            ("elsewhere", Some(Json(snapshot))) => Ok(Completed::Elsewhere(snapshot)),
            _ => Err(Error::Unreadable(format!(
                "a completion answered with {verdict}"
            ))),
        }
    })
}

pub(super) async fn resolve(pool: &PgPool, item: Resolution) -> Result<Resolved, Error> {
    let (effect, link, to, begun, outcome, recheck) = match item {
        Resolution::Failed {
            effect,
            link,
            outcome,
            recheck,
        } => (effect, link, "failed", None, Some(outcome), recheck),
        Resolution::Unknown {
            effect,
            link,
            outcome,
        } => (effect, link, "unknown", None, Some(outcome), None),
        Resolution::Abandoned {
            effect,
            link,
            begun,
            recheck,
        } => (effect, link, "abandoned", Some(begun), None, Some(recheck)),
    };
    let row: (Json<Resolved>,) = sqlx::query_as("select resolve_effect($1, $2, $3, $4, $5, $6)")
        .bind(effect)
        .bind(link)
        .bind(to)
        .bind(begun)
        .bind(outcome)
        .bind(recheck.map(millis))
        .fetch_one(pool)
        .await?;
    Ok(row.0.0)
}

pub(super) async fn finish(links: &Links, item: Finish) -> Result<Finished, Error> {
    let row: (Json<Finished>,) = sqlx::query_as(
        "select finish_link($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)",
    )
    .bind(item.link)
    .bind(item.token)
    .bind(item.end.as_str())
    .bind(item.k.as_ref().map(OrderKey::as_bytes))
    .bind(item.source)
    .bind(item.event_id)
    .bind(i32::try_from(item.generation).unwrap_or(i32::MAX))
    .bind(item.target_id)
    .bind(Json(item.base))
    .bind(Json(item.parts))
    .bind(item.natural_keys.map(Json))
    .bind(Json(item.note))
    .bind(item.despite_open)
    .bind(item.recheck.map(millis))
    .bind(item.recheck_step)
    .bind(item.cause.map(ConflictCause::as_str))
    .bind(item.begun)
    .bind(item.outcome.as_ref().map(Json))
    .bind(links.outcomes())
    .fetch_one(&links.pool)
    .await?;
    Ok(row.0.0)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
