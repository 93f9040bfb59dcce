//! A tenant's way to one partner: the shared client with this connection's limits and secrets.

use std::sync::Arc;
use std::time::{Duration, Instant};

use worker::budget::{CallPermit, Lesson, NoRoom, Purse};

use crate::call::{Call, Reply};
use crate::client::Client;
use crate::error::CallError;
use crate::lane::{Lane, Lanes, Limits};
use crate::redact::{Redactor, safe_url};
use crate::retry::{WINDOW, while_unsent};

/// Clones share their limits. Make one per tenant and partner and keep it: a second one would double the limits.
#[derive(Clone)]
pub struct Connection {
    client: Client,
    lanes: Arc<Lanes>,
    redactor: Redactor,
    longest_wait: Duration,
    purse: Option<Arc<Purse>>,
}

impl Connection {
    pub fn new(client: &Client, limits: Limits, redactor: Redactor) -> Self {
        Self {
            client: client.clone(),
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
        let _room = self.lanes.enter(call.lane, leave_by).await?;
        let _permit = self.permit(&call).await?;
        let outcome = while_unsent(leave_by, || self.client.attempt(&call, &self.redactor)).await;
        let url = safe_url(&call.url);
        match &outcome {
            Ok(reply) => tracing::debug!(
                http.method = %call.method,
                http.url = url,
                http.status = reply.status.as_u16(),
                elapsed_ms = reply.elapsed.as_millis(),
                "partner answered"
            ),
            Err(error) => tracing::debug!(
                http.method = %call.method,
                http.url = url,
                error = %error,
                "partner call without an answer"
            ),
        }
        outcome
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
