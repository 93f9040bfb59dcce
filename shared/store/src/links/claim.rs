//! Claims of a batch: `claim_links`.

use chrono::{DateTime, Utc};
use event::OrderKey;
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use std::time::Duration;
use uuid::Uuid;

use super::reference::{FoundReference, Reference};
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
    /// What of the event it is about, where that is not its entity.
    pub facet: Option<&'static str>,
    /// A request's claims count under this name: its event id holds the due time and is ever new.
    pub claim_as: Option<String>,
    /// Digest of the content that it wants: equal ones are the same content.
    pub content: Option<String>,
    /// The links that its content names.
    pub references: Vec<Reference>,
    /// Its content is made under the lease: what an earlier call of this event carried is wanted with the grant.
    pub later: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Granted {
    pub link: LinkRow,
    pub open: Option<EffectRow>,
    /// The database's clock at the claim: any look-up of this handling began at or after it.
    pub now: DateTime<Utc>,
    pub keys_taken: Vec<KeyTaken>,
    /// For requests: the link's natural keys.
    pub natural_keys: Vec<String>,
    /// For requests, and while nothing is linked: the newest calls (at most 32) that left and were given up or refused,
    /// oldest first. Those of the last two days; creates of any age while nothing is linked.
    pub abandoned_effects: Vec<EffectRow>,
    /// Natural keys of those calls that are another link's by now.
    pub keys_of_others: Vec<String>,
    /// Of all references of the item.
    pub found_references: Vec<FoundReference>,
    /// For items whose content is made later: the newest create or update of this event, whatever became of it.
    pub earlier: Option<EffectRow>,
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
    Exclusive,
    /// A link that its content names is not usable now.
    Lacks(Reference),
    /// Another worker owns the link; nothing was changed.
    NotYours {
        owner: String,
    },
    Conflict {
        reason: Option<String>,
        /// The key that it wants and another link owns, where that is the conflict.
        key: Option<String>,
    },
}

pub(super) async fn claim(
    links: &Links,
    worker: &str,
    items: Vec<ClaimItem>,
    exclusive: bool,
) -> Result<Vec<ClaimVerdict>, Error> {
    let count = items.len();
    let rows: Vec<Row<'_>> = items
        .iter()
        .enumerate()
        .map(|(index, item)| Row::of(worker, index, item))
        .collect();
    let bodies: Vec<&[u8]> = items.iter().map(|item| item.body.as_slice()).collect();
    let answers: Vec<(i32, String, Json<Detail>)> =
        sqlx::query_as("select idx, verdict, detail from claim_links($1, $2, $3, $4, $5, $6)")
            .bind(worker)
            .bind(links.queue(worker))
            .bind(Json(rows))
            .bind(bodies)
            .bind(links.lease)
            .bind(exclusive)
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
                granted.keys_taken.extend(detail.taken);
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

/// As `claim_links` reads it.
#[derive(Serialize)]
struct Row<'a> {
    idx: usize,
    link_id: Option<i64>,
    tenant: &'a str,
    kind: Option<&'a str>,
    source_system: Option<&'a str>,
    source_account: Option<&'a str>,
    source_id: Option<&'a str>,
    target_system: Option<&'a str>,
    connection_id: Option<Uuid>,
    k: Option<String>,
    source: &'a str,
    event_id: &'a str,
    generation: u32,
    token: Uuid,
    dead_id: Uuid,
    keys: &'a [String],
    r#type: &'a str,
    subject: &'a str,
    properties: &'a serde_json::Value,
    headers: &'a serde_json::Value,
    claim_as: Option<&'a str>,
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refs: Option<&'a [Reference]>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    later: bool,
}

impl<'a> Row<'a> {
    fn of(worker: &str, idx: usize, item: &'a ClaimItem) -> Self {
        let (key, link_id) = match &item.link {
            Ok(key) => (Some(key), None),
            Err(id) => (None, Some(*id)),
        };
        let connection_id = key.map(|key| key.connection_id);
        Self {
            idx,
            link_id,
            tenant: &item.tenant,
            kind: key.map(|key| key.kind.as_str()),
            source_system: key.map(|key| key.source_system.as_str()),
            source_account: key.map(|key| key.source_account.as_str()),
            source_id: key.map(|key| key.source_id.as_str()),
            target_system: key.map(|key| key.target_system.as_str()),
            connection_id,
            k: hex_key(item.k.as_ref()),
            source: &item.source,
            event_id: &item.event_id,
            generation: item.generation,
            token: item.token,
            dead_id: dead::dead_id(
                worker,
                &item.tenant,
                &item.source,
                &item.event_id,
                connection_id,
                item.facet,
            ),
            keys: &item.natural_keys,
            r#type: &item.event_type,
            subject: &item.subject,
            properties: &item.properties,
            headers: &item.headers,
            claim_as: item.claim_as.as_deref(),
            content: item.content.as_deref(),
            refs: (!item.references.is_empty()).then_some(&item.references),
            later: item.later,
        }
    }
}

/// What `claim_links` says besides its verdict; which parts depends on that.
#[derive(Deserialize)]
struct Detail {
    link: Option<LinkRow>,
    open: Option<EffectRow>,
    now: Option<DateTime<Utc>>,
    #[serde(default)]
    keys: Vec<String>,
    #[serde(default)]
    abandoned: Vec<EffectRow>,
    #[serde(default)]
    keys_of_others: Vec<String>,
    #[serde(default)]
    found_references: Vec<FoundReference>,
    lacks: Option<Reference>,
    earlier: Option<EffectRow>,
    taken: Option<KeyTaken>,
    left_ms: Option<u64>,
    reason: Option<String>,
    key: Option<String>,
}

fn read(verdict: &str, detail: Detail) -> Result<ClaimVerdict, Error> {
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
                abandoned_effects: detail.abandoned,
                keys_of_others: detail.keys_of_others,
                found_references: detail.found_references,
                earlier: detail.earlier,
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
        "exclusive" => ClaimVerdict::Exclusive,
        "lacks" => ClaimVerdict::Lacks(detail.lacks.ok_or_else(|| {
            Error::Unreadable("a claim lacks a link and does not say which".to_owned())
        })?),
        "not_yours" => ClaimVerdict::NotYours {
            owner: detail.reason.unwrap_or_default(),
        },
        "conflict" => ClaimVerdict::Conflict {
            reason: detail.reason,
            key: detail.key,
        },
        other => {
            return Err(Error::Unreadable(format!(
                "unknown verdict of a claim: {other}"
            )));
        }
    })
}
