//! A delivery's span: from its hand-over to its acknowledgement, and how it goes on from whatever came before.

use chrono::{DateTime, TimeDelta, Utc};
use tracing::Span;
use worker::trace::{self, Relation, spans};
use worker::{Claims, Delivery, DeliveryMetadata, Handler};

use crate::parse::{InFlight, Subject};
use crate::shared::Shared;

/// A trace goes on through short retry tiers for so long after an event was first received; each later delivery is a trace of
/// its own with a link, because one of hours is of no use to anybody.
const TRACE_LASTS: TimeDelta = TimeDelta::seconds(60);

impl<H: Handler, C: Claims<Grant = H::Grant>> Shared<H, C> {
    /// Begins the span of an event that is handed over, unless it has one.
    pub(crate) fn begin(&self, in_flight: &mut InFlight) {
        if in_flight.span.is_disabled() {
            let (job, queue) = (&in_flight.job, &self.queue);
            in_flight.span = spans::process(spans::Processed {
                queue,
                worker: self.handler.name(),
                event_id: &job.event.id,
                event_type: Some(job.event.event_type),
                tenant: Some(&job.event.tenant),
                subject: Some(&job.event.subject),
                conversation_id: Some(&job.event.correlation_id),
                attempt: job.delivery.metadata.attempt,
                generation: job.delivery.metadata.generation,
            });
            follow(&in_flight.span, &job.delivery, self.now());
        }
        if let (Some(connection), false) = (&in_flight.job.connection, in_flight.span.is_disabled())
        {
            spans::of_connection(&in_flight.span, connection.id);
        }
    }

    /// As [`Self::begin`], for bytes that may be no event.
    pub(crate) fn begin_subject(&self, subject: &mut Subject) -> Span {
        match subject {
            Subject::Event(in_flight) => {
                self.begin(in_flight);
                in_flight.span.clone()
            }
            Subject::Unreadable {
                delivery, identity, ..
            } => {
                let span = spans::process(spans::Processed {
                    queue: &self.queue,
                    worker: self.handler.name(),
                    event_id: identity.id.as_deref().unwrap_or_default(),
                    event_type: None,
                    tenant: None,
                    subject: None,
                    conversation_id: None,
                    attempt: delivery.metadata.attempt,
                    generation: delivery.metadata.generation,
                });
                follow(&span, delivery, self.now());
                span
            }
        }
    }
}

fn follow(span: &Span, delivery: &Delivery, now: DateTime<Utc>) {
    trace::join_headers(span, &delivery.headers, relation(&delivery.metadata, now));
}

/// Retry tiers keep the time of the first receipt; what was held or replayed begins without one, and with the trace that the
/// outbox began for it.
fn relation(metadata: &DeliveryMetadata, now: DateTime<Utc>) -> Relation {
    match metadata.first_received {
        Some(first) if now - first > TRACE_LASTS => Relation::Link,
        Some(_) | None => Relation::Child,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_ends_when_its_event_has_been_on_its_way_for_long() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a valid instant");
        let after = |seconds: i64| {
            let metadata = DeliveryMetadata {
                first_received: Some(now - TimeDelta::seconds(seconds)),
                ..DeliveryMetadata::default()
            };
            relation(&metadata, now)
        };
        assert_eq!(relation(&DeliveryMetadata::default(), now), Relation::Child);
        assert_eq!((after(1), after(60)), (Relation::Child, Relation::Child));
        assert_eq!((after(61), after(3600)), (Relation::Link, Relation::Link));
    }
}
