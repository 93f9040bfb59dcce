//! The Metakocka simulator: partners, over its own HTTP server, with faults and a clock that tests can hold.
//!
//! Two layers. [`core`] is the company itself: state and calls, no I/O, time is an argument. The rest puts it on a socket:
//! `server` answers the partner's calls and applies faults, `control` answers `/_sim/…`, [`Simulator`] is the handle for tests.
//! Products, documents and stock get a module each beside `core::partner`, and their calls a line in `core::call`.

pub mod core;

mod clock;
mod control;
mod fault;
mod fault_queue;
mod kept;
mod log;
mod server;
mod shared;
mod simulator;
mod socket;
mod wire;
mod world;

pub use self::clock::ClockKind;
pub use self::core::{
    Address, AddressType, Call, Company, CompanyOptions, Contact, MkId, Partner, PartnerEdit,
    PersonAddress, PersonContact, Quota, Readings,
};
pub use self::fault::{CommitPoint, Fault, LateAnswer, RandomFault, ScriptedFault};
pub use self::fault_queue::Script;
pub use self::log::{LogEntry, LogFilter, Outcome};
pub use self::shared::Options;
pub use self::simulator::{Simulator, serve};
pub use self::world::{Counts, Snapshot, StrictViolation};

/// Why the simulator could not start, or refused an instruction of its user (never an answer to a partner's call).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The listener could not be opened, or its address not be read.
    #[error("cannot listen")]
    Listen(#[source] std::io::Error),
    /// No company has this `company_id`.
    #[error("there is no company {0}")]
    UnknownCompany(String),
    /// No partner of the company has this `mk_id`.
    #[error("company {company} has no partner {mk_id}")]
    UnknownPartner { company: String, mk_id: MkId },
    /// The file that keeps the state cannot be used: its path, and why.
    #[error("the state in {}: {}", .0.display(), .1)]
    State(std::path::PathBuf, String),
    /// Two companies with one `company_id`.
    #[error("company {0} is given twice")]
    CompanyTwice(String),
    /// A bound of the simulator was reached; it names the constant.
    #[error("{0}")]
    Full(&'static str),
    /// Readings, rates or a state that make no sense; the text says which.
    #[error("{0}")]
    Invalid(String),
    /// The clock is real and can't be moved by hand.
    #[error("the clock is real: start the simulator with a manual one to move it")]
    RealClock,
}
