#![doc = include_str!("../README.md")]
//!
//! ---
//!
//! Owns stand-ins for the systems at the other end: stateful servers that behave as `docs/partners` says and fail when told to.
//! Deliberately doesn't know any production code: a mistake shared by a client and its simulator would be invisible.
//! The surprise: a simulator is right in *every* reading of what its contract leaves open, so most behaviour is a switch
//! (`metakocka::Readings`), and "it works against the simulator" means "against both presets".
//!
//! What all simulators have in common stands beside this file, behind one trait, [`Simulated`]; each system has a module.

#![cfg_attr(not(test), warn(clippy::too_many_lines))]

pub mod metakocka;

mod calls;
mod clock;
mod control;
mod counts;
mod error;
mod fault;
mod fault_queue;
mod kept;
mod kinds;
mod listen;
mod log;
mod plan;
mod readings;
mod shared;
mod simulated;
mod simulator;
mod socket;
mod strict;
mod wire;
mod world;

pub use self::clock::ClockKind;
pub use self::control::parsed;
pub use self::counts::Counts;
pub use self::error::Error;
pub use self::fault::{Fault, RandomFault, ScriptedFault, delay};
pub use self::fault_queue::Script;
pub use self::kinds::{Kind, Running, Start};
pub use self::log::{LogEntry, LogFilter, Outcome};
pub use self::plan::{Answer, Done, Heard, Plan, Request, Says, Sending, Settled, Step, Ticket};
pub use self::readings::{Preset, changed};
pub use self::shared::Settings;
pub use self::simulated::Simulated;
pub use self::simulator::Simulator;
pub use self::strict::{Strict, Violation};

/// Every simulator, in the order of their ports.
pub const ALL: &[Kind] = &[metakocka::KIND];
