//! Owns what no single event starts: the outbox relay, the dead-letter ledger, replays, releases and the janitor. Any number of
//! replicas share the work by row locks and queues. Knows no partner and no AMQP: where a partner must be asked, it writes a
//! request for the worker of that partner. Surprising: nothing here is remembered in memory; a keeper that is killed
//! at any line leaves only work that the next one finds.

#![cfg_attr(not(test), warn(clippy::too_many_lines))]

mod backlog_statistics;
mod copy;
mod deps;
mod failed;
mod janitor;
mod keeper;
mod ledger;
mod metrics;
mod notices;
mod pace;
mod readiness;
mod relay;
mod release;
mod replay;

pub use deps::{Deps, Worker};
pub use keeper::{Settings, run};
pub use metrics::Metrics;
pub use readiness::{Part, Readiness};
