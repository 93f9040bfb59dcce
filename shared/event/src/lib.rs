//! Owns the envelope, the catalogue of event types, their payloads and their schemas, and what their records are known by.
//! Knows nothing of brokers, databases or partners, and does no I/O.
//!
//! What may surprise: an event is the same [`Event`] whether the gateway wrote its derived attributes down
//! ([`canonical`]) or a publisher left them out and a worker derives them ([`decode`]).

#![cfg_attr(not(test), warn(clippy::too_many_lines))]

mod asyncapi;
mod batch;
mod canonical;
mod catalogue;
mod compose;
mod decode;
mod envelope;
mod error;
mod event;
mod glimpse;
pub mod headers;
pub mod identity;
mod order_key;
mod payload;
mod schema;
mod visible;

pub use asyncapi::{asyncapi, documents};
pub use batch::canonical_batch;
pub use canonical::{Canonical, canonical, canonical_binary};
pub use catalogue::{EventKind, EventType, Publisher};
pub use compose::{CONTENT_TYPE, Cause, Draft, OWN_SYSTEM, compose, derived_id};
pub use decode::{decode, unmarked};
pub use envelope::{MAX_CAUSATION_DEPTH, MAX_EVENT_BYTES, MAX_ID_BYTES, SOURCE_PREFIX};
pub use error::{DecodeClass, DecodeError, Identity, MAX_PROBLEMS, MAX_TEXT, Problem};
pub use event::{Event, TenantId, Version, VersionScheme};
pub use glimpse::Outside;
pub use order_key::{OrderKey, SubjectVersion, VERSION_DIGITS};
pub use payload::*;
pub use schema::{envelope_schema, schema};
pub use visible::is_visible;
