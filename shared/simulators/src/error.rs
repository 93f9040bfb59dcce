//! What a simulator's user can be told. Never an answer to a call of the system that is simulated.

use std::path::PathBuf;

/// Why a simulator could not start, or refused an instruction of its user.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The listener could not be opened, or its address not be read.
    #[error("cannot listen")]
    Listen(#[source] std::io::Error),
    /// There is no such account or record; the text says which.
    #[error("{0}")]
    Unknown(String),
    /// The file that keeps the state cannot be used: its path, and why.
    #[error("the state in {}: {}", .0.display(), .1)]
    State(PathBuf, String),
    /// A bound of the simulator was reached; it names the constant.
    #[error("{0}")]
    Full(&'static str),
    /// Options, readings, rates or a state that make no sense; the text says which.
    #[error("{0}")]
    Invalid(String),
    /// A control route that is there, but not with this HTTP method.
    #[error("this control route takes another method")]
    Method,
    /// The clock is real and can't be moved by hand.
    #[error("the clock is real: start the simulator with a manual one to move it")]
    RealClock,
}
