//! A decoded event: the CloudEvents envelope with everything derived, and the typed payload.

use std::fmt;

use chrono::{DateTime, Utc};

use crate::catalogue::{EventKind, EventType};
use crate::headers;
use crate::order_key::{OrderKey, SubjectVersion};
use crate::payload::Payload;

/// `[A-Za-z0-9_-]{1,64}`; part of routing keys and of every database key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(String);

impl TenantId {
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=64).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
        fits.then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a version of this source counts; pinned per (tenant, source) by the first event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionScheme {
    /// Microseconds since the epoch: may be compared with a clock (`future_version`).
    Time,
    /// A number of the source's own: only its order means something.
    Revision,
}

impl VersionScheme {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Revision => "revision",
        }
    }
}

/// The version an event came with, or derived from its `time`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub value: SubjectVersion,
    pub scheme: VersionScheme,
}

/// One event, valid against its schema. Identity is (source, id); everything else is equal in every copy.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub id: String,
    pub source: String,
    pub event_type: EventType,
    pub tenant: TenantId,
    /// `<entity>/<external id>`, for example `contact/512`.
    pub subject: String,
    pub time: Option<DateTime<Utc>>,
    /// Absent where the publisher gave neither `subjectversion` nor `time`: the edge pins the first receipt.
    pub version: Option<Version>,
    pub partition_key: String,
    pub correlation_id: String,
    pub causation_id: Option<String>,
    pub causation_depth: u32,
    pub origin_system: String,
    /// Second and third part of `urn:kurir:<tenant>:<system>:<account>`; of a stranger's source the first
    /// segment of `type`, and an account that is the source's alone.
    pub system: String,
    pub account: String,
    pub traceparent: Option<String>,
    pub payload: Payload,
}

impl Event {
    pub fn kind(&self) -> EventKind {
        self.event_type.kind()
    }

    /// What its link is found by: the record's id; of a fact its own, for what happened once is a record of its own.
    pub fn link_id(&self) -> &str {
        match self.kind() {
            EventKind::Fact => &self.id,
            _ => self.record_id(),
        }
    }

    /// The external id: what follows the first `/` of the subject.
    pub fn record_id(&self) -> &str {
        self.subject
            .split_once('/')
            .map_or(self.subject.as_str(), |(_, id)| id)
    }

    pub fn entity(&self) -> &str {
        self.subject
            .split_once('/')
            .map_or("", |(entity, _)| entity)
    }

    pub fn tombstone(&self) -> bool {
        matches!(self.kind(), EventKind::State { tombstone: true })
    }

    /// `<type>.<tenant>`: how `kurir.events` routes it.
    pub fn routing_key(&self) -> String {
        format!("{}.{}", self.event_type, self.tenant)
    }

    /// Copies of attributes that go into AMQP headers for routing and operations; the body wins over them.
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = vec![
            (headers::CE_TYPE, self.event_type.as_str().to_owned()),
            (headers::CE_SOURCE, self.source.clone()),
            (headers::CE_TENANT, self.tenant.as_str().to_owned()),
            (headers::CE_PARTITION_KEY, self.partition_key.clone()),
        ];
        if let Some(traceparent) = &self.traceparent {
            headers.push((headers::TRACEPARENT, traceparent.clone()));
        }
        headers
    }

    /// The order key of a fact: nothing but its generation tells two of them apart.
    pub fn fact_key(&self, generation: u32) -> OrderKey {
        self.order_key(&SubjectVersion::from_micros(0), generation)
    }

    /// The order key of a state event whose version is known (given, derived or pinned).
    pub fn order_key(&self, version: &SubjectVersion, generation: u32) -> OrderKey {
        OrderKey::new(version, self.tombstone(), &self.id, generation)
    }
}
