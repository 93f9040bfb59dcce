//! Events that Kurir writes itself: `sync.requested.v1`, `sync.completed.v1`, `sync.failed.v1`.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use uuid::Uuid;

use crate::catalogue::EventType;
use crate::envelope::{Envelope, SOURCE_PREFIX};
use crate::event::{Event, TenantId, Version, VersionScheme};
use crate::order_key::SubjectVersion;
use crate::payload::Payload;

/// Third part of the source of every event that Kurir writes itself.
pub const OWN_SYSTEM: &str = "kurir";
/// Of a body that is one event, as Kurir publishes it.
pub const CONTENT_TYPE: &str = "application/cloudevents+json; charset=utf-8";
/// Namespace of all ids made by [`derived_id`]; never changes.
const NAMESPACE: Uuid = Uuid::from_u128(0x6b75_7269_7200_4e73_8f1d_2c4a_90b7_e35d);

/// The same parts give the same id for ever (UUIDv5), so that what is written twice is one event. Parts are kept
/// apart: `["a", "bc"]` and `["ab", "c"]` differ.
pub fn derived_id(parts: &[&str]) -> Uuid {
    let name: String = parts
        .iter()
        .map(|part| format!("{}:{part}|", part.len()))
        .collect();
    Uuid::new_v5(&NAMESPACE, name.as_bytes())
}

/// The event that an own event follows from: it stays in the same flow, one step deeper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    pub id: String,
    pub correlation_id: String,
    pub causation_depth: u32,
    pub origin_system: String,
    pub traceparent: Option<String>,
}

impl From<&Event> for Cause {
    fn from(event: &Event) -> Self {
        Self {
            id: event.id.clone(),
            correlation_id: event.correlation_id.clone(),
            causation_depth: event.causation_depth,
            origin_system: event.origin_system.clone(),
            traceparent: event.traceparent.clone(),
        }
    }
}

/// What is needed to write an own event.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// [`derived_id`] where the same event may be written twice, else a UUIDv7.
    pub id: Uuid,
    pub tenant: TenantId,
    /// Who writes it, fourth part of the source: a worker's or a role's name.
    pub account: String,
    pub time: DateTime<Utc>,
    pub event_type: EventType,
    /// Of that type.
    pub payload: Payload,
    pub cause: Option<Cause>,
}

impl Draft {
    pub fn event(self) -> Event {
        let id = self.id.to_string();
        let subject = self.payload.subject();
        let cause = self.cause.as_ref();
        Event {
            source: format!(
                "{SOURCE_PREFIX}{}:{OWN_SYSTEM}:{}",
                self.tenant, self.account
            ),
            partition_key: format!("{}:{}", self.tenant, subject.replacen('/', ":", 1)),
            version: Some(Version {
                value: SubjectVersion::from_micros(self.time.timestamp_micros()),
                scheme: VersionScheme::Time,
            }),
            correlation_id: cause.map_or_else(|| id.clone(), |cause| cause.correlation_id.clone()),
            causation_id: cause.map(|cause| cause.id.clone()),
            causation_depth: cause.map_or(0, |cause| cause.causation_depth + 1),
            origin_system: cause.map_or_else(
                || OWN_SYSTEM.to_owned(),
                |cause| cause.origin_system.clone(),
            ),
            traceparent: cause.and_then(|cause| cause.traceparent.clone()),
            system: OWN_SYSTEM.to_owned(),
            account: self.account,
            time: Some(self.time),
            tenant: self.tenant,
            event_type: self.event_type,
            payload: self.payload,
            subject,
            id,
        }
    }
}

/// The body of an own event, ready for the outbox or the broker.
pub fn compose(draft: Draft) -> Vec<u8> {
    draft.event().encode()
}

impl Event {
    /// Structured JSON with every derived attribute written down. Members of `data` that this build doesn't know are
    /// not in it: a forwarded event is its own bytes, not this.
    pub fn encode(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Structured<'a> {
            #[serde(flatten)]
            envelope: Envelope<'a>,
            data: &'a Payload,
        }
        let envelope = Envelope {
            specversion: "1.0".into(),
            id: self.id.as_str().into(),
            source: self.source.as_str().into(),
            event_type: self.event_type.as_str().into(),
            tenantid: self.tenant.as_str().into(),
            subject: Some(self.subject.as_str().into()),
            time: self
                .time
                .map(|time| time.to_rfc3339_opts(SecondsFormat::AutoSi, true).into()),
            subjectversion: self
                .version
                .as_ref()
                .map(|version| version.value.as_str().into()),
            datacontenttype: Some("application/json".into()),
            partitionkey: Some(self.partition_key.as_str().into()),
            correlationid: Some(self.correlation_id.as_str().into()),
            causationid: self.causation_id.as_deref().map(Into::into),
            causationdepth: Some(self.causation_depth),
            originsystem: Some(self.origin_system.as_str().into()),
            traceparent: self.traceparent.as_deref().map(Into::into),
        };
        serde_json::to_vec(&Structured {
            envelope,
            data: &self.payload,
        })
        .expect("an event always serialises")
    }
}
