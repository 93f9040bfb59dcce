//! The link engine: what to do next about one record in two systems, and the driver that does it.
//! Owns `next` (pure), the driver, and the two ports it runs on: `Ledger` (the store's rows) and `Target` (one entity at
//! one partner). Knows no AMQP, no HTTP and no partner. Surprising: safety does not rest on the lease; the one open
//! effect per link is the fence, and whoever comes next resolves it before anything else.

#![cfg_attr(not(test), warn(clippy::too_many_lines))]

mod absence;
mod claims;
mod clock;
mod content;
mod drive;
mod effect;
mod ledger;
mod link;
mod link_worker;
pub mod mapping;
mod metrics;
mod next;
mod next_call;
mod orphaned_create;
mod outcome;
mod partner;
mod proof;
mod recheck;
mod step;
mod target;
mod targets;

pub use claims::{LinkClaims, LinkHolds, Plan, Planner};
pub use clock::{Clock, MonotonicClock};
pub use content::{
    Agreed, Base, Content, Fields, KnownPart, NaturalKey, Owner, Part, Parts, Record, RecordPart,
};
pub use drive::{Driver, Grant, Settings};
pub use effect::{Effect, EffectState, Operation, Request};
pub use ledger::Ledger;
pub use link::{Link, LinkState};
pub use link_worker::{Deps, LinkWorker};
pub use metrics::Metrics;
pub use next::next;
pub use partner::{Account, Partner};
pub use step::{Intent, Observations, Step, View, Work};
pub use target::{Answer, Call, LookError, SendError, Target};
pub use targets::Targets;
