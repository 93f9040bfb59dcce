//! Owns RabbitMQ: connections, topology, headers, publishing with confirms, consuming and settling.
//! Doesn't know what an event means or what a database is: it asks the ports of `worker`.
//! Surprising: nothing is ever nacked. Waiting is a rung queue or a row; giving back is closing the channel.

mod connection;
mod error;
pub mod headers;
mod publish;
mod topology;

pub use connection::{Broker, Health, Settings, Status};
pub use error::Error;
pub use publish::{PublishError, Publisher};
pub use topology::{Finding, Mismatch, Topology};
