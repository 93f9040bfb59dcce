//! What can go wrong between this process and the broker.

use std::time::Duration;

/// How long a confirm is waited for; afterwards the message's fate is unknown.
pub(crate) const CONFIRM_LIMIT: Duration = Duration::from_secs(10);

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

/// An object exists with another argument than ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{object} exists with {argument} = {there}, this version needs {here}; nothing was changed. {command}"
)]
pub struct Mismatch {
    /// For example `queue kurir.metakocka-sync.retry.1s`.
    pub object: String,
    pub argument: String,
    pub here: String,
    pub there: String,
    /// What a person does about it.
    pub command: String,
}

#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// No queue took it.
    #[error(
        "returned by the broker: {code} {text} (exchange '{exchange}', routing key '{routing_key}')"
    )]
    Returned {
        code: u16,
        text: String,
        exchange: String,
        routing_key: String,
    },
    #[error("refused by the broker")]
    Nacked,
    /// Not connected, blocked by an alarm, or the channel closed before the confirm.
    #[error("not published: {0}")]
    Closed(String),
    /// No confirm in time: it may have arrived. Repeating it can make two.
    #[error("no confirm within {} s; it may have arrived all the same", CONFIRM_LIMIT.as_secs())]
    Unknown,
    /// Can never be written; repeating does not help.
    #[error("cannot be published: {0}")]
    Invalid(String),
}

impl PublishError {
    /// One word for each kind.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Returned { .. } => "returned",
            Self::Nacked => "nacked",
            Self::Closed(_) => "not_sent",
            Self::Unknown => "unknown",
            Self::Invalid(_) => "invalid",
        }
    }
}
