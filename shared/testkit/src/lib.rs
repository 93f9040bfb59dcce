//! What tests of the real thing stand on: a database and a broker of their own, second servers that may be
//! killed, the `kurir` binary under a fail point, a collector of its traces, a stranger's messages, and waiting with a
//! named time-out.
//!
//! It deliberately does not know what Kurir does: nothing here depends on another crate of the workspace, so that a
//! test sees the product as its operators and publishers do. Whatever a test makes is named after its process
//! and goes with it; what a killed process left behind is swept by the next one.
//!
//! Functions panic instead of returning errors wherever a test could do nothing else with one.

#![cfg_attr(not(test), warn(clippy::too_many_lines))]

mod broker;
mod collector;
mod contacts;
mod database;
mod front;
mod http;
pub mod instance;
mod management;
mod owner;
mod ports;
pub mod process;
pub mod prometheus;
mod publish;
mod wait;

pub use broker::{Broker, Message, broker};
pub use collector::{Collector, TracedSpan};
pub use contacts::{Contact, Contacts};
pub use database::{Database, Statement, Statements, database};
pub use front::{Authority, Front};
pub use http::{Answer, Http};
pub use management::{Management, QueueState};
pub use ports::{ClosedPort, Port, closed_port};
pub use process::{Ended, Kurir, Running};
pub use publish::{CONTENT_TYPE, Publisher, Route, structured_properties};
pub use wait::{stays, wait_for, wait_until};
