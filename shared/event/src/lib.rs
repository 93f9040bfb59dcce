//! Owns the envelope, the catalogue of event types, their payloads and their schemas.
//! Knows nothing of brokers, databases or partners, and does no I/O.

mod catalogue;
mod event;
mod order_key;
mod payload;

pub use catalogue::{EventType, Kind};
pub use event::{Event, TenantId, Version, VersionScheme};
pub use order_key::{OrderKey, SubjectVersion, VERSION_DIGITS};
pub use payload::*;
