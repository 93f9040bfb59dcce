//! Holding and giving up: `hold_events`, `discard_held`.

use chrono::{DateTime, Utc};
use event::OrderKey;
use serde_json::json;
use sqlx::types::Json;
use uuid::Uuid;
use worker::WaitsFor;

use super::answers::verdicts;
use super::rows::hex_key;
use super::{Links, dead};
use crate::Error;

#[derive(Clone, Debug)]
pub struct HeldItem {
    pub worker: String,
    pub tenant: String,
    pub target_system: String,
    pub connection_id: Option<Uuid>,
    /// Seen before the call that found the cause; `suspended` counts only while it is still the same.
    pub epoch: Option<i64>,
    pub cause: String,
    /// Only a hand releases it: the link falls back to older content.
    pub person: bool,
    pub detail: String,
    pub kind: String,
    pub source_system: String,
    pub source_account: String,
    pub source_id: String,
    /// Absent for facts and hints: they never coalesce.
    pub k: Option<OrderKey>,
    /// A request about this link: held for its connection.
    pub link: Option<i64>,
    pub source: String,
    pub event_id: String,
    pub generation: u32,
    pub event_type: String,
    pub subject: String,
    pub body: Vec<u8>,
    pub properties: serde_json::Value,
    pub headers: serde_json::Value,
    /// Not before this; for causes that tell a time.
    pub release_at: Option<DateTime<Utc>>,
    /// What must come true, where the cause alone does not say it.
    pub waits_for: Option<WaitsFor>,
}

/// The columns that say what a row waits for: kind, system, account, id, key.
fn waits(item: &HeldItem) -> [Option<&str>; 5] {
    match &item.waits_for {
        None => [None; 5],
        Some(WaitsFor::Record {
            kind,
            source_system,
            source_account,
            source_id,
        }) => [
            Some(kind),
            Some(source_system),
            Some(source_account),
            Some(source_id),
            None,
        ],
        Some(WaitsFor::Key { kind, key }) => [Some(kind), None, None, None, Some(key)],
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldVerdict {
    Held,
    /// The cause has ended meanwhile: handle it as if just received.
    CauseGone,
    /// A newer event of the record is held or applied; this one is kept where it is needed.
    Covered,
}

pub(super) async fn hold(links: &Links, items: Vec<HeldItem>) -> Result<Vec<HeldVerdict>, Error> {
    let count = items.len();
    let rows: Vec<serde_json::Value> = items
        .iter()
        .enumerate()
        .map(|(index, item)| {
            let [waits_kind, waits_system, waits_account, waits_id, waits_key] = waits(item);
            json!({
                "idx": index, "worker": item.worker, "queue": links.queue(&item.worker), "tenant": item.tenant,
                "target_system": item.target_system, "connection_id": item.connection_id, "epoch": item.epoch,
                "cause": item.cause, "person": item.person, "detail": item.detail, "kind": item.kind,
                "source_system": item.source_system, "source_account": item.source_account, "source_id": item.source_id,
                "k": hex_key(item.k.as_ref()), "source": item.source, "event_id": item.event_id,
                "generation": item.generation, "type": item.event_type, "subject": item.subject,
                "properties": item.properties, "headers": item.headers, "link_id": item.link,
                "release_at": item.release_at, "waits_kind": waits_kind, "waits_system": waits_system,
                "waits_account": waits_account, "waits_id": waits_id, "waits_key": waits_key,
            })
        })
        .collect();
    let bodies: Vec<Vec<u8>> = items.into_iter().map(|item| item.body).collect();
    let answers: Vec<(i32, String)> =
        sqlx::query_as("select idx, verdict from hold_events($1, $2)")
            .bind(Json(rows))
            .bind(bodies)
            .fetch_all(&links.pool)
            .await?;
    verdicts(count, answers, |verdict| {
        Ok(match verdict {
            "held" => HeldVerdict::Held,
            "covered" => HeldVerdict::Covered,
            _ => HeldVerdict::CauseGone,
        })
    })
}

pub(super) async fn discard(
    links: &Links,
    tenant: &str,
    held: i64,
    actor: &str,
    note: &str,
) -> Result<bool, Error> {
    type Named = (String, String, String, i32, Option<Uuid>, Option<String>);
    let row: Option<Named> = sqlx::query_as(
        "select worker, source, event_id, generation, connection_id, facet from held where id = $1 and tenant = $2",
    )
    .bind(held)
    .bind(tenant)
    .fetch_optional(&links.pool)
    .await?;
    let Some((worker, source, event_id, generation, connection, facet)) = row else {
        return Ok(false);
    };
    let done: (bool,) = sqlx::query_as("select discard_held($1, $2, $3, $4, $5, $6, $7, $8, $9)")
        .bind(tenant)
        .bind(held)
        .bind(&source)
        .bind(&event_id)
        .bind(generation)
        .bind(dead::dead_id(
            &worker,
            tenant,
            &source,
            &event_id,
            connection,
            facet.as_deref(),
        ))
        .bind(links.queue(&worker))
        .bind(actor)
        .bind(note)
        .fetch_one(&links.pool)
        .await?;
    Ok(done.0)
}
