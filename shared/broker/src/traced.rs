//! A delivery's span: from its hand-over to its acknowledgement, and how it goes on from whatever came before.

use chrono::{DateTime, TimeDelta, Utc};
use tracing::Span;
use worker::trace::{self, Relation, spans};
use worker::{Claims, Delivery, Handler, Trail};

use crate::intake::{Subject, Work};
use crate::shared::Shared;

/// A trace goes on through short rungs for so long after an event was first received; each later delivery is a trace of
/// its own with a link, because one of hours is of no use to anybody.
const TRACE_LASTS: TimeDelta = TimeDelta::seconds(60);

impl<H: Handler, C: Claims<Grant = H::Grant>> Shared<H, C> {
    /// Begins the span of an event that is handed over, unless it has one.
    pub(crate) fn begin(&self, work: &mut Work) {
        if work.span.is_disabled() {
            let (job, queue) = (&work.job, &self.queue);
            work.span = spans::process(spans::Processed {
                queue,
                worker: self.handler.name(),
                event_id: &job.event.id,
                event_type: Some(job.event.event_type),
                tenant: Some(&job.event.tenant),
                subject: Some(&job.event.subject),
                conversation_id: Some(&job.event.correlation_id),
                attempt: job.delivery.trail.attempt,
                generation: job.delivery.trail.generation,
            });
            follow(&work.span, &job.delivery, self.now());
        }
        if let (Some(connection), false) = (&work.job.connection, work.span.is_disabled()) {
            spans::of_connection(&work.span, connection.id);
        }
    }

    /// As [`Self::begin`], for bytes that may be no event.
    pub(crate) fn begin_subject(&self, subject: &mut Subject) -> Span {
        match subject {
            Subject::Event(work) => {
                self.begin(work);
                work.span.clone()
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
                    attempt: delivery.trail.attempt,
                    generation: delivery.trail.generation,
                });
                follow(&span, delivery, self.now());
                span
            }
        }
    }
}

fn follow(span: &Span, delivery: &Delivery, now: DateTime<Utc>) {
    trace::join_headers(span, &delivery.headers, relation(&delivery.trail, now));
}

/// Rungs keep the time of the first receipt; what was held or replayed begins without one, and with the trace that the
/// outbox began for it.
fn relation(trail: &Trail, now: DateTime<Utc>) -> Relation {
    match trail.first_received {
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
            let trail = Trail {
                first_received: Some(now - TimeDelta::seconds(seconds)),
                ..Trail::default()
            };
            relation(&trail, now)
        };
        assert_eq!(relation(&Trail::default(), now), Relation::Child);
        assert_eq!((after(1), after(60)), (Relation::Child, Relation::Child));
        assert_eq!((after(61), after(3600)), (Relation::Link, Relation::Link));
    }
}
