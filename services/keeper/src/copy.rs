//! A dead copy as far as it can be understood: whatever comes out of a dead-letter queue becomes a row, and as much of
//! its identity as is certain, so that the row meets its event's other copies, its link and its tenant.

use broker::{Death, RawDelivery};
use chrono::{DateTime, Utc};
use event::headers::{CONNECTION, DEAD_LETTER, FACET, TRACEPARENT};
use event::{Event, EventKind, Outside, Payload, SubjectVersion, TenantId, derived_id};
use sha2::{Digest as _, Sha256};
use store::links::{DeadItem, dead_id};
use uuid::Uuid;
use worker::DeadClass;

use crate::deps::Worker;

/// Longest text kept of a message.
const MESSAGE_LIMIT: usize = 1024;

/// A delivery of a dead-letter queue: its delivery metadata and note are the broker's readings, empty where not believed.
#[derive(Clone, Debug)]
pub(crate) struct DeadCopy {
    pub(crate) raw: RawDelivery,
    /// When this process saw it: stands for the time of death where nobody wrote one.
    pub(crate) seen_at: DateTime<Utc>,
}

/// Why it died, and when.
struct Cause {
    class: String,
    fingerprint: String,
    message: String,
    at: DateTime<Utc>,
}

impl DeadCopy {
    /// The event in it. Of a message that came under another tenant's key nothing is believed.
    pub(crate) fn event(&self) -> Option<Event> {
        let noted = self.raw.note.as_ref();
        if noted.is_some_and(|note| note.class == DeadClass::TenantMismatch.as_str()) {
            return None;
        }
        event::decode(&self.raw.body)
            .ok()
            .filter(|event| !self.under_another_key(event))
    }

    /// What the broker took from a worker's queue was compared with its key by nobody.
    fn under_another_key(&self, event: &Event) -> bool {
        let key = self.raw.published_under();
        key.is_some_and(|key| !key.ends_with(&format!(".{}", event.tenant)))
    }

    /// Made by the broker, which writes no time that we read: a copy that comes again would look like another death.
    pub(crate) fn may_be_a_repeat(&self) -> bool {
        self.raw.redelivered && self.raw.note.is_none()
    }

    fn cause(&self) -> Cause {
        let stated = |class: &str, message: String, at: DateTime<Utc>| Cause {
            fingerprint: format!("ledger:{class}"),
            class: class.to_owned(),
            message,
            at,
        };
        if let Some(note) = &self.raw.note {
            return Cause {
                class: note.class.clone(),
                fingerprint: match note.fingerprint.as_str() {
                    "" => note.class.clone(),
                    given => given.to_owned(),
                },
                message: note.message.clone(),
                at: note.at,
            };
        }
        if let Some(death) = &self.raw.death {
            let at = self.seen_at;
            let decoded = event::decode(&self.raw.body);
            if decoded.is_ok_and(|event| self.under_another_key(&event)) {
                let reason = "the routing key must be <type>.<tenantid> of the event";
                return stated(DeadClass::TenantMismatch.as_str(), reason.to_owned(), at);
            }
            return match death.reason.as_str() {
                "expired" => stated(DeadClass::Expired.as_str(), expired(death), at),
                "delivery_limit" => stated(
                    DeadClass::DeliveryLimit.as_str(),
                    "its worker ended again and again while it had this event; the broker gave up"
                        .to_owned(),
                    at,
                ),
                other => stated(
                    DeadClass::Internal.as_str(),
                    format!("dead-lettered by the broker: {other}"),
                    at,
                ),
            };
        }
        match event::decode(&self.raw.body) {
            Err(error) => stated(error.class.as_str(), error.to_string(), self.seen_at),
            Ok(_) => stated(
                DeadClass::Internal.as_str(),
                "found in the dead-letter queue without a word about its death".to_owned(),
                self.seen_at,
            ),
        }
    }

    /// `version` of a state event: its own, or its pinned one. `connection`: the one that it was for, if that is known.
    pub(crate) fn item(
        self,
        worker: &Worker,
        event: Option<&Event>,
        version: Option<&SubjectVersion>,
        connection: Option<Uuid>,
    ) -> DeadItem {
        let cause = self.cause();
        let generation = self.raw.metadata.generation;
        let traceparent = self
            .raw
            .headers
            .get(TRACEPARENT)
            .and_then(serde_json::Value::as_str)
            .or(event.and_then(|event| event.traceparent.as_deref()));
        let trace_id = traceparent
            .and_then(|text| text.split('-').nth(1))
            .map(storable);
        let mut item = DeadItem {
            dead_id: Uuid::nil(),
            worker: worker.name.clone(),
            target_system: worker.target_system.clone(),
            tenant: None,
            connection_id: None,
            link_id: self.raw.note.as_ref().and_then(|note| note.link),
            kind: None,
            source_system: None,
            source_account: None,
            source_id: None,
            k: None,
            source: None,
            event_id: None,
            event_type: None,
            subject: None,
            generation,
            attempt: self.raw.metadata.attempt,
            class: storable(&cause.class),
            fingerprint: storable(&cause.fingerprint),
            message: Some(storable(&cut(&cause.message))),
            trace_id,
            at: cause.at,
            body: self.raw.body.to_vec(),
            properties: self.raw.properties.clone(),
            headers: self.raw.headers.clone(),
            outcome: None,
        };
        match event {
            Some(event) => {
                let facet = facet(worker, event, self.raw.metadata.facet.as_deref());
                understood(&mut item, worker, event, version, connection, facet);
            }
            None => glimpsed(&mut item, worker, &self.raw),
        }
        if item.class == DeadClass::WrongConnection.as_str() {
            // It touches no record of anybody, and its replay goes to the tenant's own connections.
            item.connection_id = None;
            item.k = None;
        }
        let connection = item.connection_id.map(|id| id.to_string());
        name(&mut item.headers, CONNECTION, connection.as_deref());
        if let Some(dead_letter) = dead_letter(&item.headers) {
            item.dead_id = dead_letter;
        }
        item
    }

    /// As little as can always be stored: found by its body alone, by the operator alone.
    pub(crate) fn bare_item(self, worker: &Worker, why: &str) -> DeadItem {
        let mut item = self.item(worker, None, None, None);
        item.tenant = None;
        item.link_id = None;
        item.source = None;
        item.event_id = None;
        item.event_type = None;
        item.subject = None;
        item.message = Some(storable(&cut(&format!(
            "could not be stored with its link ({why}); {}",
            item.message.unwrap_or_default()
        ))));
        item
    }
}

fn understood(
    item: &mut DeadItem,
    worker: &Worker,
    event: &Event,
    version: Option<&SubjectVersion>,
    connection: Option<Uuid>,
    facet: Option<Option<&'static str>>,
) {
    item.tenant = Some(event.tenant.as_str().to_owned());
    item.source = Some(event.source.clone());
    item.event_id = Some(event.id.clone());
    item.event_type = Some(event.event_type.as_str().to_owned());
    item.subject = Some(event.subject.clone());
    match event.kind() {
        EventKind::State { .. } | EventKind::Fact => {
            item.k = match event.kind() {
                EventKind::Fact => Some(event.fact_key(item.generation)),
                _ => version.map(|version| event.order_key(version, item.generation)),
            };
            let kind = facet.map(|facet| facet.unwrap_or(event.entity()));
            item.kind = kind.map(str::to_owned);
            item.source_system = Some(event.system.clone());
            item.source_account = Some(event.account.clone());
            item.source_id = Some(event.link_id().to_owned());
            item.connection_id = connection;
        }
        EventKind::Hint => item.connection_id = connection,
        // It names its link, whichever connection that has.
        EventKind::Request => {
            if let Payload::SyncRequested(request) = &event.payload {
                item.link_id = Some(request.link);
            }
        }
    }
    item.dead_id = dead_id(
        &worker.name,
        event.tenant.as_str(),
        &event.source,
        &event.id,
        item.connection_id,
        facet.flatten(),
    );
    name(&mut item.headers, FACET, facet.flatten());
}

/// The one that the copy names, or the only one that it can have been for; `Some(None)` is its event's entity. `None`: it died
/// before it was for one of several, and its replay goes to all.
fn facet(worker: &Worker, event: &Event, named: Option<&str>) -> Option<Option<&'static str>> {
    let wanted = worker
        .facets
        .wanted(event.event_type, event.entity(), named)
        .ok()?;
    <[_; 1]>::try_from(wanted).ok().map(|[only]| only)
}

/// Of a body that is no event: what it says of itself, and what its message says of it, helps to find it and decides
/// nothing.
fn glimpsed(item: &mut DeadItem, worker: &Worker, raw: &RawDelivery) {
    item.link_id = None;
    let property = |name: &str| raw.properties.get(name).and_then(serde_json::Value::as_str);
    let outside = Outside {
        routing_key: raw.published_under(),
        message_id: property("message_id"),
        amqp_type: property("type"),
        headers: Some(&raw.headers),
    };
    // Of an event under another tenant's key nothing is believed.
    if let Err(error) = event::decode(&raw.body) {
        let identity = error.identity.completed(outside);
        let mismatch = error.class == event::DecodeClass::TenantMismatch;
        // What is no tenant's id can be no tenant.
        let tenant = identity.tenant.filter(|_| !mismatch);
        let tenant = tenant.and_then(|tenant| TenantId::parse(&tenant));
        item.tenant = tenant.map(|tenant| tenant.as_str().to_owned());
        item.source = identity.source.as_deref().map(storable);
        item.event_id = identity.id.as_deref().map(storable);
        item.event_type = identity.event_type.as_deref().map(storable);
        item.subject = identity.subject.as_deref().map(storable);
    }
    item.dead_id = undecodable_id(worker, item, &raw.body);
}

fn expired(death: &Death) -> String {
    let lived = death.expiration.map_or_else(
        || "for a limited time".to_owned(),
        |ms| format!("for {ms} ms"),
    );
    format!(
        "its publisher let it live {lived} (the AMQP property expiration), and no worker took it before that ended; \
         a replay carries it on without a limit"
    )
}

/// Whatever is made of the row later is for the connection and the facet that it died for.
fn name(headers: &mut serde_json::Value, header: &str, value: Option<&str>) {
    let Some(headers) = headers.as_object_mut() else {
        return;
    };
    match value {
        Some(value) => headers.insert(header.to_owned(), value.into()),
        None => headers.remove(header),
    };
}

/// A replay names its dead letter, which may have died as something that nobody could read.
fn dead_letter(headers: &serde_json::Value) -> Option<Uuid> {
    headers.get(DEAD_LETTER)?.as_str()?.parse().ok()
}

/// The same bytes that two tenants or two events brought are two letters.
fn undecodable_id(worker: &Worker, item: &DeadItem, body: &[u8]) -> Uuid {
    let digest: String = Sha256::digest(body)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    let (tenant, event) = (part(&item.tenant), part(&item.event_id));
    derived_id(&["undecodable", &worker.name, &tenant, &event, &digest])
}

/// Postgres keeps no NUL in a text.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{2400}")
}

fn cut(text: &str) -> String {
    text.chars().take(MESSAGE_LIMIT).collect()
}
