//! Owns RabbitMQ: connections, topology, headers, publishing with confirms, consuming and settling.
//! Doesn't know what an event means or what a database is: it asks the ports of `worker`.
//! Surprising: nothing is ever nacked. Waiting is a rung queue or a row; giving back is closing the channel.

#![cfg_attr(not(test), warn(clippy::too_many_lines))]

mod acks;
mod address;
mod admit;
mod alone;
mod claim;
mod connection;
mod consume;
mod consuming;
mod counters;
mod drain;
mod drain_queue;
mod error;
mod handle;
mod headers;
mod hold;
mod intake;
mod lease;
mod measures;
mod open;
mod pauses;
mod prepare;
mod publish;
mod pump;
mod readiness;
mod receipt;
mod schemes;
mod settle;
mod shared;
mod topology;
mod traced;
mod waiting;
mod wire;

pub use address::{Address, as_segment};
pub use alone::Alone;
pub use connection::{Broker, Health, Settings, Status};
pub use consume::run;
pub use consuming::{ConsumeSettings, Worker};
pub use counters::Counters;
pub use drain_queue::{Hand, RawDelivery, Taken, depth, run_batches};
pub use error::{Error, Mismatch, PublishError};
pub use headers::{DeadNote, Death, Properties};
pub use publish::Publisher;
pub use readiness::Readiness;
pub use topology::{Finding, Topology};
