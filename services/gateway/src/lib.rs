//! Owns the HTTP entrance for events: `POST /v1/events` takes CloudEvents, one or a batch, and answers 202 only when
//! the broker has confirmed every one of them. Knows no worker, no link and no partner.
//!
//! What may surprise: it keeps nothing. While the broker is away it answers 503 and the sender repeats, with the same
//! ids; (source, id) is the idempotency key, and what arrives twice is one event for every consumer. So a request costs
//! no database call: tokens are cached, and for a while they stay good without a database.

#![cfg_attr(not(test), warn(clippy::too_many_lines))]

mod adapters;
mod events;
mod limits;
mod metrics;
mod outcome;
mod ports;
mod refusal;
mod tokens;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::post;

pub use adapters::{Bus, StoredTokens};
pub use events::{Accepted, EventStatus};
pub use limits::{IN_FLIGHT_WAIT, Limits};
pub use metrics::Metrics;
pub use outcome::Outcome;
pub use ports::{Message, Principal, Publish, PublishError, Tokens, TokensAway};
pub use tokens::{MAX_CACHED_TOKENS, STALE_TOKENS, TokenCache};

/// The only route.
pub(crate) const EVENTS: &str = "/v1/events";
/// Events of one batch.
pub const MAX_BATCH_EVENTS: usize = 100;
/// Bytes of one batch.
pub const MAX_BATCH_BYTES: usize = 1024 * 1024;
/// Longest time to hand one request's events to the broker; the publisher's own confirm limit is shorter.
pub const PUBLISH_LIMIT: Duration = Duration::from_secs(12);
/// What a sender is told to wait while the broker or the database is away.
pub const AWAY_RETRY_AFTER: Duration = Duration::from_secs(5);

/// What an operator may choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Events a tenant may send per second, in the long run, to one process.
    pub events_per_second: NonZeroU32,
    /// Events a tenant may send at once after a pause. Less than a batch holds is raised to that.
    pub burst: NonZeroU32,
    /// How long a token is believed without asking again: a revoked one works that long.
    pub token_cache: Duration,
    /// Requests worked on at once; each holds at most one batch in memory.
    pub max_in_flight: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            events_per_second: NonZeroU32::new(200).expect("not zero"),
            burst: NonZeroU32::new(1000).expect("not zero"),
            token_cache: Duration::from_secs(30),
            max_in_flight: 128,
        }
    }
}

/// What the gateway stands on.
pub struct Deps {
    pub tokens: Arc<dyn Tokens>,
    pub publisher: Arc<dyn Publish>,
    pub metrics: Metrics,
}

pub(crate) struct Gateway {
    pub(crate) tokens: TokenCache,
    pub(crate) publisher: Arc<dyn Publish>,
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
}

/// The gateway's routes, with 404, 405 and request ids. Health routes are merged by whoever serves it.
pub fn router(deps: Deps, settings: &Settings) -> Router {
    let gateway = Arc::new(Gateway {
        tokens: TokenCache::new(deps.tokens, settings.token_cache),
        publisher: deps.publisher,
        limits: Limits::new(settings),
        metrics: deps.metrics.clone(),
    });
    let routes = Router::new()
        .route(EVENTS, post(events::receive))
        .with_state(gateway);
    inbound::fallbacks(routes)
        .layer(axum::middleware::from_fn_with_state(
            deps.metrics.http,
            inbound::measured,
        ))
        .layer(axum::middleware::from_fn(inbound::with_request_id))
}
