//! Claims of a batch: `claim_links`.

use chrono::{DateTime, Utc};
use event::OrderKey;
use serde::Deserialize;
use serde_json::json;
use sqlx::types::Json;
use std::time::Duration;
use uuid::Uuid;

use super::rows::{EffectRow, LinkKey, LinkRow, hex_key};
use super::{Links, dead};
use crate::Error;

/// One event, or one request of ours, that wants its link.
#[derive(Clone, Debug)]
pub struct ClaimItem {
    /// What the link is found by: an event's record, or the id that a request names.
    pub link: Result<LinkKey, i64>,
    pub tenant: String,
    /// Absent for a request: it raises nothing and is never a duplicate.
    pub k: Option<OrderKey>,
    pub source: String,
    pub event_id: String,
    pub generation: u32,
    /// New for every delivery.
    pub token: Uuid,
    pub natural_keys: Vec<String>,
    pub event_type: String,
    pub subject: String,
    pub body: Vec<u8>,
    pub properties: serde_json::Value,
    pub headers: serde_json::Value,
    /// A request's claims count under this name: its event id holds the due time and is ever new.
    pub claim_as: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Granted {
    pub link: LinkRow,
    pub open: Option<EffectRow>,
    /// The database's clock at the claim: any look-up of this handling began at or after it.
    pub now: DateTime<Utc>,
    pub keys_taken: Vec<KeyTaken>,
    /// For requests: the link's natural keys and its effects that were given up or refused in the last two days.
    pub natural_keys: Vec<String>,
    pub given_up: Vec<EffectRow>,
}

/// A natural key of this record belongs to another record's link.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct KeyTaken {
    pub key: String,
    pub link: i64,
    pub record: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ClaimVerdict {
    Granted(Box<Granted>),
    Duplicate,
    /// Older than what the link wants; its envelope is kept.
    Superseded,
    /// A later generation exists, the ledger has it, or the request is pointless now.
    Stale,
    AlreadyHeld,
    /// Three claims never came back: held as poison, committed.
    Held,
    Busy {
        left: Duration,
    },
    Alone,
    Conflict {
        reason: Option<String>,
    },
}

pub(super) async fn claim(
    links: &Links,
    worker: &str,
    items: Vec<ClaimItem>,
    alone: bool,
) -> Result<Vec<ClaimVerdict>, Error> {
    let count = items.len();
    let rows: Vec<_> = items
        .iter()
        .enumerate()
        .map(|(index, item)| row(worker, index, item))
        .collect();
    let bodies: Vec<Vec<u8>> = items.into_iter().map(|item| item.body).collect();
    let answers: Vec<(i32, String, Json<serde_json::Value>)> =
        sqlx::query_as("select idx, verdict, detail from claim_links($1, $2, $3, $4, $5, $6)")
            .bind(worker)
            .bind(links.queue(worker))
            .bind(Json(rows))
            .bind(bodies)
            .bind(links.lease)
            .bind(alone)
            .fetch_all(&links.pool)
            .await?;
    let mut verdicts: Vec<Option<ClaimVerdict>> = vec![None; count];
    for (index, verdict, Json(detail)) in answers {
        let slot = usize::try_from(index)
            .ok()
            .and_then(|index| verdicts.get_mut(index));
        let slot = slot.ok_or_else(|| {
            Error::Unreadable(format!("claim answered for item {index} of {count}"))
        })?;
        if verdict == "key_taken" {
            if let Some(ClaimVerdict::Granted(granted)) = slot {
                granted
                    .keys_taken
                    .push(serde_json::from_value(detail).map_err(unreadable)?);
            }
        } else {
            *slot = Some(read(&verdict, detail)?);
        }
    }
    verdicts
        .into_iter()
        .map(|verdict| {
            verdict.ok_or_else(|| Error::Unreadable("claim left an item unanswered".to_owned()))
        })
        .collect()
}

fn row(worker: &str, index: usize, item: &ClaimItem) -> serde_json::Value {
    let (key, link_id) = match &item.link {
        Ok(key) => (Some(key), None),
        Err(id) => (None, Some(*id)),
    };
    json!({
        "idx": index, "link_id": link_id, "tenant": item.tenant,
        "kind": key.map(|key| &key.kind), "source_system": key.map(|key| &key.source_system),
        "source_account": key.map(|key| &key.source_account), "source_id": key.map(|key| &key.source_id),
        "target_system": key.map(|key| &key.target_system), "connection_id": key.map(|key| key.connection_id),
        "k": hex_key(item.k.as_ref()), "source": item.source, "event_id": item.event_id, "generation": item.generation,
        "token": item.token,
        "dead_id": dead::dead_id(worker, &item.source, &item.event_id, key.map(|key| key.connection_id)),
        "keys": item.natural_keys, "type": item.event_type, "subject": item.subject,
        "properties": item.properties, "headers": item.headers, "claim_as": item.claim_as,
    })
}

fn read(verdict: &str, detail: serde_json::Value) -> Result<ClaimVerdict, Error> {
    #[derive(Deserialize)]
    struct Detail {
        link: Option<LinkRow>,
        open: Option<EffectRow>,
        now: Option<DateTime<Utc>>,
        #[serde(default)]
        keys: Vec<String>,
        #[serde(default)]
        abandoned: Vec<EffectRow>,
        left_ms: Option<u64>,
        reason: Option<String>,
    }
    let detail: Detail = serde_json::from_value(detail).map_err(unreadable)?;
    Ok(match verdict {
        "granted" => {
            let (Some(link), Some(now)) = (detail.link, detail.now) else {
                return Err(Error::Unreadable(
                    "a granted claim without its link".to_owned(),
                ));
            };
            ClaimVerdict::Granted(Box::new(Granted {
                link,
                open: detail.open,
                now,
                keys_taken: Vec::new(),
                natural_keys: detail.keys,
                given_up: detail.abandoned,
            }))
        }
        "duplicate" => ClaimVerdict::Duplicate,
        "superseded" => ClaimVerdict::Superseded,
        "stale" => ClaimVerdict::Stale,
        "already_held" => ClaimVerdict::AlreadyHeld,
        "held" => ClaimVerdict::Held,
        "busy" => ClaimVerdict::Busy {
            left: Duration::from_millis(detail.left_ms.unwrap_or_default()),
        },
        "alone" => ClaimVerdict::Alone,
        "conflict" => ClaimVerdict::Conflict {
            reason: detail.reason,
        },
        other => {
            return Err(Error::Unreadable(format!(
                "unknown verdict of a claim: {other}"
            )));
        }
    })
}

pub(super) fn unreadable(error: serde_json::Error) -> Error {
    Error::Unreadable(error.to_string())
}
