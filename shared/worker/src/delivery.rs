//! What a delivery carries besides its event: the counters and history of its way through the queues.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use event::{Event, EventKind, SubjectVersion};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::connection::Connection;

/// One failed attempt or wait, kept in the `x-history` header (the last 10).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    pub at: DateTime<Utc>,
    pub class: String,
    /// What was said, bounded and redacted; shown to whoever repairs the dead letter.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub code: String,
    pub ms: u64,
}

/// Our own headers, read. Believed only on deliveries from the default exchange; else all defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct DeliveryMetadata {
    /// 1 at first; +1 per counted failure.
    pub attempt: u32,
    /// Returns that were no failure.
    pub waits: u32,
    pub due: Option<DateTime<Utc>>,
    pub first_received: Option<DateTime<Utc>>,
    /// 0 for the first publication; each replay or edit is the next one.
    pub generation: u32,
    pub replay: Option<String>,
    /// The connection that this copy is for, once the gate has found that out (several per tenant and system are possible).
    pub connection: Option<Uuid>,
    /// The facet that this copy is for, once the gate has found that out.
    pub facet: Option<String>,
    pub permit_until: Option<DateTime<Utc>>,
    pub history: Vec<Attempt>,
}

impl Default for DeliveryMetadata {
    fn default() -> Self {
        Self {
            attempt: 1,
            waits: 0,
            due: None,
            first_received: None,
            generation: 0,
            replay: None,
            connection: None,
            facet: None,
            permit_until: None,
            history: Vec::new(),
        }
    }
}

impl DeliveryMetadata {
    pub const HISTORY_LIMIT: usize = 10;
}

/// A delivery as it came, without its channel: enough to write it again elsewhere.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub body: Bytes,
    pub metadata: DeliveryMetadata,
    /// Properties and headers from the allow-list (docs/decisions), as JSON for rows and as they were for copies.
    pub properties: serde_json::Value,
    pub headers: serde_json::Value,
    pub received: Instant,
    pub received_at: DateTime<Utc>,
}

/// A decoded delivery on its way to a handler. `token` is new per delivery: a redelivery to the same process is a
/// stranger.
#[derive(Clone, Debug)]
pub struct Job {
    pub delivery: Arc<Delivery>,
    pub event: Arc<Event>,
    pub token: Uuid,
    /// Resolved before the gate; absent for requests that name a link.
    pub connection: Option<Arc<Connection>>,
    /// What of the event this is about, where that is not its entity; resolved before the gate.
    pub facet: Option<&'static str>,
    /// The event's own version, or the pinned one.
    pub version: Option<SubjectVersion>,
}

impl Job {
    pub fn generation(&self) -> u32 {
        self.delivery.metadata.generation
    }

    /// Of the link: the facet, or the entity.
    pub fn link_kind(&self) -> &str {
        self.facet.unwrap_or_else(|| self.event.entity())
    }

    /// The order key of a state event, once its version is known; of a fact, which never changes, at once.
    pub fn order_key(&self) -> Option<event::OrderKey> {
        if self.event.kind() == EventKind::Fact {
            return Some(self.event.fact_key(self.generation()));
        }
        self.version
            .as_ref()
            .map(|version| self.event.order_key(version, self.generation()))
    }
}
