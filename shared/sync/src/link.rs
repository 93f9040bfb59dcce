//! A link as the engine reads it.

use chrono::{DateTime, Utc};
use event::OrderKey;
use store::links::{ConflictCause, LinkRow};

use crate::content::{Base, Parts};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    Pending,
    Linked,
    /// A person must decide; events of the record are held.
    Conflict,
    /// Tombstone.
    Deleted,
    /// Merged into another record: references resolve through it, content never does.
    Alias,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    pub id: i64,
    pub state: LinkState,
    pub target_id: Option<String>,
    pub desired_k: Option<OrderKey>,
    pub applied_k: Option<OrderKey>,
    pub base: Base,
    pub parts: Parts,
    pub recheck_step: i32,
    /// Target before a delete that made no partner call: a re-creation looks there first.
    pub former_target_id: Option<String>,
    /// Last time that a call of ours was confirmed for the record, or that it was adopted.
    pub written_at: Option<DateTime<Utc>>,
    /// Beginning of the first look that counts and did not show the record.
    pub missing_since: Option<DateTime<Utc>>,
    /// Kind of the conflict, while there is one.
    pub conflict: Option<ConflictCause>,
}

impl Link {
    /// `None`: a row written by a build that knows more than this one.
    pub fn read(row: LinkRow) -> Option<Self> {
        Some(Self {
            id: row.id,
            state: match row.state.as_str() {
                "pending" => LinkState::Pending,
                "linked" => LinkState::Linked,
                "conflict" => LinkState::Conflict,
                "deleted" => LinkState::Deleted,
                "alias" => LinkState::Alias,
                _ => return None,
            },
            target_id: row.target_id,
            desired_k: row.desired_k,
            applied_k: row.applied_k,
            base: serde_json::from_value(row.base).ok()?,
            parts: serde_json::from_value(row.target_parts).ok()?,
            recheck_step: row.recheck_step,
            former_target_id: row.former_target_id,
            written_at: row.written_at,
            missing_since: row.missing_since,
            conflict: row.conflict_cause.as_deref().and_then(ConflictCause::parse),
        })
    }

    pub fn covers(&self, k: &OrderKey) -> bool {
        self.applied_k.as_ref().is_some_and(|applied| k <= applied)
    }
}
