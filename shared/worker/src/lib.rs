//! Owns what a delivery's life is made of: the delivery metadata it carries, the handler's answer, the decision what to do
//! next, the ports that the consumer loop needs, and the names of spans. Knows no AMQP, no SQL and no HTTP.
//! Surprising: waiting is not failing. Only failed calls count as attempts (`decide`).

#![cfg_attr(not(test), warn(clippy::too_many_lines))]

pub mod backoff;
pub mod budget;
mod connection;
pub mod decide;
mod delivery;
mod facets;
pub mod failpoint;
mod failure;
mod fingerprint;
pub mod gate;
mod handler;
mod outcome;
mod policy;
mod ports;
pub mod trace;

pub use connection::{Connection, ConnectionAnswer, ConnectionState};
pub use delivery::{Attempt, Delivery, DeliveryMetadata, Job};
pub use facets::{Facets, UnknownFacet};
pub use failure::{Blocked, Failure};
pub use handler::{Done, Handled, Handler, WaitCause};
pub use outcome::{AckReason, DeadClass, HoldCause, Outcome, WaitsFor};
pub use policy::{RETRY_TIERS, RetryPolicy, RetryTier};
pub use ports::{
    Budgets, CLAIM_BATCH_LIMIT, Claims, Connections, CutCopy, FanOut, FanOutItem, HoldItem,
    HoldVerdict, Holds, Leased, PinItem, Pins, PortError, Release, Verdict,
};
