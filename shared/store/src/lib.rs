//! Owns every SQL statement of Kurir: tenants, tokens, connections with their sealed credentials, links and effects,
//! pins, the outbox, held events and dead letters, and the embedded migrations. Knows neither AMQP nor HTTP: a message
//! is bytes with an exchange and a key. Surprising: nothing here decides what an event means, and every reading of a
//! tenant's rows goes through a [`Scope`], so that one tenant's caller cannot name another one's row.

#![cfg_attr(not(test), warn(clippy::too_many_lines))]

pub mod address;
pub mod audit;
pub mod backlog_statistics;
pub mod budgets;
pub mod connection_cache;
pub mod connections;
pub mod dead_letters;
pub mod diagnostics;
mod error;
pub mod fan_out;
pub mod held;
pub mod janitor;
pub mod links;
pub mod links_read;
pub mod migrate;
pub mod notifications;
pub mod outbox;
pub mod pins;
pub mod pool;
pub mod pruning;
mod row;
mod scope;
pub mod sealing;
pub mod tenants;
pub mod tokens;

pub use error::Error;
pub use pool::{Pool, Settings, connect};
pub use row::{Body, StoredKey};
pub use scope::{QueuePrefix, Scope};
