//! What can go wrong between this process and the broker, apart from a single publish (`PublishError`).

use crate::topology::Mismatch;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings can never work: refused before anything is opened.
    #[error("the broker's address {0}")]
    Address(String),
    #[error("the file of believed authorities {0}")]
    Authorities(#[source] trust::Error),
    /// An object exists with other arguments. Only a person may change it: exit code 78.
    #[error(transparent)]
    Topology(#[from] Box<Mismatch>),
    /// Not connected now; the connection is being opened again in the background.
    #[error("not connected to the broker: {0}")]
    Disconnected(String),
    /// As `Disconnected`: the broker's certificate is not believed, or there is no TLS. The text names what to set.
    #[error("not connected to the broker: {0}")]
    Untrusted(&'static str),
    #[error("the broker did not answer within {0} s")]
    TimedOut(u64),
    #[error("the broker refused: {0}")]
    Amqp(#[from] lapin::Error),
}

impl Error {
    /// The process exit code where this error ends the start: a wrong topology is a wrong configuration.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Address(_) | Self::Authorities(_) | Self::Topology(_) => 78,
            Self::Disconnected(_) | Self::Untrusted(_) | Self::TimedOut(_) | Self::Amqp(_) => 69,
        }
    }
}
