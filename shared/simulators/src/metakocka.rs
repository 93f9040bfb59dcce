//! The Metakocka simulator: partners, with their companies, readings and faults.
//!
//! Two layers. [`core`] is the company itself: state and calls, no I/O, time is an argument. The rest makes of several companies
//! a [`Simulated`](crate::Simulated) system: `system` is the trait, `doing` a call with its fault, `control` the control routes
//! that only Metakocka has. Products, documents and stock get a module each beside `core::partner`, and their calls a line in
//! `core::call`.

pub mod core;

mod control;
mod doing;
mod fault;
mod log;
mod options;
mod simulator;
mod system;
mod world;

pub use self::core::{
    Address, AddressType, Call, Company, CompanyOptions, Contact, MkId, Partner, PartnerEdit,
    PersonAddress, PersonContact, Quota, Readings,
};
pub use self::fault::{CommitPoint, Fault, LateAnswer, RandomFault, Script, ScriptedFault};
pub use self::log::{LogEntry, LogFilter, Noted};
pub use self::options::Options;
pub use self::simulator::{KIND, Simulator, serve};
pub use self::system::Admitted;
pub use self::world::{Metakocka, Snapshot, StrictViolation};
pub use crate::clock::ClockKind;
pub use crate::counts::Counts;
pub use crate::error::Error;
pub use crate::log::Outcome;
