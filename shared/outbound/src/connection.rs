//! A tenant's way to one partner: the shared client with this connection's limits and secrets.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{Instrument as _, Span};
use worker::budget::{CallPermit, Lesson, NoRoom, Purse};
use worker::trace::spans;

use crate::call::{Call, Reply};
use crate::client::Client;
use crate::error::CallError;
use crate::lane::{Lane, Lanes, Limits, Permit};
use crate::redact::{Redactor, safe_url};
use crate::retry::{WINDOW, while_unsent};

/// Clones share their limits. Make one per tenant and partner and keep it: a second one would double the limits.
#[derive(Clone)]
pub struct Connection {
    client: Client,
    system: &'static str,
    lanes: Arc<Lanes>,
    redactor: Redactor,
    longest_wait: Duration,
    purse: Option<Arc<Purse>>,
}

impl Connection {
    /// `system`: the partner's name, in metrics and traces.
    pub fn new(client: &Client, system: &'static str, limits: Limits, redactor: Redactor) -> Self {
        Self {
            client: client.clone(),
            system,
            lanes: Arc::new(Lanes::new(limits)),
            redactor,
            longest_wait: limits.longest_wait,
            purse: None,
        }
    }

    /// Calls take permits of the fleet-wide budget too.
    pub fn with_purse(self, purse: Arc<Purse>) -> Self {
        Self {
            purse: Some(purse),
            ..self
        }
    }

    /// Sends the call once. Only an attempt that provably never left is made again, up to `TRIES` in all and never
    /// after `call.leave_by`. Any HTTP status is a reply; redirects are not followed.
    pub async fn call(&self, call: Call) -> Result<Reply, CallError> {
        let leave_by = call.leave_by.min(Instant::now() + WINDOW);
        let call = call.leaving_by(leave_by);
        let operation = call.operation;
        let came = Instant::now();
        let room = self.room(&call).await;
        self.client.measures.waited(self.system, came.elapsed());
        let left = Instant::now();
        let outcome = match room {
            Ok(_room) => {
                let span = self.span(&call);
                let attempts =
                    while_unsent(leave_by, || self.client.attempt(&call, &self.redactor));
                let outcome = attempts.instrument(span.clone()).await;
                tell(&span, &outcome);
                outcome
            }
            Err(no_room) => Err(no_room),
        };
        self.client
            .measures
            .called(self.system, operation, &outcome, left.elapsed());
        match &outcome {
            Ok(reply) => tracing::debug!(
                http.method = %call.method,
                http.url = safe_url(&call.url),
                http.status = reply.status.as_u16(),
                elapsed_ms = reply.elapsed.as_millis(),
                "partner answered"
            ),
            Err(error) => tracing::debug!(
                http.method = %call.method,
                http.url = safe_url(&call.url),
                error = %error,
                "partner call without an answer"
            ),
        }
        outcome
    }

    fn span(&self, call: &Call) -> Span {
        spans::call(
            self.system,
            call.operation,
            call.method.as_str(),
            call.url.host_str(),
            call.url.port_or_known_default(),
        )
    }

    /// A place in flight in this process, and a permit of the fleet.
    async fn room(&self, call: &Call) -> Result<(Permit, Option<CallPermit>), CallError> {
        let room = self.lanes.enter(call.lane, call.leave_by).await?;
        Ok((room, self.permit(call).await?))
    }

    async fn permit(&self, call: &Call) -> Result<Option<CallPermit>, CallError> {
        let Some(purse) = &self.purse else {
            return Ok(None);
        };
        let give_up = call.leave_by.min(Instant::now() + self.longest_wait);
        let search = call.lane == Lane::Narrow;
        match purse.enter(call.operation, search, give_up).await {
            Ok(permit) => Ok(Some(permit)),
            Err(NoRoom { until, reason }) => Err(CallError::Limited { until, reason }),
        }
    }

    /// What an answer taught, as the partner's client understands it: for the circuit and the cooldown of all replicas.
    pub fn learn(&self, operation: &'static str, lesson: Lesson) {
        if let Some(purse) = &self.purse {
            purse.learn(operation, lesson);
        }
    }

    /// Masks this connection's secrets in texts that come out of its replies.
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }
}

fn tell(span: &Span, outcome: &Result<Reply, CallError>) {
    match outcome {
        Ok(reply) => spans::replied(span, reply.status.as_u16()),
        Err(CallError::NotSent { kind, .. }) => spans::failed(span, format_args!("{kind:?}")),
        Err(CallError::Unknown { kind, .. }) => spans::failed(span, format_args!("{kind:?}")),
        Err(CallError::Limited { .. }) => spans::failed(span, "Limited"),
    }
}
