//! Owns RabbitMQ: connections, topology, headers, publishing with confirms, consuming and settling.
//! Doesn't know what an event means or what a database is: it asks the ports of `worker`.
//! Surprising: nothing is ever nacked. Waiting is a retry tier queue or a row; giving back is closing the channel.

#![cfg_attr(not(test), warn(clippy::too_many_lines))]

mod ack_handle;
mod acks;
mod address;
mod admit;
mod claim;
mod connection;
mod consume;
mod consuming;
mod counters;
mod drain;
mod drain_queue;
mod error;
mod exclusive_run;
mod handle;
mod headers;
mod hold;
mod lease;
mod metrics;
mod open;
mod parse;
mod pauses;
mod prepare;
mod publish;
mod pump;
mod readiness;
mod schemes;
mod settle;
mod shared;
mod topology;
mod traced;
mod waiting;
mod wire;

pub use address::{Address, as_segment};
pub use connection::{Broker, Health, Settings, Status};
pub use consume::run;
pub use consuming::{ConsumeSettings, Worker};
pub use counters::Counters;
pub use drain_queue::{QueueCursor, RawDelivery, Taken, depth, run_batches};
pub use error::{Error, Mismatch, PublishError};
pub use exclusive_run::ExclusiveRun;
pub use headers::{DeadNote, Death, Properties};
pub use publish::Publisher;
pub use readiness::Readiness;
pub use topology::{Finding, Topology};
