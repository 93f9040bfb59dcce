//! From a delivery to an event, or to the reason why it can never be one. No waiting, no I/O.

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use event::{Event, EventKind, EventType, Outside};
use tracing::Span;
use uuid::{Builder, Uuid};
use worker::budget::Admitted;
use worker::gate::Destination;
use worker::trace;
use worker::{DeadClass, Delivery, Job, Outcome, decide};

use crate::ack_handle::AckHandle;
use crate::headers;

/// An event on its way through the loop: boxed, because it moves through queues, tasks and reports a dozen times.
pub(crate) type InFlight = Box<InFlightDelivery>;

/// What an event takes along.
pub(crate) struct InFlightDelivery {
    pub(crate) job: Job,
    pub(crate) ack_handle: AckHandle,
    /// Its connection is asked from the store, not from memory: memory said something that was no longer true.
    pub(crate) ask_store: bool,
    /// How often it came back because the cause of its hold was gone.
    pub(crate) bounced: u32,
    /// Permits for the calls that it will need; given back when its handling ends.
    pub(crate) admitted: Option<Admitted>,
    /// The keeper's account knows that what it let go is here.
    pub(crate) arrived: bool,
    /// Disabled until it is handed over, and always where nobody records.
    pub(crate) span: Span,
}

impl InFlightDelivery {
    pub(crate) fn event_id(&self) -> &str {
        &self.job.event.id
    }

    /// For a row: what is made of it later goes on from this handling.
    pub(crate) fn going_on(&self) -> Job {
        let mut job = self.job.clone();
        if !self.span.is_disabled() {
            trace::write_headers(&self.span, &mut Arc::make_mut(&mut job.delivery).headers);
        }
        job
    }

    /// It is for this connection and facet; so is from here on whatever is made of it, whichever others the tenant gets meanwhile.
    pub(crate) fn belongs_to(&mut self, destination: Destination) {
        let Destination { connection, facet } = destination;
        let delivery = Arc::make_mut(&mut self.job.delivery);
        headers::name_destination(delivery, connection.id, facet);
        self.job.connection = Some(connection);
        self.job.facet = facet;
    }
}

/// What a settled delivery was: an event, or bytes that are none.
pub(crate) enum Subject {
    Event(InFlight),
    Unreadable {
        delivery: Arc<Delivery>,
        identity: Box<event::Identity>,
        /// Under which it came from the events exchange.
        key: Option<String>,
        ack_handle: AckHandle,
    },
}

impl Subject {
    pub(crate) fn delivery(&self) -> &Arc<Delivery> {
        match self {
            Self::Event(in_flight) => &in_flight.job.delivery,
            Self::Unreadable { delivery, .. } => delivery,
        }
    }

    pub(crate) fn ack_handle(&self) -> &AckHandle {
        match self {
            Self::Event(in_flight) => &in_flight.ack_handle,
            Self::Unreadable { ack_handle, .. } => ack_handle,
        }
    }

    pub(crate) fn into_ack_handle(self) -> AckHandle {
        match self {
            Self::Event(in_flight) => in_flight.ack_handle,
            Self::Unreadable { ack_handle, .. } => ack_handle,
        }
    }

    pub(crate) fn event_id(&self) -> &str {
        match self {
            Self::Event(in_flight) => in_flight.event_id(),
            Self::Unreadable { identity, .. } => identity.id.as_deref().unwrap_or_default(),
        }
    }
}

/// What a delivery turned out to be.
pub(crate) enum Parsed {
    Event(InFlight),
    /// No event for this worker, with what becomes of it.
    Refused(Subject, Outcome),
}

/// Who consumes: what a delivery is compared with.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub(crate) events_exchange: &'a str,
    pub(crate) consumes: &'a [EventType],
}

/// A new one for each delivery. `Uuid::new_v4` would ask the kernel each time; this generator is as good.
pub(crate) fn token() -> Uuid {
    Builder::from_random_bytes(rand::random()).into_uuid()
}

pub(crate) fn parse(
    mut raw: lapin::message::Delivery,
    ack_handle: AckHandle,
    reader: Reader<'_>,
    now: DateTime<Utc>,
) -> Parsed {
    let body = Bytes::from(std::mem::take(&mut raw.data));
    let delivery = Arc::new(headers::delivery(&raw, body, now));
    let event = match event::decode(&delivery.body) {
        Ok(event) => event,
        Err(refused) => {
            let class = DeadClass::parse(refused.class.as_str()).unwrap_or(match refused.class {
                event::DecodeClass::TooDeep => DeadClass::Loop,
                _ => DeadClass::Malformed,
            });
            let problems: Vec<String> = refused.problems.iter().map(ToString::to_string).collect();
            let direct = raw.exchange.as_str() == reader.events_exchange;
            let key = direct.then(|| raw.routing_key.to_string());
            let outside = Outside {
                routing_key: key.as_deref(),
                message_id: property(&delivery, "message_id"),
                amqp_type: property(&delivery, "type"),
                headers: Some(&delivery.headers),
            };
            let identity = Box::new(refused.identity.completed(outside));
            let subject = Subject::Unreadable {
                delivery,
                identity,
                key,
                ack_handle,
            };
            return Parsed::Refused(subject, decide::dead(class, problems.join("; ")));
        }
    };
    let wrong = mismatch(&raw, &event, reader);
    let job = Job {
        delivery,
        event: Arc::new(event),
        token: token(),
        connection: None,
        facet: None,
        version: None,
    };
    let in_flight = Box::new(InFlightDelivery {
        job,
        ack_handle,
        ask_store: false,
        bounced: 0,
        admitted: None,
        arrived: false,
        span: Span::none(),
    });
    match wrong {
        None => Parsed::Event(in_flight),
        Some((class, reason)) => {
            Parsed::Refused(Subject::Event(in_flight), decide::dead(class, reason))
        }
    }
}

fn property<'a>(delivery: &'a Delivery, name: &str) -> Option<&'a str> {
    delivery.properties.get(name)?.as_str()
}

fn mismatch(
    raw: &lapin::message::Delivery,
    event: &Event,
    reader: Reader<'_>,
) -> Option<(DeadClass, String)> {
    let message_id = raw.properties.message_id().as_ref().map(|id| id.as_str());
    if message_id.is_some_and(|id| !id.is_empty() && id != event.id) {
        let reason =
            "the property message_id is not the event's id; leave it out or make them equal";
        return Some((DeadClass::IdMismatch, reason.to_owned()));
    }
    let direct = raw.exchange.as_str() == reader.events_exchange;
    let said = raw
        .routing_key
        .as_str()
        .rsplit('.')
        .next()
        .unwrap_or_default();
    if direct && said != event.tenant.as_str() {
        let reason = "the routing key must be <type>.<tenantid> of the event";
        return Some((DeadClass::TenantMismatch, reason.to_owned()));
    }
    if event.kind() != EventKind::Request && !reader.consumes.contains(&event.event_type) {
        return Some((
            DeadClass::UnknownType,
            format!("this worker does not handle {}", event.event_type),
        ));
    }
    None
}
