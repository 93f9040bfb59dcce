//! A tenant's way to one partner: the shared client with this connection's budget and secrets.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{Instrument as _, Span};
use worker::budget::{CallPermit, NoRoom, Observation, PermitPool};
use worker::trace::spans;

use crate::call::{Call, Reply, WINDOW};
use crate::client::Client;
use crate::error::CallError;
use crate::redact::{Redactor, safe_url};
use crate::retry::while_unsent;

/// The longest that a call waits in memory for a permit: a sleeping task holds a prefetch slot.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Without a permit pool ([`Self::with_permit_pool`]) its calls are bounded by nothing: for a single one, as a connection test makes it.
#[derive(Clone)]
pub struct Connection {
    client: Client,
    system: &'static str,
    redactor: Redactor,
    permit_pool: Option<Arc<PermitPool>>,
}

impl Connection {
    /// `system`: the partner's name, in metrics and traces.
    pub fn new(client: &Client, system: &'static str, redactor: Redactor) -> Self {
        Self {
            client: client.clone(),
            system,
            redactor,
            permit_pool: None,
        }
    }

    /// Each call takes a permit of the fleet-wide budget, which bounds how many there are at once and in any time.
    pub fn with_permit_pool(self, permit_pool: Arc<PermitPool>) -> Self {
        Self {
            permit_pool: Some(permit_pool),
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
        let room = self.permit(&call).await;
        self.client.metrics.waited(self.system, came.elapsed());
        let left = Instant::now();
        let outcome = match room {
            Ok(_permit) => {
                let span = self.span(&call);
                let attempts =
                    while_unsent(leave_by, || self.client.attempt(&call, &self.redactor));
                let outcome = attempts.instrument(span.clone()).await;
                record_outcome(&span, &outcome);
                outcome
            }
            Err(no_room) => Err(no_room),
        };
        self.client
            .metrics
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

    async fn permit(&self, call: &Call) -> Result<Option<CallPermit>, CallError> {
        let Some(permit_pool) = &self.permit_pool else {
            return Ok(None);
        };
        let give_up = call.leave_by.min(Instant::now() + LONGEST_WAIT);
        match permit_pool
            .enter(call.operation, call.one_at_a_time, give_up)
            .await
        {
            Ok(permit) => Ok(Some(permit)),
            Err(NoRoom { until, reason }) => Err(CallError::Limited { until, reason }),
        }
    }

    /// What an answer taught, as the partner's client understands it: for the circuit and the cooldown of all replicas.
    pub fn record(&self, operation: &'static str, observation: Observation) {
        if let Some(permit_pool) = &self.permit_pool {
            permit_pool.record(operation, observation);
        }
    }

    /// Masks this connection's secrets in texts that come out of its replies.
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }
}

fn record_outcome(span: &Span, outcome: &Result<Reply, CallError>) {
    match outcome {
        Ok(reply) => spans::replied(span, reply.status.as_u16()),
        Err(CallError::NotSent { kind, .. }) => spans::failed(span, format_args!("{kind:?}")),
        Err(CallError::Unknown { kind, .. }) => spans::failed(span, format_args!("{kind:?}")),
        Err(CallError::Limited { .. }) => spans::failed(span, "Limited"),
    }
}
