//! Rows of `link` and `effect`, as the functions give them back.

use chrono::{DateTime, Utc};
use event::OrderKey;
use serde::{Deserialize, Deserializer};
use uuid::Uuid;

/// What ties one record of a source to one connection of a target system.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkKey {
    pub tenant: String,
    pub kind: String,
    pub source_system: String,
    pub source_account: String,
    pub source_id: String,
    pub target_system: String,
    pub connection_id: Uuid,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct LinkRow {
    pub id: i64,
    pub tenant: String,
    pub kind: String,
    pub source_system: String,
    pub source_account: String,
    pub source_id: String,
    pub target_system: String,
    pub connection_id: Uuid,
    pub target_id: Option<String>,
    pub state: String,
    #[serde(deserialize_with = "key")]
    pub desired_k: Option<OrderKey>,
    #[serde(deserialize_with = "key")]
    pub applied_k: Option<OrderKey>,
    pub base: serde_json::Value,
    pub target_parts: serde_json::Value,
    pub lease_token: Option<Uuid>,
    pub lease_until: Option<DateTime<Utc>>,
    pub recheck_step: i32,
    /// Target before a delete that made no partner call.
    pub former_target_id: Option<String>,
    /// Last time that a call of ours was confirmed for the record, or that it was adopted.
    pub written_at: Option<DateTime<Utc>>,
    /// Beginning of the first look that counts and did not show the record.
    pub missing_since: Option<DateTime<Utc>>,
    /// Kind of the conflict, while there is one.
    pub conflict_cause: Option<String>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct EffectRow {
    pub id: Uuid,
    pub link_id: i64,
    pub source: String,
    pub event_id: String,
    pub generation: u32,
    #[serde(deserialize_with = "key")]
    pub k: Option<OrderKey>,
    pub operation: String,
    pub state: String,
    pub last: bool,
    pub request: serde_json::Value,
    pub target_id: Option<String>,
    pub sent_at: Option<DateTime<Utc>>,
    pub settle_at: Option<DateTime<Utc>>,
}

/// Keys travel as hexadecimal text.
fn key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<OrderKey>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| {
        let bytes = hex::decode(text).map_err(serde::de::Error::custom)?;
        OrderKey::from_bytes(bytes).ok_or_else(|| serde::de::Error::custom("not an order key"))
    })
    .transpose()
}

pub(super) fn hex_key(key: Option<&OrderKey>) -> Option<String> {
    key.map(|key| hex::encode(key.as_bytes()))
}
