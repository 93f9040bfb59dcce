//! The ledger's transaction: `record_dead_letters`.

use chrono::{DateTime, Utc};
use event::{OrderKey, derived_id};
use serde_json::json;
use sqlx::types::Json;
use uuid::Uuid;

use super::Links;
use super::answers::verdicts;
use super::derived::Derived;
use super::rows::hex_key;
use crate::Error;

/// The row of one event of a tenant at one worker, connection and facet (none: its entity): every copy and generation of it meets there. Two tenants
/// may have one source, and count their events alike in it.
pub fn dead_id(
    worker: &str,
    tenant: &str,
    source: &str,
    event_id: &str,
    connection: Option<Uuid>,
    facet: Option<&str>,
) -> Uuid {
    let connection = connection.map(|id| id.to_string()).unwrap_or_default();
    let mut parts = vec!["dead letter", worker, tenant, source, event_id, &connection];
    parts.extend(facet);
    derived_id(&parts)
}

/// A dead copy, decoded as far as it can be. What cannot be decoded has no tenant, source or key.
#[derive(Clone, Debug)]
pub struct DeadItem {
    pub dead_id: Uuid,
    pub worker: String,
    pub target_system: String,
    pub tenant: Option<String>,
    pub connection_id: Option<Uuid>,
    /// From the `x-link` header; without it the link is found by the envelope.
    pub link_id: Option<i64>,
    pub kind: Option<String>,
    pub source_system: Option<String>,
    pub source_account: Option<String>,
    pub source_id: Option<String>,
    pub k: Option<OrderKey>,
    pub source: Option<String>,
    pub event_id: Option<String>,
    pub event_type: Option<String>,
    pub subject: Option<String>,
    pub generation: u32,
    pub attempt: u32,
    pub class: String,
    pub fingerprint: String,
    pub message: Option<String>,
    pub trace_id: Option<String>,
    pub at: DateTime<Utc>,
    pub body: Vec<u8>,
    pub properties: serde_json::Value,
    pub headers: serde_json::Value,
    /// Written with it.
    pub outcome: Option<Derived>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// A row is open now.
    Open,
    /// This very copy was committed before: nothing changed.
    Repeat,
    /// A later generation, or a decision made after this death, counts: one history row.
    History,
    /// Its content had been applied meanwhile: nothing is open.
    Applied,
}

pub(super) async fn record_dead_letters(
    links: &Links,
    items: Vec<DeadItem>,
) -> Result<Vec<Recorded>, Error> {
    let count = items.len();
    let rows: Vec<serde_json::Value> = items
        .iter()
        .enumerate()
        .map(|(index, item)| {
            json!({
                "idx": index, "dead_id": item.dead_id, "worker": item.worker, "queue": links.queue(&item.worker),
                "tenant": item.tenant, "connection_id": item.connection_id, "link_id": item.link_id, "kind": item.kind,
                "source_system": item.source_system, "source_account": item.source_account, "source_id": item.source_id,
                "target_system": item.target_system, "k": hex_key(item.k.as_ref()), "source": item.source,
                "event_id": item.event_id, "type": item.event_type, "subject": item.subject, "generation": item.generation,
                "attempt": item.attempt, "class": item.class, "fingerprint": item.fingerprint, "message": item.message,
                "trace_id": item.trace_id, "at": item.at, "properties": item.properties, "headers": item.headers,
                "outcome": item.outcome,
            })
        })
        .collect();
    let bodies: Vec<Vec<u8>> = items.into_iter().map(|item| item.body).collect();
    let answers: Vec<(i32, String)> =
        sqlx::query_as("select idx, verdict from record_dead_letters($1, $2, $3)")
            .bind(Json(rows))
            .bind(bodies)
            .bind(links.outcomes())
            .fetch_all(&links.pool)
            .await?;
    verdicts(count, answers, |verdict| {
        Ok(match verdict {
            "recorded" => Recorded::Open,
            "repeat" => Recorded::Repeat,
            "applied" => Recorded::Applied,
            _ => Recorded::History,
        })
    })
}
