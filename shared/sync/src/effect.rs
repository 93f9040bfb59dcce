//! An effect: one partner call, sent and resolved.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use event::OrderKey;
use serde::{Deserialize, Serialize};
use store::links::{EffectRow, SentReference};
use uuid::Uuid;

use crate::content::{Fields, NaturalKey, Part};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    AppendPart,
    ChangePart,
    Delete,
}

impl Operation {
    pub const ALL: [Self; 5] = [
        Self::Create,
        Self::Update,
        Self::AppendPart,
        Self::ChangePart,
        Self::Delete,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::AppendPart => "append_part",
            Self::ChangePart => "change_part",
            Self::Delete => "delete",
        }
    }

    /// The row in the record's history.
    pub fn past(self) -> &'static str {
        match self {
            Self::Create => "created",
            Self::Update => "updated",
            Self::AppendPart => "part_added",
            Self::ChangePart => "part_changed",
            Self::Delete => "removed",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [
            Self::Create,
            Self::Update,
            Self::AppendPart,
            Self::ChangePart,
            Self::Delete,
        ]
        .into_iter()
        .find(|known| known.as_str() == text)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EffectState {
    Sent,
    Unknown,
    Failed,
    Confirmed,
    Abandoned,
}

impl EffectState {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "sent" => Self::Sent,
            "unknown" => Self::Unknown,
            "failed" => Self::Failed,
            "confirmed" => Self::Confirmed,
            "abandoned" => Self::Abandoned,
            _ => return None,
        })
    }
}

/// What was sent, kept so that any later owner can prove it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Fields this call carries.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: Fields,
    /// Parts this call carries: those of a create, or the one part of an append, of a change, or of an update.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    /// The part that is changed, by a change or an update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_id: Option<String>,
    /// What a create is found by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<NaturalKey>,
    /// Links whose records it names. Of an update and a create; the link remembers those of the last one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refers: Vec<SentReference>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    pub id: Uuid,
    pub source: String,
    pub event_id: String,
    pub k: Option<OrderKey>,
    pub operation: Operation,
    pub state: EffectState,
    pub last: bool,
    pub request: Request,
    /// Record it was sent to; a create has none before it is confirmed.
    pub target_id: Option<String>,
    pub sent_at: Option<DateTime<Utc>>,
    pub settle_at: Option<DateTime<Utc>>,
}

impl Effect {
    /// `None`: a row written by a build that knows more than this one.
    pub fn read(row: EffectRow) -> Option<Self> {
        Some(Self {
            id: row.id,
            source: row.source,
            event_id: row.event_id,
            k: row.k,
            operation: Operation::parse(&row.operation)?,
            state: EffectState::parse(&row.state)?,
            last: row.last,
            request: serde_json::from_value(row.request).ok()?,
            target_id: row.target_id,
            sent_at: row.sent_at,
            settle_at: row.settle_at,
        })
    }
}
