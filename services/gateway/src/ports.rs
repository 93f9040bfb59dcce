//! What the gateway asks of others: who a token is, and to put a message on the bus.

use bytes::Bytes;
use event::{Event, TenantId};
use futures_util::future::BoxFuture;
use secrecy::SecretString;
use uuid::Uuid;

/// Who a token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    pub token: Uuid,
    pub tenant: TenantId,
    /// The only source it may publish for; `None` for any source of its tenant.
    pub source: Option<String>,
}

/// The store of tokens can't be asked now.
#[derive(Debug, thiserror::Error)]
#[error("tokens cannot be looked up: {0}")]
pub struct TokensAway(pub String);

/// Looks tokens up.
pub trait Tokens: Send + Sync {
    /// `None`: nobody's, or revoked.
    fn authenticate<'a>(
        &'a self,
        token: &'a SecretString,
    ) -> BoxFuture<'a, Result<Option<Principal>, TokensAway>>;
}

/// One event on its way to `kurir.events`.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// `<type>.<tenant>`.
    pub routing_key: String,
    /// Structured JSON with every derived attribute written down.
    pub body: Bytes,
    pub message_id: String,
    /// The AMQP property `type`.
    pub event_type: &'static str,
    /// The event's `time`, seconds since the epoch.
    pub timestamp: Option<u64>,
    pub correlation_id: String,
    /// `ce-*` and `traceparent`: copies for routing and operations; the body wins over them.
    pub headers: Vec<(&'static str, String)>,
}

impl Message {
    pub(crate) fn new(event: &Event, body: Vec<u8>) -> Self {
        Self {
            routing_key: event.routing_key(),
            body: Bytes::from(body),
            message_id: event.id.clone(),
            event_type: event.event_type.as_str(),
            timestamp: event
                .time
                .and_then(|time| u64::try_from(time.timestamp()).ok()),
            correlation_id: event.correlation_id.clone(),
            headers: event.headers(),
        }
    }
}

/// What became of a message that is not confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// It did not leave, or the broker refused it: it is not on the bus.
    #[error("the broker did not take the event")]
    NotPublished,
    /// AMQP can't carry it, now or later.
    #[error("the event cannot be written as an AMQP message")]
    Never,
    /// No confirm in time: it may be on the bus.
    #[error("the broker has not confirmed the event in time; it may have arrived all the same")]
    Unknown,
}

/// Puts messages on the bus.
pub trait Publish: Send + Sync {
    /// `Ok` means confirmed: on disk in a queue, or kept as unrouted. Repeating makes a second copy of one event.
    fn publish(&self, message: Message) -> BoxFuture<'_, Result<(), PublishError>>;
}
